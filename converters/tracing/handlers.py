"""What tf2onnx is taught: taps, and ops that it lacks or converts badly."""

from typing import Any

import numpy as np
import tf2onnx.optimizer
from tf2onnx.optimizer import transpose_optimizer

from converters.tracing import transposes

# A Transpose of maps that moves below a tap leaves it to see channels first
TO_CHANNELS_LAST = [0, 2, 3, 1]


def _mark_tap(_: Any, node: Any, *__: Any) -> Any:
    message = node.get_attr("message").s.decode()
    node.type, node.domain = "Tap", "tap"
    node.set_attr("tap", message)
    return node


def _erfc_by_erf(context: Any, node: Any, name: str, *_: Any) -> Any:
    """erfc(x) = 1 - erf(x); Keras 3 writes GELU with it, ONNX has only Erf."""
    node.type = "Erf"
    return _difference_with_one(context, node, f"{name}/complement", one_first=True)


def _expm1_by_exp(context: Any, node: Any, name: str, *_: Any) -> Any:
    """expm1(x) = exp(x) - 1; Keras 3 writes CELU with it."""
    node.type = "Exp"
    return _difference_with_one(context, node, f"{name}/less_one", one_first=False)


def _difference_with_one(context: Any, node: Any, name: str, *, one_first: bool) -> Any:
    """1 minus the node's output, or the output minus 1, in the place of the output."""
    one = context.make_const(f"{name}/one", np.array(1, np.float32))
    difference = context.insert_new_node_on_output("Sub", node.output[0], name=name)
    operands = [one.output[0], node.output[0]]
    context.replace_inputs(difference, operands if one_first else operands[::-1])
    return difference


def _reverse_by_slice(context: Any, node: Any, name: str, *_: Any) -> Any:
    """Steps of -1; tf2onnx would use ReverseSequence, with a length for each picture."""
    axes = np.atleast_1d(node.inputs[1].get_tensor_value(as_list=False)).astype(np.int64)
    rank = len(context.get_shape(node.input[0]))
    axes = np.where(axes < 0, axes + rank, axes)
    values = [np.full_like(axes, -1), np.full_like(axes, np.iinfo(np.int64).min), axes, np.full_like(axes, -1)]
    names = ("starts", "ends", "axes", "steps")
    constants = [
        context.make_const(f"{name}/{part}", value).output[0] for part, value in zip(names, values, strict=True)
    ]
    node.type = "Slice"
    context.replace_inputs(node, [node.input[0], *constants])
    return node


def mend_pads(proto: Any) -> None:
    """Let a transposed convolution add its zeros behind, as TensorFlow does; tf2onnx adds half of them before."""
    for node in proto.graph.node:
        pads: Any = next((item.ints for item in node.attribute if item.name == "pads"), [])
        if node.op_type != "ConvTranspose":
            continue
        rank = len(pads) // 2
        for axis in range(rank):
            if pads[axis] < 0:
                pads[axis], pads[axis + rank] = 0, pads[axis] + pads[axis + rank]


HANDLERS: dict[str, Any] = {
    "PreventGradient": (_mark_tap, []),
    "Erfc": (_erfc_by_erf, []),
    "Expm1": (_expm1_by_exp, []),
    "ReverseV2": (_reverse_by_slice, []),
}


def _through_split(optimizer: Any, transpose: Any, node: Any) -> bool:
    """Move a Transpose of maps behind a Split, one behind each part; tf2onnx stops there."""
    graph = optimizer._g
    if list(transpose.get_attr_value("perm")) != TO_CHANNELS_LAST:
        return optimizer._split_handler(transpose, node)
    axis = node.get_attr_value("axis", 0) % 4
    graph.replace_input(node, node.input[0], transpose.input[0], 0)
    node.set_attr("axis", TO_CHANNELS_LAST[axis])
    for part in list(node.output):
        shape = graph.get_shape(part)
        last = graph.insert_new_node_on_output("Transpose", part, perm=TO_CHANNELS_LAST)
        if shape:
            graph.set_shape(last.output[0], shape)
            graph.set_shape(part, [shape[i] for i in (0, 3, 1, 2)])
    graph.remove_node(transpose.name)
    return True


def prepare() -> None:
    """Teach tf2onnx's optimizers once: Transposes of maps go through taps, and an Einsum stays one."""
    optimizer = transpose_optimizer.TransposeOptimizer
    # tf2onnx would write an Einsum as a MatMul among dozens of ops that compute shapes at run time
    tf2onnx.optimizer._optimizers.pop("einsum_optimizer", None)
    if getattr(optimizer, "knows_taps", False):
        return
    install = optimizer._initialize_handlers

    def through_tap(self: Any, transpose: Any, node: Any) -> bool:
        # any other would leave the tap with axes in an order that nobody can tell
        if list(transpose.get_attr_value("perm")) != TO_CHANNELS_LAST or node.get_attr("channels_first"):
            return False
        moved = self._simple_through_handler(transpose, node)
        if moved:
            node.set_attr("channels_first", 1)
        return moved

    def install_with_taps(self: Any) -> None:
        install(self)
        self._handler_map |= {"Tap": through_tap.__get__(self), "Softsign": self._simple_through_handler}
        self._handler_map["Split"] = _through_split.__get__(self)
        self._handler_map |= dict.fromkeys(("HardSigmoid", "ThresholdedRelu"), self._simple_through_handler)

    optimizer._initialize_handlers = install_with_taps
    optimizer._optimize_at_current_graph_level = transposes.optimize_level
    optimizer.knows_taps = True
