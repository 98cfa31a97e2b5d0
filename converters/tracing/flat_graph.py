"""A TensorFlow graph made flat: functions opened, conditions on the learning phase decided, no control inputs left.

What comes out computes in inference mode, in the order of its nodes, and each node keeps the name of the layer that
it belongs to.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from converters.errors import CheckpointError, UnsupportedModelError
from converters.graph_def import MOST_NODES, TRAINING, node_name
from converters.graph_ops import LOOPS, RANDOM

RESERVED = ("images", "prediction")  # names of our own nodes
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_BRANCHES = {"If": ("else_branch", "then_branch"), "StatelessIf": ("else_branch", "then_branch")}
_AUTOMATIC = re.compile(r"(^|/)(Stateful)?PartitionedCall(_\d+)?$")
_SAME = frozenset({"CheckNumerics", "GuaranteeConst", "PreventGradient", "Snapshot", "StopGradient"})
_NESTING = 64  # functions within functions


def flatten(graph: Any, outputs: list[str]) -> tuple[Any, list[str]]:
    """The part of a GraphDef that computes `outputs`, flat, and these tensors under their new names.

    Raises
    ------
    UnsupportedModelError
        A loop, a condition that depends on the picture, or random numbers.
    CheckpointError
        Functions that call each other without end, or that are missing.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    nodes = list(graph.node)
    while True:
        nodes, outputs = _open_calls(nodes, functions, outputs)
        nodes = _ordered(nodes, outputs)
        constants = _known_conditions(nodes)
        nodes, outputs = _resolve_switches(nodes, outputs, constants)
        nodes = _ordered(nodes, outputs, control=False)
        if not _choose_branches(nodes, constants):
            break
    _refuse_leftovers(nodes)
    flat = tf.compat.v1.GraphDef()
    flat.versions.CopyFrom(graph.versions)
    for node in nodes:
        _tidy(node, flat.node.add())
    add_functions(flat, functions)
    return flat, outputs


def full_name(tensor: str) -> str:
    """`a:0` for `a`."""
    return tensor if ":" in tensor else f"{tensor}:0"


def add_functions(graph: Any, functions: dict[str, Any]) -> None:
    """Add to a graph the functions that its nodes call, and those that these call."""
    pending = list(graph.node)
    added: set[str] = set()
    for node in pending:  # grows while it is walked
        names = [node.op]
        for attribute in node.attr.values():
            names += [attribute.func.name, *(function.name for function in attribute.list.func)]
        for name in names:
            if name in functions and name not in added:
                added.add(name)
                graph.library.function.add().CopyFrom(functions[name])
                pending += functions[name].node_def


# ---------------------------------------------------------------- functions


def _open_calls(nodes: list[Any], functions: dict[str, Any], outputs: list[str]) -> tuple[list[Any], list[str]]:
    """Put the nodes of each called function in the place of the call."""
    opened: list[Any] = []
    same: dict[str, str] = {}
    used = set(RESERVED)

    def put(body: Iterable[Any], scope: str, arguments: dict[str, str], depth: int) -> dict[str, str]:
        """Add nodes; returns the flat name of each of their outputs, as the body itself names it."""
        if depth > _NESTING:
            raise CheckpointError(f"the graph's functions call each other more than {_NESTING} deep, or without end")
        body = list(body)
        names = {node.name: _unused(scope + node.name, used) for node in body}
        if len(used) > MOST_NODES:
            raise CheckpointError(f"the graph has more than {MOST_NODES} nodes once its functions are opened")
        flat = dict(arguments)
        for node in body:
            flat |= {nested: f"{names[node.name]}:{i}" for i, nested in enumerate(_output_names(node, depth > 0))}
        for node in body:
            new = tf.compat.v1.NodeDef()
            new.CopyFrom(node)
            new.name = names[node.name]
            del new.input[:]
            for source in node.input:
                if source.startswith("^"):
                    new.input.extend([f"^{names[source[1:]]}"] if source[1:] in names else [])
                else:
                    new.input.append(_found(flat, source if depth else full_name(source), node.name))
            if node.op not in _CALLS:
                opened.append(new)
                continue
            function = functions.get(node.attr["f"].func.name)
            if function is None:
                raise CheckpointError(f"node {node.name!r} calls a function that the graph does not hold")
            given = [source for source in new.input if not source.startswith("^")]
            inner_scope = _AUTOMATIC.sub(r"\1", new.name) if _AUTOMATIC.search(new.name) else f"{new.name}/"
            arguments_of = [argument.name for argument in function.signature.input_arg]
            if len(arguments_of) != len(given):
                raise CheckpointError(f"the graph is damaged: node {node.name!r} calls a function with wrong arguments")
            parameters = dict(zip(arguments_of, given, strict=True))
            inside = put(function.node_def, inner_scope, parameters, depth + 1)
            for i, result in enumerate(function.signature.output_arg):
                same[f"{new.name}:{i}"] = _found(inside, function.ret[result.name], node.name)
        return flat

    top = put(nodes, "", {}, 0)
    opened_names = {node.name for node in opened}
    for node in opened:
        sources = [_follow(same, source) for source in node.input]
        del node.input[:]
        # nothing waits for a call that is no more
        node.input.extend(s for s in sources if not s.startswith("^") or s[1:] in opened_names)
    return opened, [_follow(same, _found(top, full_name(output), "the output")) for output in outputs]


