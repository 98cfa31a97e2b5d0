"""Whether a model takes pixels 0 to 255, told by what it does to them first."""

import math
from collections.abc import Iterator
from typing import Any

from converters import keras_names
from converters.inspect.architecture import JsonObject, layer_entries

SMALLEST_FACTOR, LARGEST_MEAN = 0.02, 50.0  # 1/255 and 1/127.5 are below, the ImageNet means of pixels above

# What may come before the scaling, and leaves the range of the pixels as it is. All layers of augmentation do too.
_SAME_RANGE = frozenset(
    """
    CenterCrop Cropping2D Dropout GaussianDropout GaussianNoise Identity InputLayer Permute Reshape Resizing
    ZeroPadding2D AugMix AutoContrast CutMix Equalization MixUp RandAugment Solarization
    Cast Clip Concatenate Copy ExpandDims Flip GetItem Moveaxis Pad Resize SaturateCast Slice Split Squeeze Stack
    StopGradient Take Transpose Unstack
    SlicingOpLambda __operators__.getitem cast clip_by_value concat expand_dims gather identity image.central_crop
    image.resize image.resize_with_pad pad reshape reverse slice split squeeze stack stop_gradient strided_slice
    transpose unstack
    """.split()
)
_MULTIPLICATIONS = frozenset("Multiply __operators__.mul math.multiply math.scalar_mul".split())
_DIVISIONS = frozenset(
    "Divide DivideNoNan TrueDivide __operators__.truediv math.divide math.divide_no_nan math.truediv".split()
)
_ADDITIONS = frozenset("Add Subtract __operators__.add __operators__.sub math.add math.subtract nn.bias_add".split())
_MOST = 1e30  # neither infinity nor a whole number without end
_MOST_ACTIVATIONS = 2  # linear ones, which name a tensor or set its precision


def takes_raw_pixels(architecture: JsonObject) -> bool:
    """Whether the first steps of a model scale pixels 0 to 255: a Rescaling by 1/255, arithmetic, a Normalization.

    Followed are the steps from the input on, those of augmentation and of nested models included, up to the first
    layer of another kind. Means that are kept among the weights are not looked at.
    """
    factor, activations = 1.0, 0
    for entry in _opened(architecture):
        kind = _kind(entry)
        factors, offsets = _scaling(kind, entry)
        if any(abs(offset) > LARGEST_MEAN for offset in offsets) and factor == 1:
            return True
        factor *= min(map(abs, factors), default=1.0)
        if 0 < factor < SMALLEST_FACTOR:
            return True
        activations += kind == "Activation"
        known = kind in _SAME_RANGE or kind.startswith("Random") or bool(factors or offsets)
        if not known and not (kind == "Activation" and activations <= _MOST_ACTIVATIONS):
            return False
    return False


def _opened(model: JsonObject) -> Iterator[JsonObject]:
    for entry in layer_entries(model):
        if entry["class_name"] in keras_names.MODELS:
            yield from _opened(entry)
        else:
            yield entry


def _kind(entry: JsonObject) -> str:
    """The class of a layer or operation; of a function of TensorFlow's its name."""
    config = entry["config"]
    function = config.get("function") if isinstance(config, dict) else None
    return function if entry["class_name"] == "TFOpLambda" and isinstance(function, str) else entry["class_name"]


def _scaling(kind: str, entry: JsonObject) -> tuple[list[float], list[float]]:
    """What a step multiplies its input by, and what it adds to it or takes off."""
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    if kind == "Rescaling":
        return _numbers(config.get("scale")), []
    if kind == "Normalization":
        variances = [number for number in _numbers(config.get("variance")) if number > 0]
        return [1 / math.sqrt(number) for number in variances], _numbers(config.get("mean"))
    if kind in _MULTIPLICATIONS | _DIVISIONS | _ADDITIONS:
        numbers = [number for number in _constants(entry) if number]
        if kind in _ADDITIONS:
            return [], numbers
        return numbers if kind in _MULTIPLICATIONS else [1 / number for number in numbers], []
    return [], []


# ---------------------------------------------------------------- numbers of a call


def _constants(entry: JsonObject) -> list[float]:
    """The numbers with which an operation was called beside its tensors, in the form of either generation."""
    nodes = entry.get("inbound_nodes")
    call = nodes[0] if isinstance(nodes, list) and nodes else None
    if isinstance(call, dict):
        args, kwargs = call.get("args"), call.get("kwargs")
        return _numbers(args) + _values(kwargs)
    while isinstance(call, list) and call and isinstance(call[0], list):
        call = call[0]
    if not (isinstance(call, list) and len(call) == 4):  # layer, node, tensor, keywords
        return []
    return (_numbers(call[2]) if call[0] == "_CONSTANT_VALUE" else []) + _values(call[3])


def _values(keywords: Any) -> list[float]:
    return [n for value in keywords.values() for n in _numbers(value)] if isinstance(keywords, dict) else []


def _numbers(value: Any) -> list[float]:
    """The numbers of a number, of nested lists, or of an array as Keras 3 writes it; none of what names a tensor."""
    if isinstance(value, dict) and value.get("class_name") in {"__numpy__", "__tensor__"}:
        config = value.get("config")
        return _numbers(config.get("value")) if isinstance(config, dict) else []
    if isinstance(value, list):
        return [] if any(isinstance(item, str) for item in value) else [n for item in value for n in _numbers(item)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [float(value)] if is_number and abs(value) < _MOST else []
