"""Whole models and structures for the layer test: nesting, sharing, heads, precision, channels first."""

from collections.abc import Callable
from typing import Any

from layer_kind import KERAS_3, STEM, Kind

# ---------------------------------------------------------------- structure


def nested_three_deep(k: Any, maps: Any) -> Any:
    layers = k.layers
    inside = k.Input((9, 10, 6))
    inner = k.Model(inside, layers.Add()([inside, layers.Conv2D(6, 3, padding="same")(inside)]), name="inner")
    middle = k.Sequential([k.Input((9, 10, 6)), inner, layers.BatchNormalization(), inner], name="middle")
    outside = k.Input((9, 10, 6))
    return k.Model(outside, layers.ReLU()(middle(outside)), name="outer")(maps)


def shared_three_times(k: Any, maps: Any) -> Any:
    shared = k.layers.Conv2D(6, 3, padding="same", activation="tanh")
    return shared(shared(shared(maps)))


def arithmetic(_: Any, maps: Any) -> Any:
    return (maps * 2.0 - 1.0) / 3.0 + maps


def slices(_: Any, maps: Any) -> Any:
    """An ellipsis and slices are values that JSON does not know; each generation writes them in its own way."""
    return maps[..., ::-1] * 0.5 + maps[:, :, 1:2, 3:4]


def functions(k: Any, maps: Any) -> Any:
    if k.__name__ == "keras":
        return k.ops.concatenate([k.ops.sqrt(k.ops.square(maps) + 1.0), k.ops.relu6(maps)], axis=-1)
    import tensorflow as tf

    return tf.concat([tf.sqrt(tf.square(maps) + 1.0), tf.nn.relu6(maps)], axis=-1)


def attention_written_out(k: Any, maps: Any) -> Any:
    """With a shortcut; its heads and their scores have four axes and are no maps."""
    reshape, transpose, softmax, matmul = of_tensors(k)

    def heads(x: Any) -> Any:
        return transpose(reshape(k.layers.Dense(6)(x), (-1, 90, 2, 3)), (0, 2, 1, 3))

    x = reshape(maps, (-1, 90, 6))
    query, key, value = heads(x), heads(x), heads(x)
    scores = softmax(matmul(query, transpose(key, (0, 1, 3, 2))) * 3**-0.5)
    return x + k.layers.Dense(6)(reshape(transpose(matmul(scores, value), (0, 2, 1, 3)), (-1, 90, 6)))


def gate_written_out(k: Any, maps: Any) -> Any:
    """Squeeze and excitation: a Reshape that only adds axes, and maps times what it gives."""
    reshape, *_ = of_tensors(k)
    gate = k.layers.Dense(6, activation="sigmoid")(k.layers.GlobalAveragePooling2D()(maps))
    return maps * reshape(gate, (-1, 1, 1, 6))


def of_tensors(k: Any) -> tuple[Any, Any, Any, Any]:
    """Reshape, transpose, softmax and matmul of either generation."""
    if k.__name__ == "keras":
        return k.ops.reshape, k.ops.transpose, k.ops.softmax, k.ops.matmul
    import tensorflow as tf

    return tf.reshape, tf.transpose, tf.nn.softmax, tf.matmul


def hyperbolic_sine(k: Any, maps: Any) -> Any:
    return k.layers.Conv2D(3, 3, name="after")(k.ops.sinh(maps))


# what cannot be converted, with what the user is told
REFUSED = [
    Kind(
        "sinh",
        hyperbolic_sine,
        KERAS_3,
        refused=r"UnsupportedModelError: 1 ops cannot be converted to torch: Sinh in .* \(layer 'sinh'\)\. Replace",
    ),
    Kind(
        "UpSampling2D(interpolation='bicubic')",
        lambda k, maps: k.layers.UpSampling2D(2, interpolation="bicubic")(maps),
        refused="UnsupportedModelError: Resize with mode cubic.* choose interpolation='nearest' or 'bilinear'",
    ),
]

STRUCTURES = [
    Kind("nested three deep", nested_three_deep),
    Kind("shared three times", shared_three_times),
    Kind("arithmetic", arithmetic),
    Kind("slices", slices),
    Kind("functions", functions),
    Kind("attention written out", attention_written_out),
    Kind("gate written out", gate_written_out),
]

# ---------------------------------------------------------------- whole models: heads, precision, channels first


def whole(name: str, tolerance: float = 1e-4) -> Callable[[Callable[..., Any]], Kind]:
    """The builder of a whole model as a kind."""
    return lambda build: Kind(name, build, whole=True, tolerance=tolerance)