def _output_names(node: Any, in_function: bool) -> Iterator[str]:
    """The names of a node's outputs in their order: `a:0` in a graph, `a:out:0` in a function."""
    definition = op_def_registry.get(node.op)
    if definition is None:
        raise UnsupportedModelError(f"op {node.op!r} of node {node.name!r} is unknown to this TensorFlow")
    position = 0
    for result in definition.output_arg:
        if result.number_attr:
            count = node.attr[result.number_attr].i
        elif result.type_list_attr:
            count = len(node.attr[result.type_list_attr].list.type)
        else:
            count = 1
        for i in range(count):
            yield f"{node.name}:{result.name}:{i}" if in_function else f"{node.name}:{position}"
            position += 1


def _unused(name: str, used: set[str]) -> str:
    new, number = name, 0
    while new in used:
        number += 1
        new = f"{name}_{number}"
    used.add(new)
    return new


def _found(names: dict[str, str], name: str, where: str) -> str:
    if name not in names:
        raise CheckpointError(f"the graph is damaged: {where!r} reads {name!r}, which it does not hold")
    return names[name]


def _follow(same: dict[str, str], name: str) -> str:
    while name in same:
        name = same[name]
    return name


# ---------------------------------------------------------------- order and conditions


def _ordered(nodes: list[Any], outputs: list[str], *, control: bool = True) -> list[Any]:
    """The nodes that lead to the outputs, each after what it reads."""
    by_name = {node.name: node for node in nodes}
    done: set[str] = set()
    open_: set[str] = set()
    ordered = []
    pending = [(node_name(output), False) for output in reversed(outputs)]
    while pending:
        name, complete = pending.pop()
        if complete:
            open_.discard(name)
            done.add(name)
            ordered.append(by_name[name])
        elif name not in done:
            if by_name[name].op in LOOPS:
                raise UnsupportedModelError(
                    f"node {name!r} is part of a loop of TensorFlow 1 (tf.while_loop, an RNN); save the model as a "
                    f"Keras file or as a SavedModel of TensorFlow 2 instead"
                )
            if name in open_:
                raise CheckpointError(f"the graph is damaged: node {name!r} depends on itself")
            open_.add(name)
            pending.append((name, True))
            sources = [source for source in by_name[name].input if control or not source.startswith("^")]
            pending += [(node_name(source), False) for source in reversed(sources) if node_name(source) not in done]
    return ordered


def _known_conditions(nodes: list[Any]) -> dict[str, bool]:
    """The truth of each node that follows from the learning phase, which is 0, and from constants."""
    known: dict[str, bool] = {}
    for node in nodes:
        sources = [known.get(node_name(source)) for source in node.input if not source.startswith("^")]
        if node.op.startswith("Placeholder") and TRAINING.search(node.name):
            known[node.name] = False
        elif node.op == "Const" and node.attr["dtype"].type == tf.bool.as_datatype_enum:
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.size == 1:
                known[node.name] = bool(value.reshape(-1)[0])
        elif node.op in _CONDITION and sources and None not in sources:
            known[node.name] = _CONDITION[node.op](sources)
    return known


_CONDITION = {
    "Identity": lambda sources: sources[0],
    "PlaceholderWithDefault": lambda sources: sources[0],
    "Cast": lambda sources: sources[0],
    "LogicalNot": lambda sources: not sources[0],
    "LogicalAnd": all,
    "LogicalOr": any,
}


