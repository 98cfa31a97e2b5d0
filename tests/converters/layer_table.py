"""Every layer kind and option that an image classifier may hold: the table of the layer test."""

from typing import Any

from layer_kind import BOTH, KERAS_2, KERAS_3, Kind, layer, rows, sequence, tokens
from layer_models import REFUSED, STRUCTURES, WHOLE

# ---------------------------------------------------------------- convolutions

CONVOLUTIONS = [
    layer("Conv2D", 4, 3, strides=2, padding="same"),
    layer("Conv2D", 4, 4, strides=(2, 3), padding="same"),
    layer("Conv2D", 4, (2, 3), padding="valid", use_bias=False),
    layer("Conv2D", 4, 3, dilation_rate=2),
    layer("Conv2D", 4, 3, dilation_rate=(1, 3), padding="same"),
    layer("Conv2D", 6, 3, groups=3, padding="same"),
    layer("Conv2D", 4, 3, groups=2, strides=2, padding="same"),
    layer("Conv2D", 4, 3, groups=2, dilation_rate=2),
    layer("DepthwiseConv2D", 3, padding="same"),
    layer("DepthwiseConv2D", 3, depth_multiplier=2, strides=2, padding="same"),
    layer("DepthwiseConv2D", (2, 3), depth_multiplier=3, dilation_rate=2),
    layer("SeparableConv2D", 4, 3, depth_multiplier=2, padding="same", activation="relu"),
    layer("SeparableConv2D", 4, 3, strides=2),
    layer("Conv2DTranspose", 4, 3, strides=2, padding="same"),
    layer("Conv2DTranspose", 4, 3, strides=2, padding="valid"),
    layer("Conv2DTranspose", 4, 4, strides=2, padding="same", use_bias=False),
    layer("Conv2DTranspose", 4, 2, strides=3, padding="same"),
    layer("Conv2DTranspose", 4, 2, strides=3, padding="valid"),
    layer("Conv2DTranspose", 4, 3, strides=2, padding="same", output_padding=1),
    layer("Conv2DTranspose", 4, 3, strides=(2, 3), padding="valid", output_padding=(1, 2)),
    sequence("Conv1D", 4, 3, strides=2, padding="same"),
    sequence("Conv1D", 4, 3, padding="causal", dilation_rate=2),
    sequence("SeparableConv1D", 4, 3, padding="same"),
    sequence("DepthwiseConv1D", 3, depth_multiplier=2),
    sequence("Conv1DTranspose", 4, 3, strides=2, padding="same"),
]

# ---------------------------------------------------------------- pooling and shape

SHAPES = [
    layer("MaxPooling2D", 2),
    layer("MaxPooling2D", 3, strides=2, padding="same"),
    layer("MaxPooling2D", (2, 3), strides=(1, 2), padding="same"),
    layer("AveragePooling2D", 2),
    layer("AveragePooling2D", 2, strides=2, padding="same"),
    layer("AveragePooling2D", 3, strides=1, padding="same"),
    layer("AveragePooling2D", (2, 4), strides=(1, 2), padding="same"),
    layer("GlobalAveragePooling2D"),
    layer("GlobalAveragePooling2D", keepdims=True),
    layer("GlobalMaxPooling2D"),
    layer("GlobalMaxPooling2D", keepdims=True),
    sequence("MaxPooling1D", 2, padding="same"),
    sequence("AveragePooling1D", 2, padding="same"),
    sequence("GlobalAveragePooling1D"),
    sequence("GlobalMaxPooling1D"),
    layer("AdaptiveAveragePooling2D", 3, packages=KERAS_3),
    layer("AdaptiveMaxPooling2D", (3, 4), packages=KERAS_3),
    layer("ZeroPadding2D", ((1, 2), (0, 3))),
    layer("Cropping2D", ((1, 2), (0, 3))),
    layer("UpSampling2D", 2),
    layer("UpSampling2D", (2, 3), interpolation="bilinear"),
    layer("UpSampling2D", (3, 1), interpolation="nearest"),
    sequence("ZeroPadding1D", 2),
    sequence("Cropping1D", (1, 2)),
    sequence("UpSampling1D", 2),
    layer("Permute", (3, 1, 2)),
    layer("Permute", (2, 1, 3)),
    layer("Reshape", (10, 9, 6)),
    layer("Reshape", (-1, 12)),
    layer("Flatten"),
    Kind("RepeatVector", lambda k, maps: k.layers.RepeatVector(3)(k.layers.GlobalMaxPooling2D()(maps))),
    Kind("Reshape of a vector", lambda k, maps: k.layers.Reshape((1, 1, 6))(k.layers.GlobalMaxPooling2D()(maps))),
    Kind("Embedding", lambda k, maps: k.layers.Embedding(8, 3)(k.layers.ReLU(max_value=7)(rows(k, maps)))),
]


