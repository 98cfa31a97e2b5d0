"""The names that an architecture may use: Keras' own layers, activations and configuration objects.

Lists, not look-ups in an installed Keras, because a checkpoint is judged before TensorFlow is started.
What is missing here is refused by `converters.inspect`; classes that run code of the checkpoint's or read
other files (Lambda, TFSMLayer, TorchModuleWrapper, JaxLayer, FlaxLayer) are left out on purpose.
"""

MODELS = frozenset({"Functional", "Model", "Sequential"})

LAYERS = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveMaxPooling1D
    AdaptiveMaxPooling2D Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average
    AveragePooling1D AveragePooling2D AvgPool1D AvgPool2D BatchNormalization BatchNormalizationV1
    BatchNormalizationV2 Bidirectional CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose
    ConvLSTM1D ConvLSTM2D Convolution1D Convolution2D Convolution2DTranspose Cropping1D Cropping2D CutMix
    Deconvolution2D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Equalization
    Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAvgPool1D GlobalAvgPool2D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPooling1D GlobalMaxPooling2D
    GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU
    LocallyConnected1D LocallyConnected2D Masking MaxPool1D MaxPool2D MaxPooling1D MaxPooling2D Maximum
    Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN RandAugment
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    SeparableConv1D SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell
    Softmax Solarization SpatialDropout1D SpatialDropout2D SpectralNormalization StackedRNNCells Subtract
    ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D
    """.split()
)

ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign
    sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """.split()
)

# initializers, regularizers, constraints, precision policies, and the markers of Keras' own serialisation
CONFIGURATION = frozenset(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones
    Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm
    DTypePolicy FloatDTypePolicy Policy SeedGenerator __keras_tensor__ __numpy__ __tensor__ TensorShape __tuple__
    """.split()
)

# Keras 3 writes arithmetic between layers as operations of these modules, and Keras 2 as TFOpLambda
OPERATION_MODULES = frozenset({"keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.math"})
TENSOR_FUNCTIONS = frozenset(
    """
    __operators__.add __operators__.sub __operators__.mul __operators__.truediv __operators__.neg
    math.add math.subtract math.multiply math.truediv math.divide math.maximum math.minimum math.reduce_mean
    math.reduce_sum math.reduce_max math.sigmoid math.tanh math.exp math.sqrt math.square math.pow math.abs
    nn.relu nn.relu6 nn.sigmoid nn.softmax nn.silu nn.swish nn.gelu nn.elu nn.leaky_relu nn.bias_add
    cast reshape transpose concat expand_dims squeeze compat.v1.transpose
    """.split()
)
