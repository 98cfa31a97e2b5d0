"""Pictures become the numbers that a model was trained on, or an error that says why not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from torchcam_suite.errors import ImageError
from torchcam_suite.images import (
    PREPROCESSING,
    InputSpec,
    Preprocessing,
    as_list,
    example_images,
    find_preprocessing,
    open_picture,
    region,
    require_batch,
    to_tensor,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
SMALL = InputSpec(3, 6, 5)
ROTATED_90_CLOCKWISE = 6  # EXIF orientation: turn clockwise to see it upright


def saved(folder: Path, image: Image.Image, name: str = "picture.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def opened(source: object) -> np.ndarray:
    picture = open_picture(source)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def laid_on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


# ---------------------------------------------------------------- one picture


def test_an_rgb_picture_is_opened_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(PIXELS))
    for source in (path, str(path), Image.fromarray(PIXELS), PIXELS):
        assert np.array_equal(opened(source), PIXELS)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_one_bit_pictures_have_three_equal_channels(mode: str, tmp_path: Path) -> None:
    grey = PIXELS[..., 0] if mode == "L" else PIXELS[..., 0] > 127
    found = opened(saved(tmp_path, Image.fromarray(grey)))
    assert np.array_equal(found, np.repeat((grey if mode == "L" else 255 * grey)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str, tmp_path: Path) -> None:
    alpha = PIXELS[::-1, :, 0].copy()
    alpha[0] = 0
    colours = PIXELS if mode == "RGBA" else PIXELS[..., :1]
    image = Image.fromarray(np.concatenate([colours, alpha[..., None]], axis=2), mode=None)
    assert image.mode == mode
    found = opened(saved(tmp_path, image))
    assert (found[0] == 255).all()
    assert np.abs(found - laid_on_white(colours, alpha)).max() <= 1


def test_the_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path, image, transparency=1)
    assert opened(path).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 25_700, 65_535]], np.uint16)
    path = saved(tmp_path, Image.fromarray(grey))
    assert opened(path)[0, :, 0].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize("scale", [1, 255])
def test_floating_point_grey_is_scaled_to_eight_bits(scale: int, tmp_path: Path) -> None:
    values = np.array([[0, 0.2, 0.5, 1]], np.float32) * scale
    found = np.asarray(open_picture(saved(tmp_path, Image.fromarray(values), "grey.tif")))
    assert found.tolist() == [[[level] * 3 for level in (0, 51, 128, 255)]]


@pytest.mark.parametrize("value", [-0.1, 256.0, float("nan")])
def test_floating_point_grey_of_another_range_is_refused(value: float, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0.5, value]], np.float32)), "grey.tif")
    with pytest.raises(ImageError, match=r"grey\.tif has floating-point pixels from .*; expected \[0, 1\] or"):
        open_picture(path)


def test_cmyk_is_read_as_colours(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = opened(saved(tmp_path, cyan, "cyan.jpg"))[4, 4].tolist()
    assert red < 10
    assert min(green, blue) > 245


def test_the_camera_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = ROTATED_90_CLOCKWISE
    found = opened(saved(tmp_path, image, exif=exif))
    assert np.array_equal(found, np.rot90(PIXELS, -1))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS / 255, PIXELS),
        ((PIXELS / 255).astype(np.float32), PIXELS),
        (PIXELS[..., 1], np.repeat(PIXELS[..., 1:2], 3, axis=2)),
        (PIXELS[..., 1:2], np.repeat(PIXELS[..., 1:2], 3, axis=2)),
        (np.array([[0.0, 0.5, 1.0]]), np.repeat(np.array([[[0], [128], [255]]]), 3, axis=2)),
    ],
    ids=["uint8", "float64", "float32", "two axes", "one channel", "rounded"],
)
def test_arrays_are_pixels(array: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(opened(array), expected)


def text_file(folder: Path) -> Path:
    (folder / "cat.png").write_text("not a picture")
    return folder / "cat.png"


def truncated_png(folder: Path) -> Path:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(folder, Image.fromarray(noise), "half.png")
    path.write_bytes(path.read_bytes()[:4000])
    return path


def beheaded_jpeg(folder: Path) -> Path:
    path = saved(folder, Image.new("RGB", (64, 64)), "start.jpg")
    path.write_bytes(path.read_bytes()[:100])  # ends within the header
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text_file, r"cat\.png is not an image that Pillow knows; expected PNG"),
        (truncated_png, r"half\.png is damaged: "),
        (beheaded_jpeg, r"start\.jpg is damaged or cannot be read: "),
        (lambda folder: folder / "none.png", r"no such image file: .*none\.png"),
        (lambda folder: folder, "is a folder; name the pictures in it"),
        (lambda _: np.full((4, 4, 3), 1.5), r"values outside \[0, 1\] or NaN; scale it"),
        (lambda _: np.full((4, 4, 3), -0.1), r"values outside \[0, 1\]"),
        (lambda _: np.full((4, 4), np.nan), r"\[0, 1\] or NaN"),
        (lambda _: np.zeros((4, 4, 3), np.int64), r"an array of int64; expected uint8, or floats in \[0, 1\]"),
        (lambda _: np.zeros((3, 4, 4), np.uint8), r"an array of shape \(3, 4, 4\); expected \(H, W\)"),
        (lambda _: np.zeros((4, 4, 4), np.uint8), r"an array of shape \(4, 4, 4\); expected \(H, W\)"),
        (lambda _: np.zeros((0, 4), np.uint8), r"an array of shape \(0, 4\)"),
        (lambda _: torch.zeros(3, 4, 4), r"found Tensor; tensors that are ready .* as one: torch\.stack\(images\)"),
        (lambda _: object(), "expected a path, a PIL image or an array, found object$"),
    ],
    ids=[
        "text",
        "truncated",
        "cut off in its header",
        "missing",
        "folder",
        "too bright",
        "negative",
        "NaN",
        "integers",
        "channels first",
        "four channels",
        "empty",
        "tensor",
        "object",
    ],
)
def test_what_is_no_picture_is_refused(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message):
        open_picture(make(tmp_path))


# ---------------------------------------------------------------- from pictures to a batch


def unit(pixels: np.ndarray) -> np.ndarray:
    return pixels / 255


def tf(pixels: np.ndarray) -> np.ndarray:
    return pixels / 127.5 - 1


def caffe(pixels: np.ndarray) -> np.ndarray:
    blue_first = pixels[..., ::-1].astype(np.float64)
    return blue_first - np.array([103.939, 116.779, 123.68])


def imagenet(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [("raw", np.float64), ("unit", unit), ("tf", tf), ("caffe", caffe), ("torch", imagenet)],
)
def test_each_preprocessing_is_its_formula(name: str, by_hand: Callable[[np.ndarray], np.ndarray]) -> None:
    found = to_tensor([Image.fromarray(PIXELS)], SMALL, find_preprocessing(name))
    assert found.shape == (1, 3, 6, 5)
    assert found.dtype == torch.float32
    expected = np.asarray(by_hand(PIXELS)).transpose(2, 0, 1)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["raw", "unit", "tf"])
def test_a_model_with_one_channel_gets_the_luminance(name: str) -> None:
    found = to_tensor([Image.fromarray(PIXELS)], InputSpec(1, 6, 5), PREPROCESSING[name])
    luminance = PIXELS @ np.array([0.299, 0.587, 0.114])
    scale, shift = {"raw": (1, 0), "unit": (1 / 255, 0), "tf": (1 / 127.5, -1)}[name]
    assert found.shape == (1, 1, 6, 5)
    assert np.abs(found[0, 0].numpy() - (luminance * scale + shift)).max() <= 1.0 * scale


def test_a_preprocessing_for_three_channels_does_not_fit_one() -> None:
    with pytest.raises(ImageError, match="'torch' is for 3 channels; the model has 1: choose raw, unit or tf"):
        to_tensor([Image.fromarray(PIXELS)], InputSpec(1, 6, 5), PREPROCESSING["torch"])


def test_an_unknown_preprocessing_is_named() -> None:
    with pytest.raises(ImageError, match="'imagenet' is not known; expected one of raw, unit, tf, caffe, torch"):
        find_preprocessing("imagenet")


def test_a_preprocessing_of_ones_own_is_taken_as_it_is() -> None:
    own = Preprocessing("half", scale=0.5)
    assert find_preprocessing(own) is own


@pytest.mark.parametrize("size", [(32, 24), (3, 4), (200, 7)])
def test_pictures_are_resized_as_pillow_does(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (48, 50, 3), dtype=np.uint8))
    width, height = size
    found = to_tensor([picture], InputSpec(3, height, width), PREPROCESSING["raw"])
    expected = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)
    assert np.array_equal(found[0].numpy(), expected.transpose(2, 0, 1))


def waves(height: int, width: int) -> Image.Image:
    """A smooth colour picture without symmetry, so that a crop in the wrong place shows."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 23 + y / 61), np.cos(x / 41 - y / 19), np.sin(y / 37) * np.cos(x / 53)]
    return Image.fromarray((127.5 + 127.5 * np.stack(planes, axis=2)).astype(np.uint8))


