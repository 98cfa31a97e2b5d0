"""The pictures of a training: found in folders, split, checked, and read one by one in an order that a seed decides."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from torchcam_suite.class_names import composed
from torchcam_suite.errors import ImageError, SourceError
from torchcam_suite.images import InputSpec, Preprocessing, open_picture, to_tensor
from torchcam_suite.labelled_images import labelled_folder, shortlist
from torchcam_suite.training.augmentation import Augmentation, augment
from torchcam_suite.training.complementary_labels import complementary_label, hash_fraction

VALIDATION_FOLDERS = ("val", "valid", "validation")
VALIDATION_SHARE = 0.2
"""Of each class's training pictures, where there is no folder of validation pictures."""

_PARTS = {"train", "training", "test", "testing", "masks", *VALIDATION_FOLDERS}  # names of no class, if all are such
_CHANGES, _ORDER = 1, 2  # what random numbers are for, so that no two uses share them
_MOST_NAMED = 5


class LabelledPicture(NamedTuple):
    """One picture of the data."""

    path: Path
    name: str  # below the data's folder, with slashes
    label: int


@dataclass(frozen=True)
class TrainingData:
    """Pictures with labels, in three parts.

    Attributes
    ----------
    folder : Path
        What was given.
    class_names : tuple of str
        Names of the class folders, composed (see `torchcam_suite.class_names`) and sorted; labels are their numbers.
    train, val, test : tuple of LabelledPicture
        Without a folder for them, `val` is split off `train`, and `test` is empty.
    test_folder : Path or None
        Of the class folders of the test pictures.
    rule : str
        Where the validation pictures come from.
    """

    folder: Path
    class_names: tuple[str, ...]
    train: tuple[LabelledPicture, ...]
    val: tuple[LabelledPicture, ...]
    test: tuple[LabelledPicture, ...]
    test_folder: Path | None
    rule: str

    @property
    def parts(self) -> dict[str, tuple[LabelledPicture, ...]]:
        """The parts by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def complementary(self, picture: LabelledPicture, seed: int) -> int:
        """The complementary label of one picture."""
        return complementary_label(picture.label, len(self.class_names), image=picture.name, seed=seed)


def find_training_data(folder: str | Path, *, seed: int = 0) -> TrainingData:
    """Find the pictures of a folder with `train` and perhaps `val` and `test` in it, or of one with class folders.

    Parameters
    ----------
    folder : path
        With `train/CLASS/...`, and perhaps `val/CLASS/...` (or `valid`, `validation`) and `test/CLASS/...`; or with
        `CLASS/...`. Class folders are read as `torchcam_suite.labelled_images.labelled_folder` does.
    seed : int
        Which pictures are split off for validation, where there is no folder for them: a fifth of each class, at least
        one.

    Raises
    ------
    SourceError
        No folder, no pictures, folders of parts without `train`, fewer than two classes, a class without pictures,
        classes in `val` or `test` that are not in `train`, or too few pictures to split.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(
            f"{folder} is {'a file' if folder.exists() else 'no folder'}; expected a folder with class folders in it, "
            f"as {folder.name}/train/cat/1.jpg or {folder.name}/cat/1.jpg"
        )
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    names, train = _labelled(folder, train_folder, None)
    val_folder = next((folder / one for one in VALIDATION_FOLDERS if (folder / one).is_dir()), None)
    test_folder = folder / "test" if (folder / "test").is_dir() else None
    if train_folder == folder:
        val_folder = test_folder = None  # class folders of these names
        if {name.lower() for name in names} <= _PARTS:
            raise SourceError(
                f"{folder} has {', '.join(names)} and no folder 'train'; expected {folder.name}/train/CLASS/..., or "
                f"class folders in {folder.name} itself"
            )
    test = _labelled(folder, test_folder, names)[1] if test_folder else ()
    if val_folder:
        val, rule = _labelled(folder, val_folder, names)[1], f"the pictures in {val_folder}"
        missing = [name for number, name in enumerate(names) if all(one.label != number for one in val)]
        if missing:
            raise SourceError(
                f"{val_folder} has no picture of {shortlist(missing)}; add some, or remove the folder: a fifth of the "
                f"training pictures is split off then"
            )
    else:
        train, val = _split(train, names, seed)
        rule = f"a fifth of each class in {train_folder}, drawn with seed {seed}"
    return TrainingData(folder, names, train, val, test, test_folder, rule)


