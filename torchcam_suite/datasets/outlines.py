"""The outlines of Caltech 101 -> masks."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from torchcam_suite.errors import SourceError

__all__ = ["outline_mask", "read_outline"]

#: Folders of the annotations that are called otherwise than those of the pictures.
_RENAMED = {
    "airplanes": "Airplanes_Side_2",
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
}


def outline_mask(
    annotations: Path, class_name: str, stem: str
) -> Callable[[tuple[int, int]], Image.Image | None] | None:
    """What draws the mask of `image_0001`, whose outline is `annotation_0001.mat`; None if there is no such file."""
    for name in (class_name, _RENAMED.get(class_name, class_name)):
        file = annotations / name / f"{stem.replace('image', 'annotation')}.mat"
        if file.is_file():
            return functools.partial(_mask, file)
    return None


def read_outline(file: Path) -> np.ndarray:
    """Read the outline of one object.

    Parameters
    ----------
    file : Path
        MATLAB file with `obj_contour`, shape (2, n): x and y from the corner of the box, and `box_coord`: top, bottom,
        left, right, in pixels counted from 1, as `show_annotation.m` of the data set draws them.

    Returns
    -------
    ndarray, shape (n, 2)
        x and y in pixels counted from 0.

    Raises
    ------
    SourceError
        It is no such file.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(file, variable_names=["obj_contour", "box_coord"])
        contour, box = np.asarray(found["obj_contour"], float), np.asarray(found["box_coord"], float).ravel()
        if contour.ndim != 2 or contour.shape[0] != 2 or contour.shape[1] < 3 or box.size != 4:
            raise ValueError(f"obj_contour of shape {contour.shape}, box_coord of {box.size} numbers")
        if not (np.isfinite(contour).all() and np.isfinite(box).all()):
            raise ValueError("a coordinate is NaN or infinite")
    except Exception as error:  # a damaged file may bring the reader to any error
        raise SourceError(f"{file} has no outline of Caltech 101 ({type(error).__name__}: {error})") from error
    return contour.T + np.array([box[2] - 1, box[0] - 1])


def _mask(file: Path, size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(read_outline(file).ravel().tolist(), fill=255)
    return mask
