"""Passes over the ONNX graph: bind the weights, settle shapes and head, order the axes, check every op."""

from converters.graph.check import check_ops
from converters.graph.head import settle_head
from converters.graph.layout import cancel_transposes, force_channels_first, one_pixel_taps, runtime_transposes
from converters.graph.shapes import settle_shapes
from converters.graph.weights import bind_weights, refer_to_weights

__all__ = [
    "bind_weights",
    "cancel_transposes",
    "check_ops",
    "force_channels_first",
    "one_pixel_taps",
    "refer_to_weights",
    "runtime_transposes",
    "settle_head",
    "settle_shapes",
]
