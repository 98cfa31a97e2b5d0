"""The names that an architecture may use: Keras' own layers, activations and configuration objects.

Lists, not look-ups in an installed Keras, because a checkpoint is judged before TensorFlow is started.
What is missing here is refused by `converters.inspect`; classes that run code of the checkpoint's or read
other files are left out on purpose, and listed in `DANGEROUS` with the reason.
"""

# class: what building or calling it would do
DANGEROUS = {
    "Lambda": "carries compiled Python code, which is never run here",
    "__lambda__": "carries compiled Python code, which is never run here",
    "TFSMLayer": "loads and runs a TensorFlow SavedModel from a folder that the checkpoint names",
    "TorchModuleWrapper": "unpickles a PyTorch module, which runs code that the checkpoint chooses",
    "JaxLayer": "runs pickled or named functions of the checkpoint's choice",
    "FlaxLayer": "runs pickled or named functions of the checkpoint's choice",
    "StringLookup": "reads a vocabulary from a file that the checkpoint names",
    "IntegerLookup": "reads a vocabulary from a file that the checkpoint names",
    "IndexLookup": "reads a vocabulary from a file that the checkpoint names",
    "TextVectorization": "reads a vocabulary from a file that the checkpoint names",
    "__typespec__": "names a class of any module to be imported",
}

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
    GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LayerScale LeakyReLU
    LocallyConnected1D LocallyConnected2D Masking MaxPool1D MaxPool2D MaxPooling1D MaxPooling2D Maximum
    Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN RandAugment
    RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    SeparableConv1D SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell
    Softmax Solarization SpatialDropout1D SpatialDropout2D SpectralNormalization StackedRNNCells StochasticDepth
    Subtract ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D
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
    DTypePolicy FloatDTypePolicy Policy SeedGenerator TensorShape __ellipsis__ __keras_tensor__ __numpy__ __slice__
    __tensor__ __tuple__
    """.split()
)

# Keras 3 writes arithmetic between layers as operations of these modules, and Keras 2 as TFOpLambda
OPERATION_MODULES = frozenset(
    "keras.src.ops.numpy keras.src.ops.nn keras.src.ops.math keras.src.ops.core keras.src.ops.image".split()
)
# without those that make arrays of any size from a few numbers, or call a function that they are given
OPERATIONS = frozenset(
    """
    Abs Absolute AdaptiveAveragePool AdaptiveMaxPool Add All Amax Amin Any Append Arccos Arccosh Arcsin Arcsinh
    Arctan Arctan2 Arctanh Argmax Argmin Argsort Average AveragePool BatchNorm BroadcastTo Cast Cbrt Ceil Celu
    Clip Concatenate Conj Conjugate Conv ConvTranspose ConvertToTensor Copy Cos Cosh Cross Cumprod Cumsum
    DepthToSpace DepthwiseConv Diagonal Diff Divide DivideNoNan Dot DotProductAttention Einsum Elu Equal Erf Erfc
    Exp Exp2 ExpandDims Expm1 ExtractPatches Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Gelu GetItem Glu
    Greater GreaterEqual HardShrink HardSigmoid HardSilu HardTanh Heaviside Hstack Hypot Identity Inner Isfinite
    Isinf Isnan LayerNorm LeakyRelu Less LessEqual Log Log10 Log1p Log2 LogSigmoid LogSoftmax Logaddexp LogicalAnd
    LogicalNot LogicalOr LogicalXor Logsumexp Matmul Max MaxPool Maximum Mean Median Min Minimum Mod Moments
    Moveaxis Multiply NanToNum Negative Norm Normalize NotEqual OneHot OnesLike Outer Pad Power Prod RMSNorm
    RGBToGrayscale RGBToHSV Ravel Reciprocal Relu Relu6 Repeat Reshape Resize Roll Rot90 Round Rsqrt SaturateCast
    Selu SeparableConv Sigmoid Sign Silu Sin Sinh Slice SoftShrink Softmax Softplus Softsign SpaceToDepth SparsePlus
    SparseSigmoid Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient Subtract Sum Swapaxes Take
    TakeAlongAxis Tan Tanh TanhShrink Tensordot Threshold Tile TopK Transpose Tril Triu TrueDivide Trunc Unstack Var
    Vdot Vstack Where ZerosLike
    """.split()
)
TENSOR_FUNCTIONS = frozenset(
    """
    __operators__.add __operators__.floordiv __operators__.getitem __operators__.mul __operators__.neg
    __operators__.pow __operators__.sub __operators__.truediv cast clip_by_value compat.v1.depth_to_space
    compat.v1.gather compat.v1.image.resize_bilinear compat.v1.image.resize_nearest_neighbor
    compat.v1.nn.local_response_normalization compat.v1.pad compat.v1.shape compat.v1.squeeze compat.v1.transpose
    compat.v1.where concat einsum expand_dims gather identity image.central_crop image.per_image_standardization
    image.resize image.resize_with_pad linalg.l2_normalize linalg.matmul linalg.matrix_transpose linalg.norm
    math.abs math.add math.add_n math.argmax math.ceil math.cos math.cumsum math.divide math.divide_no_nan math.erf
    math.exp math.floor math.floordiv math.l2_normalize math.log math.maximum math.minimum math.multiply
    math.negative math.pow math.reciprocal math.reduce_logsumexp math.reduce_max math.reduce_mean math.reduce_min
    math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance math.round math.rsqrt math.scalar_mul
    math.sigmoid math.sign math.sin math.softplus math.sqrt math.square math.squared_difference math.subtract
    math.tanh math.truediv nn.avg_pool nn.avg_pool2d nn.batch_normalization nn.bias_add nn.conv2d
    nn.conv2d_transpose nn.crelu nn.depth_to_space nn.depthwise_conv2d nn.dropout nn.elu nn.gelu nn.l2_normalize
    nn.leaky_relu nn.local_response_normalization nn.log_softmax nn.lrn nn.max_pool nn.max_pool2d nn.moments nn.relu
    nn.relu6 nn.selu nn.separable_conv2d nn.sigmoid nn.silu nn.softmax nn.softplus nn.softsign nn.space_to_depth
    nn.swish nn.tanh ones_like pad repeat reshape reverse roll shape slice split squeeze stack stop_gradient
    strided_slice tensordot tile transpose unstack where zeros_like
    """.split()
)

# Where Keras' own classes are defined: what comes behind `keras.`, `keras.src.` or `tf_keras.src.` in a module's name.
# Its other parts (utils, saving, config, ...) hold functions that read, write and download.
HOMES = frozenset(
    "layers engine models initializers regularizers constraints activations dtype_policies mixed_precision"
    " random".split()
)
# classes of Keras' own that it writes with a module elsewhere
OTHER_HOMES = frozenset(
    {
        ("LayerScale", "keras.src.applications.convnext"),
        ("LayerScale", "tf_keras.src.applications.convnext"),
        ("LayerScale", "keras.applications.convnext"),
        ("StochasticDepth", "keras.src.applications.convnext"),
        ("StochasticDepth", "tf_keras.src.applications.convnext"),
        ("Constant", "tensorflow.python.ops.init_ops_v2"),
        ("Constant", "tensorflow.python.keras.initializers"),
    }
)