def _resolve_switches(nodes: list[Any], outputs: list[str], known: dict[str, bool]) -> tuple[list[Any], list[str]]:
    """Take out each Switch and Merge whose condition is known: the branch not taken is dead, and with it what reads it.

    The nodes come in their order.
    """
    same: dict[str, str] = {}
    dead: set[str] = set()
    kept = []
    for node in nodes:
        sources = [_follow(same, source) for source in node.input]
        living = [
            source for source in sources if source.removeprefix("^") not in dead and node_name(source) not in dead
        ]
        if node.op in {"Merge", "RefMerge"}:
            data = [source for source in living if not source.startswith("^")]
            if not data:
                dead.add(node.name)
                continue
            if len(data) == 1:
                same[f"{node.name}:0"] = data[0]
                continue
        elif len(living) < len(sources):
            dead.add(node.name)
            continue
        if node.op in {"Switch", "RefSwitch"} and node_name(node.input[1]) in known:
            taken = int(known[node_name(node.input[1])])
            same[f"{node.name}:{taken}"] = sources[0]
            dead.add(f"{node.name}:{1 - taken}")
            continue
        del node.input[:]
        # a control input of a branch that was taken has nothing left to wait for
        node.input.extend(sources)
        kept.append(node)
    names = {node.name for node in kept}
    for node in kept:
        sources = [source for source in node.input if not source.startswith("^") or source[1:] in names]
        del node.input[:]
        node.input.extend(sources)
    return kept, [_follow(same, output) for output in outputs]


def _choose_branches(nodes: list[Any], known: dict[str, bool]) -> bool:
    """Turn each If whose condition is known into a call of the branch that is taken; True if there was one."""
    found = False
    for node in nodes:
        if node.op in _BRANCHES and node_name(node.input[0]) in known:
            branch = node.attr[_BRANCHES[node.op][known[node_name(node.input[0])]]].func.name
            node.op = "PartitionedCall"
            del node.input[0]
            node.attr["f"].func.name = branch
            found = True
    return found


def _refuse_leftovers(nodes: list[Any]) -> None:
    for node in nodes:
        if node.op in RANDOM:
            raise UnsupportedModelError(
                f"node {node.name!r} draws random numbers ({node.op}): the graph was saved in training mode; save it "
                f"again with K.set_learning_phase(0), or training=False; without its layers of augmentation, if it is "
                f"an export of Keras 3, which leaves them active"
            )
        if node.op in {"Switch", "Merge", "If", "StatelessIf", "Case", "StatelessCase", "SwitchN"}:
            raise UnsupportedModelError(
                f"node {node.name!r} is a condition that depends on the input ({node.op}), which cannot be converted; "
                f"if it asks for the learning phase, name that Placeholder keras_learning_phase or is_training"
            )
        if node.op in {"While", "StatelessWhile"}:
            raise UnsupportedModelError(
                f"node {node.name!r} is a loop ({node.op}), as an RNN has; save the Keras model as .h5 or .keras, "
                f"whose loops are unrolled when they are traced"
            )
        if node.attr["data_format"].s in {b"NCHW", b"NCDHW"}:
            raise UnsupportedModelError(
                f"node {node.name!r} ({node.op}) wants its channels first, which TensorFlow computes on a GPU alone; "
                f"save the model again with data_format='NHWC', or give the Keras file, which can be converted"
            )
        if node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b:
            raise UnsupportedModelError(
                f"node {node.name!r} is a BatchNormalization in training mode, which has no statistics of its own; "
                f"save the model again with K.set_learning_phase(0), or training=False"
            )


def _tidy(node: Any, new: Any) -> None:
    """Copy a node without what only matters where it was made: device, colocation, control inputs."""
    new.CopyFrom(node)
    new.device = ""
    if new.op in _SAME:
        new.op = "Identity"  # heat maps follow the numbers, whatever training did not follow
        kept = {"T"}
    else:
        definition = op_def_registry.get(new.op)
        kept = {attribute.name for attribute in definition.attr}
    for name in [name for name in new.attr if name not in kept]:
        del new.attr[name]
    data = [source for source in new.input if not source.startswith("^")]
    del new.input[:]
    new.input.extend(data)
