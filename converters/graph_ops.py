"""The TensorFlow ops that a graph may use: those that only compute numbers from numbers.

A list of what is allowed, since nobody can list what is not: ops that read or write files, open queues, look up
tables, call Python (PyFunc) or another compiler's code (XlaCallModule), and custom ops are simply not here.
"""

_ARITHMETIC = """
    Abs AccumulateNV2 Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh Ceil ClipByValue Cos Cosh Cross Cumprod
    Cumsum Div DivNoNan Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod IsFinite IsInf IsNan Lgamma Log Log1p
    Maximum Minimum Mod Mul MulNoNan Neg NextAfter Polygamma Pow RealDiv Reciprocal Rint Round Rsqrt Sigmoid Sign Sin
    Sinh Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlogy
"""
_COMPARISON = """
    ApproximateEqual Equal Greater GreaterEqual Less LessEqual LogicalAnd LogicalNot LogicalOr NotEqual Select SelectV2
    Where
"""
_REDUCTION = """
    All Any ArgMax ArgMin EuclideanNorm Max Mean Min Prod SegmentMax SegmentMean SegmentSum Sum TopK TopKV2
    UnsortedSegmentSum
"""
_SHAPE = """
    BatchToSpace BatchToSpaceND BroadcastArgs BroadcastTo Cast Concat ConcatV2 DepthToSpace Diag DiagPart DynamicStitch
    EnsureShape ExpandDims Fill Gather GatherNd GatherV2 InvertPermutation MatrixBandPart MatrixDiag MatrixDiagV3
    MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelConcat Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll
    ScatterNd Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice
    TensorScatterAdd TensorScatterUpdate Tile Transpose Unpack ZerosLike
"""
_NETWORK = """
    AdjustContrastv2 AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchNormWithGlobalNormalization BiasAdd
    BiasAddV1 Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 CropAndResize DepthwiseConv2dNative Dilation2D
    Einsum Elu ExtractImagePatches FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 HSVToRGB ImageProjectiveTransformV3 L2Loss LRN LeakyRelu
    LogSoftmax MatMul MaxPool MaxPool3D MaxPoolV2 RGBToHSV Relu Relu6 ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ScaleAndTranslate Selu Softmax Softplus Softsign
"""
# what stands in a graph without taking part in the numbers, or is resolved before anything runs
_PLUMBING = """
    Assert CheckNumerics Const Empty GuaranteeConst Identity IdentityN LoopCond NoOp Placeholder PlaceholderWithDefault
    PreventGradient Snapshot StopGradient
"""
# draws numbers and nothing else; what is left of it once Dropout is out is refused where the graph is traced
RANDOM = frozenset(
    """
    Multinomial RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt StatelessMultinomial
    StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomNormal StatelessRandomNormalV2
    StatelessRandomUniform StatelessRandomUniformV2 StatelessTruncatedNormal TruncatedNormal
    """.split()
)
# control flow of TensorFlow 1, whose loops have no functions
LOOPS = frozenset({"Enter", "Exit", "NextIteration", "RefEnter", "RefExit", "RefNextIteration"})
_CONDITIONS = """
    Case If Merge OptionalFromValue OptionalGetValue OptionalHasValue OptionalNone PartitionedCall
    StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch SwitchN While
"""
_TENSOR_LISTS = """
    EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListSetItem TensorListStack
"""

COMPUTE = (
    RANDOM
    | LOOPS
    | frozenset(
        " ".join(
            (_ARITHMETIC, _COMPARISON, _REDUCTION, _SHAPE, _NETWORK, _PLUMBING, _CONDITIONS, _TENSOR_LISTS)
        ).split()
    )
)

# only a SavedModel has them: their values are in a file of its own, which TensorFlow's reader of tensors opens
VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
READS = frozenset({"AssignVariableOp", "DisableCopyOnRead", "ReadVariableOp", "ResourceGather"})
