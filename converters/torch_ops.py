"""onnx2torch with converters for what it lacks.

Importing this module registers them; `convert` and `get_converter` are taken from here, so that nobody
converts without them.
"""

from collections.abc import Callable

import torch
from onnx2torch import convert
from onnx2torch.node_converters import get_converter
from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY as registered
from onnx2torch.node_converters.registry import OperationDescription, TConverter, add_converter
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxToTorchModule, OperationConverterResult, onnx_mapping_from_node
from torch import nn

__all__ = ["convert", "get_converter"]


def _add_missing(operation_type: str, version: int) -> Callable[[TConverter], TConverter]:
    """Register a converter unless a newer onnx2torch brings its own."""
    description = OperationDescription("", operation_type, version)
    return (lambda converter: converter) if description in registered else add_converter(operation_type, version)


class OnnxGlobalMaxPool(nn.Module, OnnxToTorchModule):
    """Maximum over all spatial axes, which stay as axes of length one."""

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, C, 1, ...)."""
        return torch.amax(activations, dim=tuple(range(2, activations.dim())), keepdim=True)


@_add_missing("GlobalMaxPool", 1)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:  # noqa: ARG001
    return OperationConverterResult(torch_module=OnnxGlobalMaxPool(), onnx_mapping=onnx_mapping_from_node(node))
