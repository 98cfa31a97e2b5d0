"""Fashion-MNIST and CIFAR-10: fetched where there is a network, and written out as pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchcam_suite.datasets.description import claim, complete, write_beside
from torchcam_suite.datasets.preparing import PreparedSet, check_fractions, split_of
from torchcam_suite.datasets.procedural import SPLITS
from torchcam_suite.errors import SourceError, TorchcamError
from torchcam_suite.progress import reporting

__all__ = ["TORCHVISION_SETS", "torchvision_set"]


class _Arrays(NamedTuple):
    """One part of a set: uint8 (n, height, width) or (n, height, width, 3), and class numbers."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Known:
    """One set."""

    class_names: tuple[str, ...]
    fetch: Callable[[Path], None]
    read: Callable[[Path, bool], _Arrays]


def torchvision_set(
    name: str,
    out: str | Path,
    *,
    source: str | Path | None = None,
    train: int | None = None,
    test: int | None = None,
    val: float = 0.0,
    seed: int = 0,
    progress: bool | Callable[[int, int], None] = False,
) -> PreparedSet:
    """Write Fashion-MNIST or CIFAR-10 as PNG files in class folders.

    The originals are fetched through torchvision, which checks their MD5 sums, into the source folder; what is there
    is not fetched again. CIFAR-10 is read from its binary version, which holds no Python objects.

    Parameters
    ----------
    name : str
        "fashion-mnist" (28 x 28, grey) or "cifar-10" (32 x 32, RGB).
    out : path
        New, empty, or written by the same call.
    source : path, optional
        Where the originals are, or go: `FashionMNIST/raw` or `cifar-10-batches-bin` is in it. By default `OUT/.source`.
    train, test : int, optional
        The first so many pictures of each part; by default all.
    val : float
        About what share of the training pictures goes into `val`; see `split_of`.
    seed : int
        Another seed gives another validation split.
    progress : bool or function
        Show a bar on stderr, or call the function with the numbers of pictures done and to do.

    Raises
    ------
    TorchcamError
        The name is unknown, or a number is out of its range.
    SourceError
        The originals are not there and cannot be fetched, or are damaged; or `out` holds something else.
    """
    if name not in TORCHVISION_SETS:
        raise TorchcamError(f"data set {name!r} is unknown; expected one of {', '.join(TORCHVISION_SETS)}")
    check_fractions(val, 0)
    if any(count is not None and count < 1 for count in (train, test)):
        raise TorchcamError(f"train={train}, test={test}; expected at least 1 picture, or None for all")
    known, out = TORCHVISION_SETS[name], Path(out)
    about = {"name": name, "train": train, "test": test, "val": val, "seed": seed}
    try:
        claim(out, about)
        originals = out / ".source" if source is None else Path(source)
        known.fetch(originals)
        parts = {
            "train": _first(known.read(originals, True), train),
            "test": _first(known.read(originals, False), test),
        }
        with reporting(f"writing {name}", progress) as report:
            counts = _write(parts, known.class_names, out, val, seed, report or (lambda _done, _total: None))
        found = PreparedSet(out, tuple(sorted(known.class_names)), counts, 0, (), (), (), ())
        complete(out, about, {"class_names": list(found.class_names), "counts": counts})
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error.strerror or error}") from error
    return found


def _first(arrays: _Arrays, count: int | None) -> _Arrays:
    return _Arrays(arrays.images[:count], arrays.labels[:count])


def _write(
    parts: dict[str, _Arrays],
    class_names: tuple[str, ...],
    out: Path,
    val: float,
    seed: int,
    report: Callable[[int, int], None],
) -> dict[str, dict[str, int]]:
    total = sum(len(arrays.labels) for arrays in parts.values())
    counts = {split: dict.fromkeys(sorted(class_names), 0) for split in SPLITS}
    for done, (part, split, index, image, label) in enumerate(_pictures(parts, val, seed), start=1):
        target = out / split / class_names[label] / f"{part}-{index:05d}.png"
        if not target.is_file():
            write_beside(target, partial(Image.fromarray(image).save, format="PNG"))
        counts[split][class_names[label]] += 1
        report(done, total)
    return {split: by_class for split, by_class in counts.items() if any(by_class.values())}