def _labelled(
    root: Path, folder: Path, expected: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[LabelledPicture, ...]]:
    found = labelled_folder(folder)
    names = expected or tuple(sorted(set(map(composed, found.labels))))
    if len(names) < 2:
        raise SourceError(f"{folder} has one class, {names[0]!r}; expected two class folders or more")
    empty = [name for name in found.labels if expected is None and not found.counts[name]]
    if empty:
        raise SourceError(f"{folder}: no picture in the class folder {shortlist(empty)}; add some, or remove it")
    unknown = [name for name in found.labels if composed(name) not in names]
    if unknown:
        raise SourceError(f"{folder} has the class {shortlist(unknown)}, of which there are no training pictures")
    numbers = {name: number for number, name in enumerate(names)}
    return names, tuple(
        LabelledPicture(path, path.relative_to(root).as_posix(), numbers[composed(label)]) for path, label in found
    )


def _split(
    pictures: tuple[LabelledPicture, ...], names: Sequence[str], seed: int
) -> tuple[tuple[LabelledPicture, ...], tuple[LabelledPicture, ...]]:
    held_out = set[str]()
    for number, name in enumerate(names):
        ours = sorted(
            (one.name for one in pictures if one.label == number),
            key=lambda image: (hash_fraction(seed, "validation", image), image),
        )
        if len(ours) < 2:
            raise SourceError(f"the class {name!r} has 1 picture; expected two or more, one of them for validation")
        held_out.update(ours[: max(1, round(VALIDATION_SHARE * len(ours)))])
    train = tuple(one for one in pictures if one.name not in held_out)
    return train, tuple(one for one in pictures if one.name in held_out)


def check_pictures(data: TrainingData, report: Callable[[int, int], None] | None = None) -> str:
    """Decode every picture once.

    Returns
    -------
    str
        SHA-256 of the names and contents of all pictures.

    Raises
    ------
    ImageError
        Some are broken; the message names them.
    """
    everything = [picture for part in data.parts.values() for picture in part]
    digest, broken = hashlib.sha256(), list[str]()
    with ThreadPoolExecutor() as threads:
        for done, (picture, found) in enumerate(zip(everything, threads.map(_examined, everything), strict=True), 1):
            if isinstance(found, ImageError):
                broken.append(str(found))
            else:
                digest.update(picture.name.encode("utf-8", "surrogateescape") + b"\0" + found)
            if report is not None:
                report(done, len(everything))
    if broken:
        more = f"; and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
        count = "one picture cannot be read" if len(broken) == 1 else f"{len(broken)} pictures cannot be read"
        raise ImageError(f"{count}: {'; '.join(broken[:_MOST_NAMED])}{more}. Remove or replace them")
    return digest.hexdigest()


def _examined(picture: LabelledPicture) -> bytes | ImageError:
    try:
        _open(picture.path)
        with picture.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (ImageError, OSError) as error:
        return error if isinstance(error, ImageError) else ImageError(f"{picture.path}: {error.strerror or error}")


def _open(path: Path) -> Image.Image:
    try:
        return open_picture(path)
    except ImageError:
        raise
    except Exception as error:  # a damaged file may bring a decoder to any error
        raise ImageError(f"{path} is damaged ({type(error).__name__}: {error})") from error


# ---------------------------------------------------------------- one by one