def cropped(picture: Image.Image, crop: int, resize: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give our and torchvision's tensor of a picture."""
    theirs = ImageClassification(crop_size=crop, resize_size=resize)(picture)
    ours = to_tensor([picture], InputSpec(3, crop, crop), replace(PREPROCESSING["torch"], central=crop / resize))
    assert theirs.std() > 0.5
    return ours[0], theirs


@pytest.mark.parametrize(
    ("size", "crop", "resize"), [((512, 512), 224, 256), ((384, 600), 224, 256), ((256, 256), 224, 224)]
)
def test_the_central_crop_is_torchvisions_where_it_falls_on_whole_pixels(
    size: tuple[int, int], crop: int, resize: int
) -> None:
    ours, theirs = cropped(waves(*size), crop, resize)
    assert (ours - theirs).abs().mean() < 1e-3


@pytest.mark.parametrize("size", [(512, 512), (384, 600), (701, 333), (256, 256)])
@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (224, 232), (224, 224)])
def test_the_central_crop_is_torchvisions_to_within_half_a_pixel(size: tuple[int, int], crop: int, resize: int) -> None:
    ours, theirs = cropped(waves(*size), crop, resize)
    one_pixel = (theirs[:, 1:, 1:] - theirs[:, :-1, :-1]).abs().mean()
    assert (ours - theirs).abs().mean() < 0.55 * one_pixel


