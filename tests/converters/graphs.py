"""Write frozen graphs and SavedModels, honest and not: `python graphs.py FOLDER`; a TensorFlow process of its own.

Beside each honest model NAME lies NAME.npz: pictures `x`, predictions `y`, and activations `layer/<name>` of some of
its layers. Each model that would write a file is told to write `FOLDER/canary/<name>`.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from frozen_graphs import Plain, beyond_us, conv_v1, freeze, honest, pictures, random, store, v1
from malicious_graphs import malicious


def unlike_each_other(model: Any) -> None:
    """Weights that make every layer matter, statistics of BatchNormalization among them."""
    model.set_weights([random.uniform(0.1, 1, w.shape) if w.ndim < 2 else w * 1.5 for w in model.get_weights()])


# ---------------------------------------------------------------- SavedModels


def functional(package: Any) -> Any:
    """A nested model, a layer called twice, BatchNormalization and Dropout."""
    layers = package.layers
    pixels = package.Input((32, 32, 3), name="pixels")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2d")(pixels)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    inner = package.Sequential(
        [
            package.Input((16, 16, 16)),
            layers.Conv2D(16, 3, padding="same", groups=2, name="grouped"),
            layers.ReLU(name="relu"),
        ],
        name="inner",
    )
    x = layers.Add(name="plus")([x, inner(x)])
    shared = layers.Conv2D(16, 3, padding="same", name="conv2d_1")
    x = shared(shared(x))
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    return package.Model(pixels, layers.Dense(4, activation="softmax", name="classes")(x), name="classifier")


def keras_2(folder: Path) -> None:
    model = functional(tf_keras)
    unlike_each_other(model)
    model.save(folder / "keras_2")
    store_functional(tf_keras, model, folder / "keras_2")


def keras_3(folder: Path) -> None:
    model = functional(keras)
    unlike_each_other(model)
    model.export(folder / "keras_3", verbose=False)
    store_functional(keras, model, folder / "keras_3")


def store_functional(package: Any, model: Any, path: Path) -> None:
    names = ["conv2d", "bn", "pool", "plus", "gap"]
    see = package.Model(model.input, [model.get_layer(name).output for name in names])
    x = pictures(32)
    store(path, x, model(x), dict(zip(names, see(x), strict=True)))


class Subclassed(tf_keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv = tf_keras.layers.Conv2D(12, 3, strides=2)
        self.norm = tf_keras.layers.BatchNormalization()
        self.dense = tf_keras.layers.Dense(3)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = tf.nn.relu(self.norm(self.conv(inputs), training=training))
        return tf.nn.softmax(self.dense(tf.reduce_mean(x, [1, 2])))


def subclassed(folder: Path) -> None:
    model, x = Subclassed(), pictures(20)
    model(x)
    unlike_each_other(model)
    model(x)
    model.save(folder / "subclassed")
    store(folder / "subclassed", x, model(x), {"conv2d": model.conv(x)})


def plain(folder: Path) -> None:
    model, x = Plain(), 255 * pictures(16)
    tf.saved_model.save(model, folder / "plain")
    store(folder / "plain", x, model(x))


class TwoOutputs(Plain):
    """Two outputs, a batch of one, and a size that is free."""

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.float32, name="x")])
    def both(self, x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "SAME"))
        rows = tf.reshape(tf.reduce_max(x, [1, 2]), [1, 40])
        return {"colours": rows @ self.weight, "shapes": tf.nn.softmax(rows @ self.weight * 0.3)}


def two_outputs(folder: Path) -> None:
    model, x = TwoOutputs(), pictures(16)
    tf.saved_model.save(model, folder / "two_outputs", signatures=model.both)
    store(folder / "two_outputs", x, np.concatenate([model.both(x[i : i + 1])["shapes"] for i in range(len(x))]))


def tensorflow_1(folder: Path, canary: Path) -> None:
    """A SavedModel of TensorFlow 1; its main_op writes a file when it is loaded as it wants to be."""
    x = pictures(16)
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 16, 16, 3), name="images")  # a name that the trace uses itself
        with v1.variable_scope("block1"):
            y = conv_v1(images, 3, 24, "conv", resource=False)
        with v1.variable_scope("logits"):
            kernel = v1.get_variable("kernel", (24, 5), use_resource=True)
            y = tf.matmul(tf.reduce_mean(y, [1, 2]), kernel)
        main_op = tf.io.write_file(str(canary), "main_op")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder / "tensorflow_1"))
        signature = v1.saved_model.predict_signature_def({"images": images}, {"scores": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=main_op)
        builder.save()
        store(folder / "tensorflow_1", x, session.run(y, {images: x}))


# ---------------------------------------------------------------- frozen graphs


def learning_phase(path: Path) -> None:
    """A Keras model of graph mode that was never told its learning phase: conditions at Dropout and at BN."""
    x = pictures(16)
    with tf.Graph().as_default(), v1.Session() as session:
        layers = tf_keras.layers
        model = tf_keras.Sequential(
            [
                layers.Conv2D(20, 3, input_shape=(16, 16, 3), name="conv2d_1"),
                layers.BatchNormalization(name="batch_normalization_1"),
                layers.Activation("relu", name="activation_1"),
                layers.Dropout(0.5, name="dropout_1"),
                layers.Flatten(name="flatten_1"),
                layers.Dense(3, activation="softmax", name="dense_1"),
            ]
        )
        tf_keras.src.backend.set_session(session)
        session.run(v1.global_variables_initializer())
        unlike_each_other(model)
        phase = tf_keras.backend.learning_phase()
        names = ["conv2d_1", "batch_normalization_1", "dropout_1"]
        seen = [model.get_layer(name).output for name in names]
        *activations, y = session.run([*seen, model.output], {model.input: x, phase: False})
        freeze(session, [model.output], path)
        store(path, x, y, dict(zip(names, activations, strict=True)))
    tf_keras.backend.clear_session()


def switches(folder: Path) -> None:
    v1.disable_control_flow_v2()
    learning_phase(folder / "switches.pb")


def branches(folder: Path) -> None:
    v1.enable_control_flow_v2()
    learning_phase(folder / "branches.pb")


def main(folder: Path) -> None:
    canaries = folder / "canary"
    canaries.mkdir(parents=True)
    keras_2(folder)
    keras_3(folder)
    subclassed(folder)
    plain(folder)
    two_outputs(folder)
    tensorflow_1(folder, canaries / "main_op")
    honest(folder)
    beyond_us(folder)
    malicious(folder, canaries)
    switches(folder)
    branches(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
