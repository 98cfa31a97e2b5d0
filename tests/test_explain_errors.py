"""`explain` says what does not fit."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from explained import CLASSES, branches, some_images
from torch import nn

from torchcam_suite import Model, explain, load
from torchcam_suite.errors import GradientError, ImageError, LayerError, TargetError

pytestmark = [
    # random networks have classes without evidence, which is not what most of these tests are about
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
    # of onnx2torch, for any UpSampling2D; the certificate proves that it is not so here
    pytest.mark.filterwarnings("ignore:Pytorch's nearest neighbor interpolation:UserWarning"),
]


@pytest.fixture(scope="module")
def imported(data: Path) -> Model:
    """An imported Keras model with BatchNormalization, separable convolutions, an Add and a softmax of five."""
    return load(data / "keras224/keras224_func.h5", preprocessing="unit", class_names=CLASSES, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "relu7"}, LayerError, r"layer 'relu7' is not in this model; did you mean 'relu6'"),
        ({"layer": ["relu6", "relu7"]}, LayerError, "layer 'relu7' is not in this model"),
        (
            {"layer": "gap"},
            LayerError,
            r"layer 'gap' gives 8 values an image; a class activation map needs feature maps .* as 'up' gives",
        ),
        ({"layer": "dense_3"}, LayerError, "layer 'dense_3' gives 5 values an image"),
        ({"layer": []}, LayerError, "no layer was given; name at least one, as 'up'"),
        ({"layer": 3}, LayerError, r"layer 3 is no name; expected one of model\.layers, as 'up'"),
        ({"layer": ["relu6", None]}, LayerError, "layer None is no name"),
        ({"method": ["gradcam", "rise"]}, ValueError, r"method=\['gradcam', 'rise'\]; expected the name of one"),
        ({"method": None}, ValueError, "method=None; expected the name of one, as 'gradcam'"),
        ({"method": "gradcamm"}, ValueError, r"method 'gradcamm' does not exist; did you mean 'gradcam'\?"),
        ({"method": "lime"}, ValueError, "method 'lime' does not exist; expected one of .*gradcam.*, scorecam"),
        ({"variant": "paper"}, ValueError, "gradcam has no option 'variant'; it has of, relu"),
        ({"method": "scorecam", "of": "logits"}, ValueError, "of='logits'; expected one of logit, probability"),
        ({"method": "scorecam", "variant": "best"}, ValueError, "variant='best'; expected one of official, paper"),
        ({"method": "scorecam", "chunk_size": 0}, ValueError, "chunk_size=0; expected a whole number"),
        ({"of": "logits"}, ValueError, "of='logits'; expected one of logit, probability"),
        ({"relu": "never"}, ValueError, "relu='never'; expected one of before, after, none"),
        ({"normalize": "sum"}, ValueError, "normalize='sum'; expected one of max, minmax"),
        ({"interpolation": "cubic"}, ValueError, "interpolation='cubic'; expected one of bilinear, nearest"),
        ({"batch_size": 0}, ValueError, "batch_size=0; expected at least 1"),
        ({"target": 5}, TargetError, "target 5 is out of range: this model has 5 classes, 0 to 4"),
        ({"target": "cow"}, TargetError, r"target 'cow' is no class of this model; did you mean 'dog'|expected one of"),
        ({"target": [0, 1]}, TargetError, "2 targets for 4 images; give one for all, or one an image"),
        ({"target": [0, 1], "batch_size": 2}, TargetError, "2 targets for 4 images"),
    ],
)
def test_what_does_not_fit_is_refused(
    imported: Model, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        explain(imported, some_images(imported, 4), **arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 3, 32, 32), float("nan")), "NaN or infinity in image 0"),
        (torch.zeros(1, 1, 32, 32), r"shape \(1, 1, 32, 32\); the model takes \(N, 3, 32, 32\)"),
        (torch.zeros(1, 32, 32, 3), "looks like channels last"),
        (torch.zeros(0, 3, 32, 32), "no images were given"),
        ([], "no images were given"),
        ("none.png", r"no such image file: none\.png"),
    ],
    ids=["NaN", "one channel", "channels last", "empty tensor", "empty list", "missing"],
)
def test_bad_images_are_refused(imported: Model, images: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        explain(imported, images)


def test_one_image_has_one_target(imported: Model) -> None:
    image = some_images(imported, 1)[0]
    assert explain(imported, image, layer="relu6", target=[3]).targets == (3,)
    with pytest.raises(TargetError, match="3 targets for 1 images"):
        explain(imported, image, layer="relu6", target=[0, 1, 2])


def test_a_layer_that_the_score_does_not_depend_on_is_named() -> None:
    with pytest.raises(GradientError, match="no gradient arrives at layer 'side'"):
        explain(branches(), torch.rand(1, 3, 16, 16), layer="side")


def test_a_layer_behind_the_head_gives_no_feature_maps(data: Path) -> None:
    model = load(data / "tcav_families/model.h5", preprocessing="unit", device="cpu")
    with pytest.raises(LayerError, match="layer 'activation_6' gives 3 values an image"):
        explain(model, some_images(model, 1), layer="activation_6")


def test_nothing_is_warned_of_where_there_is_evidence(imported: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain(imported, some_images(imported), layer="relu6", relu="after")
    assert all(not flags for flags in found.flags)


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_batch_statistics_neither_change_nor_take_part(method: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    model = load(net, input_size=(1, 12, 12), preprocessing="unit", device="cpu")
    images = torch.rand(2, 1, 12, 12)
    expected = explain(model, images, method=method, layer="2")
    net.train()
    found = explain(model, images, method=method, layer="2")
    assert net.training
    assert net.get_buffer("1.num_batches_tracked") == 0
    torch.testing.assert_close(found.maps, expected.maps, rtol=0, atol=0)
    assert expected.maps.std() > 0


def test_a_model_of_half_precision_takes_float_images() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).bfloat16()
    model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    found = explain(model, torch.rand(1, 1, 8, 8), layer="0", target=lambda logits: logits.square().sum(dim=1))
    assert found.maps.dtype == torch.float32
