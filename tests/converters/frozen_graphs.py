"""Frozen graphs written op by op, as TensorFlow 1 was; part of graphs.py, in whose process it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
random = np.random.default_rng(7)


def pictures(size: int, count: int = 4) -> np.ndarray:
    return random.uniform(0, 1, (count, size, size, 3)).astype("float32")


def store(path: Path, x: np.ndarray, y: Any, layers: dict[str, Any] | None = None) -> None:
    activations = {f"layer/{name}": np.asarray(value) for name, value in (layers or {}).items()}
    np.savez(f"{path}.npz", **{"x": x, "y": np.asarray(y)} | activations)  # type: ignore[arg-type]


def conv_v1(x: Any, channels: int, filters: int, name: str, resource: bool = True) -> Any:
    with v1.variable_scope(name):
        kernel = v1.get_variable("kernel", (3, 3, channels, filters), use_resource=resource)
        bias = v1.get_variable("bias", (filters,), use_resource=resource)
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias))


def freeze(session: Any, outputs: list[Any], path: Path) -> None:
    names = [output.op.name for output in outputs]
    graph = v1.graph_util.convert_variables_to_constants(session, session.graph_def, names)
    path.write_bytes(graph.SerializeToString())


def frozen_by_hand(folder: Path, name: str, build: Callable[[], tuple[list[Any], Any]], x: np.ndarray | None) -> None:
    """Freeze what `build` makes; of (outputs, feeds) the first output is the prediction."""
    path = folder / f"{name}.pb"
    with tf.Graph().as_default(), v1.Session() as session:
        outputs, images = build()
        session.run(v1.global_variables_initializer())
        if x is not None:
            rows = images.shape[0] or len(x)
            found = [session.run(outputs[0], {images: x[i : i + rows]}) for i in range(0, len(x), rows)]
            store(path, x, np.concatenate(found))
        freeze(session, outputs, path)


def classes(x: Any, channels: int, name: str = "logits") -> Any:
    with v1.variable_scope(name):
        return tf.matmul(tf.reduce_mean(x, [1, 2]), v1.get_variable("kernel", (channels, 3)))


def one_picture() -> Any:
    """Batch of one, with the batch written into a Reshape, and an op named logits that does not give them."""
    images = v1.placeholder(tf.float32, (1, 12, 12, 3), name="input")
    x = tf.reshape(conv_v1(images, 3, 8, "conv1"), [1, -1])
    with v1.variable_scope("fc"):
        x = tf.matmul(x, v1.get_variable("kernel", (8 * 144, 3)))
    return [tf.nn.softmax(tf.add(tf.multiply(x, 0.5, name="logits"), [1.0, 0.0, 0.3]))], images


def whole_numbers() -> Any:
    """Takes bytes, and two heads of which one has to be named."""
    images = v1.placeholder(tf.uint8, (None, 12, 12, 3), name="pixels")
    x = conv_v1(tf.cast(images, tf.float32) / 255, 3, 16, "conv1")
    return [tf.nn.softmax(classes(x, 16), name="kinds"), tf.nn.sigmoid(classes(x, 16, "other"), name="flags")], images


def one_pixel() -> Any:
    """A softmax of maps of one pixel, as in old MobileNets, made rows behind it."""
    images = v1.placeholder(tf.float32, (None, 12, 12, 3), name="input")
    x = tf.reduce_mean(conv_v1(images, 3, 8, "conv1"), [1, 2], keepdims=True)
    with v1.variable_scope("predictions"):
        x = tf.nn.conv2d(x, v1.get_variable("kernel", (1, 1, 8, 5)), 1, "SAME")
    # as TensorFlow 1 wrote it; tf.nn.softmax of today's TensorFlow adds reshapes
    return [tf.squeeze(tf.raw_ops.Softmax(logits=x, name="act_softmax"), [1, 2], name="squeezed")], images


def slim() -> Any:
    """Scopes as of tf-slim: all in the model's own, a Reshape behind the softmax, an Identity for Dropout."""
    images = v1.placeholder(tf.float32, (None, 12, 12, 3), name="input")
    with v1.variable_scope("Inception"):
        x = conv_v1(images, 3, 8, "Conv2d_1a")
        with v1.variable_scope("Mixed_5b"):
            branches = [conv_v1(x, 8, 4, "Branch_0"), conv_v1(x, 8, 4, "Branch_1")]
            x = tf.concat(branches, 3)
        with v1.variable_scope("Logits"):
            x = tf.identity(tf.reduce_mean(x, [1, 2]), name="Dropout_1b/Identity")
            x = tf.matmul(x, v1.get_variable("kernel", (8, 5)))
        return [tf.reshape(tf.nn.softmax(x, name="Predictions/Softmax"), [-1, 5], name="Predictions/Reshape_1")], images


