"""Keras model -> ONNX structure in which every layer's output is a tap, its large weights kept apart.

Three ideas make this fast, small and faithful:

1. Large variables become graph inputs, so that neither Grappler nor tf2onnx ever copies them.
2. Each layer's output passes through PreventGradient, which no optimizer removes or fuses across. In the
   ONNX file it is an Identity named `tap/<layer>#<call>`, in the path of the computation.
3. The transpose optimizer may move a Transpose through a tap, so that taps end up channels first and no
   activation is transposed at run time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

# tf2onnx 1.17 still calls the name that NumPy 2 removed
setattr(np, "product", np.prod)  # noqa: B010

import onnx  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf2onnx  # noqa: E402
from onnx import helper  # noqa: E402

from converters import weights_file  # noqa: E402
from converters.errors import UnsupportedModelError  # noqa: E402
from converters.tracing import handlers  # noqa: E402
from converters.tracing.taps import LayerCall, tapped  # noqa: E402
from converters.tracing.traceable import plain_ops  # noqa: E402

OPSET = 13
LARGE = 1024  # values; smaller variables stay constants, which tf2onnx can fold


def write(model: Any, shape: tuple[int, int, int], folder: Path) -> list[dict]:
    """Write `structure.onnx` and `weights.safetensors`; return the table of layer calls, in their order."""
    function, layers = _trace(model, shape)
    graph, weights = _set_weights_apart(function)
    proto = to_onnx(graph, list(weights))
    weights_file.write(weights, folder / "weights.safetensors")
    onnx.save(proto, folder / "structure.onnx")
    return layers


def _trace(model: Any, shape: tuple[int, int, int]) -> tuple[Any, list[dict]]:
    """Trace one inference call with a tap behind every layer."""
    layers: list[dict] = []

    def tap(layer_call: LayerCall, _: Any, output: tf.Tensor) -> tf.Tensor:
        layers.append(
            {
                "name": layer_call.path,
                "call": layer_call.call,
                "class": layer_call.class_name,
                "shape": output.shape.as_list(),
                "operation": layer_call.is_operation,
                "map": layer_call.is_map,
            }
        )
        return tf.raw_ops.PreventGradient(input=output, message=layer_call.tap)

    def forward(images: tf.Tensor) -> tf.Tensor:
        layers.clear()
        with plain_ops(model), tapped(model, tap):
            return tf.identity(tf.cast(model(images, training=False), tf.float32), name="prediction")

    signature = [tf.TensorSpec((None, *shape), tf.float32, name="images")]
    function = tf.function(forward, input_signature=signature, autograph=False).get_concrete_function()
    return function, layers


def _set_weights_apart(function: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Replace each read of a variable: large ones by a Placeholder, small ones by a constant."""
    variable_of = {
        inner.op.name: next(variable for variable in function.variables if variable.handle is outer)
        for outer, inner in function.graph.captures
        if inner.dtype == tf.resource
    }
    traced = _with_plain_reads(function.graph.as_graph_def())
    graph, weights = tf.compat.v1.GraphDef(), {}
    graph.versions.CopyFrom(traced.versions)
    graph.library.CopyFrom(traced.library)
    for node in traced.node:
        if node.name in variable_of:
            continue
        read = node.op == "ReadVariableOp" and node.input[0].split(":")[0] in variable_of
        if not read:
            _copy_without_control_inputs(node, graph.node.add())
            continue
        variable = variable_of[node.input[0].split(":")[0]]
        value = np.asarray(variable.read_value())  # shares the variable's memory, which variable.numpy() copies
        new = graph.node.add(name=node.name)
        new.attr["dtype"].type = variable.dtype.as_datatype_enum if hasattr(variable.dtype, "as_datatype_enum") else 1
        if value.ndim >= 2 and value.size > LARGE:
            new.op = "Placeholder"
            new.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            weights[f"{node.name}:0"] = value
        else:
            new.op = "Const"
            new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    _keep_what_leads_to(graph, "prediction")
    kept = {f"{node.name}:0" for node in graph.node}
    return graph, {name: array for name, array in weights.items() if name in kept}


def _with_plain_reads(graph: Any) -> Any:
    """Let each lookup in a variable (Embedding) read the variable whole and look up in the result."""
    for node in [node for node in graph.node if node.op == "ResourceGather"]:
        dtype = node.attr["dtype"].type
        read = graph.node.add(name=f"{node.name}/read", op="ReadVariableOp", input=[node.input[0]])
        read.attr["dtype"].type = dtype
        axis = graph.node.add(name=f"{node.name}/axis", op="Const")
        axis.attr["dtype"].type = tf.int32.as_datatype_enum
        axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.int32))
        indices, index_type = node.input[1], node.attr["Tindices"].type
        node.Clear()
        node.MergeFrom(tf.compat.v1.NodeDef(name=read.name.removesuffix("/read"), op="GatherV2"))
        node.input.extend([read.name, indices, axis.name])
        for name, value in (("Tparams", dtype), ("Tindices", index_type), ("Taxis", tf.int32.as_datatype_enum)):
            node.attr[name].type = value
    return graph


def _keep_what_leads_to(graph: Any, output: str) -> None:
    """Drop the nodes that the output does not need, such as the state of a dropout's random numbers."""
    nodes = {node.name: node for node in graph.node}
    needed, pending = set(), [output]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [source.split(":")[0] for source in nodes[name].input]
    for i in reversed(range(len(graph.node))):
        if graph.node[i].name not in needed:
            del graph.node[i]


def _copy_without_control_inputs(node: Any, new: Any) -> None:
    new.CopyFrom(node)
    data = [name for name in new.input if not name.startswith("^")]
    del new.input[:]
    new.input.extend(data)


def to_onnx(graph: Any, weight_names: list[str]) -> onnx.ModelProto:
    """Convert with tf2onnx; taps travel as ops of a domain of their own and come out as named Identities."""
    handlers.prepare()
    try:
        with _without_safety_copies():
            proto = _converted(graph, weight_names)
    except Exception:  # an optimizer failed; with copies tf2onnx leaves that one out
        try:
            proto = _converted(graph, weight_names)
        except Exception as error:
            raise UnsupportedModelError(
                f"tf2onnx cannot convert this model: {type(error).__name__}: {error}"
            ) from error
    handlers.mend_pads(proto)
    for node in proto.graph.node:
        if node.op_type == "Tap":
            tap = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "tap")
            node.op_type, node.domain, node.name = "Identity", "", f"tap/{tap}"
            del node.attribute[:]
    kept = [opset for opset in proto.opset_import if opset.domain != "tap"]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    return proto


def _converted(graph: Any, weight_names: list[str]) -> onnx.ModelProto:
    proto, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=["images:0", *weight_names],
        output_names=["prediction:0"],
        opset=OPSET,
        inputs_as_nchw=["images:0"],
        custom_op_handlers=handlers.HANDLERS,
        extra_opset=[helper.make_opsetid("tap", 1)],
    )
    return proto


@contextmanager
def _without_safety_copies() -> Iterator[None]:
    """Let tf2onnx optimize a graph without copying it before each of three dozen passes, a third of its time.

    It takes the presence of the variable for a no, whatever the value.
    """
    name = tf2onnx.constants.ENV_TF2ONNX_CATCH_ERRORS
    with mock.patch.dict(os.environ, {name: "FALSE"}):
        yield
