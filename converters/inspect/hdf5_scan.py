"""What lies in an HDF5 file, told without following a link or reading a weight.

Runs as a process of its own, `python -m converters.inspect.hdf5_scan FILE [MEMBER]`, because a damaged file can make
libhdf5 loop for ever or crash; `converters.inspect.hdf5` starts it, with limits. The tracing process calls
`require_own_content` once more, on its own copy of the file.
"""

import hashlib
import io
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from converters.errors import CheckpointError, TorchcamError, UnsafeCheckpointError

MEMORY, CPU_SECONDS = 2 << 30, 60  # of the process that scans; an EfficientNetV2L takes 0.3 s and 100 MB
MAX_CONFIG = 16 << 20  # characters; NASNetLarge has 1.3 million
_MAX_OBJECTS = 1_000_000
_MAX_NAMES = 1_000_000
# deflate makes at most 1032 bytes of one; who declares more than that has not stored what is declared
_MAX_RATIO = 1100
_SMALL = 1 << 16  # bytes; below it nobody counts
_SAFE_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}


def main() -> None:
    """Print what the file holds, as JSON: facts, or `{"error": class, "message": text}`."""
    from converters.confinement import Limits, leave_network

    leave_network()
    Limits(memory=MEMORY, cpu_seconds=CPU_SECONDS).apply()
    path, member = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    try:
        result = scan(path, member)
    except TorchcamError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    json.dump(result, sys.stdout)


def scan(path: Path, member: str | None = None) -> dict[str, Any]:
    """Check the file and give its facts: version, model configuration, layers with weights, number of values.

    `member` names the file inside a zip archive.

    Raises
    ------
    CheckpointError
        Damaged.
    UnsafeCheckpointError
        It refers to other files, or declares more than it holds.
    """
    where = path.name if member is None else f"{member} of {path.name}"
    try:
        with _opened(path, member) as (file, size):
            values = require_own_content(file, size, where)
            return {"error": None, "values": values, "facts": _facts(file, where)}
    except TorchcamError:
        raise
    except Exception as error:  # what libhdf5 finds in a damaged file comes as any of a dozen classes
        raise CheckpointError(f"{where} is a damaged or truncated HDF5 file ({error})") from error


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[tuple[h5py.File, int]]:
    """The HDF5 file and its size in bytes."""
    if member is None:
        with h5py.File(path, "r") as file:
            yield file, path.stat().st_size
        return
    with path.open("rb") as archive, _member(archive, member) as inner:
        size = inner.seek(0, io.SEEK_END)
        with h5py.File(inner, "r") as file:
            yield file, size


@contextmanager
def _member(archive: BinaryIO, name: str) -> Iterator[Any]:
    """A member as a file in which one can seek; only a compressed one is copied."""
    with zipfile.ZipFile(archive) as members:
        info = members.getinfo(name)
        if info.compress_type == zipfile.ZIP_STORED:
            archive.seek(info.header_offset)
            header = archive.read(30)
            start = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
            yield _Window(archive, start + int.from_bytes(header[28:30], "little"), info.file_size)
            return
        with tempfile.TemporaryFile() as copy, members.open(info) as packed:
            shutil.copyfileobj(packed, copy, 1 << 20)
            yield copy


class _Window(io.RawIOBase):
    """A part of a file, as a file to read."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        read = self._file.read(wanted)
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)


# ---------------------------------------------------------------- content of its own


def require_own_content(file: h5py.File, size: int, where: str) -> int:
    """Refuse links, storage elsewhere, and shapes that nothing stands behind; return the number of values.

    Parameters
    ----------
    file : h5py.File
        Opened for reading.
    size : int
        Bytes of the file.
    where : str
        Its name, for messages.

    Raises
    ------
    UnsafeCheckpointError
        Naming the place.
    """
    values = stored = 0
    for path, dataset in _datasets(file, where):
        _refuse_storage_elsewhere(dataset, path)
        values += dataset.size or 0
        held = dataset.id.get_storage_size()
        stored += held
        # compact data lies in the object header, which counts as no storage of its own
        if dataset.nbytes > max(_SMALL, _MAX_RATIO * held):
            raise UnsafeCheckpointError(
                f"{path} declares {dataset.nbytes:,} bytes of values and holds {held:,}; reading it would fill the "
                f"memory with nothing. Get the file again, or save it again in Keras"
            )
    # chunks that share their place in the file are a bomb too
    if stored > size + _SMALL:
        raise UnsafeCheckpointError(f"{where} has {size:,} bytes and claims to hold {stored:,}: parts of it overlap")
    return values


def _datasets(file: h5py.File, where: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset once, each object reached by hard links alone."""
    pending: list[tuple[str, h5py.Group]] = [(where, file)]
    seen = {_address(file)}
    links = 0
    while pending:
        path, group = pending.pop()
        for name in group:
            links += 1
            if links > _MAX_OBJECTS:
                raise UnsafeCheckpointError(f"{where} holds more than {_MAX_OBJECTS:,} objects; no Keras model does")
            place = f"{path} > {name if name.isprintable() else repr(name)}"
            _refuse_link(group.get(name, getlink=True), place)
            item = group[name]
            if _address(item) in seen:
                continue
            seen.add(_address(item))
            if isinstance(item, h5py.Group):
                pending.append((place, item))
            elif isinstance(item, h5py.Dataset):
                yield place, item


