"""The picture of a cross-check: our maps beside those of other libraries, over what the model saw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from torchcam_suite.cam import METHODS
from torchcam_suite.present.grid import Cell, Row, grid
from torchcam_suite.present.overlay import overlay

if TYPE_CHECKING:
    from torchcam_suite.crosscheck.result import Comparison

COLORMAP, STRENGTH = "jet", 0.5


def draw(
    comparisons: "Sequence[Comparison]", pictures: Sequence[np.ndarray], titles: Sequence[tuple[str, str]], cell: int
) -> Image.Image:
    """Draw a row a comparison and, for each picture, a column of ours and a column of theirs.

    Parameters
    ----------
    comparisons : sequence of Comparison
        At least one.
    pictures : sequence of array
        (H, W, 3) uint8 RGB, one an image; images beyond these are left out.
    titles : sequence of (str, str)
        Name and target, one a picture.
    cell : int
        Longest side of a picture, in pixels.
    """
    headers = [header for name, target in titles for header in (f"{name}: {target}", "")]
    rows = [
        Row(row.library, [c for i, picture in enumerate(pictures) for c in _pair(row, picture, i)])
        for row in comparisons
    ]
    return grid(rows, headers=headers, cell=cell, colorbar=COLORMAP)


def _pair(row: "Comparison", picture: np.ndarray, index: int) -> tuple[Cell, Cell]:
    ours, theirs = (
        overlay(picture, maps[index].cpu().numpy(), colormap=COLORMAP, strength=STRENGTH)
        for maps in (row.our_maps, row.their_maps)
    )
    return Cell(ours, f"ours: {METHODS[row.method].title}"), Cell(theirs, row.theirs, _figures(row, index))


def _figures(row: "Comparison", index: int) -> str:
    if row.same_definition:
        return f"error {row.errors[index]:.0e}"
    rank, overlap = row.rank_correlations[index], row.top_overlaps[index]
    return "one is constant" if rank is None or overlap is None else f"rank {rank:.2f}, top {overlap:.2f}"
