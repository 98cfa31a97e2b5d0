"""Weights that stand apart from the graph."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.graph.nodes import attributes, replace

Arrays = dict[str, np.ndarray]


def _reshaped(_: dict[str, Any], array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return array.reshape([array.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def _squeezed(_: dict[str, Any], array: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.squeeze(array, None if axes is None else tuple(int(axis) for axis in axes))


_FOLDS: dict[str, Callable[..., np.ndarray]] = {
    "Transpose": lambda given, array: array.transpose(given["perm"]),
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": lambda _, array, axes: np.expand_dims(array, tuple(int(axis) for axis in axes)),
    "Identity": lambda _, array: array,
}


def bind_weights(proto: onnx.ModelProto, weights: Arrays) -> Arrays:
    """Turn the graph inputs that stand for weights into weights, and fold the nodes that only rearrange them.

    `proto` is changed: the inputs and the folded nodes go. NumPy views do the folding, so nothing is copied.

    Returns
    -------
    dict
        Every array that a remaining node uses, by the name of its tensor.
    """
    graph = proto.graph
    constants = {item.name: item for item in graph.initializer}
    values = dict(weights)
    kept = []
    for node in graph.node:
        fold = _FOLDS.get(node.op_type)
        if fold is None or node.input[0] not in values or node.name.startswith("tap/"):
            kept.append(node)
            continue
        rest = [numpy_helper.to_array(constants[name]) for name in node.input[1:] if name]
        values[node.output[0]] = fold(attributes(node), values[node.input[0]], *rest)
    used = {name for node in kept for name in node.input}
    replace(graph.node, kept)
    replace(graph.input, [item for item in graph.input if item.name not in weights])
    replace(graph.initializer, [item for item in graph.initializer if item.name in used])
    return {name: array for name, array in values.items() if name in used}


def refer_to_weights(
    proto: onnx.ModelProto, location: str, places: Mapping[str, tuple[np.dtype, tuple, int, int]]
) -> None:
    """Add an initializer for each stored weight that points to its bytes in the file `location`.

    `places` gives (dtype, shape, offset, length) of each. ONNX Runtime follows these pointers; our own
    reader takes the arrays by name and never follows a path out of the file.
    """
    for name, (dtype, shape, offset, length) in places.items():
        tensor = proto.graph.initializer.add(name=name, dims=shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(dtype)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
