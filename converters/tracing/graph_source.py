"""Open a frozen graph or a SavedModel: the graph as its file has it, its variables, its input and its output."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from converters import graph_def, graph_proto
from converters.errors import CheckpointError, UnsupportedModelError
from converters.graph_def import TRAINING, node_name
from converters.tracing.export import LARGE
from converters.tracing.flat_graph import add_functions, full_name
from converters.tracing.variables import read_variables


@dataclass(frozen=True)
class Source:
    """A graph before anything was changed in it.

    Attributes
    ----------
    graph : GraphDef
        What the output needs, with the functions that it calls.
    variables : dict
        Values by the names of their nodes; of a frozen graph its large constants.
    input, output : str
        Tensors of the graph: the pictures (N, H, W, C), and the model's output.
    name : str
        What the model is called.
    """

    graph: Any
    variables: dict[str, np.ndarray]
    input: str
    output: str
    name: str


def open_source(job: dict[str, Any]) -> Source:
    """Read and check what the job names.

    Raises
    ------
    TorchcamError
        As `converters.graph_def.inspect_graph`, or input and output cannot be told.
    """
    path = Path(job["source"])
    read = _frozen if job["format"] == "frozen" else _saved_model
    return read(path, job["input"], job["output"])


def _frozen(path: Path, image: str | None, output: str | None) -> Source:
    content = graph_proto.content(path)
    graph_def.read_frozen(content, path.name)
    graph = tf.compat.v1.GraphDef.FromString(content)
    del content
    weights = _take_out_weights(graph)
    tensors = _Tensors(graph)
    end = tensors.output(output)
    needed = needed_graph(graph, end)
    names = {node.name for node in needed.node}
    variables = {name: value for name, value in weights.items() if name in names}
    return Source(needed, variables, tensors.input(image, names), end, path.stem)


def _take_out_weights(graph: Any) -> dict[str, np.ndarray]:
    """Turn the large constants of a graph into variables again, whose values no tool copies; return the values."""
    values = {}
    for node in graph.node:
        if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            continue
        tensor = node.attr["value"].tensor
        if len(tensor.tensor_shape.dim) >= 2 and tf.TensorShape(tensor.tensor_shape).num_elements() > LARGE:
            values[node.name] = constant(node)
            node.op = "VariableV2"
            node.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
            del node.attr["value"]
    return values


def constant(node: Any) -> np.ndarray:
    """The value of a Const.

    Raises
    ------
    CheckpointError
        It holds another number of values than its shape says.
    """
    try:
        return tf.make_ndarray(node.attr["value"].tensor)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"the constant {node.name!r} is damaged ({error}); get the file again") from error


def _saved_model(folder: Path, image: str | None, output: str | None) -> Source:
    graph_def.folder_files(folder)
    content = graph_proto.content(folder / "saved_model.pb")
    key, signature, graph = graph_def.open_saved_model(content, folder.name)
    graph_def.check_saved_model(graph, signature, folder.name)
    model = saved_model_pb2.SavedModel.FromString(content)
    meta = next((meta for meta in model.meta_graphs if "serve" in meta.meta_info_def.tags), model.meta_graphs[0])
    outputs = {name: info.name for name, info in meta.signature_def[key].outputs.items()}
    pictures = {
        name: info.name
        for name, info in meta.signature_def[key].inputs.items()
        if info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 4
    }
    end = _chosen("output", output, outputs)
    needed = needed_graph(meta.graph_def, end)
    present = {name: tensor for name, tensor in pictures.items() if node_name(tensor) in {n.name for n in needed.node}}
    start = _chosen("input", image, present)
    return Source(needed, read_variables(meta, needed.node, folder), start, end, folder.name)


def _chosen(kind: str, name: str | None, tensors: dict[str, str]) -> str:
    """The tensor of that name, of a signature; the only one if none is named."""
    if name is None and len(tensors) == 1:
        return full_name(next(iter(tensors.values())))
    by_any_name = tensors | {tensor: tensor for tensor in tensors.values()}
    if name is None or name not in by_any_name:
        raise UnsupportedModelError(
            f"{f'no {kind} is named {name!r}' if name else f'the model has {len(tensors)} {kind}s'}; choose one of "
            f"{', '.join(map(repr, sorted(tensors)))}: {kind}='{min(tensors, default='NAME')}', on the command line "
            f"--{kind} {min(tensors, default='NAME')}"
        )
    return full_name(by_any_name[name])


def needed_graph(graph: Any, output: str) -> Any:
    """The nodes that lead to a tensor, by data or control, and the functions that they call."""
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    needed = tf.compat.v1.GraphDef()
    needed.versions.CopyFrom(graph.versions)
    names: set[str] = set()
    pending = [node_name(output)]
    while pending:
        name = pending.pop()
        if name in names:
            continue
        if name not in nodes:
            raise CheckpointError(f"the graph is damaged: it reads node {name!r}, which it does not hold")
        names.add(name)
        pending += [node_name(source) for source in nodes[name].input]
    needed.node.extend(node for node in graph.node if node.name in names)
    add_functions(needed, functions)
    for body in (needed.node, *(function.node_def for function in needed.library.function)):
        for node in body:
            node.device = ""  # the devices of whoever trained it
    return needed


class _Tensors:
    """What TensorFlow's shape inference says of a frozen graph."""

    def __init__(self, graph: Any) -> None:
        self._nodes = graph.node
        self._graph = import_graph(graph)

    def output(self, name: str | None) -> str:
        """The tensor of that name, or what nobody reads."""
        if name is not None:
            return self._named("output", name, self._ends())
        ends = self._ends()
        if len(ends) != 1:
            raise self._several("output", ends)
        return ends[0]

    def input(self, name: str | None, needed: set[str]) -> str:
        """The tensor of that name, or the only one that can be pictures."""
        found = [f"{node.name}:0" for node in self._nodes if node.name in needed and self._takes_pictures(node)]
        # a shape that is not given may be that of keep_prob
        found = [tensor for tensor in found if self._graph.get_tensor_by_name(tensor).shape.rank] or found
        if name is not None:
            return self._named("input", name, found)
        if len(found) != 1:
            raise self._several("input", found)
        return found[0]

    def _takes_pictures(self, node: Any) -> bool:
        if not node.op.startswith("Placeholder") or TRAINING.search(node.name):
            return False
        tensor = self._graph.get_tensor_by_name(f"{node.name}:0")
        return tensor.dtype != tf.bool and tensor.shape.rank in (None, 4)

    def _ends(self) -> list[str]:
        """Float tensors that no node reads and that come from an input."""
        read = {node_name(source) for node in self._nodes for source in node.input}
        sources = {node.name: [node_name(source) for source in node.input] for node in self._nodes}
        fed = {node.name for node in self._nodes if self._takes_pictures(node)}
        ends = []
        for node in self._nodes:
            if node.name in read or not _reached(node.name, sources, fed):
                continue
            tensors = self._graph.get_operation_by_name(node.name).outputs
            if len(tensors) == 1 and tensors[0].dtype.is_floating:
                ends.append(tensors[0])
        rows = [tensor.name for tensor in ends if tensor.shape.rank == 2]
        return rows or [tensor.name for tensor in ends]

    def _named(self, kind: str, name: str, known: list[str]) -> str:
        try:
            return self._graph.get_tensor_by_name(full_name(name)).name
        except (KeyError, ValueError):
            raise UnsupportedModelError(
                f"the graph has no tensor {name!r} that could be its {kind}; it found {', '.join(known) or 'none'} "
                f"itself: {kind}=..., on the command line --{kind} NAME"
            ) from None

    def _several(self, kind: str, found: Iterable[str]) -> UnsupportedModelError:
        names = sorted(found)
        example = names[0] if names else "NAME"
        listed = f": {', '.join(names[:12])}" if names else ""
        return UnsupportedModelError(
            f"the graph has {len(names)} tensors that could be its {kind}{listed}; "
            f"name one: {kind}={example!r}, on the command line --{kind} {example}"
        )


def _reached(name: str, sources: dict[str, list[str]], starts: set[str]) -> bool:
    pending, seen = [name], set()
    while pending:
        name = pending.pop()
        if name in starts:
            return True
        if name not in seen:
            seen.add(name)
            pending += sources.get(name, [])
    return False


def import_graph(graph: Any) -> Any:
    """A `tf.Graph` of a GraphDef.

    Raises
    ------
    CheckpointError
        TensorFlow finds it inconsistent.
    """
    imported = tf.Graph()
    with imported.as_default():
        try:
            tf.import_graph_def(graph, name="")
        except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            raise CheckpointError(f"TensorFlow cannot read the graph: {str(error).splitlines()[0]:.400}") from error
    return imported