def two_inputs() -> Any:
    left, right = (v1.placeholder(tf.float32, (None, 8, 8, 3), name=name) for name in ("left", "right"))
    return [classes(conv_v1(left, 3, 4, "a") + conv_v1(right, 3, 4, "b"), 4)], left


def keep_prob() -> Any:
    images, keep = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x"), v1.placeholder(tf.float32, name="keep_prob")
    return [classes(conv_v1(images, 3, 4, "a") * keep, 4)], images


def training_mode() -> Any:
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    return [classes(v1.nn.dropout(conv_v1(images, 3, 4, "a"), rate=0.5), 4)], images


def loop() -> Any:
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    v1.disable_control_flow_v2()
    _, x = v1.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x * 0.5), [tf.constant(0), images])
    return [classes(conv_v1(x, 3, 4, "a"), 4)], images


def functional_loop() -> Any:
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    v1.enable_control_flow_v2()
    _, x = tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x * 0.5), [tf.constant(0), images])
    return [classes(conv_v1(x, 3, 4, "a"), 4)], images


def batch_statistics() -> Any:
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    x, _, _ = v1.nn.fused_batch_norm(conv_v1(images, 3, 4, "a"), tf.ones(4), tf.zeros(4), is_training=True)
    return [classes(x, 4)], images


def channels_first() -> Any:
    images = v1.placeholder(tf.float32, (None, 3, 8, 8), name="x")
    x = tf.nn.conv2d(images, v1.get_variable("kernel", (3, 3, 3, 4)), 1, "SAME", data_format="NCHW")
    return [tf.matmul(tf.reduce_mean(x, [2, 3]), v1.get_variable("dense", (4, 3)))], images


def tied_batch() -> Any:
    """Each picture's scores depend on the other pictures."""
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    scores = classes(conv_v1(images, 3, 4, "a"), 4)
    return [scores - tf.reduce_mean(scores, 0)], images


def data_condition() -> Any:
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    x = conv_v1(images, 3, 4, "a")
    v1.disable_control_flow_v2()
    return [classes(tf.cond(tf.reduce_sum(x) > 3, lambda: x * 2, lambda: x), 4)], images


def honest(folder: Path) -> None:
    frozen_by_hand(folder, "one_picture", one_picture, pictures(12))
    frozen_by_hand(folder, "whole_numbers", whole_numbers, np.rint(255 * pictures(12)))
    for build in (one_pixel, slim):
        frozen_by_hand(folder, build.__name__, build, pictures(12))


def beyond_us(folder: Path) -> None:
    """Harmless, and refused."""
    refused = (two_inputs, keep_prob, training_mode, channels_first, tied_batch, data_condition, batch_statistics)
    for build in (*refused, loop, functional_loop):
        frozen_by_hand(folder, build.__name__, build, None)


class Plain(tf.Module):
    """No Keras at all, and pixels from 0 to 255."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(random.normal(size=(3, 3, 3, 40)).astype("float32"))
        self.weight = tf.Variable(random.normal(size=(40, 3)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(x / 255.0, self.kernel, 1, "SAME"))
        return tf.nn.sigmoid(tf.reduce_mean(x, [1, 2]) @ self.weight)
