"""Files, pictures and arrays -> the tensor that a model takes, safely."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from torchcam_suite.errors import ImageError


class InputSpec(NamedTuple):
    """What one input of a model looks like: its channels, and its height and width in pixels."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Preprocessing:
    """How pixels 0 to 255 become the numbers that a model was trained on: (pixel * scale - mean) / std.

    Attributes
    ----------
    name : str
        `unit`, `tf`, `caffe`, `torch`, `raw`, or a name of your own.
    scale : float
        Applied first.
    mean, std : tuple of float
        One value for all channels or one a channel, in the order that the model takes them.
    bgr : bool
        Whether the model takes blue first.
    central : float or None
        Share of the shorter side that a central square crop keeps; None takes the whole picture, resized
        without regard to its proportions, as Keras does.
    """

    name: str
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False
    central: float | None = None


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PREPROCESSING: dict[str, Preprocessing] = {
    known.name: known
    for known in (
        Preprocessing("raw"),
        Preprocessing("unit", scale=1 / 255),
        Preprocessing("tf", scale=1 / 127.5, mean=(1.0,)),
        Preprocessing("caffe", mean=(103.939, 116.779, 123.68), bgr=True),
        Preprocessing("torch", scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    )
}


def find_preprocessing(name: str | Preprocessing) -> Preprocessing:
    """Look a preprocessing up by its name: `raw` 0..255, `unit` 0..1, `tf` -1..1, `caffe`, `torch`.

    `caffe` and `torch` are Keras' names for the ImageNet means of BGR pixels, and for the ImageNet mean and
    deviation of RGB pixels in 0..1.

    Raises
    ------
    ImageError
        There is none of this name.
    """
    if isinstance(name, Preprocessing):
        return name
    if name not in PREPROCESSING:
        raise ImageError(f"preprocessing {name!r} is not known; expected one of {', '.join(PREPROCESSING)}")
    return PREPROCESSING[name]


def open_picture(source: Any, background: str = "white") -> Image.Image:
    """Open one picture as 8-bit RGB, upright.

    EXIF orientation is applied, transparency is laid on a background, 16-bit grey is scaled to 8 bit, and so is
    floating-point grey whose values lie in [0, 1].

    Parameters
    ----------
    source : path, PIL image or array
        Arrays are (H, W), (H, W, 1) or (H, W, 3): uint8, or floats in [0, 1].
    background : str
        A colour, as Pillow calls it.

    Raises
    ------
    ImageError
        It is missing, not a picture, damaged, or an array of another kind.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(_pixels(source)).convert("RGB")
    if isinstance(source, Image.Image):
        return _upright_rgb(source, "the picture", background)
    if not isinstance(source, str | Path):
        stacked = "; tensors that are ready for the model are given as one: torch.stack(images)"
        raise ImageError(
            f"expected a path, a PIL image or an array, found {type(source).__name__}"
            f"{stacked if isinstance(source, Tensor) else ''}"
        )
    path = Path(source)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name the pictures in it")
    if not path.is_file():
        raise ImageError(f"no such image file: {path}")
    try:
        with Image.open(path) as image:
            return _upright_rgb(image, str(path), background)
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that Pillow knows; expected PNG, JPEG, WebP, ...") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large: {error}") from error
    except (OSError, SyntaxError) as error:  # cut off within its header, or not to be read
        raise ImageError(f"{path} is damaged or cannot be read: {error}") from error


def _upright_rgb(image: Image.Image, what: str, background: str) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # Pillow clips 16-bit grey at 255 instead of scaling it
            grey = np.asarray(image, np.float64) / 257
            return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8)).convert("RGB")
        if image.mode == "F":
            return Image.fromarray(_grey_of_floats(np.asarray(image), what)).convert("RGB")
        if image.has_transparency_data:
            below = Image.new("RGBA", image.size, background)
            return Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{what} is damaged: {error}") from error


def _grey_of_floats(values: np.ndarray, what: str) -> np.ndarray:
    # Pillow cuts the digits off, which makes black of what lies in [0, 1], and clips above 255
    low, high = values.min(), values.max()
    if not (np.isfinite(values).all() and low >= 0 and high <= 255):
        raise ImageError(
            f"{what} has floating-point pixels from {low:.6g} to {high:.6g}; expected [0, 1] or [0, 255]: scale it"
        )
    return np.rint(values * 255 if high <= 1 else values).astype(np.uint8)


def _pixels(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ImageError(f"an array of shape {array.shape}; expected (H, W), (H, W, 1) or (H, W, 3)")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"an array of {array.dtype}; expected uint8, or floats in [0, 1]")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise ImageError(
            "a float array with values outside [0, 1] or NaN; scale it to [0, 1], give uint8, or give a tensor "
            "(N, C, H, W) that is ready for the model"
        )
    return (array * 255).round().astype(np.uint8)


def region(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The part of a picture that the model sees, at the picture's own resolution."""
    if preprocessing.central is None:
        return picture
    side = max(1, round(min(picture.size) * preprocessing.central))
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def to_tensor(pictures: Iterable[Image.Image], spec: InputSpec, preprocessing: Preprocessing) -> Tensor:
    """Resize RGB pictures (bilinear) and scale them as the model was trained: (N, C, H, W) float32.

    A model with one channel gets the luminance.
    """
    if spec.channels not in {1, 3}:
        raise ImageError(f"the model takes {spec.channels} channels, pictures have 3 or 1; give a tensor (N, C, H, W)")
    arrays = []
    for picture in pictures:
        seen = region(picture, preprocessing).convert("L" if spec.channels == 1 else "RGB")
        if seen.size != (spec.width, spec.height):
            seen = seen.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
        array = np.asarray(seen, np.float32)
        arrays.append(array[..., None] if array.ndim == 2 else array)
    batch = np.stack(arrays)
    if preprocessing.bgr:
        batch = batch[..., ::-1]
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    if max(mean.size, std.size) > spec.channels:
        raise ImageError(
            f"preprocessing {preprocessing.name!r} is for {max(mean.size, std.size)} channels; the model has "
            f"{spec.channels}: choose raw, unit or tf"
        )
    batch = (batch * np.float32(preprocessing.scale) - mean) / std
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


def require_batch(images: Tensor, spec: InputSpec) -> Tensor:
    """Check a tensor that is said to be ready for the model; a single image (C, H, W) becomes a batch.

    Raises
    ------
    ImageError
        Wrong number of axes, channels or pixels, not floating-point, or NaN or infinity in it.
    """
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(spec):
        hint = ""
        if images.ndim == 4 and images.shape[3] == spec.channels != images.shape[1]:
            hint = "; it looks like channels last: use images.permute(0, 3, 1, 2)"
        raise ImageError(
            f"a tensor of shape {tuple(images.shape)}; the model takes (N, {spec.channels}, {spec.height}, "
            f"{spec.width}){hint}"
        )
    if not images.is_floating_point():
        raise ImageError(f"a tensor of {images.dtype}; the model takes floats: use model.prepare for pictures")
    if len(images) == 0:
        raise ImageError("no images were given")
    bad = (~torch.isfinite(images)).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    if bad:
        raise ImageError(f"NaN or infinity in image {', '.join(map(str, bad[:8]))} of the batch; check its source")
    return images


def example_images(count: int, size: Sequence[int]) -> Tensor:
    """Noise in [0, 1], the same each time, on the CPU: for passes that look at a network, and at no picture.

    Parameters
    ----------
    count : int
        N.
    size : sequence of int
        (channels, height, width).

    Returns
    -------
    Tensor
        (N, *size).
    """
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(0), device="cpu")


def as_list(images: Any) -> Sequence[Any]:
    """One picture, or a batch array (N, H, W, C), as a list of pictures."""
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [images]
    if not isinstance(images, Iterable):
        raise ImageError(f"expected pictures (paths, PIL images, arrays) or a tensor, found {type(images).__name__}")
    listed = list(images)
    if not listed:
        raise ImageError("no images were given")
    return listed
