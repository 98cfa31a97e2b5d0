"""Free a graph that was saved for a fixed number of pictures."""

from typing import Any

import numpy as np
import tensorflow as tf

from converters.graph_def import node_name
from converters.tracing.graph_source import import_graph


def free_batch(flat: Any, images: str) -> None:
    """Let each Reshape to `[batch, ...]` take as many rows as there are pictures, where the batch is fixed.

    What else depends on the number of pictures is found when the graph is run on several.
    """
    graph = import_graph(flat)
    shape = graph.get_tensor_by_name(images).shape
    rows = shape[0] if shape.rank else None
    if rows is None:
        return
    constants = {node.name for node in flat.node if node.op == "Const"}
    for node in list(flat.node):
        if node.op != "Reshape" or node_name(node.input[1]) not in constants:
            continue
        before = graph.get_tensor_by_name(f"{node.name}:0").op.inputs[0].shape
        after = graph.get_tensor_by_name(f"{node.name}:0").shape
        if before.rank and before[0] == rows and after.rank and after[0] == rows and after.is_fully_defined():
            target = np.array([-1, *after.as_list()[1:]], np.int32)
            new = flat.node.add(name=f"{node.name}/of_any_batch", op="Const")
            new.attr["dtype"].type = tf.int32.as_datatype_enum
            new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(target))
            node.input[1] = new.name
            node.attr["Tshape"].type = tf.int32.as_datatype_enum
