"""What a cross-check found: one row for each method of another library."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from torchcam_suite.shown_names import short_names

HEADERS = ("result", "error", "rank", "top 20 %")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """One of our methods beside one of another library, over N images.

    Attributes
    ----------
    method : str
        Ours, as for `torchcam_suite.explain`.
    options : dict
        Its options.
    library, theirs : str
        The other library, and the name of its method.
    difference : str
        What is defined in another way; empty where the definition is the same.
    tolerance : float
        How much error still counts as rounding.
    errors : tuple of float
        One an image: the largest difference as a share of the largest magnitude, before the map is scaled to [0, 1].
    rank_correlations : tuple of float or None
        One an image, of the maps that people look at; None where one of them is constant.
    top_overlaps : tuple of float or None
        One an image: the share of the highest 20 % of the pixels that both maps have in common.
    our_maps, their_maps : Tensor
        (N, H, W) in [0, 1], both finished by the same rules.
    """

    method: str
    options: dict[str, Any]
    library: str
    theirs: str
    difference: str
    tolerance: float
    errors: tuple[float, ...]
    rank_correlations: tuple[float | None, ...]
    top_overlaps: tuple[float | None, ...]
    our_maps: Tensor
    their_maps: Tensor

    def __repr__(self) -> str:
        return f"Comparison({self.method} beside {self.library} {self.theirs}: {self.result})"

    @property
    def same_definition(self) -> bool:
        """Whether only rounding may differ."""
        return not self.difference

    @property
    def error(self) -> float:
        """The largest of the images' errors."""
        return max(self.errors)

    @property
    def rank_correlation(self) -> float | None:
        """The mean over the images that have one."""
        return _mean(self.rank_correlations)

    @property
    def top_overlap(self) -> float | None:
        """The mean over the images that have one."""
        return _mean(self.top_overlaps)

    @property
    def result(self) -> str:
        """`same`, `FAILED`, `other` (another definition), or `empty`: both have nothing but zeros to compare."""
        if self.difference:
            return "other"
        if self.error > self.tolerance:
            return "FAILED"
        return "same" if bool(self.their_maps.any()) else "empty"

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps, as JSON values."""
        fields = (
            *("method", "options", "library", "theirs", "result", "difference", "tolerance", "error"),
            *("rank_correlation", "top_overlap", "errors", "rank_correlations", "top_overlaps"),
        )
        return {name: getattr(self, name) for name in fields}


@dataclass(frozen=True, eq=False, repr=False)
class CrossCheck:
    """What a cross-check found. Prints as a table.

    Attributes
    ----------
    rows : tuple of Comparison
        In the order of the libraries.
    left_out : tuple of (str, str)
        What could not be compared, and why.
    not_run : tuple of (str, str)
        What was left out because it is slow, and the name in `methods` that runs it.
    model, layer : str
        What was explained.
    reshape : str or None
        The name of the function that made feature maps of the layer's output.
    images, target_names : tuple of str
        One an image.
    versions : dict
        Of the libraries; None for one that is not installed.
    pictures : tuple of array
        (H, W, 3) uint8, what the model saw.
    """

    rows: tuple[Comparison, ...]
    left_out: tuple[tuple[str, str], ...]
    not_run: tuple[tuple[str, str], ...]
    model: str
    layer: str
    reshape: str | None
    images: tuple[str, ...]
    target_names: tuple[str, ...]
    versions: dict[str, str | None]
    pictures: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        return (
            f"CrossCheck({self.model!r} at {self.layer!r}: {len(self.rows)} comparisons over {len(self.images)} "
            f"images, {len(self.failed)} failed)"
        )

    def __str__(self) -> str:
        tables = [_table(library, self.versions[library], self._rows_of(library)) for library in self._libraries]
        return "\n\n".join([*(tables or ["nothing was compared"]), *self._remarks()])

    @property
    def failed(self) -> tuple[Comparison, ...]:
        """Rows of the same definition whose difference is more than rounding."""
        return tuple(row for row in self.rows if row.result == "FAILED")

    @property
    def _libraries(self) -> list[str]:
        return list(dict.fromkeys(row.library for row in self.rows))

    def _rows_of(self, library: str) -> list[Comparison]:
        return [row for row in self.rows if row.library == library]

    def _remarks(self) -> list[str]:
        missing = [f"{library} is not installed" for library, version in self.versions.items() if version is None]
        remarks = {
            "other definitions": self._differences(),
            "left out": [*_by_reason(self.left_out), *missing],
            "slow, so not run": self._ways_to_run(),
        }
        return [f"{title}:\n" + "\n".join(map(_folded, lines)) for title, lines in remarks.items() if lines]

    def _differences(self) -> list[str]:
        """One line for each method of theirs, however many of ours it stands beside."""
        beside: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if row.difference:
                beside.setdefault((f"{row.library} {row.theirs}", row.difference), []).append(row.method)
        return [f"{theirs} beside {', '.join(ours)}: {why}" for (theirs, why), ours in beside.items()]

    def _ways_to_run(self) -> list[str]:
        if not self.not_run:
            return []
        names = ", ".join(dict.fromkeys(asked_by for _, asked_by in self.not_run))
        return [
            ", ".join(dict.fromkeys(theirs for theirs, _ in self.not_run)),
            f"to run all: slow=True (--slow); to run some: methods= (--method) {names}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps and pictures, as JSON values."""
        return {
            "model": self.model,
            "layer": self.layer,
            "reshape": self.reshape,
            "images": [
                {"image": image, "target_name": target}
                for image, target in zip(self.images, self.target_names, strict=True)
            ],
            "versions": self.versions,
            "comparisons": [row.to_json() for row in self.rows],
            "left_out": [{"what": what, "why": why} for what, why in self.left_out],
            "not_run": [{"what": what, "asked_by": asked_by} for what, asked_by in self.not_run],
        }

    def figure(self, *, all_rows: bool = False, images: int = 3, cell: int = 256) -> Image.Image:
        """Draw our maps beside theirs: a row for each of our methods and each image, ours first.

        Parameters
        ----------
        all_rows : bool
            Also those of the same definition, which look alike.
        images : int
            How many of the images, from the first on.
        cell : int
            Longest side of a picture, in pixels.

        Returns
        -------
        PIL.Image.Image
            RGB.

        Raises
        ------
        ValueError
            No method could be compared.
        """
        from torchcam_suite.crosscheck.figure import draw

        if not self.rows:
            raise ValueError("there is nothing to draw: no method could be compared; print the cross-check to see why")
        rows = [row for row in self.rows if all_rows or row.result in ("other", "FAILED")] or self.rows
        titles = list(zip(short_names(self.images), self.target_names, strict=True))
        return draw(rows, self.pictures[:images], titles[:images], cell)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a cross-check; what was compared until then is not lost.

    Attributes
    ----------
    found : CrossCheck
        Its `left_out` names what was not reached.
    """

    def __init__(self, found: CrossCheck) -> None:
        super().__init__(f"a cross-check was interrupted; compared until then: {len(found.rows)}")
        self.found = found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _table(library: str, version: str | None, rows: Sequence[Comparison]) -> str:
    cells = [("method", f"{library} {version}", *HEADERS)]
    cells += [
        (
            row.method,
            row.theirs,
            row.result,
            _one_digit(row.error) if row.same_definition else "",
            _two_digits(row.rank_correlation),
            _two_digits(row.top_overlap),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column > 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _by_reason(left_out: Sequence[tuple[str, str]]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for what, why in left_out:
        reasons.setdefault(why, []).append(what)
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]


def _one_digit(error: float) -> str:
    return f"{error:.0e}" if error else "0"


def _two_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _folded(line: str) -> str:
    return textwrap.fill(line, 78, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
