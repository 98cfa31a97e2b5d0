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


def mixer(k: Any, maps: Any) -> Any:
    """As many channels as tokens, which Dense layers mix in turn: transposed as a layer, and written out."""
    reshape, transpose, *_ = of_tensors(k)
    layers = k.layers
    tokens = layers.Dense(90, name="tokens")(reshape(maps, (-1, 90, 6)))
    swapped = layers.Permute((2, 1), name="swapped")(layers.LayerNormalization(name="norm")(tokens))
    mixed = layers.Permute((2, 1), name="back")(layers.Dense(90, name="mixing")(swapped))
    tokens = layers.Add(name="sum")([tokens, mixed])
    written = layers.Dense(90, activation="tanh", name="written")(transpose(tokens, (0, 2, 1)))
    tokens = layers.Dense(4, name="narrow")(tokens + transpose(written, (0, 2, 1)))
    if k.__name__ == "keras":  # the same twice, in other words: there, and back again
        tokens = k.ops.swapaxes(k.ops.moveaxis(tokens, -1, 1), 1, -1)
    return layers.LayerNormalization(name="last")(tokens)


def windows(k: Any, maps: Any) -> Any:
    """Shifted windows of Swin, put into the batch, where attention has heads of four axes."""
    reshape, transpose, *_ = of_tensors(k)
    if k.__name__ == "keras":
        roll = k.ops.roll
    else:
        from tensorflow import roll

    maps = k.layers.Cropping2D(((1, 0), (0, 2)), name="even")(maps)
    inside = transpose(reshape(roll(maps, (-2, -1), axis=(1, 2)), (-1, 2, 4, 2, 4, 6)), (0, 1, 3, 2, 4, 5))
    inside = reshape(inside, (-1, 16, 6))
    inside = k.layers.MultiHeadAttention(2, 3, name="attention")(inside, inside)
    outside = transpose(reshape(inside, (-1, 2, 2, 4, 4, 6)), (0, 1, 3, 2, 4, 5))
    return maps + roll(reshape(outside, (-1, 8, 8, 6)), (2, 1), axis=(1, 2))


def folded(k: Any, maps: Any) -> Any:
    """Windows of a MobileViT, (N, windows, positions, C), made by layers."""
    layers = k.layers
    inside = layers.LayerNormalization(name="norm")(layers.Reshape((3, 30, 6), name="fold")(maps))
    inside = inside + layers.Dense(6, name="inside")(inside)
    return layers.Conv2D(4, 1, name="after")(layers.Reshape((9, 10, 6), name="unfold")(inside))


def rows_and_a_class_token(k: Any, maps: Any) -> Any:
    """Means of rows are as many as (9, 6) tokens would be; a class token of zeros is the same for all pictures."""
    reshape, *_ = of_tensors(k)
    if k.__name__ == "keras":
        mean, concatenate, zeros_like = k.ops.mean, k.ops.concatenate, k.ops.zeros_like
    else:
        from tensorflow import concat as concatenate
        from tensorflow import reduce_mean as mean
        from tensorflow import zeros_like

    tokens = k.layers.Dense(6, name="tokens")(reshape(maps, (-1, 90, 6)))
    tokens = concatenate([zeros_like(tokens[:, :1]) + 0.5, tokens], axis=1)
    tokens = k.layers.Flatten()(k.layers.LayerNormalization(name="norm")(tokens))
    return k.layers.Concatenate()([tokens, k.layers.Flatten()(mean(maps, axis=2))])


def split_branches(k: Any, maps: Any) -> Any:
    if k.__name__ == "keras":
        split, concatenate = k.ops.split, k.ops.concatenate
    else:
        from tensorflow import concat as concatenate
        from tensorflow import split
    one, other = split(maps, 2, axis=-1)
    return concatenate([k.layers.Conv2D(3, 3, padding="same", name="branch")(one), other], axis=-1)


def pixel_shuffle(k: Any, maps: Any) -> Any:
    maps = k.layers.Conv2D(8, 3, name="deep")(maps)
    if k.__name__ == "keras":
        return k.ops.nn.depth_to_space(maps, 2)
    import tensorflow as tf

    return tf.nn.depth_to_space(maps, 2)


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
    Kind("mixer", mixer),
    Kind("windows", windows),
    Kind("folded", folded),
    Kind("rows and a class token", rows_and_a_class_token),
    Kind("pixel shuffle", pixel_shuffle),
    Kind("split branches", split_branches),
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


@whole("softmax as a function, then a reshape")
def _head_of_functions(k: Any) -> Any:
    reshape, _, softmax, _ = of_tensors(k)

    def head(maps: Any) -> Any:
        pooled = k.layers.GlobalAveragePooling2D(keepdims=True)(maps)
        return reshape(softmax(k.layers.Conv2D(4, 1)(pooled)), (-1, 4))

    return _model(k, head)


@whole("softmax written out")
def _head_written_out(k: Any) -> Any:
    """The maximum that is taken off has no gradient but what rounding leaves."""
    if k.__name__ == "keras":
        largest, total, exp = k.ops.max, k.ops.sum, k.ops.exp
    else:
        from tensorflow import exp
        from tensorflow import reduce_max as largest
        from tensorflow import reduce_sum as total

    def head(maps: Any) -> Any:
        scores = k.layers.Dense(4)(k.layers.GlobalAveragePooling2D()(maps))
        powers = exp(scores - largest(scores, axis=-1, keepdims=True))
        return powers / total(powers, axis=-1, keepdims=True)

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
