"""Shapes that a graph computes at run time, computed once and for all.

Keras writes a Reshape with the batch size read from the tensor itself, and tf2onnx adds more of that kind. Since
everything but the batch is known, all of it can be worked out beforehand: the graph is worked through with two batch
sizes, and what comes out alike does not depend on the batch.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from converters.graph.nodes import drop_unused, replace

BATCHES = 1009, 2003  # primes that are no layer's size
SMALL = 4096  # values; what is larger is no shape
_ON_SHAPES = set(
    """Add And Cast Ceil Concat ConstantOfShape Div Equal Expand Flatten Floor Gather Greater GreaterOrEqual Identity
    Less LessOrEqual Max Min Mod Mul Neg Not Or Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape ScatterND
    Shape Size Slice Split Sqrt Squeeze Sub Tile Transpose Unsqueeze Where""".split()
)
_GROWING = {"ConstantOfShape", "Expand", "Range", "Tile"}

Values = dict[str, np.ndarray]


def settle_shapes(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray] | None = None) -> None:
    """Replace what is computed of shapes at run time by constants, as far as it depends on the batch in no other way.

    Parameters
    ----------
    proto : ModelProto
        Is changed.
    weights : mapping, optional
        The arrays that the graph uses but does not hold.
    """
    shapes = {name: array.shape for name, array in (weights or {}).items()}
    while _choose_branches(proto, runs := [_Run(proto, shapes, batch) for batch in BATCHES]):
        pass
    first, second = (run.values for run in runs)
    for node in list(proto.graph.node):
        if node.op_type == "Reshape" and len(node.input) > 1:
            _settle_reshape(proto, node, runs)
        if node.op_type == "Slice":
            _settle_slice(proto, node, runs)
        if node.op_type == "Expand":
            _settle_expand(proto, node, runs)
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in first:
            _settle_resize(proto, node, runs[0])
    computed = {name for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            if name in computed and name in first and name in second and np.array_equal(first[name], second[name]):
                node.input[i] = _constant(proto, f"{name}/settled", first[name])
    drop_unused(proto)


def inferred_shapes(proto: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of each tensor of known shape, -1 for the batch."""
    first, second = (_Run(proto, {}, batch).shapes for batch in BATCHES)
    return {
        name: [size if size == other else -1 for size, other in zip(first[name], second[name], strict=True)]
        for name in first
        if name in second and len(first[name]) == len(second[name])
    }


class _Run:
    """The shapes of all tensors, and the values of those that follow from shapes alone, for one batch size."""

    def __init__(self, proto: onnx.ModelProto, weights: Mapping[str, tuple[int, ...]], batch: int) -> None:
        self.batch = batch
        self._constants = {item.name: item for item in proto.graph.initializer if not _is_apart(item)}
        self._copy = onnx.ModelProto()
        self._copy.CopyFrom(proto)
        graph = self._copy.graph
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        apart = {item.name: tuple(item.dims) for item in graph.initializer if _is_apart(item)} | dict(weights)
        replace(graph.initializer, [item for item in graph.initializer if not _is_apart(item)])
        graph.input.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in apart.items()
        )
        for item in graph.output:
            item.type.tensor_type.ClearField("shape")
        replace(graph.value_info, [])
        self.values: Values = {}
        self.shapes: dict[str, list[int]] = {}
        self._renamed: dict[str, str] = {}
        known = -1
        while len(self.values) + len(self.shapes) > known:
            known = len(self.values) + len(self.shapes)
            self._infer()
            self._evaluate()
            for node in self._copy.graph.node:
                node.input[:] = [self._renamed.get(name, name) for name in node.input]

    def value(self, name: str) -> np.ndarray | None:
        """Of a tensor, if it follows from shapes alone or is a small constant."""
        name = name.removesuffix("/known")
        if name in self.values:
            return self.values[name]
        item = self._constants.get(name)
        return numpy_helper.to_array(item) if item is not None and np.prod(item.dims) <= SMALL else None

    def _infer(self) -> None:
        graph = onnx.shape_inference.infer_shapes(self._copy, data_prop=True).graph
        for item in [*graph.input, *graph.value_info, *graph.output]:
            tensor = item.type.tensor_type
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                self.shapes[item.name] = [dim.dim_value for dim in tensor.shape.dim]

    def _evaluate(self) -> None:
        for node in self._copy.graph.node:
            if node.op_type not in _ON_SHAPES or node.output[0] in self.values or node.name.startswith("tap/"):
                continue
            if node.op_type == "Shape":
                if node.input[0] in self.shapes:
                    self._found(node.output[0], np.array(self.shapes[node.input[0]], np.int64))
                continue
            inputs = {name: self.value(name) for name in node.input if name}
            if not inputs or any(value is None for value in inputs.values()):
                continue
            if node.op_type in _GROWING and node.output[0] not in self.shapes:
                continue  # the next round knows how large it will be
            if max(np.prod(self.shapes.get(name, [1])) for name in node.output) > SMALL:
                continue
            evaluator = ReferenceEvaluator(helper.make_model(_alone(node), opset_imports=self._copy.opset_import))
            for name, value in zip(node.output, evaluator.run(None, inputs), strict=True):
                self._found(name, np.asarray(value))

    def _found(self, name: str, value: np.ndarray) -> None:
        self.values[name] = value
        # under another name, so that the inference of shapes knows the value too
        self._copy.graph.initializer.append(numpy_helper.from_array(value, f"{name}/known"))
        self._renamed[name] = f"{name}/known"


