"""Models that want their images as (N, C, H, W).

TensorFlow's convolutions on the CPU know only channels last. So each op that is asked for channels first is run
between two transpositions, and the model is shown to the rest of the trace as one of channels last; tf2onnx cancels
the transpositions again.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.tensor_util import constant_value_as_shape
from tensorflow.python.ops import gen_nn_ops

from converters.tracing.traceable import replaced

# the ops, each with the name of its argument that holds maps
_OPS = {
    "avg_pool": "value",
    "conv2d": "input",
    "conv2d_backprop_input": "out_backprop",
    "depthwise_conv2d_native": "input",
    "fused_batch_norm_v3": "x",
    "max_pool": "input",
}


def is_channels_first(model: Any) -> bool:
    """Whether the model wants (N, C, H, W): what its first layer with an opinion says."""
    formats = (getattr(layer, "data_format", None) for layer in model._flatten_layers())
    return next((name for name in formats if name is not None), "channels_last") == "channels_first"


def to_first(maps: tf.Tensor) -> tf.Tensor:
    """(N, H, W, C) -> (N, C, H, W)."""
    return tf.transpose(maps, (0, 3, 1, 2))


def to_last(maps: tf.Tensor) -> tf.Tensor:
    """(N, C, H, W) -> (N, H, W, C)."""
    return tf.transpose(maps, (0, 2, 3, 1))


@contextmanager
def run_channels_last() -> Iterator[None]:
    """Inside the block, TensorFlow's ops on channels first work on the CPU too."""
    with ExitStack() as stack:
        for name, maps in _OPS.items():
            stack.enter_context(replaced(gen_nn_ops, name, _transposing(getattr(gen_nn_ops, name), maps)))
        yield


def _transposing(op: Callable[..., Any], maps: str) -> Callable[..., Any]:
    signature = inspect.signature(op)

    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        if given.get("data_format") not in {"NCHW", b"NCHW"}:
            return op(*args, **kwargs)
        given["data_format"] = "NHWC"
        given[maps] = to_last(given[maps])
        for name in ("strides", "dilations", "ksize"):
            if len(given.get(name, ())) == 4:
                given[name] = _reordered(given[name])
        if given.get("explicit_paddings"):
            before, behind = given["explicit_paddings"][0::2], given["explicit_paddings"][1::2]
            pairs = zip(_reordered(before), _reordered(behind), strict=True)
            given["explicit_paddings"] = [size for pair in pairs for size in pair]
        sizes = given.get("input_sizes")
        if sizes is not None:
            sizes = tf.convert_to_tensor(sizes)
            given["input_sizes"] = tf.gather(sizes, [0, 2, 3, 1])
        result = op(*bound.args, **bound.kwargs)
        if sizes is not None:  # what is known of the result's shape is lost by tf.gather
            result.set_shape(_reordered(constant_value_as_shape(sizes).as_list()))
        if isinstance(result, tuple):  # the statistics behind the maps have no axes to move
            return type(result)(to_first(result[0]), *result[1:])
        return to_first(result)

    return run


def _reordered(values: Any) -> list[Any]:
    return [values[axis] for axis in (0, 2, 3, 1)]
