"""The softmax or sigmoid that a classifier ends in."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from converters.graph.shapes import inferred_shapes

LOGITS = "head/logits"  # the name of the node that has the logits, where the head needs them in another shape
_SHAPE_ONLY = {"Identity", "Reshape", "Squeeze", "Flatten", "Transpose", "Unsqueeze"}


def settle_head(proto: onnx.ModelProto) -> None:
    """Let the logits be (N, classes) also where the softmax works on (N, 1, 1, classes), as in old MobileNets.

    Before such a softmax come a Reshape to one row, the node `head/logits`, and a Reshape back.
    """
    producer = {name: node for node in proto.graph.node for name in node.output}
    last = producer[proto.graph.output[0].name]
    while last.op_type in _SHAPE_ONLY and last.input[0] in producer:
        last = producer[last.input[0]]
    shape = inferred_shapes(proto).get(last.input[0], [])
    if (
        last.op_type not in {"Softmax", "Sigmoid"}
        or len(shape) <= 2
        or sorted(shape[1:])[:-1] != [1] * (len(shape) - 2)
    ):
        return
    classes = max(shape[1:])
    source, row, logits, back = last.input[0], f"{LOGITS}/row", LOGITS, f"{LOGITS}/back"
    for name, sizes in ((row, [-1, classes]), (back, [-1, *shape[1:]])):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), f"{name}/shape"))
    place = list(proto.graph.node).index(last)
    added = [
        helper.make_node("Reshape", [source, f"{row}/shape"], [row], row),
        helper.make_node("Identity", [row], [logits], LOGITS),
        helper.make_node("Reshape", [logits, f"{back}/shape"], [back], back),
    ]
    last.input[0] = back
    for i, node in enumerate(added):
        proto.graph.node.insert(place + i, node)
