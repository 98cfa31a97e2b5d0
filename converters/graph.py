"""Passes over the ONNX graph: bind the weights, fold what only reshapes them, check every op."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.errors import UnsupportedModelError
from converters.torch_ops import get_converter

Arrays = dict[str, np.ndarray]

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


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
    _replace(graph.node, kept)
    _replace(graph.input, [item for item in graph.input if item.name not in weights])
    _replace(graph.initializer, [item for item in graph.initializer if item.name in used])
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


def force_channels_first(proto: onnx.ModelProto, taps: Iterable[str]) -> None:
    """Let these taps see (N, C, H, W) where the computation around them runs channels last.

    Only needed where tf2onnx could not move its Transposes; each such tap then costs two of them.
    """
    wanted = {f"tap/{tap}" for tap in taps}
    nodes = []
    for node in proto.graph.node:
        if node.name not in wanted:
            nodes.append(node)
            continue
        source, result = node.input[0], node.output[0]
        node.input[0], node.output[0] = f"{result}/first", f"{result}/tapped"
        before = helper.make_node("Transpose", [source], [node.input[0]], f"{node.name}/first", perm=TO_CHANNELS_FIRST)
        after = helper.make_node("Transpose", [node.output[0]], [result], f"{node.name}/last", perm=TO_CHANNELS_LAST)
        nodes += [before, node, after]
    _replace(proto.graph.node, nodes)
    cancel_transposes(proto)


def check_ops(proto: onnx.ModelProto) -> None:
    """Refuse a graph with ops that neither onnx2torch nor our own converters know, naming each.

    Raises
    ------
    UnsupportedModelError
        With op, node and Keras layer of each.
    """
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    unknown = []
    for node in proto.graph.node:
        try:
            get_converter(domain=node.domain, operation_type=node.op_type, version=versions[node.domain])
        except (NotImplementedError, KeyError):
            unknown.append(f"{node.domain}{node.op_type} in {node.name}")
    if unknown:
        raise UnsupportedModelError(
            f"{len(unknown)} ops cannot be converted to torch: {'; '.join(unknown[:8])}. Replace these layers in "
            f"Keras by ones of the same function and save the model again, or report the op"
        )


def settle_reshapes(proto: onnx.ModelProto) -> None:
    """Give a Reshape that computes its shape from the batch size at run time the shape [-1, ...] instead.

    Keras 3 writes Flatten and Reshape so. What computed the shape goes.
    """
    producer = {name: node for node in proto.graph.node for name in node.output}
    constants = {item.name: item for item in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "Reshape" or node.input[1] in constants:
            continue
        concat = producer[node.input[1]]
        while concat.op_type == "Cast":
            concat = producer[concat.input[0]]
        if concat.op_type != "Concat" or not all(name in constants for name in concat.input[1:]):
            continue
        rest = [int(size) for name in concat.input[1:] for size in numpy_helper.to_array(constants[name])]
        # 0 keeps the input's own first axis, the batch; -1 may stand only once
        shape = np.array([0 if -1 in rest else -1, *rest], np.int64)
        proto.graph.initializer.append(numpy_helper.from_array(shape, f"{node.output[0]}/shape"))
        node.input[1] = f"{node.output[0]}/shape"
    drop_unused(proto)


def cancel_transposes(proto: onnx.ModelProto) -> None:
    """Take out a Transpose that only undoes the one before it."""
    producer = {name: node for node in proto.graph.node for name in node.output}
    same: dict[str, str] = {}
    for node in proto.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        before = producer.get(node.input[0]) if node.input else None
        if node.op_type == "Transpose" and before is not None and before.op_type == "Transpose":
            first, second = attributes(before)["perm"], attributes(node)["perm"]
            if [first[axis] for axis in second] == sorted(first):
                same[node.output[0]] = before.input[0]
    drop_unused(proto)


def drop_unused(proto: onnx.ModelProto) -> None:
    """Drop the nodes whose results nobody reads, and the constants that only they read."""
    used = {item.name for item in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    _replace(proto.graph.node, reversed(kept))
    _replace(proto.graph.initializer, [item for item in proto.graph.initializer if item.name in used])


def runtime_transposes(proto: onnx.ModelProto) -> int:
    """How many activations are transposed at run time.

    A channels-last Flatten or Reshape has to reorder what it flattens to give Keras' features in Keras'
    order; the Transpose next to it is the layer's own work and is not counted.
    """
    producer = {name: node for node in proto.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    count = 0
    for node in proto.graph.node:
        if node.op_type == "Transpose":
            around = [producer.get(node.input[0]), *readers.get(node.output[0], [])]
            count += not any(near is not None and near.op_type == "Reshape" for near in around)
    return count


def _replace(field: Any, items: Iterable[Any]) -> None:
    items = list(items)
    del field[:]
    field.extend(items)
