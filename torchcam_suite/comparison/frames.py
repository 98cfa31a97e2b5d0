"""Maps of models that see pictures differently, laid on the same part of the picture, at one size."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcam_suite.images import Preprocessing


class Box(NamedTuple):
    """A part of a picture, its edges in pixels from the top left corner."""

    left: float
    top: float
    right: float
    bottom: float


def box_of(size: tuple[int, int], preprocessing: Preprocessing) -> Box:
    """The part of a picture of (width, height) that a model sees; as `torchcam_suite.images.region` cuts it out.

    Examples
    --------
    >>> box_of((40, 20), Preprocessing("unit")), box_of((40, 20), Preprocessing("unit", central=0.8))
    (Box(left=0, top=0, right=40, bottom=20), Box(left=12, top=2, right=28, bottom=18))
    """
    width, height = size
    if preprocessing.central is None:
        return Box(0, 0, width, height)
    side = max(1, round(min(size) * preprocessing.central))
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


def shared(boxes: Sequence[Box]) -> Box:
    """The part that all see; all of them are centred, so there is one.

    Examples
    --------
    >>> shared([Box(0, 0, 40, 20), Box(12, 2, 28, 18)])
    Box(left=12, top=2, right=28, bottom=18)
    """
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Box(max(lefts), max(tops), min(rights), min(bottoms))


def smaller(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size at which maps are compared: the smallest height and the smallest width of the inputs."""
    heights, widths = zip(*sizes, strict=True)
    return min(heights), min(widths)


def laid(maps: Tensor, seen: Sequence[Box | None], part: Sequence[Box | None], size: tuple[int, int]) -> Tensor:
    """Sample maps at the pixels of a part of their pictures, bilinear, with half-pixel centres.

    Parameters
    ----------
    maps : Tensor
        (N, H, W), each over the whole of what the model sees.
    seen : sequence of Box or None
        What the model sees of each picture; None for a tensor that was given ready.
    part : sequence of Box or None
        What is wanted of each picture, inside `seen`.
    size : tuple of int
        Height and width of the result.

    Returns
    -------
    Tensor
        (N, height, width), each within the range of its map: rounding makes no constant map one that varies.
    """
    if list(seen) == list(part):
        if tuple(maps.shape[1:]) == size:
            return maps
        return _in_range(F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0], maps)
    grids = torch.stack([_grid(one, wanted, size) for one, wanted in zip(seen, part, strict=True)])
    sampled = F.grid_sample(maps[:, None], grids.to(maps), mode="bilinear", padding_mode="border", align_corners=False)
    return _in_range(sampled[:, 0], maps)


def _in_range(samples: Tensor, maps: Tensor) -> Tensor:
    return samples.clamp(maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True))


def _grid(seen: Box | None, part: Box | None, size: tuple[int, int]) -> Tensor:
    """Where to sample, (height, width, 2), from -1 to 1 over what is seen."""
    assert seen is not None
    assert part is not None
    rows = _places(size[0], part.top, part.bottom, seen.top, seen.bottom)
    columns = _places(size[1], part.left, part.right, seen.left, seen.right)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def _places(count: int, start: float, end: float, first: float, last: float) -> Tensor:
    centres = start + (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) / count * (end - start)
    return 2 * (centres - first) / (last - first) - 1
