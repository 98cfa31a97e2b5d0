"""Real pictures in the layouts in which they are handed out, and in folders of one's own."""

import difflib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torchcam_suite.class_names import composed
from torchcam_suite.datasets.outlines import outline_mask
from torchcam_suite.datasets.preparing import PreparedSet, SourcePicture, prepare_folder
from torchcam_suite.datasets.procedural import SPLITS
from torchcam_suite.errors import AssumptionWarning, SourceError, TorchcamError
from torchcam_suite.labelled_images import shortlist
from torchcam_suite.picture_files import entries_of, files_below, is_picture

__all__ = ["CALTECH_CLASSES", "caltech101", "crops", "dogs_vs_cats"]

CALTECH_CLASSES = ("airplanes", "Leopards", "watch")

_OBJECTS = "101_ObjectCategories"
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Split by the name of its folder, in lower case."""

Progress = bool | Callable[[int, int], None]


def dogs_vs_cats(
    source: str | Path,
    out: str | Path,
    *,
    size: int | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    progress: Progress = False,
) -> PreparedSet:
    """Split the cats and dogs of Kaggle's "Dogs vs. Cats", or of Microsoft's PetImages.

    Parameters
    ----------
    source : path
        A folder with `cat.0.jpg`, `dog.0.jpg`, ..., or with folders `Cat` and `Dog`; or the folder with that in
        `train` or `PetImages`. PetImages has a few empty and damaged files, which are left out and listed.
    out : path
        New, empty, or written by the same call.
    size, val, test, seed, progress
        As in `prepare_folder`.

    Returns
    -------
    PreparedSet
        With the classes `cat` and `dog`.

    Raises
    ------
    SourceError
        The source has neither layout.
    """
    folder, pictures = _cats_and_dogs(_require_folder(source))
    options = {"name": "dogs-vs-cats", "source": str(folder.resolve())}
    return prepare_folder(pictures, out, options=options, size=size, val=val, test=test, seed=seed, progress=progress)


def _cats_and_dogs(source: Path) -> tuple[Path, list[SourcePicture]]:
    for folder in (source, source / "train", source / "PetImages"):
        if not folder.is_dir():
            continue
        entries = [(Path(entry.path), entry.is_folder) for entry in entries_of(folder)]
        flat = [path for path, is_folder in entries if not is_folder and re.match(r"(cat|dog)\.\d+\.", path.name)]
        if flat:
            return folder, [SourcePicture(path, path.name[:3], path.stem) for path in flat if is_picture(path.name)]
        classes = {path.name.lower().rstrip("s"): path for path, is_folder in entries if is_folder}
        if {"cat", "dog"} <= set(classes):
            return folder, [picture for name in ("cat", "dog") for picture in _below(classes[name], name)]
    raise SourceError(
        f"{source} has neither cat.0.jpg, dog.0.jpg, ... (Kaggle's train folder) nor folders Cat and Dog (PetImages); "
        f"it has {_contents(source)}"
    )


def caltech101(
    source: str | Path,
    out: str | Path,
    *,
    classes: Sequence[str] | None = CALTECH_CLASSES,
    annotations: str | Path | None = None,
    size: int | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    progress: Progress = False,
) -> PreparedSet:
    """Split classes of Caltech 101, with masks where the outlines are at hand.

    Parameters
    ----------
    source : path
        The folder `101_ObjectCategories`, or one that holds it.
    out : path
        New, empty, or written by the same call.
    classes : sequence of str, optional
        Which of its folders; None takes all but `BACKGROUND_Google`.
    annotations : path, optional
        The folder `Annotations` with the outlines (MATLAB files), which become masks. By default it is looked for
        beside the pictures.
    size, val, test, seed, progress
        As in `prepare_folder`.

    Raises
    ------
    SourceError
        There are no such classes in the source.
    """
    folder = _require_folder(source)
    folder = folder / _OBJECTS if (folder / _OBJECTS).is_dir() else folder
    outlines = folder.parent / "Annotations" if annotations is None else _require_folder(annotations)
    names = _find_classes(folder, classes)
    pictures = [
        SourcePicture(
            picture.path,
            picture.class_name,
            picture.name,
            outline_mask=outline_mask(outlines, picture.class_name, picture.path.stem),
        )
        for name in names
        for picture in _below(folder / name, name)
    ]
    options = {"name": "caltech101", "source": str(folder.resolve()), "classes": names}
    return prepare_folder(pictures, out, options=options, size=size, val=val, test=test, seed=seed, progress=progress)


def _find_classes(folder: Path, classes: Sequence[str] | None) -> list[str]:
    there = [path.name for path in _folders_in(folder)]
    if classes is None:
        return [name for name in there if name != "BACKGROUND_Google"]
    folders = {composed(name): name for name in there}
    missing = [name for name in classes if composed(name) not in folders]
    if not missing:
        return sorted({folders[composed(name)] for name in classes})
    close = difflib.get_close_matches(missing[0], there, 1, 0.6)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {shortlist(there)}" if there else ""
    raise SourceError(f"class {missing[0]!r} is no folder of {folder}{hint}")


def crops(
    source: str | Path,
    out: str | Path,
    *,
    size: int | None = 224,
    val: float | None = None,
    test: float | None = None,
    seed: int = 0,
    progress: Progress = False,
) -> PreparedSet:
    """Split pictures of one's own, and cut squares of one size from them.

    Parameters
    ----------
    source : path
        With one folder a class, which may hold folders; or with `train`, `val` and `test` (or `training`, `valid`,
        `validation`, `testing`, in capitals too), each with one folder a class: then that is the split.
    out : path
        New, empty, or written by the same call.
    size : int, optional
        Side of the squares in pixels; None copies the files as they are.
    val, test : float, optional
        About what share of the pictures goes where; 0.15 each by default. Not for a source with a split.
    seed, progress
        As in `prepare_folder`.

    Raises
    ------
    SourceError
        The source has no class folders with pictures.
    TorchcamError
        Shares were given for a source that has its own split.
    """
    folder = _require_folder(source)
    parts, shares = _split_before(folder), {"val": val, "test": test}
    pictures = [picture for split, part in parts for picture in _in_classes(part, split)]
    if pictures and any(share is not None for share in shares.values()):
        raise TorchcamError(
            f"{folder} has its own split (train, ...); leave val and test out, or give one of its folders"
        )
    if pictures:
        for _, part in parts:
            _warn_of_pictures_without_a_class(part)
    else:
        pictures = list(_in_classes(folder))
        shares = {name: 0.15 if share is None else share for name, share in shares.items()}
    if not pictures:
        raise SourceError(
            f"{folder} has no class folders with pictures, as {folder.name}/cat/1.jpg; it has {_contents(folder)}"
        )
    options = {"name": "crops", "source": str(folder.resolve())}
    val, test = shares["val"] or 0.0, shares["test"] or 0.0
    return prepare_folder(pictures, out, options=options, size=size, val=val, test=test, seed=seed, progress=progress)


def _split_before(folder: Path) -> list[tuple[str, Path]]:
    """The folders of a source's own split, `train` first; none where there is no `train`."""
    parts = [(_PARTS.get(path.name.lower(), ""), path) for path in _folders_in(folder)]
    found = [(split, path) for split in SPLITS for known, path in parts if known == split]
    return found if any(split == "train" for split, _ in found) else []


