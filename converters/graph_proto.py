"""The few fields of TensorFlow's protobuf messages that are needed to judge a graph, so that TensorFlow is not.

They are declared in a package of our own, with the numbers that TensorFlow gives them; the rest is skipped as unknown.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory  # type: ignore[import-untyped]

from converters.errors import CheckpointError

MOST_BYTES = 2**31 - 1  # protobuf reads no larger message

# message: field name, number, type; a trailing "*" means repeated, "map " a map from text
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "Dim": [("size", 1, "int64")],
    "Shape": [("dim", 2, "Dim*"), ("unknown_rank", 3, "bool")],
    "Tensor": [
        ("dtype", 1, "int32"),
        ("shape", 2, "Shape"),
        ("content", 4, "bytes"),
        ("float_val", 5, "float*"),
        ("double_val", 6, "double*"),
    ],
    "Function": [("name", 1, "string")],
    "List": [("func", 9, "Function*")],
    "Attr": [
        ("list", 1, "List"),
        ("s", 2, "bytes"),
        ("b", 5, "bool"),
        ("type", 6, "int32"),
        ("shape", 7, "Shape"),
        ("tensor", 8, "Tensor"),
        ("func", 10, "Function"),
    ],
    "Node": [("name", 1, "string"), ("op", 2, "string"), ("input", 3, "string*"), ("attr", 5, "map Attr")],
    "Signature": [("name", 1, "string")],
    "FunctionDef": [("signature", 1, "Signature"), ("node_def", 3, "Node*")],
    "Library": [("function", 1, "FunctionDef*")],
    "Graph": [("node", 1, "Node*"), ("library", 2, "Library")],
    "TensorInfo": [("name", 1, "string"), ("dtype", 2, "int32"), ("shape", 3, "Shape")],
    "SignatureDef": [("inputs", 1, "map TensorInfo"), ("outputs", 2, "map TensorInfo")],
    "MetaInfo": [("tags", 4, "string*")],
    "MetaGraph": [("info", 1, "MetaInfo"), ("graph", 2, "Graph"), ("signatures", 5, "map SignatureDef")],
    "SavedModel": [("meta_graphs", 2, "MetaGraph*")],
}


def _declare() -> dict[str, Any]:
    """The message classes, in a pool of their own: TensorFlow may be in the same process."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="torchcam/graph.proto", package="torchcam", syntax="proto3")
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            mapped, repeated = kind.startswith("map "), kind.endswith("*")
            kind = kind.removeprefix("map ").removesuffix("*")
            if mapped:
                entry = declared.nested_type.add(name=f"{field_name.title()}Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=field.TYPE_STRING)
                entry.field.add(name="value", number=2, label=1, type=11, type_name=f".torchcam.{kind}")
                kind = f"{name}.{entry.name}"
            new = declared.field.add(name=field_name, number=number, label=3 if mapped or repeated else 1)
            if mapped or kind in _MESSAGES:
                new.type, new.type_name = field.TYPE_MESSAGE, f".torchcam.{kind}"
            else:
                new.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"torchcam.{name}")) for name in _MESSAGES}


MESSAGES = _declare()


def content(file: Path) -> bytes:
    """What is in a file that is no larger than protobuf allows.

    Raises
    ------
    CheckpointError
        It is larger.
    """
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise CheckpointError(f"{file.name} has {size} bytes; a TensorFlow graph has at most {MOST_BYTES}")
    return file.read_bytes()


def parse(kind: str, content: bytes, name: str) -> Any:
    """Read a message of a kind ("Graph", "SavedModel") from the content of the file `name`.

    Raises
    ------
    CheckpointError
        It is no such message, or damaged.
    """
    try:
        return MESSAGES[kind].FromString(content)
    except (message.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{name} is no TensorFlow graph, or damaged ({error})") from error
