"""Grouped convolutions written out, since TensorFlow cannot differentiate them on the CPU."""

from typing import Any

import tensorflow as tf

from converters.tracing.graph_source import import_graph


def without_groups(flat: Any) -> Any:
    """A `tf.Graph` of a flat GraphDef in which a grouped convolution is one convolution for each group."""
    graph = import_graph(flat)
    groups = {
        operation.name: operation.inputs[0].shape[3] // operation.inputs[1].shape[2]
        for operation in graph.get_operations()
        if operation.type == "Conv2D" and None not in (operation.inputs[0].shape[3], operation.inputs[1].shape[2])
    }
    if all(count == 1 for count in groups.values()):
        return graph
    plain = tf.compat.v1.GraphDef()
    plain.versions.CopyFrom(flat.versions)
    plain.library.CopyFrom(flat.library)
    for node in flat.node:
        if groups.get(node.name, 1) == 1:
            plain.node.add().CopyFrom(node)
        else:
            plain.node.extend(_one_for_each_group(node, groups[node.name]))
    return import_graph(plain)


def _one_for_each_group(node: Any, count: int) -> list[Any]:
    axis = tf.compat.v1.NodeDef(name=f"{node.name}/group_axis", op="Const")
    axis.attr["dtype"].type = tf.int32.as_datatype_enum
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(3, tf.int32))
    parts = [_split(node, kind, axis, count, source) for kind, source in zip(("x", "kernel"), node.input, strict=True)]
    convolutions = []
    for i in range(count):
        convolution = tf.compat.v1.NodeDef()
        convolution.CopyFrom(node)
        convolution.name = f"{node.name}/group_{i}"
        del convolution.input[:]
        convolution.input.extend(f"{part.name}:{i}" for part in parts)
        convolutions.append(convolution)
    joined = tf.compat.v1.NodeDef(name=node.name, op="ConcatV2")
    joined.input.extend([*(convolution.name for convolution in convolutions), axis.name])
    joined.attr["N"].i = count
    joined.attr["T"].type = node.attr["T"].type
    joined.attr["Tidx"].type = tf.int32.as_datatype_enum
    return [axis, *parts, *convolutions, joined]


def _split(node: Any, kind: str, axis: Any, count: int, source: str) -> Any:
    split = tf.compat.v1.NodeDef(name=f"{node.name}/groups_of_{kind}", op="Split")
    split.input.extend([axis.name, source])
    split.attr["num_split"].i = count
    split.attr["T"].type = node.attr["T"].type
    return split
