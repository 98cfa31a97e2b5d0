"""Write checkpoints of all kinds that Keras writes and nobody should refuse: `python harmless_checkpoints.py FOLDER`.

Started as a process of its own, because TensorFlow and torch do not live in one. What has no weights beside it is
an architecture, as `NAME.json`.
"""

import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Write every checkpoint into the folder that is the first argument."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    folder = Path(sys.argv[1])
    import keras
    import tf_keras

    for package in (keras, tf_keras):
        write_small(package, folder)
        write_inputs(package, folder)
        for name in ("ConvNeXtTiny", "MobileNetV3Small", "EfficientNetV2B0"):
            model = getattr(package.applications, name)(weights=None)
            (folder / f"{package.__name__}_{name}.json").write_text(model.to_json())


def write_small(package: Any, folder: Path) -> None:
    """A compiled model with a custom loss and two nested ones, whole and in parts; two outputs; two inputs; NCHW."""
    layers, name = package.layers, package.__name__
    images = package.Input((8, 8, 3), name="images")
    inside = package.Input((8, 8, 3))
    deep = package.Model(inside, layers.Conv2D(4, 3, name="inner")(inside), name="deep")
    outer = package.Sequential([package.Input((8, 8, 3)), deep, layers.ReLU(max_value=6.0, name="six")], name="outer")
    flat = layers.Flatten(name="flat")(outer(images))
    model = package.Model(images, layers.Dense(2, activation="softmax", name="dense")(flat), name="nested")
    model.compile(loss=own_loss, optimizer="adam")
    for suffix in (".keras", ".h5"):
        model.save(folder / f"{name}_nested{suffix}")
    (folder / f"{name}_apart.json").write_text(model.to_json())
    model.save_weights(folder / f"{name}_apart.weights.h5")
    if package.__name__ == "tf_keras":
        model.save_weights(folder / "legacy_apart.h5")

    other = layers.Dense(3, name="other")(flat)
    package.Model(images, [*model.outputs, other], name="two_outputs").save(folder / f"{name}_two_outputs.keras")
    more = package.Input((5,), name="more")
    joined = layers.Dense(2, name="joined")(layers.Concatenate(name="both")([flat, more]))
    package.Model([more, images], joined, name="two_inputs").save(folder / f"{name}_two_inputs.keras")
    first = package.Input((3, 8, 10), name="first")
    pooled = layers.GlobalAveragePooling2D(data_format="channels_first", name="pool")(first)
    model = package.Model(first, layers.Dense(2, name="dense")(pooled), name="channels_first")
    model.save(folder / f"{name}_channels_first.keras")


def write_inputs(package: Any, folder: Path) -> None:
    """What people put before the first convolution, as `PACKAGE_of_NAME.json`."""
    layers, applications = package.layers, package.applications
    augmentation = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1), layers.RandomContrast(0.1)]
    base = applications.EfficientNetV2B0(include_top=False, weights=None, input_shape=(32, 32, 3))
    fronts = {
        "pixels_augmented": lambda x: layers.Rescaling(1 / 255)(package.Sequential(augmentation)(x)),
        "pixels_resized": lambda x: layers.Rescaling(1 / 127.5, offset=-1)(layers.Resizing(8, 8)(x)),
        "pixels_divided": lambda x: x / 255,
        "pixels_multiplied": lambda x: (1 / 255) * x,
        "pixels_tf": applications.mobilenet_v2.preprocess_input,
        "pixels_caffe": applications.resnet50.preprocess_input,
        "pixels_torch": applications.densenet.preprocess_input,
        "pixels_normalized": layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3409.9, 3262.7, 3291.9]),
        "pixels_base": lambda x: base(layers.RandomFlip()(x)),
        "shares_base": lambda x: base(layers.Rescaling(255)(x)),
        "shares_base_arithmetic": lambda x: base(x * 255.0),
        "shares_normalized": layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.052, 0.05, 0.05]),
        "shares_centred": lambda x: (x - 0.5) * 2,
        "shares_later": lambda x: layers.Rescaling(0.01)(layers.Conv2D(3, 3)(x)),
    }
    for name, front in fronts.items():
        images = package.Input((32, 32, 3))
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, padding="same")(front(images)))
        model = package.Model(images, layers.Dense(2)(pooled))
        (folder / f"{package.__name__}_of_{name}.json").write_text(model.to_json())


def own_loss(truth: Any, prediction: Any) -> Any:
    """Of no library's; it is needed in training alone."""
    return (truth - prediction) ** 2


if __name__ == "__main__":
    main()