def _is_apart(item: onnx.TensorProto) -> bool:
    return item.data_location == TensorProto.EXTERNAL


def _alone(node: onnx.NodeProto) -> onnx.GraphProto:
    """A graph of one node."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.input if name]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    return helper.make_graph([node], "alone", inputs, outputs)


def _constant(proto: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    if all(item.name != name for item in proto.graph.initializer):
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _both(node: onnx.NodeProto, runs: list[_Run]) -> tuple[list[int], list[int], list[list[int] | None]] | None:
    """The second input of a node with each batch, and the shape of the first."""
    first, second = (run.values.get(node.input[1]) for run in runs)
    if first is None or second is None or len(first) != len(second):
        return None
    return first.tolist(), second.tolist(), [run.shapes.get(node.input[0]) for run in runs]


def _settle_reshape(proto: onnx.ModelProto, node: onnx.NodeProto, runs: list[_Run]) -> None:
    """-1 where the batch comes in; 0, which keeps the size of the input, where -1 stands already."""
    both = _both(node, runs)
    if both is None:
        return
    first, second, before = both
    varying = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    settled = list(first)
    for i in varying:
        kept = all(
            shape is not None and i < len(shape) and shape[i] == size[i]
            for shape, size in zip(before, (first, second), strict=True)
        )
        if not kept and -1 in settled:
            return
        settled[i] = -1 if -1 not in settled else 0
    if varying:
        node.input[1] = _constant(proto, f"{node.output[0]}/shape", np.array(settled, np.int64))


def _settle_slice(proto: onnx.ModelProto, node: onnx.NodeProto, runs: list[_Run]) -> None:
    """The end of the axis, wherever that is, where the slice ends with the batch."""
    first, second = (run.value(node.input[2]) for run in runs)
    shapes = [run.shapes.get(node.input[0]) for run in runs]
    axes = runs[0].value(node.input[3]) if len(node.input) > 3 else None
    if first is None or second is None or None in shapes or np.array_equal(first, second):
        return
    settled = np.array(first, np.int64)
    for i in np.flatnonzero(first != second):
        axis = int(i) if axes is None else int(axes[i])
        if [shape[axis] for shape in shapes if shape] != [first[i], second[i]]:
            return
        settled[i] = np.iinfo(np.int64).max
    node.input[2] = _constant(proto, f"{node.output[0]}/ends", settled)


def _settle_expand(proto: onnx.ModelProto, node: onnx.NodeProto, runs: list[_Run]) -> None:
    """1, which keeps the size of the input, where that is the batch already."""
    both = _both(node, runs)
    if both is None or None in both[2]:
        return
    first, second, before = both
    settled = list(first)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a == b:
            continue
        sizes = [shape[i - len(first)] if shape and len(first) - i <= len(shape) else 1 for shape in before]
        if sizes != [a, b]:
            return
        settled[i] = 1
    if settled != first:
        node.input[1] = _constant(proto, f"{node.output[0]}/shape", np.array(settled, np.int64))


def _settle_resize(proto: onnx.ModelProto, node: onnx.NodeProto, run: _Run) -> None:
    """The factors in place of sizes among which is the batch."""
    before = run.shapes.get(node.input[0])
    if before is not None:
        scales = run.values[node.input[3]] / np.array(before)
        node.input[2] = _constant(proto, f"{node.output[0]}/scales", scales.astype(np.float32))
        del node.input[3]


def _choose_branches(proto: onnx.ModelProto, runs: list[_Run]) -> bool:
    """Put the right branch in the place of each If whose condition is known; whether there was one."""
    for place, node in enumerate(proto.graph.node):
        conditions = [run.value(node.input[0]) for run in runs] if node.op_type == "If" else [None]
        if any(value is None for value in conditions) or len({bool(value) for value in conditions}) != 1:
            continue
        wanted = "then_branch" if bool(conditions[0]) else "else_branch"
        branch = next(item.g for item in node.attribute if item.name == wanted)
        same = {item.name: name for item, name in zip(branch.output, node.output, strict=True)}
        nodes = [onnx.NodeProto.FromString(inner.SerializeToString()) for inner in branch.node]
        for inner in nodes:
            inner.output[:] = [same.get(name, name) for name in inner.output]
            inner.input[:] = [same.get(name, name) for name in inner.input]
        proto.graph.initializer.extend(branch.initializer)
        before, behind = list(proto.graph.node)[:place], list(proto.graph.node)[place + 1 :]
        replace(proto.graph.node, [*before, *nodes, *behind])
        return True
    return False