def _pictures(
    parts: dict[str, _Arrays], val: float, seed: int
) -> Iterator[tuple[str, str, int, NDArray[np.uint8], int]]:
    for part, arrays in parts.items():
        for index, (image, label) in enumerate(zip(arrays.images, arrays.labels, strict=True)):
            split = split_of(image.tobytes(), val, 0.0, seed) if part == "train" else part
            yield part, split, index, image, int(label)


# Fashion-MNIST: IDX files, a header of big-endian numbers before the bytes


def _idx_files(folder: Path, train: bool) -> list[Path]:
    part = "train" if train else "t10k"
    names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    return [folder / "FashionMNIST" / "raw" / name for name in names]


def _fetch_fashion(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    _fetch("Fashion-MNIST", folder, _idx_files, lambda: FashionMNIST(str(folder), download=True))


def _read_fashion(folder: Path, train: bool) -> _Arrays:
    images, labels = map(_read_idx, _idx_files(folder, train))
    return _checked(folder, images, labels, 3)


def _read_idx(file: Path) -> NDArray[np.uint8]:
    content = _bytes_of(file)
    axes = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
    shape = np.frombuffer(content, ">u4", axes, 4) if axes and len(content) >= 4 + 4 * axes else np.zeros(1)
    if not axes or 4 + 4 * axes + int(np.prod(shape, dtype=np.float64)) != len(content):
        raise SourceError(f"{file} is no IDX file of bytes, or is cut off; delete it, and it is fetched again")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape.astype(int))


# CIFAR-10: records of a class number and 3 x 32 x 32 bytes

_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_FOLDER = "cifar-10-batches-bin"
_RECORD = 1 + 3 * 32 * 32


def _fetch_cifar(folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    _fetch(
        "CIFAR-10",
        folder,
        _cifar_files,
        lambda: download_and_extract_archive(_CIFAR_URL, str(folder), md5=_CIFAR_MD5, remove_finished=True),
    )


def _cifar_files(folder: Path, train: bool) -> list[Path]:
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
    return [folder / _CIFAR_FOLDER / name for name in names]


def _read_cifar(folder: Path, train: bool) -> _Arrays:
    records = []
    for file in _cifar_files(folder, train):
        content = _bytes_of(file)
        if not content or len(content) % _RECORD:
            raise SourceError(f"{file} is no batch of CIFAR-10, or is cut off; delete it, and it is fetched again")
        records.append(np.frombuffer(content, np.uint8).reshape(-1, _RECORD))
    joined = np.concatenate(records)
    images = joined[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _checked(folder, np.ascontiguousarray(images), joined[:, 0], 4)


# Both


def _fetch(title: str, folder: Path, files: Callable[[Path, bool], list[Path]], download: Callable[[], object]) -> None:
    """Download what is not there, and say in one line why that cannot be done."""
    missing = [file for train in (True, False) for file in files(folder, train) if not file.is_file()]
    if not missing:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise SourceError(
            f"{missing[0]} does not exist, and {title} cannot be fetched ({reason}); connect to a network, or put its "
            "files there"
        ) from error


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror or error}") from error


def _checked(where: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8], axes: int) -> _Arrays:
    if images.ndim != axes or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise SourceError(f"{where}: images of shape {images.shape} and labels of {labels.shape} do not fit each other")
    return _Arrays(images, labels)


TORCHVISION_SETS: dict[str, _Known] = {
    "fashion-mnist": _Known(
        ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"),
        _fetch_fashion,
        _read_fashion,
    ),
    "cifar-10": _Known(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        _fetch_cifar,
        _read_cifar,
    ),
}
