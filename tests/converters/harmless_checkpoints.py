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


def own_loss(truth: Any, prediction: Any) -> Any:
    """Of no library's; it is needed in training alone."""
    return (truth - prediction) ** 2


if __name__ == "__main__":
    main()
