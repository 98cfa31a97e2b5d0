"""The values of a SavedModel's variables, without restoring it: no op of the model runs for it."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from converters.errors import CheckpointError
from converters.graph_def import node_name
from converters.graph_ops import VARIABLES


def read_variables(meta: Any, nodes: list[Any], folder: Path) -> dict[str, np.ndarray]:
    """The value of each variable among the nodes, by the name of its node.

    Raises
    ------
    CheckpointError
        The values are missing, damaged, or of another shape.
    """
    wanted = [node for node in nodes if node.op in VARIABLES]
    if not wanted:
        return {}
    keys = _keys_of_restore(meta)
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        shapes = reader.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder.name}: its variables cannot be read ({_first_line(error)})") from error
    return {node.name: _value(reader, shapes, node, keys.get(node.name), folder) for node in wanted}


def _value(reader: Any, shapes: dict[str, list[int]], node: Any, key: str | None, folder: Path) -> np.ndarray:
    if key is None:  # TensorFlow 1 stores a variable under its own name
        key = node.attr["shared_name"].s.decode() or node.name
    if key not in shapes:
        raise CheckpointError(f"{folder.name}: the value of variable {node.name!r} ({key!r}) is not in its variables")
    declared, stored = tf.TensorShape(node.attr["shape"].shape), tf.TensorShape(shapes[key])
    if not declared.is_compatible_with(stored):
        raise CheckpointError(
            f"{folder.name}: variable {node.name!r} has shape {declared} in the graph and {stored} in its variables"
        )
    try:
        return reader.get_tensor(key)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder.name}: variable {node.name!r} cannot be read ({_first_line(error)})") from error


def _keys_of_restore(meta: Any) -> dict[str, str]:
    """The key of each variable, from the function that TensorFlow 2 would call to restore the model.

    In it RestoreV2 reads a list of keys, and each of its results goes to one variable.
    """
    nodes = {node.name: node for node in meta.graph_def.node}
    call = nodes.get(node_name(meta.saver_def.restore_op_name))
    name = "" if call is None else call.attr["f"].func.name
    function = next((f for f in meta.graph_def.library.function if f.signature.name == name), None)
    if call is None or function is None:
        return {}
    inside = {node.name: node for node in function.node_def}
    arguments = [argument.name for argument in function.signature.input_arg]
    variable_of = dict(zip(arguments, (node_name(source) for source in call.input), strict=False))
    keys: dict[str, str] = {}
    for node in function.node_def:
        if node.op != "AssignVariableOp" or node_name(node.input[0]) not in variable_of:
            continue
        source = node.input[1]
        while inside[node_name(source)].op == "Identity":
            source = inside[node_name(source)].input[0]
        restore = inside[node_name(source)]
        if restore.op == "RestoreV2":
            names = tf.make_ndarray(inside[node_name(restore.input[1])].attr["value"].tensor)
            position = int(source.split(":")[-1]) if ":" in source else 0
            keys[variable_of[node_name(node.input[0])]] = names[position].decode()
    return keys


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