def two(class_name: str, packages: tuple[str, ...] = BOTH, **options: Any) -> Kind:
    """A layer that joins two maps."""
    name = f"{class_name}({', '.join(f'{key}={value!r}' for key, value in options.items())}) of two"

    def build(k: Any, maps: Any) -> Any:
        return getattr(k.layers, class_name)(**options)([maps, k.layers.Conv2D(6, 3, padding="same")(maps)])

    return Kind(name, build, packages)


def squeezed_and_excited(k: Any, maps: Any) -> Any:
    pooled = k.layers.Reshape((1, 1, 6))(k.layers.GlobalAveragePooling2D()(maps))
    gate = k.layers.Conv2D(6, 1, activation="sigmoid")(k.layers.Conv2D(3, 1, activation="relu")(pooled))
    return k.layers.multiply([maps, gate])


MERGES = [
    *(two(name) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")),
    two("Concatenate", axis=1),
    Kind("Dot of rows", lambda k, maps: k.layers.Dot(axes=2, normalize=True)([rows(k, maps), rows(k, maps)])),
    Kind("Dot of tokens, normalised", lambda k, maps: k.layers.Dot(1, normalize=True)([tokens(k, maps)] * 2)),
    Kind("squeeze and excite", squeezed_and_excited),
]

# ---------------------------------------------------------------- activations


def activation(name: str, packages: tuple[str, ...] = BOTH) -> Kind:
    return layer("Activation", name, packages=packages)


ACTIVATIONS = [
    *map(
        activation,
        "relu elu selu gelu swish hard_sigmoid mish softplus softsign tanh sigmoid exponential softmax linear".split(),
    ),
    *(
        activation(name, KERAS_3)
        for name in """celu hard_shrink hard_silu hard_tanh leaky_relu log_sigmoid log_softmax relu6 silu soft_shrink
        sparse_plus sparse_sigmoid squareplus tanh_shrink""".split()
    ),
    layer("Conv2D", 4, 3, activation="hard_sigmoid"),
    layer("Conv2D", 4, 3, activation="gelu"),
    layer("ReLU", max_value=2.0),
    layer("ReLU", max_value=2.0, negative_slope=0.1, threshold=0.2),
    layer("LeakyReLU"),
    layer("LeakyReLU", 0.05),
    layer("ELU", alpha=0.7),
    layer("PReLU"),
    layer("PReLU", shared_axes=[1, 2]),
    layer("PReLU", shared_axes=[2]),
    layer("ThresholdedReLU", theta=0.3, packages=KERAS_2),
    layer("Softmax"),
    layer("Softmax", axis=1),
    layer("Softmax", axis=[1, 2]),
    sequence("Dense", 5, activation="relu"),
    layer("Dense", 5, use_bias=False),
]

# ---------------------------------------------------------------- normalisation, preprocessing, what is inert

NORMALISATIONS = [
    layer("BatchNormalization"),
    layer("BatchNormalization", axis=1),
    layer("BatchNormalization", axis=2, epsilon=0.1),
    layer("BatchNormalization", scale=False),
    layer("BatchNormalization", center=False),
    sequence("BatchNormalization"),
    layer("LayerNormalization"),
    layer("LayerNormalization", axis=[1, 2, 3]),
    layer("LayerNormalization", axis=1, center=False),
    layer("GroupNormalization", groups=3),
    layer("GroupNormalization", groups=1),
    layer("GroupNormalization", groups=-1),
    layer("UnitNormalization"),
    layer("RMSNormalization", packages=KERAS_3),
    Kind(
        "SpectralNormalization",
        lambda k, maps: k.layers.SpectralNormalization(k.layers.Conv2D(4, 3))(maps),
        KERAS_3,  # tf_keras' own cannot be built where Keras 3 is installed too
    ),
]

PREPROCESSING = [
    layer("Rescaling", 1 / 127.5, offset=-1),
    layer("Rescaling", [0.5, 1.0, 2.0, 1.0, 1.0, 3.0], offset=[0.0, 1.0, 0.0, 0.0, 0.0, 2.0]),
    layer("Normalization", mean=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], variance=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    layer("Normalization"),
    layer("Normalization", axis=None),
    layer("Resizing", 12, 7),
    layer("Resizing", 12, 7, interpolation="nearest"),
    layer("Resizing", 4, 5, crop_to_aspect_ratio=True),
    layer("CenterCrop", 5, 6),
]

INERT = [
    layer("Dropout", 0.5),
    layer("SpatialDropout2D", 0.5),
    layer("GaussianNoise", 0.5),
    layer("GaussianDropout", 0.5),
    layer("AlphaDropout", 0.5),
    layer("ActivityRegularization", l2=0.1),
    layer("RandomFlip"),
    layer("RandomRotation", 0.2),
    layer("RandomZoom", 0.2),
    layer("RandomTranslation", 0.2, 0.2),
    layer("RandomContrast", 0.2),
    layer("RandomBrightness", 0.2),
    # Keras 3 declares 5 x 6 and gives 9 x 10
    layer("RandomCrop", 5, 6, packages=KERAS_2),
]

# ---------------------------------------------------------------- attention


def attended(k: Any, maps: Any, **options: Any) -> Any:
    sequence_of = tokens(k, maps)
    return k.layers.MultiHeadAttention(2, 4, **options)(sequence_of, sequence_of)


def small_vit(k: Any, maps: Any) -> Any:
    """Patches, a position for each (as a bias), two encoder blocks and a pooled token."""
    layers = k.layers
    x = layers.Reshape((9, 8))(layers.Conv2D(8, 3, strides=(3, 3), padding="valid")(maps))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, dropout=0.1)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dropout(0.1)(layers.Dense(16, activation="gelu")(y))
        x = layers.Add()([x, layers.Dense(8)(y)])
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


