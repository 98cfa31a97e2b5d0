"""Write a thin VGG16 and what the article's own code computes of it: `python build_vgg_thin.py FOLDER`.

The layer names and the order are VGG16's, the width is an eighth of it, six classes, dropout before the softmax;
the weights are random. Saved as the article saves: architecture and weights apart. Imports TensorFlow.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZE, CLASSES, LAYER, FEATURES = 64, 6, "block5_conv3", "dense_3"
BLOCKS = [(1, 2, 8), (2, 2, 16), (3, 3, 32), (4, 3, 64), (5, 3, 64)]  # name, convolutions, channels


def pictures(count: int) -> np.ndarray:
    """Discs of random colour on a random colour, (N, H, W, 3) float32 in 0..1."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    found = np.empty((count, SIZE, SIZE, 3), np.float32)
    for picture in found:
        row, column, radius = rng.uniform((10, 10, 8), (54, 54, 24))
        disc = (y - row) ** 2 + (x - column) ** 2 < radius**2
        ground, colour = rng.uniform(0, 1, (2, 3))
        picture[:] = np.where(disc[..., None], colour, ground) * rng.uniform(0.8, 1, (SIZE, SIZE, 1))
    return found


def thin_vgg(keras: Any) -> Any:
    """VGG16 at an eighth of its width, with random weights that keep the signal's size."""
    layers = keras.layers
    random = {"kernel_initializer": "he_normal", "bias_initializer": "random_normal"}
    model = keras.Sequential()
    for block, convolutions, channels in BLOCKS:
        for i in range(1, convolutions + 1):
            first = {"input_shape": (SIZE, SIZE, 3)} if (block, i) == (1, 1) else {}
            name = f"block{block}_conv{i}"
            model.add(layers.Conv2D(channels, 3, padding="same", activation="relu", name=name, **random, **first))
        model.add(layers.MaxPooling2D(2, name=f"block{block}_pool"))
    model.add(layers.Flatten(name="flatten_1"))
    for i in (1, 2, 3):
        model.add(layers.Dense(48, activation="relu", name=f"dense_{i}", **random))
    model.add(layers.Dropout(0.5, name="dropout_1"))
    model.add(layers.Dense(CLASSES, activation="softmax", name="dense_4", **random))
    return model


def article_grad_cam(activations: np.ndarray, gradients: np.ndarray, interpolation: int) -> np.ndarray:
    """Resize, then ReLU, then divide by the maximum, as the article does."""
    import cv2

    weights = gradients.mean(axis=(0, 1))
    cam = cv2.resize(activations @ weights, (SIZE, SIZE), interpolation=interpolation)
    cam = np.maximum(cam, 0)
    return cam / cam.max()


def main() -> None:
    """Build, save, and compute."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import cv2
    import tensorflow as tf
    import tf_keras as keras

    keras.utils.set_random_seed(0)
    folder, x = Path(sys.argv[1]), pictures(4)
    model = thin_vgg(keras)
    (folder / "model.json").write_text(model.to_json())
    model.save_weights(folder / "weights.h5")
    layers = [model.get_layer(name).output for name in (LAYER, FEATURES)]
    with tf.GradientTape() as tape:
        activations, features, predictions = keras.Model(model.input, [*layers, model.output])(x, training=False)
        top = tf.reduce_sum(tf.reduce_max(predictions, axis=1))
    gradients = tape.gradient(top, activations).numpy()
    a = activations.numpy()
    np.savez(
        folder / "article.npz",
        x=x,
        predictions=predictions.numpy(),
        features=features.numpy(),
        small=np.einsum("nijk,nk->nij", a, gradients.mean(axis=(1, 2))),
        nearest=[article_grad_cam(*pair, cv2.INTER_NEAREST) for pair in zip(a, gradients, strict=True)],
        linear=[article_grad_cam(*pair, cv2.INTER_LINEAR) for pair in zip(a, gradients, strict=True)],
    )


if __name__ == "__main__":
    main()
