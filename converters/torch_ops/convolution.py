"""Convolutions."""

import torch
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxToTorchModule, OperationConverterResult
from torch import nn
from torch.nn import functional

from converters.torch_ops.pooling import torch_padding
from converters.torch_ops.registry import on_first_input, prefer

_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


class OnnxUnevenConvTranspose(nn.Module, OnnxToTorchModule):
    """Transposed convolution that is cut, or filled with zeros, differently from side to side.

    Parameters
    ----------
    weight : Tensor
        (channels in, channels out / groups, ...), used and not copied.
    bias : Tensor or None
        (channels out).
    strides, dilations : list of int
        One for each spatial axis.
    before, behind : list of int
        What is cut off the full result at each spatial axis; negative where zeros are added.
    groups : int
        Of channels.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        strides: list[int],
        dilations: list[int],
        before: list[int],
        behind: list[int],
        groups: int,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.strides, self.dilations, self.groups = strides, dilations, groups
        self.padding = torch_padding([-size for size in before], [-size for size in behind])
        self.bias_shape = [-1] + [1] * len(strides)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, D, ...)."""
        convolve = _TRANSPOSED[len(self.strides)]
        full = convolve(activations, self.weight, stride=self.strides, groups=self.groups, dilation=self.dilations)
        result = functional.pad(full, self.padding)
        # what is added has a bias too
        return result if self.bias is None else result + self.bias.reshape(self.bias_shape)


@prefer("ConvTranspose", 1, 11)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult | None:
    given = node.attributes
    weight = graph.initializers[node.input_values[1]].to_torch()
    bias = graph.initializers[node.input_values[2]].to_torch() if len(node.input_values) == 3 else None
    rank = weight.dim() - 2
    pads = list(given.get("pads", [0] * 2 * rank))
    even = pads[:rank] == pads[rank:] and min(pads) >= 0
    if even or given.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in given or rank not in _TRANSPOSED:
        return None
    added = given.get("output_padding", [0] * rank)
    behind = [cut - more for cut, more in zip(pads[rank:], added, strict=True)]
    strides, dilations = list(given.get("strides", [1] * rank)), list(given.get("dilations", [1] * rank))
    module = OnnxUnevenConvTranspose(weight, bias, strides, dilations, pads[:rank], behind, given.get("group", 1))
    return on_first_input(node, module)
