"""Write Keras checkpoints of today, with what Keras computes of them: `python keras_checkpoints.py FOLDER`.

Started as a process of its own, because TensorFlow and torch do not live in one. Each checkpoint has NAME.npz
beside it: the images `x` (N, H, W, C), the predictions `y`, and activations by the names of their taps.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Write every checkpoint into the folder that is the first argument."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    folder = Path(sys.argv[1])
    write_keras_3(folder)
    write_keras_3_of_any_size(folder)
    write_keras_2(folder)
    write_unsupported(folder)


def randomise(model: Any) -> None:
    """Give every weight a value of its own, the statistics of BatchNormalization included."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        values = random.normal(0, 0.3, tuple(variable.shape))
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)


def save_reference(folder: Path, name: str, model: Any, x: np.ndarray, **activations: Any) -> None:
    """Write the images, the predictions and the activations of a checkpoint."""
    arrays: dict[str, Any] = {key.replace("__", "/"): np.asarray(value) for key, value in activations.items()}
    np.savez(folder / f"{name}.npz", x=x, y=np.asarray(model(x, training=False)), **arrays)


def write_keras_3(folder: Path) -> None:
    """Functional, nested two deep, a shared layer, GELU, a dot in a name, Softmax as a layer, raw pixels."""
    import keras
    from keras import layers

    body = keras.Sequential(
        [
            keras.Input((20, 24, 8)),
            layers.Conv2D(12, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Activation("gelu", name="gelu"),
        ],
        name="body",
    )
    inside = keras.Input((20, 24, 3))
    stem = keras.Model(inside, body(layers.Conv2D(8, 1, name="mix")(inside)), name="stem")
    shared = layers.Conv2D(12, 3, padding="same", activation="relu", name="shared")

    images = keras.Input((20, 24, 3), name="images")
    stemmed = stem(layers.Rescaling(1 / 127.5, offset=-1, name="scale")(images))
    once = shared(stemmed)
    twice = shared(once)
    added = layers.Add(name="sum")([once, twice])
    pooled = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(16, 3, strides=2, name="block.conv")(added))
    logits = layers.Dense(4, name="logits")(pooled)
    model = keras.Model(images, layers.Softmax(name="softmax")(logits), name="zoo")
    randomise(model)
    model.save(folder / "keras3.keras")

    x = np.random.default_rng(1).uniform(0, 255, (4, 20, 24, 3)).astype("float32")
    scaled = x / 127.5 - 1
    save_reference(
        folder,
        "keras3",
        model,
        x,
        **{
            "stem__body__conv#0": body.get_layer("conv")(stem.get_layer("mix")(scaled)),
            "stem#0": stem(scaled, training=False),
            "shared#0": keras.Model(images, once)(x, training=False),
            "shared#1": keras.Model(images, twice)(x, training=False),
            "logits#0": keras.Model(images, logits)(x, training=False),
        },
    )


def write_keras_3_of_any_size(folder: Path) -> None:
    """Sequential, architecture and weights apart, pictures of any size, no activation at the end."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(16, 3, activation="silu", name="second"),
            layers.GlobalMaxPooling2D(name="top"),
            layers.Dense(3, name="scores"),
        ],
        name="any_size",
    )
    randomise(model)
    (folder / "any_size.json").write_text(model.to_json())
    model.save_weights(folder / "any_size.weights.h5")
    x = np.random.default_rng(2).uniform(0, 1, (4, 18, 22, 1)).astype("float32")
    save_reference(folder, "any_size", model, x)


def write_keras_2(folder: Path) -> None:
    """Keras 2: Sequential, nested two deep, a shared layer and a sigmoid head, as a whole .h5."""
    import tf_keras
    from tf_keras import layers

    inside = layers.Input((12, 12, 6))
    shared = layers.Conv2D(6, 3, padding="same", activation="swish", name="shared")
    deep = tf_keras.Model(inside, layers.Add(name="sum")([inside, shared(shared(inside))]), name="deep")
    outer = tf_keras.Sequential([deep, layers.BatchNormalization(name="norm")], name="outer")
    model = tf_keras.Sequential(
        [
            layers.Conv2D(6, 3, padding="same", strides=2, name="stem", input_shape=(24, 24, 3)),
            outer,
            layers.Flatten(name="flat"),
            layers.Dense(1, activation="sigmoid", name="score"),
        ],
        name="binary",
    )
    randomise(model)
    model.save(folder / "keras2.h5")
    x = np.random.default_rng(3).uniform(0, 1, (6, 24, 24, 3)).astype("float32")
    stem = model.get_layer("stem")(x)
    once = shared(stem)
    activations = {"stem#0": stem, "outer__deep__shared#0": once, "outer__deep__shared#1": shared(once)}
    save_reference(folder, "keras2", model, x, **activations, **{"outer#0": outer(stem, training=False)})


def write_unsupported(folder: Path) -> None:
    """A harmless model with an operation that torch's side does not know."""
    import keras
    from keras import layers

    images = keras.Input((16, 16, 3))
    wide = keras.ops.sinh(layers.Conv2D(4, 3, name="conv")(images))
    top = layers.GlobalAveragePooling2D()(wide)
    keras.Model(images, layers.Dense(2)(top)).save(folder / "unsupported.keras")


if __name__ == "__main__":
    main()
