"""Saliency maps in colour, alone or over their image, and PNG files of the result."""

import difflib
import os
import secrets
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from torchcam_suite.errors import ImageError

Picture = npt.NDArray[np.uint8]
Interpolation = Literal["bilinear", "nearest"]

COLORMAPS: dict[str, int] = {
    name.removeprefix("COLORMAP_").lower(): getattr(cv2, name)
    for name in sorted(dir(cv2))
    if name.startswith("COLORMAP_")
}
"""OpenCV's constant of each colour map, by its name in lower case."""

# INTER_NEAREST samples at the pixels' corners, which shifts blocks by up to half a pixel; the exact
# rule samples at the centres, as INTER_LINEAR does.
_INTERPOLATIONS: dict[str, int] = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST_EXACT}


def colorize(saliency: npt.ArrayLike, colormap: str = "jet") -> Picture:
    """Colour a saliency map with one of OpenCV's colour maps.

    Values are quantised as ``np.uint8(255 * saliency)``, which rounds down.

    Parameters
    ----------
    saliency
        Map of shape (H, W), floating point, in [0, 1].
    colormap
        A name of `COLORMAPS`.

    Returns
    -------
    ndarray of uint8
        RGB picture of shape (H, W, 3).

    Raises
    ------
    ValueError
        The map has another shape or type, or values that are not in [0, 1]; or no colour map has
        this name.

    Examples
    --------
    >>> import numpy as np
    >>> colorize(np.array([[0.0, 1.0]])).tolist()
    [[[0, 0, 128], [128, 0, 0]]]
    """
    levels = (255 * _checked_saliency(saliency)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, _colormap_constant(colormap)), cv2.COLOR_BGR2RGB))


def overlay(
    image: npt.ArrayLike,
    saliency: npt.ArrayLike,
    *,
    colormap: str = "jet",
    strength: float = 0.4,
    interpolation: Interpolation = "bilinear",
) -> Picture:
    """Blend a coloured saliency map into its image: ``image * (1 - strength) + heat * strength``.

    The map is resized to the image first and coloured after, so that no colours outside the colour
    map appear between two cells.

    Parameters
    ----------
    image
        RGB picture of shape (H, W, 3), or a grey one of shape (H, W), uint8.
    saliency
        Map of shape (h, w), floating point, in [0, 1].
    colormap
        A name of `COLORMAPS`.
    strength
        Share of the colours in the blend, in [0, 1].
    interpolation
        "bilinear" (half-pixel centres), or "nearest", which shows the map's own cells as blocks.

    Returns
    -------
    ndarray of uint8
        RGB picture of shape (H, W, 3).

    Raises
    ------
    ValueError
        An array has another shape, type or range, or an option is unknown.
    """
    picture = as_rgb(image)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength} was given; expected a number from 0 (image) to 1 (colours)")
    heat = colorize(_resized(_checked_saliency(saliency), picture.shape[:2], interpolation), colormap)
    blend = picture * np.float32(1 - strength) + heat * np.float32(strength)
    return np.rint(blend).astype(np.uint8)


def as_rgb(image: npt.ArrayLike) -> Picture:
    """Give an RGB picture of shape (H, W, 3) from one of that shape or a grey one of shape (H, W).

    Raises
    ------
    ValueError
        The array is not uint8 or has another shape.
    """
    picture = np.asarray(image)
    if picture.dtype != np.uint8:
        raise ValueError(
            f"an image of type {picture.dtype} was given; expected uint8 from 0 to 255 "
            "(for floats in [0, 1]: np.uint8(255 * image))"
        )
    if picture.size == 0 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise ValueError(
            f"an image of shape {picture.shape} was given; expected (height, width, 3) in RGB "
            "or (height, width) in grey"
        )
    return np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture


def shrunk(image: npt.ArrayLike, longest: int) -> Picture:
    """Give an RGB picture of at most so many pixels on its longest side: whole photographs would fill the memory.

    Parameters
    ----------
    image
        As `as_rgb` takes it.
    longest
        In pixels, above 0; a smaller picture stays as it is.
    """
    picture = as_rgb(image)
    if max(picture.shape[:2]) <= longest:
        return picture
    small = Image.fromarray(picture)
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(small)


def save_png(image: npt.ArrayLike | Image.Image, path: str | os.PathLike[str]) -> Path:
    """Write a picture to a PNG file that is either whole or absent; missing folders are made.

    Parameters
    ----------
    image
        A Pillow image, or an array as `as_rgb` takes it.
    path
        The file, whose name ends in ".png". An older file of that name is replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ImageError
        The file cannot be written.
    ValueError
        The name does not end in ".png", or the array is no picture.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"the file name {str(path)!r} was given; expected one that ends in .png")
    picture = image if isinstance(image, Image.Image) else Image.fromarray(as_rgb(image))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_then_rename(picture, target)
    except OSError as error:
        raise ImageError(
            f"cannot write the picture {str(target)!r}: {error.strerror or error}; "
            "name a file in a folder with room that you may write to"
        ) from error
    return target


def _write_then_rename(picture: Image.Image, target: Path) -> None:
    # Not tempfile: its files are readable by their owner alone, and the rename would keep that.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            picture.save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _checked_saliency(saliency: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
    values = np.asarray(saliency)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a saliency map of shape {values.shape} was given; expected one map, (height, width)")
    if values.dtype.kind != "f":
        raise ValueError(f"a saliency map of type {values.dtype} was given; expected floats in [0, 1]")
    not_finite = values.size - np.count_nonzero(np.isfinite(values))
    if not_finite:
        raise ValueError(
            f"a saliency map with {not_finite} NaN or infinite values of {values.size} was given; "
            "expected numbers in [0, 1]"
        )
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"a saliency map with values from {values.min():.6g} to {values.max():.6g} was given; "
            "expected [0, 1]: normalise it first"
        )
    # OpenCV resizes these two types alone.
    return values.astype(np.float64 if values.itemsize > 4 else np.float32, copy=False)


def _colormap_constant(colormap: str) -> int:
    if colormap in COLORMAPS:
        return COLORMAPS[colormap]
    close = difflib.get_close_matches(colormap.lower(), COLORMAPS)
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ValueError(f"no colour map is called {colormap!r}; {meant}There are: {', '.join(COLORMAPS)}")


def _resized(
    saliency: npt.NDArray[np.floating[Any]], shape: tuple[int, ...], interpolation: str
) -> npt.NDArray[np.floating[Any]]:
    if interpolation not in _INTERPOLATIONS:
        names = " or ".join(map(repr, _INTERPOLATIONS))
        raise ValueError(f"interpolation {interpolation!r} was given; expected {names}")
    height, width = shape
    resized = cv2.resize(saliency, (width, height), interpolation=_INTERPOLATIONS[interpolation])
    # The weights of the interpolation may sum to a rounding error above 1.
    return np.clip(resized, 0, 1)