class Key(NamedTuple):
    """Which picture, and in which epoch; `counts` is false for one that only fills a batch up."""

    epoch: int
    place: int  # among the pictures of the part
    counts: bool = True


class Example(NamedTuple):
    """One picture as the network takes it, or a batch of them."""

    image: Tensor  # (3, H, W), or (N, 3, H, W)
    label: Tensor
    complementary: Tensor
    weight: Tensor  # 1, or 0 if it does not count


class Examples(Dataset[Example]):
    """Pictures by key; what is random in one follows from the seed, the epoch and the picture's place alone.

    Parameters
    ----------
    data : TrainingData
        For the complementary labels.
    pictures : sequence of LabelledPicture
        A part of it.
    size : (int, int)
        Height and width of the network's input.
    preprocessing : Preprocessing
        Of the network, so that training and explaining see the same pixels.
    augmentation : Augmentation
        Of the picture at the network's size.
    seed : int
        Of augmentation and complementary labels.
    """

    def __init__(
        self,
        data: TrainingData,
        pictures: Sequence[LabelledPicture],
        size: tuple[int, int],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._data, self._pictures = data, pictures
        self._spec = InputSpec(3, *size)
        self._preprocessing, self._augmentation, self._seed = preprocessing, augmentation, seed

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: Key) -> Example:
        picture = self._pictures[key.place]
        image = _open(picture.path)
        if self._augmentation:
            resized = image.resize((self._spec.width, self._spec.height), Image.Resampling.BILINEAR)
            random = np.random.default_rng([self._seed, key.epoch, key.place, _CHANGES])
            image = Image.fromarray(augment(np.asarray(resized), self._augmentation, random))
        return Example(
            to_tensor([image], self._spec, self._preprocessing)[0],
            torch.tensor(picture.label, device="cpu"),
            torch.tensor(self._data.complementary(picture, self._seed), device="cpu"),
            torch.tensor(float(key.counts), device="cpu"),
        )


def training_batches(
    count: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, devices: int = 1
) -> list[list[Key]]:
    """The batches of an epoch for one of several devices: all pictures in an order of the epoch's own.

    The devices' batches of a step together are the batch that one device would have. No picture comes twice; up to
    `devices` - 1, others in each epoch, are left out so that all devices have as many. A last batch of one picture,
    which batch normalization could not take, is joined to the one before.

    Parameters
    ----------
    count : int
        Of the pictures.
    batch_size : int
        Over all devices, a multiple of their number.
    seed, epoch : int
        Decide the order.
    rank, devices : int
        Which device, and how many there are.

    Examples
    --------
    >>> [[key.place for key in batch] for batch in training_batches(7, 3, seed=0, epoch=0)]
    [[1, 3, 2], [6, 5, 4, 0]]
    """
    order = np.random.default_rng([seed, epoch, 0, _ORDER]).permutation(count)[: count - count % devices]
    mine = [Key(epoch, int(index)) for index in order[rank::devices]]
    batches = _cut(mine, batch_size // devices)
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def validation_batches(count: int, batch_size: int, *, rank: int = 0, devices: int = 1) -> list[list[Key]]:
    """The batches of a validation for one of several devices, as many for each: what fills them up does not count.

    Examples
    --------
    >>> [[key.place for key in batch if key.counts] for batch in validation_batches(3, 2, rank=1, devices=2)]
    [[1], []]
    """
    mine = [Key(0, index, index < count) for index in range(rank, count + -count % devices, devices)]
    filled = [key if key.counts else Key(0, 0, False) for key in mine]
    return _cut(filled, max(1, batch_size // devices))


def _cut(keys: Sequence[Key], size: int) -> list[list[Key]]:
    return [list(keys[start : start + size]) for start in range(0, len(keys), size)]


def collate(examples: Iterable[Example]) -> Example:
    """Several examples as one batch."""
    return Example(*(torch.stack(column) for column in zip(*examples, strict=True)))
