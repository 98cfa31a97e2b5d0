"""Small square pictures of many images, decoded side by side."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from torchcam_suite.errors import AssumptionWarning, ImageError
from torchcam_suite.images import open_picture

_PAPER, _INK = (236, 236, 236), (150, 150, 150)


Box = tuple[int, int, int, int]


class Thumbnail(NamedTuple):
    """A small square picture.

    Attributes
    ----------
    picture : PIL.Image.Image
        RGB.
    box : tuple of int
        Left, top, right and bottom of the picture itself, without the grey beside it; all of an empty frame.
    """

    picture: Image.Image
    box: Box

    def seen(self, central: float | None) -> Box:
        """What a model sees of the picture: the box, or the central square of this share of its shorter side."""
        left, top, right, bottom = self.box
        if central is None:
            return self.box
        side = max(1, round(min(right - left, bottom - top) * central))
        left, top = left + (right - left - side) // 2, top + (bottom - top - side) // 2
        return left, top, left + side, top + side


def thumbnails(pictures: Sequence[Any], size: int) -> list[Image.Image]:
    """The pictures alone of `placed_thumbnails`."""
    return [thumbnail.picture for thumbnail in placed_thumbnails(pictures, size)]


def placed_thumbnails(pictures: Sequence[Any], size: int) -> list[Thumbnail]:
    """Pictures as squares of `size` pixels, whole and centred on light grey.

    A picture that is None or cannot be read is an empty frame; of the latter there is one warning.

    Parameters
    ----------
    pictures : sequence of path, PIL image, array or None
        As `torchcam_suite.images.open_picture` takes them.
    size : int
        Side in pixels.

    Returns
    -------
    list of Thumbnail
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        made = list(pool.map(lambda picture: _thumbnail(picture, size), pictures))
    failures = [failure for _, failure in made if failure]
    if failures:
        warnings.warn(
            AssumptionWarning(
                f"{len(failures)} of {len(made)} pictures cannot be shown and are left empty; the first: {failures[0]}"
            ),
            stacklevel=3,
        )
    return [thumbnail for thumbnail, _ in made]


def _thumbnail(picture: Any, size: int) -> tuple[Thumbnail, str]:
    if picture is None:
        return _empty(size), ""
    try:
        whole = open_picture(picture)
    except ImageError as error:
        return _empty(size), str(error)
    growing = max(whole.size) < size
    # the pixels of a small picture stay sharp
    how = Image.Resampling.NEAREST if growing else Image.Resampling.LANCZOS
    reduced = whole if growing else whole.reduce(max(1, min(whole.size) // (2 * size) or 1))
    width, height = (max(1, round(side * size / max(reduced.size))) for side in reduced.size)
    left, top = (size - width) // 2, (size - height) // 2
    square = Image.new("RGB", (size, size), _PAPER)
    square.paste(reduced.resize((width, height), how), (left, top))
    return Thumbnail(square, (left, top, left + width, top + height)), ""


def _empty(size: int) -> Thumbnail:
    frame = Image.new("RGB", (size, size), _PAPER)
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, 0, size - 1, size - 1), outline=_INK)
    draw.line((0, 0, size - 1, size - 1), fill=_INK)
    return Thumbnail(frame, (0, 0, size, size))


def as_pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """(N, size, size, 3) uint8."""
    return np.stack([np.asarray(picture) for picture in pictures])
