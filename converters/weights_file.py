"""Safetensors files of large weights, written and read without a second copy in memory.

The library's own `save_file` first makes bytes of all arrays; a gigabyte of weights then takes two.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

_NAMES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "int32": "I32"}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}
_LINE = 64  # bytes of a cache line, where torch's own tensors begin; safetensors itself asks for 8


class Place(NamedTuple):
    """Where an array lies in a file: offset and length in bytes from the start of the file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    length: int


def write(arrays: Mapping[str, np.ndarray], file: Path) -> None:
    """Write arrays of any layout, one after the other; only one at a time is made contiguous.

    The format allows no gaps. Arrays that fill whole cache lines come first, so that they begin at one when mapped.
    """
    header, offset = {}, 0
    ordered = sorted(arrays, key=lambda name: (arrays[name].nbytes % _LINE > 0, -arrays[name].dtype.itemsize, name))
    for name in ordered:
        array = arrays[name]
        end = offset + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _LINE)
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        for name in ordered:
            opened.write(np.ascontiguousarray(arrays[name]).data)


def places(file: Path) -> dict[str, Place]:
    """Where each array of a safetensors file lies, by its header."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return {
        name: Place(
            _DTYPES[entry["dtype"]],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def mapped(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that this program wrote, read-only and mapped: a page is read when it is touched."""
    content = np.memmap(file, np.uint8, mode="r")
    return {
        name: content[place.offset : place.offset + place.length].view(place.dtype).reshape(place.shape)
        for name, place in places(file).items()
    }
