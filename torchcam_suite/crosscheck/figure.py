"""The picture of a cross-check: our maps beside those of other libraries, over what the model saw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchcam_suite.cam import METHODS
from torchcam_suite.present.grid import Cell, Row, grid
from torchcam_suite.present.overlay import overlay, shrunk

if TYPE_CHECKING:
    from torchcam_suite.crosscheck.result import Comparison

COLORMAP, STRENGTH = "jet", 0.5


def draw(
    comparisons: "Sequence[Comparison]", pictures: Sequence[np.ndarray], titles: Sequence[tuple[str, str]], cell: int
) -> Image.Image:
    """Draw a row for each map of ours and each picture: ours, and beside it those of the others.

    Maps are stretched from their minimum to their maximum: libraries differ in what they call 0.

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
    groups = _by_our_map(comparisons)
    columns = 1 + max(map(len, groups))
    rows = []
    small = [shrunk(picture, cell) for picture in pictures]
    for group in groups:
        for index, (picture, (name, target)) in enumerate(zip(small, titles, strict=True)):
            ours = Cell(_over(picture, group[0].our_maps[index]), f"ours: {METHODS[group[0].method].title}", target)
            cells = [ours, *(_theirs(row, picture, index) for row in group)]
            # of the picture's shape: another one would make the row higher
            blank = Cell(np.full_like(picture, 255), "")
            rows.append(Row(name, cells + [blank] * (columns - len(cells))))
    return grid(rows, cell=cell, colorbar=COLORMAP)


def _by_our_map(comparisons: "Sequence[Comparison]") -> "list[list[Comparison]]":
    """Comparisons with the same map of ours, as far as can be seen: options differ from library to library."""
    groups: list[list[Comparison]] = []
    for row in comparisons:
        for group in groups:
            if group[0].method == row.method and _look_alike(group[0].our_maps, row.our_maps):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def _look_alike(first: Tensor, second: Tensor) -> bool:
    return bool(((_stretched(first) - _stretched(second)).abs() < 0.5 / 255).all())


def _stretched(maps: Tensor) -> Tensor:
    """From minimum to maximum; what interpolation made of a constant map stays nearly zero."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return torch.where(high - low > 1e-5, (maps - low) / (high - low), 0)


def _theirs(row: "Comparison", picture: np.ndarray, index: int) -> Cell:
    return Cell(_over(picture, row.their_maps[index]), row.theirs, f"{row.library}: {_figures(row, index)}")


def _over(picture: np.ndarray, saliency_map: Tensor) -> np.ndarray:
    return overlay(picture, _stretched(saliency_map).cpu().numpy(), colormap=COLORMAP, strength=STRENGTH)


def _figures(row: "Comparison", index: int) -> str:
    if row.same_definition:
        return f"error {row.errors[index]:.0e}"
    rank, overlap = row.rank_correlations[index], row.top_overlaps[index]
    return "one is constant" if rank is None or overlap is None else f"rank {rank:.2f}, top {overlap:.2f}"
