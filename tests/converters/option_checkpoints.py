"""Write checkpoints that need the user's choice, or that of the converter: `python option_checkpoints.py FOLDER`.

Two outputs, two inputs, half precision, custom layers, Lambda layers, Keras 3 in HDF5, weights in another order. Each
has NAME.npz beside it with images `x` and what Keras makes of them, in float32.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (12, 14, 3)


def main() -> None:
    """Write every checkpoint into the folder that is the first argument."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    folder = Path(sys.argv[1])
    import keras
    import tf_keras

    for package, suffix in ((keras, "keras"), (tf_keras, "h5")):
        write_two_outputs(package, folder / f"two_outputs.{suffix}")
        write_half_precision(package, folder / f"half.{suffix}")
        write_custom(package, folder / f"custom.{suffix}")
    write_two_inputs(keras, folder / "two_inputs.keras")
    write_small(keras, folder / "keras3.h5")
    write_small(tf_keras, folder / "keras2.keras")
    write_preprocessed(keras, folder)
    write_by_name(tf_keras, folder)


def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, (3, *SHAPE)).astype("float32")


def randomise(model: Any) -> None:
    random = np.random.default_rng(0)
    for variable in model.weights:
        values = random.normal(0, 0.3, tuple(variable.shape))
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)


def save(file: Path, model: Any, **outputs: Any) -> None:
    model.save(file)
    np.savez(file.with_suffix(f"{file.suffix}.npz"), x=images(), **{k: np.asarray(v) for k, v in outputs.items()})


def features(package: Any, inputs: Any) -> Any:
    layers = package.layers
    return layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)


def write_two_outputs(package: Any, file: Path) -> None:
    layers = package.layers
    inputs = package.Input(SHAPE, name="images")
    maps = features(package, inputs)
    pooled = layers.GlobalAveragePooling2D(name="pool")(maps)
    animal = layers.Dense(4, activation="softmax", name="animal")(pooled)
    colour = layers.Dense(2, activation="sigmoid", name="colour")(layers.Flatten(name="flat")(maps))
    model = package.Model(inputs, [animal, colour])
    randomise(model)
    first, second = model(images(), training=False)
    save(file, model, animal=first, colour=second)


def write_two_inputs(package: Any, file: Path) -> None:
    """The animal needs the image alone, the place its size as well."""
    layers = package.layers
    inputs, size = package.Input(SHAPE, name="images"), package.Input((2,), name="size")
    pooled = layers.GlobalAveragePooling2D(name="pool")(features(package, inputs))
    animal = layers.Dense(4, activation="softmax", name="animal")(pooled)
    place = layers.Dense(3, name="place")(layers.Concatenate(name="both")([pooled, size]))
    model = package.Model([inputs, size], [animal, place])
    randomise(model)
    save(file, model, animal=package.Model(inputs, animal)(images(), training=False))


def write_half_precision(package: Any, file: Path) -> None:
    """Trained under mixed_float16; the reference is the same network in float32."""

    def build() -> Any:
        layers = package.layers
        inputs = package.Input(SHAPE, name="images")
        maps = layers.BatchNormalization(name="norm")(features(package, inputs))
        pooled = layers.GlobalAveragePooling2D(name="pool")(maps)
        return package.Model(inputs, layers.Dense(4, activation="softmax", dtype="float32", name="top")(pooled))

    mixed_precision = package.mixed_precision
    mixed_precision.set_global_policy("mixed_float16")
    half = build()
    mixed_precision.set_global_policy("float32")
    whole = build()
    randomise(half)
    randomise(whole)
    save(file, half, y=whole(images(), training=False), half=half(images(), training=False))


def write_custom(package: Any, file: Path) -> None:
    """A layer, an activation and a Lambda that only the user's module knows; see `vouched_layers`."""
    import vouched_layers

    layers = package.layers
    inputs = package.Input(SHAPE, name="images")
    scaled = vouched_layers.scale_layer(package)(factor=2.0, name="scale")(features(package, inputs))
    doubled = layers.Lambda(lambda maps: maps * 2, name="double")(scaled)
    bent = layers.Activation(vouched_layers.bend, name="bend")(doubled)
    top = layers.Dense(4, activation="softmax", name="top")(layers.GlobalAveragePooling2D(name="pool")(bent))
    model = package.Model(inputs, top)
    randomise(model)
    save(file, model, y=model(images(), training=False))


def small(package: Any) -> Any:
    layers = package.layers
    model = package.Sequential(
        [
            package.Input(SHAPE, name="images"),
            layers.Conv2D(8, 3, activation="gelu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flat"),
            layers.Dense(4, activation="softmax", name="top"),
        ]
    )
    randomise(model)
    return model


def write_small(package: Any, file: Path) -> None:
    model = small(package)
    save(file, model, y=model(images(), training=False))


def write_preprocessed(package: Any, folder: Path) -> None:
    """What the applications make of pixels, by the names of ours."""
    pixels = np.random.default_rng(2).integers(0, 256, (1, 6, 5, 3)).astype("float32")
    applications = package.applications
    modules = {
        "ResNet50": applications.resnet,
        "VGG16": applications.vgg16,
        "DenseNet121": applications.densenet,
        "Xception": applications.xception,
        "NASNetMobile": applications.nasnet,
        "ResNet50V2": applications.resnet_v2,
        "EfficientNetB0": applications.efficientnet,
        "ConvNeXtTiny": applications.convnext,
        "MobileNetV3Small": applications.mobilenet_v3,
    }
    made = {name: module.preprocess_input(pixels.copy()) for name, module in modules.items()}
    np.savez(folder / "preprocessed.npz", pixels=pixels, **made)


def write_by_name(package: Any, folder: Path) -> None:
    """The weights of a model with one more head, its layers in another order: Keras pairs them `by_name`."""
    import h5py

    model = small(package)
    (folder / "by_name.json").write_text(model.to_json())
    model.save_weights(folder / "by_name.h5")
    with h5py.File(folder / "by_name.h5", "r+") as file:
        names = [np.bytes_(name) for name in file.attrs["layer_names"]]
        extra = file.create_group("old_top")
        extra["kernel"] = np.ones((3, 2), "float32")
        extra.attrs["weight_names"] = [b"kernel"]
        file.attrs["layer_names"] = [np.bytes_("old_top"), *reversed(names)]
    np.savez(folder / "by_name.npz", x=images(), y=np.asarray(model(images(), training=False)))


if __name__ == "__main__":
    main()
