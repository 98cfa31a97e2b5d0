"""Other people's data sets as tiny copies, in the layouts and formats in which they are handed out."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

Parts = dict[str, tuple[NDArray[np.uint8], Sequence[int]]]


def write_picture(path: Path, seed: int, size: tuple[int, int] = (20, 12)) -> Path:
    """Write noise; each seed gives another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def write_dogs_vs_cats(folder: Path, each: int) -> None:
    """Kaggle's `train`: so many cats and dogs, all different."""
    for label, first in (("cat", 0), ("dog", 100)):
        for index in range(each):
            write_picture(folder / "train" / f"{label}.{index}.jpg", first + index)


def write_caltech101(folder: Path, classes: Sequence[str], each: int) -> None:
    """`101_ObjectCategories`, with pictures of 30 x 20."""
    for number, label in enumerate(classes):
        for index in range(1, each + 1):
            name = f"101_ObjectCategories/{label}/image_{index:04d}.jpg"
            write_picture(folder / name, 10 * number + index, (30, 20))


def write_outline(folder: Path, label: str, index: int, box: Sequence[int]) -> Path:
    """A file of `Annotations`: a box (top, bottom, left, right), counted from 1, with its corners as the outline."""
    file = folder / "Annotations" / label / f"annotation_{index:04d}.mat"
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = box[1] - box[0], box[3] - box[2]
    outline = np.array([[1, width, width, 1], [1, 1, height, height]], float)
    savemat(file, {"obj_contour": outline, "box_coord": np.array([box], float)})
    return file


def write_fashion_mnist(raw: Path, parts: Parts) -> None:
    """IDX files, unpacked: pictures (n, 28, 28) and labels of the parts train and test."""
    raw.mkdir(parents=True, exist_ok=True)
    for part, stem in (("train", "train"), ("test", "t10k")):
        images, labels = parts[part]
        header = struct.pack(">4i", 0x803, *images.shape)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(labels)) + bytes(labels))


def write_cifar10(folder: Path, parts: Parts) -> None:
    """The binary version, unpacked: pictures (n, 32, 32, 3), those of train spread over five batches."""
    batches = folder / "cifar-10-batches-bin"
    batches.mkdir(parents=True, exist_ok=True)
    records = {
        part: [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(images, labels, strict=True)]
        for part, (images, labels) in parts.items()
    }
    each = -(-len(records["train"]) // 5)
    for number in range(5):
        some = records["train"][number * each : (number + 1) * each]
        (batches / f"data_batch_{number + 1}.bin").write_bytes(b"".join(some))
    (batches / "test_batch.bin").write_bytes(b"".join(records["test"]))


def noise(shape: tuple[int, ...], train: Sequence[int], test: Sequence[int]) -> Parts:
    """Pictures of a shape with these labels."""
    drawn = np.random.default_rng(0)
    return {
        part: (drawn.integers(0, 256, (len(labels), *shape), np.uint8), labels)
        for part, labels in (("train", train), ("test", test))
    }


def in_place_of_a_download(url: str, download_root: str, *_: Any, **__: Any) -> None:
    """Write what torchvision's `download_and_extract_archive` would fetch; anything else is told to have no network."""
    if "fashion" in url.lower():
        write_fashion_mnist(Path(download_root), noise((28, 28), [9, 0, 3, 3, 1, 0], [2, 0, 9]))
    elif "cifar-10-binary" in url:
        write_cifar10(Path(download_root), noise((32, 32, 3), [*range(10)], [3, 5]))
    else:
        raise URLError(f"no network for {url}")
