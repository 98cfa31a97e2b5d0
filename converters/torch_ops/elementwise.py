"""What is computed value by value, and normalisation."""

import torch
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxToTorchModule, OperationConverterResult, onnx_mapping_from_node
from torch import nn

from converters.torch_ops.registry import add_missing, on_first_input, prefer


class OnnxThresholdedRelu(nn.Module, OnnxToTorchModule):
    """The values above a threshold; zero in place of the others."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return nn.functional.threshold(activations, self.threshold, 0.0)


@add_missing("ThresholdedRelu", 10)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:  # noqa: ARG001
    return on_first_input(node, OnnxThresholdedRelu(node.attributes.get("alpha", 1.0)))


class OnnxNormalise(nn.Module, OnnxToTorchModule):
    """Normalisation by statistics that are computed from the activations themselves, or without an epsilon.

    torch's own batch_norm has no gradient for its statistics, and that of torch 2.11 refuses an epsilon of 0.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(
        self, activations: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, var: torch.Tensor
    ) -> torch.Tensor:
        """(N, C, ...), and (C,) for each of the others."""
        shape = [1, -1] + [1] * (activations.dim() - 2)
        factor = scale * torch.rsqrt(var + self.epsilon)
        return (activations - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)


@prefer("BatchNormalization", 9, 14, 15)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult | None:
    epsilon = node.attributes.get("epsilon", 1e-5)
    if epsilon > 0 and all(name in graph.initializers for name in node.input_values[1:]):
        return None
    module = OnnxNormalise(epsilon)
    return OperationConverterResult(module, onnx_mapping_from_node(node))
