"""Fashion-MNIST and CIFAR-10, read from tiny files in the format of the originals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from original_sets import write_cifar10, write_fashion_mnist
from PIL import Image

from torchcam_suite.datasets import TORCHVISION_SETS, torchvision_set
from torchcam_suite.errors import SourceError, TorchcamError

RANDOM = np.random.default_rng(0)
GREY = {"train": RANDOM.integers(0, 256, (6, 28, 28), np.uint8), "test": RANDOM.integers(0, 256, (3, 28, 28), np.uint8)}
RGB = {
    "train": RANDOM.integers(0, 256, (10, 32, 32, 3), np.uint8),
    "test": RANDOM.integers(0, 256, (2, 32, 32, 3), np.uint8),
}
LABELS = {
    "fashion-mnist": {"train": [9, 0, 3, 3, 1, 0], "test": [2, 0, 9]},
    "cifar-10": {"train": [*range(10)], "test": [3, 5]},
}


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    grey, rgb = LABELS["fashion-mnist"], LABELS["cifar-10"]
    write_fashion_mnist(folder / "FashionMNIST" / "raw", {part: (GREY[part], grey[part]) for part in GREY})
    write_cifar10(folder, {part: (RGB[part], rgb[part]) for part in RGB})
    return folder


@pytest.mark.parametrize(("name", "arrays"), [("fashion-mnist", GREY), ("cifar-10", RGB)])
def test_each_picture_is_written_under_its_class(
    name: str, arrays: dict[str, NDArray[np.uint8]], originals: Path, tmp_path: Path
) -> None:
    found = torchvision_set(name, tmp_path / "out", source=originals)
    names = TORCHVISION_SETS[name].class_names
    for split, labels in LABELS[name].items():
        assert sum(found.counts[split].values()) == len(labels)
        for index, label in enumerate(labels):
            with Image.open(tmp_path / f"out/{split}/{names[label]}/{split}-{index:05d}.png") as file:
                np.testing.assert_array_equal(np.asarray(file), arrays[split][index])
    assert len(list((tmp_path / "out").rglob("*.png"))) == sum(map(len, LABELS[name].values()))
    assert found.class_names == tuple(sorted(names))


def test_the_classes_are_in_the_order_of_the_labels_of_torchvision() -> None:
    from torchvision.datasets import FashionMNIST

    said = [name.lower().replace(" ", "-").removesuffix("/top") for name in FashionMNIST.classes]
    assert list(TORCHVISION_SETS["fashion-mnist"].class_names) == said


def test_a_part_can_be_taken_and_a_part_of_that_kept_for_validation(originals: Path, tmp_path: Path) -> None:
    found = torchvision_set("cifar-10", tmp_path / "out", source=originals, train=8, test=1, val=0.5, seed=1)
    totals = {split: sum(by_class.values()) for split, by_class in found.counts.items()}
    assert totals["train"] + totals["val"] == 8
    assert 0 < totals["val"] < 8
    assert totals["test"] == 1
    again = torchvision_set("cifar-10", tmp_path / "out", source=originals, train=8, test=1, val=0.5, seed=1)
    assert again == found
    with pytest.raises(SourceError, match="with train=8, but train=9 was asked for"):
        torchvision_set("cifar-10", tmp_path / "out", source=originals, train=9, test=1, val=0.5, seed=1)


@pytest.mark.parametrize(
    ("name", "fetcher", "missing"),
    [
        ("fashion-mnist", "torchvision.datasets.mnist.download_and_extract_archive", "train-images-idx3-ubyte"),
        ("cifar-10", "torchvision.datasets.utils.download_and_extract_archive", "data_batch_1.bin"),
    ],
)
def test_without_a_network_it_is_told_what_is_missing_and_where(
    name: str, fetcher: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise URLError("Name or service not known")

    monkeypatch.setattr(fetcher, refuse)
    with pytest.raises(SourceError) as caught:
        torchvision_set(name, tmp_path / "out")
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "out/.source"))
    assert missing in said
    assert "cannot be fetched" in said
    assert "Name or service not known" in said
    assert "connect to a network, or put its files there" in said


def test_what_is_fetched_is_checked_by_its_sum_and_read(originals: Path, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(url: str, folder: str, *, md5: str, remove_finished: bool) -> None:
        asked.append((url.rpartition("/")[2], md5))
        assert remove_finished
        (originals / "cifar-10-batches-bin").rename(Path(folder) / "cifar-10-batches-bin")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    torchvision_set("cifar-10", tmp_path / "out")
    torchvision_set("cifar-10", tmp_path / "out")
    assert asked == [("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")]


@pytest.mark.parametrize(
    ("name", "file", "damage", "message"),
    [
        (
            "fashion-mnist",
            "FashionMNIST/raw/train-images-idx3-ubyte",
            lambda b: b[:-1],
            "is no IDX file of bytes, or is cut off",
        ),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte", lambda _: b"", "is no IDX file"),
        ("fashion-mnist", "FashionMNIST/raw/train-labels-idx1-ubyte", lambda b: b"\x80\x04" + b[2:], "is no IDX file"),
        (
            "fashion-mnist",
            "FashionMNIST/raw/t10k-labels-idx1-ubyte",
            lambda b: b[:-1] + b"\x0a",
            "do not fit each other",
        ),
        (
            "cifar-10",
            "cifar-10-batches-bin/data_batch_3.bin",
            lambda b: b[:-5],
            "is no batch of CIFAR-10, or is cut off",
        ),
        ("cifar-10", "cifar-10-batches-bin/test_batch.bin", lambda b: b"\x63" + b[1:], "do not fit each other"),
    ],
)
def test_damaged_originals_are_told(
    name: str, file: str, damage: Callable[[bytes], bytes], message: str, originals: Path, tmp_path: Path
) -> None:
    whole = (originals / file).read_bytes()
    (originals / file).write_bytes(damage(whole))
    with pytest.raises(SourceError, match=message):
        torchvision_set(name, tmp_path / "out", source=originals)
    (originals / file).write_bytes(whole)
    assert torchvision_set(name, tmp_path / "out", source=originals).counts["train"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnist"}, "data set 'mnist' is unknown; expected one of fashion-mnist, cifar-10"),
        ({"train": 0}, "train=0, test=None; expected at least 1"),
        ({"val": 1.0}, "val=1, test=0; expected fractions"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TorchcamError, match=message):
        torchvision_set(**{"name": "cifar-10", "out": tmp_path / "out"} | options)
    assert not (tmp_path / "out").exists()
