"""Write a small Keras ViT with a class token: `python keras_vit.py FILE`; a process of its own, for TensorFlow."""

import os
import sys


def main() -> None:
    """Pictures of 24 x 16, patches of 8 x 8: 3 x 2 positions after a class token."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import keras
    import numpy as np
    from keras import layers

    images = keras.Input((24, 16, 3))
    x = layers.Reshape((6, 8), name="patches")(layers.Conv2D(8, 8, strides=8, name="embed")(images))
    token = layers.Dense(8, name="token")(layers.GlobalAveragePooling1D(keepdims=True)(x))
    x = layers.Concatenate(axis=1, name="tokens")([token, x])
    for block in range(2):
        y = layers.LayerNormalization(name=f"norm{block}a")(x)
        x = layers.Add(name=f"attended{block}")([x, layers.MultiHeadAttention(2, 4)(y, y)])
        y = layers.Dense(16, activation="gelu")(layers.LayerNormalization(name=f"norm{block}b")(x))
        x = layers.Add(name=f"block{block}")([x, layers.Dense(8)(y)])
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Flatten()(layers.Cropping1D((0, 6), name="class_token")(x))
    model = keras.Model(images, layers.Dense(4, activation="softmax")(x))
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(0, 0.5, tuple(variable.shape)))
    model.save(sys.argv[1])


if __name__ == "__main__":
    main()
