"""Turn a flat graph into one that reads `images` and weights, and nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from converters.errors import UnsupportedModelError
from converters.graph_def import TRAINING, node_name
from converters.graph_ops import VARIABLES
from converters.tracing.export import LARGE
from converters.tracing.flat_graph import full_name
from converters.tracing.graph_source import constant


def feed_images(flat: Any, start: str, shape: tuple[int, int, int]) -> None:
    """Let all that reads the tensor `start` read a Placeholder `images` (N, H, W, C) of floats instead."""
    name, dtype = node_name(start), tf.float32.as_datatype_enum
    old = next(node for node in flat.node if node.name == name)
    wanted = old.attr["dtype"].type or old.attr["T"].type or dtype
    images = flat.node.add(name="images", op="Placeholder")
    images.attr["dtype"].type = dtype
    images.attr["shape"].shape.CopyFrom(tf.TensorShape((None, *shape)).as_proto())
    replacement = "images:0"
    if wanted != dtype:
        cast = flat.node.add(name=_unused("images_as_stored", flat), op="Cast")
        cast.input.append("images")
        cast.attr["SrcT"].type, cast.attr["DstT"].type = dtype, wanted
        replacement = f"{cast.name}:0"
    for node in flat.node:
        if node.name == node_name(replacement):
            continue
        sources = [replacement if full_name(source) == start else source for source in node.input]
        del node.input[:]
        node.input.extend(sources)


def drop_unread(flat: Any, output: str) -> None:
    """Drop the nodes that the output does not need, and settle the inputs that are not pictures.

    Raises
    ------
    UnsupportedModelError
        The output needs an input that nobody gives, or does not depend on the pictures.
    """
    for node in flat.node:
        if node.op == "PlaceholderWithDefault":
            node.op = "Identity"
            node.attr["T"].type = node.attr["dtype"].type
            del node.attr["dtype"], node.attr["shape"]
        elif node.op == "Placeholder" and TRAINING.search(node.name):
            dtype = tf.as_dtype(node.attr["dtype"].type)
            node.op = "Const"
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.zeros((), dtype.as_numpy_dtype), dtype))
            del node.attr["shape"]
    by_name = {node.name: node for node in flat.node}
    needed: set[str] = set()
    pending = [node_name(output)]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [node_name(source) for source in by_name[name].input]
    if "images" not in needed:
        raise UnsupportedModelError(
            f"output {output!r} does not depend on the chosen input; name both: input=..., output=..., on the command "
            f"line --input NAME --output NAME"
        )
    others = sorted(name for name in needed - {"images"} if by_name[name].op == "Placeholder")
    if others:
        raise UnsupportedModelError(
            f"output {output!r} needs {', '.join(map(repr, others))} beside the pictures; replace each by a constant "
            f"and save the model again (a keep_prob is 1 once a model is trained)"
        )
    first = by_name["images"]
    kept = [first, *(node for node in flat.node if node.name in needed and node is not first)]
    copies = tf.compat.v1.GraphDef()
    copies.node.extend(kept)
    del flat.node[:]
    flat.node.extend(copies.node)


def set_weights_apart(flat: Any, variables: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """The graph with its variables as constants, and the large float ones of all constants as Placeholders.

    Returns
    -------
    GraphDef, dict
        The graph, and the values of the Placeholders by the names of their tensors.
    """
    graph = tf.compat.v1.GraphDef()
    weights: dict[str, np.ndarray] = {}
    graph.versions.CopyFrom(flat.versions)
    graph.library.CopyFrom(flat.library)
    resources = {f"{node.name}:0" for node in flat.node if node.op == "VarHandleOp"}
    for node in flat.node:
        if node.op in VARIABLES:
            _put_weight(graph, weights, node.name, variables[node.name])
        elif node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            _put_weight(graph, weights, node.name, constant(node))
        elif node.op == "ReadVariableOp":
            read = graph.node.add(name=node.name, op="Identity")
            read.input.append(node.input[0])
            read.attr["T"].type = node.attr["dtype"].type
        elif node.op == "ResourceGather":
            _gather(graph, node)
        elif resources & {full_name(source) for source in node.input}:
            raise UnsupportedModelError(
                f"node {node.name!r} ({node.op}) works on a variable itself, as a loop does that reads its weights in "
                f"every round; save the Keras model as .h5 or .keras instead"
            )
        else:
            graph.node.add().CopyFrom(node)
    return graph, weights


def _put_weight(graph: Any, weights: dict[str, np.ndarray], name: str, value: np.ndarray) -> None:
    new = graph.node.add(name=name)
    new.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    if value.dtype == np.float32 and value.ndim >= 2 and value.size > LARGE:
        new.op = "Placeholder"
        new.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
        weights[f"{name}:0"] = value
    else:
        new.op = "Const"
        new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _gather(graph: Any, node: Any) -> None:
    """ResourceGather of a variable is Gather of its value."""
    gather = graph.node.add(name=node.name, op="Gather")
    gather.input.extend(node.input)
    gather.attr["Tparams"].type = node.attr["dtype"].type
    gather.attr["Tindices"].type = node.attr["Tindices"].type
    gather.attr["validate_indices"].b = True


def _unused(name: str, flat: Any) -> str:
    used = {node.name for node in flat.node}
    while name in used:
        name += "_"
    return name
