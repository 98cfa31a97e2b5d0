"""Pictures with their labels: a folder of class folders, or a CSV file."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from torchcam_suite.errors import SourceError
from torchcam_suite.picture_files import entries_of, files_below, is_picture

PATH_COLUMNS = (
    "path",
    "image",
    "image_path",
    "file",
    "file_path",
    "filepath",
    "filename",
    "file_name",
    "img",
    "picture",
)
LABEL_COLUMNS = ("label", "class", "class_name", "target", "category", "y")
"""Names, in lower case, by which the columns of a CSV file are found, the first that exists."""

DELIMITERS = ",;\t|"


class LabelledImage(NamedTuple):
    """One picture and what it shows."""

    path: Path
    label: str


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Pictures with labels, read from their source anew by each iteration.

    Attributes
    ----------
    source : Path
        The folder or file.
    kind : {"folder", "csv"}
        Which of the two.
    counts : dict of str to int
        Pictures by label; of a folder in the sorted order of the class folders, and 0 for one without pictures.
    ignored : int
        Files with the ending of no picture, and, beside class folders, pictures without a class.
    read : function
        Gives an iterator over `LabelledImage`.
    """

    source: Path
    kind: Literal["folder", "csv"]
    counts: Mapping[str, int]
    ignored: int
    read: Callable[[], Iterator[LabelledImage]]

    def __iter__(self) -> Iterator[LabelledImage]:
        return self.read()

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in the order of `counts`."""
        return tuple(self.counts)


def labelled_images(source: str | Path, **csv_options: str | Path | None) -> LabelledImages:
    """Find the labelled pictures of a folder (see `labelled_folder`) or of a CSV file (see `labelled_csv`).

    Raises
    ------
    SourceError
        There is no such folder or file, or an option for CSV files came with a folder.
    """
    path = Path(source)
    if path.is_dir():
        given = [name for name, value in csv_options.items() if value is not None]
        if given:
            raise SourceError(f"{', '.join(given)} is for a CSV file; {path} is a folder")
        return labelled_folder(path)
    if path.is_file():
        return labelled_csv(path, **csv_options)  # type: ignore[arg-type]
    raise SourceError(f"no such folder or file: {path}; expected a folder of class folders, or a CSV file")


# ---------------------------------------------------------------- folders


def labelled_folder(folder: str | Path) -> LabelledImages:
    """Find pictures in one folder a class, as `FOLDER/cat/1.jpg`; the class folder's name is the label.

    Class folders may hold folders. Hidden files and folders are passed over, as are files with the ending of no
    picture. Links are followed, but not to `folder` itself; a folder that is met twice within a class, as by a link to
    its own parent, is read once.

    Parameters
    ----------
    folder : path
        What holds the class folders.

    Raises
    ------
    SourceError
        It is no folder, or holds no class folder or no picture in one.
    """
    folder = Path(folder)
    entries = entries_of(folder)
    classes = [Path(entry.path).name for entry in entries if entry.is_folder]
    counts, ignored = dict.fromkeys(classes, 0), len(entries) - len(classes)
    for name in classes:
        pictures = [is_picture(path) for path in files_below(folder / name, beside=folder)]
        counts[name] = sum(pictures)
        ignored += len(pictures) - counts[name]
    if not any(counts.values()):
        found = f"class folders {shortlist(classes)}, but no picture in them" if classes else "no folder in it"
        raise SourceError(
            f"{folder} has {found}; expected one folder a class with pictures in it, as {folder.name}/cat/1.jpg, or a "
            "CSV file of paths and labels"
        )

    def read() -> Iterator[LabelledImage]:
        for name in classes:
            below = files_below(folder / name, beside=folder)
            yield from (LabelledImage(Path(path), name) for path in below if is_picture(path))

    return LabelledImages(folder, "folder", counts, ignored, read)


# ---------------------------------------------------------------- CSV files


def labelled_csv(
    file: str | Path,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    root: str | Path | None = None,
) -> LabelledImages:
    """Read paths and labels from a CSV file in UTF-8.

    Parameters
    ----------
    file : path
        With a header, whose columns are found by the usual names (`PATH_COLUMNS`, `LABEL_COLUMNS`) or named; or without
        one, in two columns: path and label.
    path_column, label_column : str, optional
        Names in the header.
    delimiter : str, optional
        One character; default: whichever of comma, semicolon, tab and bar the first line has most of.
    root : path, optional
        What relative paths are relative to; default: the folder of the file.

    Raises
    ------
    SourceError
        It cannot be read, has no such columns, a row of another length, or a row without path or label.
    """
    file = Path(file)
    with _read_as_csv(file), _opened(file) as lines:
        columns = _columns(file, lines.readline(), path_column, label_column, delimiter)
    base = file.parent if root is None else Path(root)

    def read() -> Iterator[LabelledImage]:
        with _opened(file) as lines:
            for path, label in _rows(file, lines, columns):
                yield LabelledImage(base / path, label)

    with _read_as_csv(file):
        counts = Counter(image.label for image in read())
    if not counts:
        raise SourceError(f"{file} names no pictures; expected rows of path and label")
    return LabelledImages(file, "csv", dict(counts), 0, read)


class _Columns(NamedTuple):
    """Where a CSV file has what."""

    delimiter: str
    header: bool
    width: int
    path: int
    label: int


@contextmanager
def _read_as_csv(file: Path) -> Iterator[None]:
    try:
        yield
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read as CSV in UTF-8: {error}") from error


def _opened(file: Path) -> TextIO:
    try:
        return file.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror or error}") from error


def _columns(
    file: Path, first: str, path_column: str | None, label_column: str | None, delimiter: str | None
) -> _Columns:
    if delimiter is not None and len(delimiter) != 1:
        raise SourceError(f"delimiter {delimiter!r}; expected one character, as ';'")
    chosen = delimiter or max(DELIMITERS, key=first.count)
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=chosen), [])]
    path, label = _find(cells, path_column, PATH_COLUMNS), _find(cells, label_column, LABEL_COLUMNS)
    if path is not None and label is not None:
        return _Columns(chosen, True, len(cells), path, label)
    if path_column is None and label_column is None and len(cells) == 2 and is_picture(cells[0]):
        return _Columns(chosen, False, 2, 0, 1)
    what = " and ".join(
        f"{kind} ({f'named {name!r}' if name else ', '.join(usual[:3]) + ', ...'})"
        for kind, name, usual, found in (
            ("paths", path_column, PATH_COLUMNS, path),
            ("labels", label_column, LABEL_COLUMNS, label),
        )
        if found is None
    )
    raise SourceError(
        f"{file}: no column of {what} among {shortlist(cells)} (delimiter {chosen!r}); name path_column=, "
        "label_column= and delimiter=, or give two columns, path and label"
    )


def _find(header: Sequence[str], name: str | None, usual: Sequence[str]) -> int | None:
    if name is not None:
        return header.index(name) if name in header else None
    lower = [cell.lower() for cell in header]
    return next((lower.index(known) for known in usual if known in lower), None)


def _rows(file: Path, lines: TextIO, columns: _Columns) -> Iterator[tuple[str, str]]:
    reader = csv.reader(lines, delimiter=columns.delimiter)
    for number, row in enumerate(reader):
        if (number == 0 and columns.header) or not any(cell.strip() for cell in row):
            continue
        if len(row) != columns.width:
            raise SourceError(
                f"{file}, line {reader.line_num}: {len(row)} columns, but the first line has {columns.width} "
                f"(delimiter {columns.delimiter!r}); put cells that hold the delimiter in double quotes"
            )
        path, label = row[columns.path].strip(), row[columns.label].strip()
        if not (path and label):
            raise SourceError(
                f"{file}, line {reader.line_num}: no {'label' if path else 'path'}; fill it or drop the row"
            )
        yield path, label


def shortlist(names: Sequence[str], most: int = 8) -> str:
    """Name the first of many.

    Examples
    --------
    >>> shortlist(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
