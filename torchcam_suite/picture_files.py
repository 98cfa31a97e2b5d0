"""The pictures in folders, found by name: hidden files are passed over, links followed once."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from torchcam_suite.errors import SourceError

ENDINGS = frozenset(".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split())
"""Of the file names that are taken for pictures, in lower case."""


class Entry(NamedTuple):
    """One name in a folder."""

    path: str  # not a Path, of which a million take half a minute
    is_folder: bool


def entries_of(folder: str | Path) -> list[Entry]:
    """What a folder holds and shows, sorted by name."""
    try:
        with os.scandir(folder) as found:
            shown = sorted((entry.name, _is_folder(entry)) for entry in found if not entry.name.startswith("."))
    except OSError as error:
        raise SourceError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    return [Entry(f"{folder}{os.sep}{name}", is_folder) for name, is_folder in shown]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def files_below(folder: Path, *, beside: Path | None = None) -> Iterator[str]:
    """Every file below a folder, in order, whatever links there are; links to the folder `beside` are not followed."""
    met = set() if beside is None else {_identity(beside)}
    waiting = [str(folder)]
    while waiting:
        here = waiting.pop()
        if (identity := _identity(here)) in met:
            continue
        met.add(identity)
        entries = entries_of(here)
        yield from (entry.path for entry in entries if not entry.is_folder)
        waiting += reversed([entry.path for entry in entries if entry.is_folder])


def _identity(folder: str | Path) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def is_picture(path: str) -> bool:
    """Whether a file's name says that it is a picture."""
    return path[path.rfind(".") :].lower() in ENDINGS


def find_pictures(sources: Iterable[str | Path]) -> list[Path]:
    """Find what is a picture by its ending in folders and all folders below, in the order of their paths.

    Hidden files and folders are passed over. Links are followed; a folder that is met twice, as by a link to its own
    parent, is read once.

    Parameters
    ----------
    sources : iterable of path
        Folders, and files, which are taken whatever they end in.

    Returns
    -------
    list of Path
        In the order of the sources.

    Raises
    ------
    SourceError
        There is no such folder or file, it cannot be read, or a folder has no picture in it.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            below = sorted(Path(path) for path in files_below(source) if is_picture(path))
            if not below:
                raise SourceError(f"{source} has no picture in it; expected {', '.join(sorted(ENDINGS))}")
            found += below
        elif source.exists():
            found.append(source)
        else:
            raise SourceError(f"no such folder or file: {source}")
    return found
