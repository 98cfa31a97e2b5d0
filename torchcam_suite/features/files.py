"""Features as files: `.npz`, `.safetensors` and `.parquet`, written and read without pickle."""

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from torchcam_suite.errors import MissingLibraryError, SourceError
from torchcam_suite.explanation import write_atomically

Arrays = Mapping[str, np.ndarray]
About = dict[str, Any]
Writer = Callable[[Path, Arrays, About], None]
Reader = Callable[[Path], tuple[Arrays, About]]

_ABOUT = "features"
_BLOCK = 2**26  # bytes of one array that are in memory at once
_SAFETENSORS = {"float32": "F32", "float64": "F64"}


def writer(path: Path) -> Writer:
    """What writes a file of this ending; `ValueError` for another, `MissingLibraryError` if its library is missing."""
    return _of_ending(path)[0]


def reader(path: Path) -> Reader:
    """What reads a file of this ending, with the same errors."""
    return _of_ending(path)[1]


def _of_ending(path: Path) -> tuple[Writer, Reader]:
    formats = {".npz": (_write_npz, _read_npz), ".safetensors": (_write_safetensors, _read_safetensors)}
    formats[".parquet"] = (_write_parquet, _read_parquet)
    if path.suffix not in formats:
        raise ValueError(f"{str(path)!r}: expected a name that ends in {', '.join(formats)}")
    if path.suffix == ".parquet":
        _pyarrow()
    return formats[path.suffix]


@contextmanager
def _damage_told(path: Path, *errors: type[Exception]) -> Iterator[None]:
    damage: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, TypeError, EOFError, *errors)
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"no such file: {path}") from error
    except damage as error:
        raise SourceError(f"{path} holds no features, or damaged ones ({error})") from error


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK // max(1, array[:1].nbytes))
    return (array[start : start + rows] for start in range(0, len(array), rows))


# ---------------------------------------------------------------- NumPy


def _write_npz(path: Path, arrays: Arrays, about: About) -> None:
    stored: dict[str, Any] = {_ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays}
    write_atomically(path, lambda file: np.savez(file, **stored))


def _read_npz(path: Path) -> tuple[Arrays, About]:
    with _damage_told(path, zipfile.BadZipFile, zlib.error):
        # np.load leaves a damaged file open if it opens it itself
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return arrays, json.loads(arrays.pop(_ABOUT).tobytes())


# ---------------------------------------------------------------- safetensors


def _write_safetensors(path: Path, arrays: Arrays, about: About) -> None:
    """Write the format by hand: the library's writer needs all arrays in memory, twice."""
    header: dict[str, Any] = {"__metadata__": {_ABOUT: json.dumps(about)}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        kind = _SAFETENSORS[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def write(file: BinaryIO) -> None:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            for block in _blocks(array):
                file.write(np.ascontiguousarray(block, array.dtype.newbyteorder("<")).data)

    write_atomically(path, write)


def _read_safetensors(path: Path) -> tuple[Arrays, About]:
    from safetensors import SafetensorError, safe_open

    with _damage_told(path, SafetensorError), safe_open(path, framework="np") as stored:
        about = json.loads(stored.metadata()[_ABOUT])
        return {name: stored.get_tensor(name) for name in stored.keys()}, about  # noqa: SIM118 (not a dict)


# ---------------------------------------------------------------- Parquet


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingLibraryError("a .parquet file needs pyarrow: pip install 'torchcam-suite[parquet]'") from error
    return import_module("pyarrow")


def _write_parquet(path: Path, arrays: Arrays, about: About) -> None:
    pyarrow = _pyarrow()
    names = {"id": about["ids"], "path": about["paths"]}
    texts = {name: [_unicode(value) for value in values] for name, values in names.items()}
    # names of files need not be Unicode; as they are, they stand in the JSON then
    left_out = ("ids", "paths") if texts == names else ()
    rest = {name: value for name, value in about.items() if name not in left_out}
    fields = [pyarrow.field(name, pyarrow.string()) for name in texts]
    for name, array in arrays.items():
        fields.append(pyarrow.field(name, pyarrow.list_(pyarrow.from_numpy_dtype(array.dtype), array.shape[1])))
    schema = pyarrow.schema(fields, metadata={_ABOUT: json.dumps(rest)})
    rows = max(1, _BLOCK // sum(array[:1].nbytes for array in arrays.values()))

    def write(file: BinaryIO) -> None:
        with pyarrow.parquet.ParquetWriter(file, schema) as table:
            for start in range(0, len(about["ids"]), rows):
                columns = [pyarrow.array(values[start : start + rows], pyarrow.string()) for values in texts.values()]
                for array in arrays.values():
                    block = np.ascontiguousarray(array[start : start + rows])
                    columns.append(pyarrow.FixedSizeListArray.from_arrays(block.reshape(-1), array.shape[1]))
                table.write_batch(pyarrow.record_batch(columns, schema=schema))

    write_atomically(path, write)


def _unicode(name: str | None) -> str | None:
    """The same text; the bytes that are no UTF-8 as numbers."""
    return None if name is None else name.encode("utf-8", "backslashreplace").decode()


def _read_parquet(path: Path) -> tuple[Arrays, About]:
    pyarrow = _pyarrow()
    with _damage_told(path, pyarrow.ArrowException), path.open("rb") as file:
        table = pyarrow.parquet.ParquetFile(file)
        schema = table.schema_arrow
        about = json.loads(schema.metadata[_ABOUT.encode()])
        about = {f"{name}s": table.read([name])[name].to_pylist() for name in ("id", "path")} | about
        arrays = {}
        for field in schema:
            if field.name not in ("id", "path"):
                chunks = table.read([field.name])[field.name].chunks
                rows = [chunk.flatten().to_numpy().reshape(-1, field.type.list_size) for chunk in chunks]
                arrays[field.name] = np.concatenate(rows)
        return arrays, about