def _folders_in(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in entries_of(folder) if entry.is_folder]


def _in_classes(folder: Path, split: str | None = None) -> Iterator[SourcePicture]:
    for path in _folders_in(folder):
        yield from _below(path, path.name, split)


def _warn_of_pictures_without_a_class(folder: Path) -> None:
    outside = [Path(entry.path).name for entry in entries_of(folder) if not entry.is_folder and is_picture(entry.path)]
    if outside:
        warnings.warn(
            f"{folder} has pictures outside of class folders, which are left out: {shortlist(outside, 4)}",
            AssumptionWarning,
            stacklevel=3,
        )


def _below(folder: Path, class_name: str, split: str | None = None) -> list[SourcePicture]:
    return [
        SourcePicture(Path(path), class_name, Path(path).relative_to(folder).with_suffix("").as_posix(), split)
        for path in files_below(folder)
        if is_picture(path)
    ]


def _require_folder(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    hint = "; unpack it first" if folder.suffix in {".zip", ".gz", ".tar", ".tgz"} and folder.exists() else ""
    raise SourceError(f"{'no such folder' if not folder.exists() else 'not a folder'}: {folder}{hint}")


def _contents(folder: Path) -> str:
    names = [Path(entry.path).name for entry in entries_of(folder)]
    return shortlist(names, 5) if names else "nothing in it"
