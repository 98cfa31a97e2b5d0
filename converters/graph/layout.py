"""The order of the axes: maps are channels first in torch and channels last in Keras."""

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import helper

from converters.graph.nodes import attributes, drop_unused, replace
from converters.graph.shapes import inferred_shapes

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


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
    replace(proto.graph.node, nodes)
    cancel_transposes(proto)


def one_pixel_taps(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int | None]]) -> list[str]:
    """The taps of maps of one pixel that come as (N, 1, 1, C), which their values cannot tell.

    `shapes` gives the shape of each tap's output in Keras.
    """
    inferred = inferred_shapes(proto)
    found = []
    for node in proto.graph.node:
        tap = node.name.removeprefix("tap/")
        last = list(shapes.get(tap, ()))[1:]
        if len(last) == 3 and last[:2] == [1, 1] and last[2] != 1 and inferred.get(node.output[0], [])[1:] == last:
            found.append(tap)
    return found


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
