"""The pictures of a comparison, with their labels where folders or the user tell them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchcam_suite import images as readers
from torchcam_suite.errors import ImageError, SourceError
from torchcam_suite.evaluation.class_labels import match_labels, unknown_text
from torchcam_suite.labelled_images import LabelledImages, labelled_folder
from torchcam_suite.models import Model
from torchcam_suite.picture_files import entries_of, find_pictures, is_picture
from torchcam_suite.recorder import Recorder


@dataclass(frozen=True, eq=False)
class Pictures:
    """N pictures.

    Attributes
    ----------
    sources : list or Tensor
        Paths, PIL images or arrays; or a tensor (N, C, H, W) that is ready for every model.
    names : tuple of str
        One an image.
    labels : tuple of str, or None
        What each shows.
    said : bool
        Whether the user gave the labels, rather than the folders.
    classes : tuple of str
        Every label of the source, also those that none of these pictures has: where a model has no class names, the
        place among them is the class.
    """

    sources: Sequence[Any] | Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    said: bool = False
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def part(self, positions: Sequence[int]) -> "Pictures":
        """Some of them."""
        tensor = isinstance(self.sources, Tensor)
        sources = self.sources[list(positions)] if tensor else [self.sources[i] for i in positions]  # type: ignore[call-overload]
        labels = None if self.labels is None else tuple(self.labels[i] for i in positions)
        return Pictures(sources, tuple(self.names[i] for i in positions), labels, self.said, self.classes)


def find_images(images: Any, labels: Sequence[str | int] | None = None) -> Pictures:
    """Find the pictures of a comparison.

    Parameters
    ----------
    images : path, LabelledImages, picture, or a sequence of these; or Tensor
        A folder gives all pictures in it. A folder of class folders, without pictures of its own, gives their labels
        as well.
    labels : sequence of str or int, optional
        A class name or number for each picture; without it, what the folders say, if all pictures come from class
        folders.

    Raises
    ------
    SourceError, ImageError
        A folder or file is missing, there are no pictures, or not one label for each.
    """
    found = _found(images)
    if labels is not None:
        if len(labels) != len(found):
            raise SourceError(f"{len(labels)} labels for {len(found)} images; give one label for each image, in order")
        texts = tuple(
            str(plain) for plain in np.asarray(labels.tolist() if isinstance(labels, Tensor) else labels).tolist()
        )
        found = Pictures(found.sources, found.names, texts, True, tuple(sorted(set(texts))))
    return found


def evenly(count: int, most: int) -> list[int]:
    """Positions of `most` out of `count`, first and last among them.

    Examples
    --------
    >>> evenly(9, 3), evenly(2, 5)
    ([0, 4, 8], [0, 1])
    """
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def _found(images: Any) -> Pictures:
    if isinstance(images, Tensor):
        batch = images[None] if images.ndim == 3 else images
        if len(batch) == 0:
            raise ImageError("no images were given")
        return Pictures(batch, tuple(f"image {i}" for i in range(len(batch))))
    sources: list[Any] = []
    labels: list[str | None] = []
    classes: set[str] = set()
    for item in [images] if isinstance(images, LabelledImages) else readers.as_list(images):
        some, shown, every = _pictures_of(item)
        sources += some
        labels += shown
        classes |= set(every)
    known = [label for label in labels if label is not None]
    names = tuple(str(one) if isinstance(one, str | Path) else f"image {i}" for i, one in enumerate(sources))
    shows = tuple(known) if len(known) == len(sources) else None
    return Pictures(sources, names, shows, classes=tuple(sorted(classes)))


def _pictures_of(item: Any) -> tuple[list[Any], list[str | None], tuple[str, ...]]:
    if isinstance(item, LabelledImages):
        pairs = list(item)
        return [path for path, _ in pairs], [label for _, label in pairs], item.labels
    if not isinstance(item, str | Path) or not Path(item).is_dir():
        if isinstance(item, str | Path) and not Path(item).exists():
            raise ImageError(f"no such image file or folder: {item}")
        return [item], [None], ()
    if _holds_class_folders(Path(item)):
        return _pictures_of(labelled_folder(item))
    paths = find_pictures([item])
    return list(paths), [None] * len(paths), ()


def _holds_class_folders(folder: Path) -> bool:
    entries = entries_of(folder)
    return any(entry.is_folder for entry in entries) and not any(
        is_picture(entry.path) for entry in entries if not entry.is_folder
    )


def true_classes(
    pictures: Pictures, models: Mapping[str, Model]
) -> tuple[dict[str, tuple[int, ...]] | None, tuple[str, ...]]:
    """The class that each picture's label means in each model.

    Returns
    -------
    dict of str to tuple of int, or None
        By model; None without labels, and where the names of the folders are no classes of a model.
    tuple of str
        What was assumed, or why folder names do not count.

    Raises
    ------
    SourceError
        A label that the user gave is no class of a model.
    """
    if pictures.labels is None:
        return None, ()
    found: dict[str, tuple[int, ...]] = {}
    notes: list[str] = []
    for title, model in models.items():
        try:
            found[title], assumption = _classes_of(pictures, model)
        except SourceError as error:
            if pictures.said:
                raise SourceError(f"{title}: {error}") from error
            return None, (f"the folders' names are no labels for {title}, so right and wrong are not told: {error}",)
        notes += [f"{title}: {assumption}"] if assumption else []
    return found, tuple(notes)


def _classes_of(pictures: Pictures, model: Model) -> tuple[tuple[int, ...], str]:
    assert pictures.labels is not None
    counts = {label: pictures.labels.count(label) for label in pictures.classes}
    matched = match_labels(list(counts), class_count(model), model.class_names, folders=not pictures.said)
    unknown = [label for label in matched.unknown if counts[label]]
    if unknown:
        raise SourceError(unknown_text(unknown, matched.class_names, counts))
    return tuple(matched.indices[label] for label in pictures.labels), matched.assumption


def class_count(model: Model) -> int:
    """How many classes a model tells apart; a single output has two."""
    with Recorder(model.module):
        return max(2, model.logits(model.prepare(torch.zeros(1, *model.input, device="cpu"))).shape[1])