def _address(item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr


def _refuse_link(link: Any, place: str) -> None:
    if isinstance(link, h5py.ExternalLink):
        raise UnsafeCheckpointError(
            f"{place} is a link to {link.path!r} in the file {link.filename!r}; "
            f"a checkpoint has to hold its own weights"
        )
    if not isinstance(link, h5py.HardLink):
        raise UnsafeCheckpointError(
            f"{place} is a link to {getattr(link, 'path', None)!r}; Keras writes no links, and they are not followed"
        )


def _refuse_storage_elsewhere(dataset: h5py.Dataset, place: str) -> None:
    plan = dataset.id.get_create_plist()
    if plan.get_external_count():
        name = plan.get_external(0)[0].decode(errors="replace")
        raise UnsafeCheckpointError(f"{place} keeps its values in another file, {name!r}; they are not read")
    if plan.get_layout() == h5py.h5d.VIRTUAL:
        raise UnsafeCheckpointError(f"{place} is a virtual dataset, put together from other files; they are not read")
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not filters <= _SAFE_FILTERS:
        raise UnsafeCheckpointError(
            f"{place} is packed by filter {min(filters - _SAFE_FILTERS)}, a plug-in that would be loaded to read it"
        )
    kind = dataset.dtype.kind
    if kind not in "fiubS" and dataset.dtype.itemsize != 2:  # 2: bfloat16, which NumPy does not know
        raise UnsafeCheckpointError(f"{place} holds {dataset.dtype} values instead of numbers")


# ---------------------------------------------------------------- what Keras wrote


def _facts(file: h5py.File, where: str) -> dict[str, Any]:
    root = file.get("model_weights", file)
    names = listed_names(root, "layer_names")
    return {
        "model_config": _attribute(file, "model_config", where),
        "keras_version": _attribute(file, "keras_version", where),
        # each layer with the names of its weights, None where the file lists it and does not hold it
        "layers": [[name, listed_names(root[name], "weight_names") if name in root else None] for name in names],
        "layers_of_keras_3": list(_keras_3_names(file["layers"])) if "layers" in file and not names else None,
    }


def _attribute(file: h5py.File, name: str, where: str) -> str | None:
    if name not in file.attrs:
        return None
    value = file.attrs[name]
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    if len(text) > MAX_CONFIG:
        raise UnsafeCheckpointError(f"{name} of {where} has {len(text):,} characters; expected at most {MAX_CONFIG:,}")
    return text


def listed_names(group: h5py.Group, name: str) -> list[str]:
    """A list of names that Keras keeps in an attribute, or in numbered pieces of one if it is long."""
    pieces = [name] if name in group.attrs else []
    while f"{name}{len(pieces)}" in group.attrs and name not in group.attrs:
        pieces.append(f"{name}{len(pieces)}")
    lists = [group.attrs[piece] for piece in pieces if group.attrs.get_id(piece).shape[0] <= _MAX_NAMES]
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for listed in lists for item in listed]


def _keras_3_names(layers: h5py.Group) -> Iterator[str]:
    """Keras 3 names its groups by class and number, and keeps each layer's own name beside its variables."""
    for layer in layers.values():
        if not isinstance(layer, h5py.Group):
            continue
        if "layers" in layer and isinstance(layer["layers"], h5py.Group):
            yield from _keras_3_names(layer["layers"])
        elif "vars" in layer and len(layer["vars"]) and "name" in layer["vars"].attrs:
            name = layer["vars"].attrs["name"]
            yield name.decode("utf-8") if isinstance(name, bytes) else str(name)


# ---------------------------------------------------------------- a copy of one's own


def private_copy(source: Path, target: Path, sha256: str) -> None:
    """Copy an HDF5 file and check the copy: whatever becomes of `source`, what was checked is what is read.

    Parameters
    ----------
    source, target : Path
        The file, and a name that is not taken.
    sha256 : str
        Of the file that was inspected, in hexadecimal.

    Raises
    ------
    CheckpointError, UnsafeCheckpointError
        The file is no longer what was inspected.
    """
    digest = hashlib.sha256()
    with source.open("rb") as original, target.open("xb") as copy:
        while piece := original.read(1 << 22):
            digest.update(piece)
            copy.write(piece)
    if digest.hexdigest() != sha256:
        raise CheckpointError(f"{source.name} was changed while it was read; try again")
    scan(target)


def private_member(source: Path, member: str, target: Path, sha256: str) -> None:
    """The same for an HDF5 file inside a zip archive, whose own hash is given."""
    with source.open("rb") as archive, target.open("xb") as copy:
        if hashlib.file_digest(archive, "sha256").hexdigest() != sha256:
            raise CheckpointError(f"{source.name} was changed while it was read; try again")
        with zipfile.ZipFile(archive) as members, members.open(member) as packed:
            shutil.copyfileobj(packed, copy, 1 << 22)
    scan(target)


if __name__ == "__main__":
    main()
