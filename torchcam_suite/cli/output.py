"""Where the command line writes: data on stdout, everything else on stderr."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchcam_suite.errors import AssumptionWarning, ConceptWarning, ConvergenceWarning, FontWarning, ZeroMapWarning
from torchcam_suite.shown_names import shorten

# file names may hold square brackets, which are no markup
data, log = Console(markup=False, highlight=False), Console(stderr=True, markup=False, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout, for other programs."""
    print(json.dumps(value, indent=2))


# of a name that is shortened, enough is left to recognise it
_LEAST_NAME = 16


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    whole: Sequence[int] = (),
    short: int | None = None,
) -> None:
    """Print a table on stdout.

    Parameters
    ----------
    headers, rows : sequence of str, sequence of sequences of str
        The cells.
    right, whole : sequence of int
        Columns of figures, and columns that are never wrapped.
    short : int, optional
        A column of names that lose their middle where the table is wider than the terminal.
    """
    if short is not None:
        rows = _fitted(headers, rows, short)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, header in enumerate(headers):
        justify: Literal["left", "right"] = "right" if index in right else "left"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=index in whole)
    for row in rows:
        table.add_row(*row)
    data.print(table)


def _fitted(headers: Sequence[str], rows: Sequence[Sequence[str]], column: int) -> list[list[str]]:
    """Rows whose names in one column are short enough for the terminal, as far as they are recognised then."""
    widths = [max(map(len, cells)) for cells in zip(headers, *rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - data.width
    names = shorten([row[column] for row in rows], max(_LEAST_NAME, widths[column] - max(0, excess)))
    return [[*row[:column], name, *row[column + 1 :]] for row, name in zip(rows, names, strict=True)]


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Show our own warnings as one line each on stderr, once, and those of libraries not at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for kind in (AssumptionWarning, ConceptWarning, ConvergenceWarning, FontWarning, ZeroMapWarning):
            warnings.simplefilter("always", kind)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in caught):
                log.print(Text("note: ", "yellow") + Text(message), soft_wrap=True)


def exit_unless(complete: bool) -> None:
    """End with status 1 where a part could not be done, after the others were."""
    if not complete:
        raise typer.Exit(1)


def status(text: str) -> AbstractContextManager:
    """Show on stderr what is going on, where a person is watching."""
    return log.status(Text(text)) if log.is_terminal else nullcontext()


def file_name(text: str) -> str:
    """A layer's or image's name as a part of a file name."""
    return "".join(character if character.isalnum() or character in "._-" else "-" for character in text)


def image_file_names(images: Sequence[Path]) -> list[str]:
    """One stem an image; all are numbered where two images share theirs."""
    stems = [file_name(image.stem) for image in images]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{index}-{stem}" for index, stem in enumerate(stems)]