def test_the_region_is_what_the_model_sees() -> None:
    picture = Image.fromarray(np.arange(80, dtype=np.uint8).reshape(8, 10))
    assert region(picture, PREPROCESSING["unit"]) is picture
    half = region(picture, Preprocessing("half", central=0.5))
    assert np.array_equal(np.asarray(half), np.asarray(picture)[2:6, 3:7])


@pytest.mark.parametrize(
    ("images", "count"),
    [
        ("cat.png", 1),
        (Path("cat.png"), 1),
        (Image.fromarray(PIXELS), 1),
        (PIXELS, 1),
        (np.stack([PIXELS, PIXELS]), 2),
        (["cat.png", PIXELS], 2),
        ((name for name in ("a.png", "b.png", "c.png")), 3),
    ],
    ids=["str", "path", "PIL", "array", "batch array", "list", "generator"],
)
def test_one_picture_or_many_become_a_list(images: object, count: int) -> None:
    assert len(as_list(images)) == count


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 4, 4, 3), np.uint8)], ids=["list", "tuple", "array"])
def test_no_images_are_an_error(nothing: object) -> None:
    with pytest.raises(ImageError, match="no images were given"):
        as_list(nothing)


@pytest.mark.parametrize("thing", [None, 7])
def test_what_holds_no_images_is_named(thing: object) -> None:
    with pytest.raises(ImageError, match=f"found {type(thing).__name__}"):
        as_list(thing)


# ---------------------------------------------------------------- tensors that are said to be ready


def test_a_tensor_of_the_right_shape_is_passed_on() -> None:
    batch = torch.rand(2, *SMALL)
    assert require_batch(batch, SMALL) is batch
    assert require_batch(batch[0], SMALL).shape == (1, *SMALL)


def spoiled(*values: float) -> torch.Tensor:
    batch = torch.rand(4, *SMALL)
    for image, value in zip((1, 3), values, strict=False):
        batch[image, 0, 2, 2] = value
    return batch


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (spoiled(float("nan")), "NaN or infinity in image 1 of the batch"),
        (spoiled(float("nan"), float("-inf")), "NaN or infinity in image 1, 3 of the batch"),
        (torch.rand(2, 1, 6, 5), r"shape \(2, 1, 6, 5\); the model takes \(N, 3, 6, 5\)"),
        (torch.rand(2, 6, 5, 3), r"looks like channels last: use images\.permute\(0, 3, 1, 2\)"),
        (torch.rand(2, 3, 6, 6), r"\(2, 3, 6, 6\); the model takes \(N, 3, 6, 5\)"),
        (torch.rand(6, 5), r"shape \(6, 5\); the model takes"),
        (torch.zeros(2, 3, 6, 5, dtype=torch.uint8), r"torch\.uint8; the model takes floats: use model\.prepare"),
        (torch.zeros(0, 3, 6, 5), "no images were given"),
    ],
    ids=["NaN", "infinity", "one channel", "channels last", "another size", "two axes", "integers", "empty"],
)
def test_a_tensor_that_does_not_fit_is_refused(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        require_batch(tensor, SMALL)


def test_the_channels_last_hint_is_given_only_where_it_helps() -> None:
    with pytest.raises(ImageError) as caught:
        require_batch(torch.rand(2, 1, 6, 5), SMALL)
    assert "channels last" not in str(caught.value)


def test_example_images_are_the_same_noise_each_time_whatever_is_drawn_elsewhere() -> None:
    before = torch.get_rng_state()
    images = example_images(2, (3, 4, 5))
    assert (images.shape, images.dtype, images.device.type) == ((2, 3, 4, 5), torch.float32, "cpu")
    assert images.std() > 0.2
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(example_images(2, (3, 4, 5)), images)
