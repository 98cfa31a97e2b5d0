"""Pooling."""

import torch
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxToTorchModule, OperationConverterResult
from torch import nn
from torch.nn import functional

from converters.torch_ops.registry import add_missing, on_first_input, prefer

_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class OnnxGlobalMaxPool(nn.Module, OnnxToTorchModule):
    """Maximum over all spatial axes, which stay as axes of length one."""

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, C, 1, ...)."""
        return torch.amax(activations, dim=tuple(range(2, activations.dim())), keepdim=True)


@add_missing("GlobalMaxPool", 1)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:  # noqa: ARG001
    return on_first_input(node, OnnxGlobalMaxPool())


class OnnxUnevenAveragePool(nn.Module, OnnxToTorchModule):
    """Average pooling whose padding differs from side to side, and does not count.

    Parameters
    ----------
    kernel, strides : list of int
        One for each spatial axis.
    pads : list of int
        ONNX' order: what is added before each axis, then what is added behind each.
    """

    def __init__(self, kernel: list[int], strides: list[int], pads: list[int]) -> None:
        super().__init__()
        rank = len(kernel)
        self.kernel, self.strides = kernel, strides
        self.padding = torch_padding(pads[:rank], pads[rank:])

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        inside = torch.ones_like(activations[:1, :1]).detach()
        return self._pooled(activations) / self._pooled(inside)

    def _pooled(self, activations: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(activations, self.padding)
        return _AVERAGE[len(self.kernel)](padded, self.kernel, self.strides)


def torch_padding(before: list[int], behind: list[int]) -> list[int]:
    """Padding as `torch.nn.functional.pad` wants it: from the last axis to the first."""
    return [size for pair in reversed(list(zip(before, behind, strict=True))) for size in pair]


@prefer("AveragePool", 7, 10, 11)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult | None:  # noqa: ARG001
    given = node.attributes
    kernel, rank = list(given["kernel_shape"]), len(given["kernel_shape"])
    pads = list(given.get("pads", [0] * 2 * rank))
    even = pads[:rank] == pads[rank:]
    if even or given.get("count_include_pad") or given.get("ceil_mode") or rank not in _AVERAGE:
        return None
    return on_first_input(node, OnnxUnevenAveragePool(kernel, list(given.get("strides", [1] * rank)), pads))
