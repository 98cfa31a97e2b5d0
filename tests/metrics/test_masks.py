"""Masks are found beside the pictures, and cut as the model sees them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from linear import convolutional
from PIL import Image

from torchcam_suite import load
from torchcam_suite.demo import sample_images
from torchcam_suite.errors import ImageError
from torchcam_suite.images import Preprocessing
from torchcam_suite.metrics.masks import load_masks


def picture(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


HALF = np.repeat(np.array([[0, 255]]), 24, axis=0).repeat(12, axis=1)


@pytest.mark.parametrize("name", ["cat_mask.png", "cat.png", "cat_mask.bmp"])
def test_a_mask_has_the_name_of_its_picture(name: str, tmp_path: Path) -> None:
    image = picture(tmp_path / "images" / "cat.jpg", np.zeros((24, 24)))
    picture(tmp_path / "masks" / name, HALF)
    picture(tmp_path / "masks" / "dog_mask.png", HALF[:, ::-1])
    found = load_masks(tmp_path / "masks", [image], convolutional())
    assert found.dtype == torch.bool
    assert found[0].equal(torch.from_numpy(HALF[::2, ::2] > 0))


def test_a_picture_beside_its_mask_is_not_taken_for_it(tmp_path: Path) -> None:
    image = picture(tmp_path / "cat.png", np.full((24, 24), 255))
    picture(tmp_path / "cat_mask.png", HALF)
    assert load_masks(tmp_path, [image], convolutional()).float().mean() == 0.5
    (tmp_path / "cat_mask.png").unlink()
    with pytest.raises(ImageError, match=r"no mask of cat\.png in"):
        load_masks(tmp_path, [image], convolutional())


def test_a_mask_is_cropped_as_the_picture_is(tmp_path: Path) -> None:
    model = convolutional()
    model.preprocessing = Preprocessing("centre", scale=1 / 255, central=0.5)
    mask = np.zeros((24, 24))
    mask[6:18, 6:12] = 255
    picture(tmp_path / "cat_mask.png", mask)
    found = load_masks(tmp_path, [tmp_path / "cat.jpg"], model)[0]
    assert found[:, :6].all()
    assert not found[:, 6:].any()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_no_object(mode: str, tmp_path: Path) -> None:
    mask = Image.fromarray(np.full((24, 24), 255, np.uint8)).convert("RGBA")
    mask.putalpha(Image.fromarray(HALF.astype(np.uint8)))
    mask.convert(mode).save(tmp_path / "cat_mask.png")
    found = load_masks(tmp_path, [tmp_path / "cat.jpg"], convolutional())
    assert found[0].equal(torch.from_numpy(HALF[::2, ::2] > 0))


@pytest.mark.parametrize(("size", "fits"), [((60, 40), True), ((15, 10), True), ((10, 7), True), ((40, 60), False)])
def test_a_mask_has_the_proportions_of_its_picture(size: tuple[int, int], fits: bool, tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 60)).save(tmp_path / "cat.jpg", exif=orientation)
    Image.new("L", size, 255).save(tmp_path / "cat_mask.png")
    if fits:
        assert load_masks(tmp_path, [tmp_path / "cat.jpg"], convolutional()).all()
        return
    with pytest.raises(ImageError, match=r"has 40 x 60 pixels and cat\.jpg, upright, 60 x 40; expected a mask of"):
        load_masks(tmp_path, [tmp_path / "cat.jpg"], convolutional())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no such folder of masks"),
        (["dog.png"], "no mask of cat.jpg in .*; expected cat_mask.png or cat.png"),
        (["cat_mask.png", "cat_mask.bmp"], "cat.jpg has several masks in .*: cat_mask.bmp, cat_mask.png"),
    ],
)
def test_masks_that_are_not_there_are_told(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        picture(tmp_path / "masks" / name, HALF)
    with pytest.raises(ImageError, match=message):
        load_masks(tmp_path / "masks", [tmp_path / "cat.jpg"], convolutional())


def test_a_mask_without_an_object_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "cat_mask.png", np.zeros((24, 24)))
    with pytest.raises(ImageError, match="shows no object"):
        load_masks(tmp_path, [tmp_path / "cat.jpg"], convolutional())


def test_the_samples_of_the_demo_have_masks() -> None:
    images = sample_images()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    net(torch.zeros(1, 3, 96, 96))
    masks = load_masks(images[0].parent, images, load(net, input_size=96, preprocessing="unit", device="cpu"))
    assert masks.shape == (len(images), 96, 96)
    shares = masks.float().mean(dim=(1, 2))
    assert 0.02 < float(shares.min()) < float(shares.max()) < 0.6