ATTENTION = [
    Kind("MultiHeadAttention", attended),
    Kind("MultiHeadAttention of another size", lambda k, maps: attended(k, maps, value_dim=3, output_shape=5)),
    Kind("MultiHeadAttention without bias", lambda k, maps: attended(k, maps, use_bias=False)),
    Kind(
        "MultiHeadAttention over both axes",
        lambda k, maps: k.layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(maps, maps),
    ),
    Kind(
        "GroupQueryAttention",
        lambda k, maps: k.layers.GroupQueryAttention(4, 4, 2)(tokens(k, maps), tokens(k, maps)),
        KERAS_3,
    ),
    Kind("Attention", lambda k, maps: k.layers.Attention()([tokens(k, maps), tokens(k, maps)])),
    Kind("Attention with a scale", lambda k, maps: k.layers.Attention(use_scale=True)([rows(k, maps), rows(k, maps)])),
    Kind("AdditiveAttention", lambda k, maps: k.layers.AdditiveAttention()([rows(k, maps), rows(k, maps)])),
    Kind("EinsumDense", lambda k, maps: k.layers.EinsumDense("abcd,de->abce", (9, 10, 5), bias_axes="e")(maps)),
    Kind("EinsumDense over rows", lambda k, maps: k.layers.EinsumDense("abcd,bde->ace", (10, 5))(maps)),
    Kind("ViT", small_vit),
]

# ---------------------------------------------------------------- recurrent


def bidirectional(class_name: str, **options: Any) -> Kind:
    merge = options.pop("merge_mode", "concat")

    def build(k: Any, maps: Any) -> Any:
        return k.layers.Bidirectional(getattr(k.layers, class_name)(4, **options), merge_mode=merge)(rows(k, maps))

    return Kind(f"Bidirectional {class_name} {merge} {options}", build)


def stacked(k: Any, maps: Any) -> Any:
    return k.layers.LSTM(3)(k.layers.GRU(4, return_sequences=True)(rows(k, maps)))


def time_distributed(k: Any, maps: Any) -> Any:
    return k.layers.TimeDistributed(k.layers.Conv1D(3, 3, name="inner"))(maps)


RECURRENT = [
    sequence("LSTM", 4),
    sequence("LSTM", 4, return_sequences=True),
    sequence("LSTM", 4, go_backwards=True, unit_forget_bias=False),
    sequence("LSTM", 4, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False),
    sequence("LSTM", 4, unroll=True),
    sequence("GRU", 4),
    sequence("GRU", 4, reset_after=False, return_sequences=True),
    sequence("GRU", 4, dropout=0.2, recurrent_dropout=0.2),
    sequence("SimpleRNN", 4),
    bidirectional("LSTM"),
    bidirectional("GRU", merge_mode="sum", return_sequences=True),
    Kind("LSTM on GRU", stacked),
    Kind("RNN of cells", lambda k, maps: k.layers.RNN([k.layers.LSTMCell(4), k.layers.GRUCell(3)])(rows(k, maps))),
    Kind("LSTM behind Masking", lambda k, maps: k.layers.LSTM(4)(k.layers.Masking()(rows(k, k.layers.ReLU()(maps))))),
    Kind("ConvLSTM2D", lambda k, maps: k.layers.ConvLSTM2D(3, 3)(k.layers.Reshape((3, 3, 10, 6))(maps))),
    Kind("TimeDistributed Conv1D", time_distributed),
    Kind("TimeDistributed Dense", lambda k, maps: k.layers.TimeDistributed(k.layers.Dense(4))(rows(k, maps))),
]

KINDS = [
    *CONVOLUTIONS,
    *SHAPES,
    *MERGES,
    *ACTIVATIONS,
    *NORMALISATIONS,
    *PREPROCESSING,
    *INERT,
    *ATTENTION,
    *RECURRENT,
    *STRUCTURES,
    *WHOLE,
    *REFUSED,
]
