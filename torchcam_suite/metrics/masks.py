"""Masks of objects, from picture files beside those of the images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchcam_suite.errors import ImageError
from torchcam_suite.images import open_picture, region
from torchcam_suite.models import Model


def load_masks(folder: str | Path, images: Sequence[str | Path], model: Model) -> Tensor:
    """Read the masks of images, cropped and resized as the model sees the images.

    Parameters
    ----------
    folder : path
        The mask of `NAME.jpg` is the picture `NAME_mask` or `NAME` in it, of any format and resolution: bright on the
        object, dark or transparent elsewhere.
    images : sequence of path
        The pictures.
    model : Model
        That they are prepared for.

    Returns
    -------
    Tensor
        (N, H, W) bool, true where the mask is brighter than the middle grey.

    Raises
    ------
    ImageError
        No folder, no mask of an image, a mask without an object, or of other proportions than its image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no such folder of masks: {folder}")
    files = sorted(folder.iterdir())
    return torch.stack([_mask(_file_of(image, files, folder), image, model) for image in map(Path, images)])


def _file_of(image: Path, files: Sequence[Path], folder: Path) -> Path:
    for stem in (f"{image.stem}_mask", image.stem):
        found = [path for path in files if path.stem == stem and path.resolve() != image.resolve()]
        if len(found) == 1:
            return found[0]
        if found:
            raise ImageError(f"{image.name} has several masks in {folder}: {', '.join(path.name for path in found)}")
    itself = "; it seems to be a mask itself: leave it out" if image.stem.endswith("_mask") else ""
    raise ImageError(f"no mask of {image.name} in {folder}; expected {image.stem}_mask.png or {image.stem}.png{itself}")


def _mask(path: Path, image: Path, model: Model) -> Tensor:
    picture = open_picture(path, background="black")
    _require_proportions(path, picture, image)
    seen = region(picture, model.preprocessing).convert("L")
    resized = seen.resize((model.input.width, model.input.height), Image.Resampling.BILINEAR)
    mask = torch.from_numpy(np.asarray(resized) > 127)
    if not bool(mask.any()):
        raise ImageError(f"{path} shows no object; expected a picture that is bright on the object")
    return mask


def _require_proportions(path: Path, mask: Image.Image, image: Path) -> None:
    try:
        picture = open_picture(image)
    except ImageError:
        return  # told where it is explained
    # either side of the smaller one may be rounded by a pixel
    if abs(mask.width * picture.height - mask.height * picture.width) > picture.width + picture.height:
        raise ImageError(
            f"{path} has {mask.width} x {mask.height} pixels and {image.name}, upright, {picture.width} x "
            f"{picture.height}; expected a mask of the whole picture, in its proportions"
        )
