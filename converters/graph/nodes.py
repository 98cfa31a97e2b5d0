"""Reading and changing the nodes of an ONNX graph."""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import helper


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def drop_unused(proto: onnx.ModelProto) -> None:
    """Drop the nodes whose results nobody reads, and the constants that only they read."""
    used = {item.name for item in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    replace(proto.graph.node, reversed(kept))
    replace(proto.graph.initializer, [item for item in proto.graph.initializer if item.name in used])


def replace(field: Any, items: Iterable[Any]) -> None:
    """Let a repeated field of a protobuf hold these items."""
    items = list(items)
    del field[:]
    field.extend(items)