def _model(k: Any, head: Callable[[Any], Any]) -> Any:
    images = k.Input((9, 10, 3))
    return k.Model(images, head(k.layers.Conv2D(STEM, 3, padding="same", activation="relu")(images)))


@whole("softmax over maps of one pixel, then Reshape")
def _head_of_mobilenet(k: Any) -> Any:
    def head(maps: Any) -> Any:
        pooled = k.layers.Reshape((1, 1, STEM))(k.layers.GlobalAveragePooling2D()(maps))
        scores = k.layers.Activation("softmax")(k.layers.Conv2D(4, 1)(k.layers.Dropout(0.1)(pooled)))
        return k.layers.Reshape((4,))(scores)

    return _model(k, head)


@whole("Reshape, then softmax")
def _head_of_new_mobilenet(k: Any) -> Any:
    def head(maps: Any) -> Any:
        pooled = k.layers.GlobalAveragePooling2D(keepdims=True)(maps)
        return k.layers.Activation("softmax")(k.layers.Reshape((4,))(k.layers.Conv2D(4, 1)(pooled)))

    return _model(k, head)


@whole("softmax as a function")
def _head_of_a_function(k: Any) -> Any:
    def head(maps: Any) -> Any:
        scores = k.layers.Dense(4)(k.layers.Flatten()(maps))
        if k.__name__ == "keras":
            return k.ops.softmax(scores)
        import tensorflow as tf

        return tf.nn.softmax(scores)

    return _model(k, head)


@whole("softmax of a layer that is used twice")
def _shared_head(k: Any) -> Any:
    softmax = k.layers.Activation("softmax")

    def head(maps: Any) -> Any:
        return softmax(k.layers.Dense(4)(k.layers.Flatten()(softmax(maps))))

    return _model(k, head)


@whole("sigmoid behind Dropout")
def _sigmoid(k: Any) -> Any:
    return _model(
        k, lambda maps: k.layers.Dropout(0.5)(k.layers.Dense(1, activation="sigmoid")(k.layers.Flatten()(maps)))
    )


@whole("softmax in a nested model")
def _nested_head(k: Any) -> Any:
    top = k.Sequential([k.Input((9, 10, STEM)), k.layers.GlobalMaxPooling2D(), k.layers.Dense(4, activation="softmax")])
    return _model(k, top)


def _head_inside(k: Any) -> Any:
    def head(maps: Any) -> Any:
        return k.layers.SpectralNormalization(k.layers.Dense(4, activation="softmax"))(k.layers.Flatten()(maps))

    return _model(k, head)


HEAD_INSIDE = Kind("softmax of a layer inside a layer", _head_inside, KERAS_3, whole=True)


@whole("no head")
def _no_head(k: Any) -> Any:
    return _model(k, lambda maps: k.layers.Dense(4)(k.layers.Flatten()(maps)))


@whole("mixed precision", tolerance=3e-3)  # Keras predicts in half precision
def _mixed_precision(k: Any) -> Any:
    k.mixed_precision.set_global_policy("mixed_float16")
    try:
        return _model(k, lambda maps: k.layers.Dense(4, "softmax", dtype="float32")(k.layers.Flatten()(maps)))
    finally:
        k.mixed_precision.set_global_policy("float32")


def _of_data_format(k: Any, data_format: str) -> Any:
    layers = k.layers
    first = data_format == "channels_first"
    given: Any = {"data_format": data_format}
    axis = 1 if first else 3
    images = k.Input((3, 9, 10) if first else (9, 10, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", **given)(images)
    x = layers.BatchNormalization(axis=axis)(x)
    x = layers.ZeroPadding2D(1, **given)(x)
    x = layers.DepthwiseConv2D(3, **given)(x)
    x = layers.MaxPooling2D(2, strides=1, **given)(x)
    x = layers.concatenate([x, layers.AveragePooling2D(2, strides=1, padding="same", **given)(x)], axis=axis)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", **given)(x)
    y = layers.GlobalAveragePooling2D(**given)(x)
    x = layers.concatenate([layers.Flatten(**given)(x), y])
    return k.Model(images, layers.Dense(4, activation="softmax")(x))


CHANNELS_FIRST = Kind(
    "channels first",
    lambda k: _of_data_format(k, "channels_first"),
    whole=True,
    twin=lambda k: _of_data_format(k, "channels_last"),
)

WHOLE = [value for value in list(globals().values()) if isinstance(value, Kind) and value.whole]
