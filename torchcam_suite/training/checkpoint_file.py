"""The state of a training in one safetensors file: tensors as they are, everything else as JSON in the header."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from converters.left_behind import ENDING, remove_left_behind
from torchcam_suite.errors import CheckpointError

METADATA, FORMAT = "torchcam_suite_training", 1
_KIND = "!"
_PLAIN = (bool, int, str, type(None))


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write dicts, lists, tuples, tensors, numbers, texts, booleans and None, nested as they may be.

    The file is complete or not there: it is written beside and renamed.

    Raises
    ------
    TypeError
        Something else is in it.
    CheckpointError
        The file cannot be written, as on a disk that is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    document = {"format": FORMAT, "state": _encoded(state, "state", tensors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(path.parent)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", suffix=ENDING, dir=path.parent) as folder:
            written = Path(folder) / path.name
            save_file(tensors, written, metadata={METADATA: json.dumps(document, allow_nan=False)})
            with written.open("rb+") as file:
                os.fsync(file.fileno())
            written.chmod(0o644)
            written.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote; tensors are on the CPU. Nothing in the file is executed.

    Raises
    ------
    CheckpointError
        There is no such file, or it is damaged or something else.
    """
    return _read(path, tensors=True)


def read_checkpoint_without_tensors(path: Path) -> dict[str, Any]:
    """The same from the header alone, with None in place of each tensor."""
    return _read(path, tensors=False)


def _read(path: Path, *, tensors: bool) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})[METADATA])
            if document["format"] != FORMAT:
                raise CheckpointError(f"{path} has format {document['format']!r}; this version reads {FORMAT}")
            state = _decoded(document["state"], file.get_tensor if tensors else _no_tensor)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no checkpoint of a training, or is damaged: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no checkpoint of a training: it holds a {type(state).__name__}")
    return state


def _encoded(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        while name in tensors:
            name += "'"
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_KIND: "tensor", "name": name}
    if isinstance(value, Mapping):
        items = [[_encoded(key, name, {}), _encoded(one, f"{name}/{key}", tensors)] for key, one in value.items()]
        return {_KIND: "dict", "items": items}
    if isinstance(value, list | tuple):
        listed = [_encoded(one, f"{name}/{place}", tensors) for place, one in enumerate(value)]
        return listed if isinstance(value, list) else {_KIND: "tuple", "items": listed}
    if type(value) is float:
        return value if math.isfinite(value) else {_KIND: "float", "value": repr(value)}
    if type(value) in _PLAIN:
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__} ({name}); tensors, numbers and texts it can")


def _decoded(value: Any, tensor_of: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(one, tensor_of) for one in value]
    if not isinstance(value, dict):
        return value
    kind = value[_KIND]
    if kind == "tensor":
        return tensor_of(value["name"])
    if kind == "dict":
        return {_decoded(key, tensor_of): _decoded(one, tensor_of) for key, one in value["items"]}
    if kind == "tuple":
        return tuple(_decoded(one, tensor_of) for one in value["items"])
    if kind == "float":
        return float(value["value"])
    raise ValueError(f"a value of kind {kind!r}")


def _no_tensor(name: str) -> None:
    """Stand for a tensor that was not asked for."""
