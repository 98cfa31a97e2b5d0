"""Options with which an article's script ends in seconds: it learns next to nothing, and its summary says so."""

_TINY = "--epochs 1 --batch-size 8 --explained 6"
SMALL = {
    "vgg_gradcam_tsne": f"{_TINY} --size 32 --width 0.0625 --pictures 30 --tests 36",
    "dogs_and_cats": f"{_TINY} --size 32 --width 0.125 --pictures 20 --tests 30",
    "tcav_colours": f"{_TINY} --size 32 --pictures 30 --tests 24 --explained 24 --concept-pictures 6 --random-sets 5",
    "xception_complementary": f"{_TINY} --size 64 --width 0.0625 --pictures 15 --tests 12",
    "imagenet_resnet50": f"{_TINY} --size 32 --epochs 4 --pictures 60 --tests 30",
}
