"""Registering converters with onnx2torch."""

from collections.abc import Callable

import numpy as np
from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY as registered
from onnx2torch.node_converters.registry import OperationDescription, TConverter
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxMapping, OperationConverterResult
from torch import nn


def add_missing(operation_type: str, version: int) -> Callable[[TConverter], TConverter]:
    """Register a converter unless a newer onnx2torch brings its own."""

    def register(converter: TConverter) -> TConverter:
        registered.setdefault(OperationDescription("", operation_type, version), converter)
        return converter

    return register


def prefer(operation_type: str, *versions: int) -> Callable[[Callable[..., OperationConverterResult | None]], None]:
    """Register a converter that is asked first: where it returns None, onnx2torch's own converts the node."""

    def register(ours: Callable[..., OperationConverterResult | None]) -> None:
        for version in versions:
            description = OperationDescription("", operation_type, version)
            registered[description] = _first(ours, registered.get(description))

    return register


def _first(ours: Callable[..., OperationConverterResult | None], theirs: TConverter | None) -> TConverter:
    def convert(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult:
        result = ours(node, graph)
        if result is None and theirs is None:
            raise NotImplementedError(f"{node.operation_type} with these options is not implemented")
        return theirs(node, graph) if result is None and theirs is not None else result

    return convert


def constant(node: OnnxNode, graph: OnnxGraph, position: int) -> np.ndarray | None:
    """The input of a node at that position, if it is a constant; an input that is left out is empty."""
    if position >= len(node.input_values) or not node.input_values[position]:
        return np.array([])
    tensor = graph.initializers.get(node.input_values[position])
    return None if tensor is None else tensor.to_torch().numpy()


def on_first_input(node: OnnxNode, module: nn.Module) -> OperationConverterResult:
    """A module of the node's first input alone, its other inputs being constants that the module holds."""
    return OperationConverterResult(module, OnnxMapping((node.input_values[0],), node.output_values))
