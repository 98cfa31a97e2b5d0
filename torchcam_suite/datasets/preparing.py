"""Pictures of somebody else -> the layout for training: a folder a split, in it one a class."""

import hashlib
import io
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from torchcam_suite.class_names import composed
from torchcam_suite.datasets.description import claim, complete, write_beside
from torchcam_suite.datasets.procedural import LARGEST_SIZE, SPLITS
from torchcam_suite.errors import AssumptionWarning, ImageError, SourceError, TorchcamError
from torchcam_suite.images import open_picture
from torchcam_suite.labelled_images import shortlist
from torchcam_suite.picture_files import files_below, is_picture
from torchcam_suite.progress import reporting

__all__ = ["Broken", "PreparedSet", "SourcePicture", "prepare_folder", "split_of"]

_JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})


@dataclass(frozen=True)
class SourcePicture:
    """One picture to take.

    Attributes
    ----------
    path : Path
        The file, which is only read.
    class_name : str
        What it shows.
    name : str
        Of the file that is written, without ending; slashes become hyphens.
    split : str or None
        "train", "val" or "test", where the source has its own split.
    outline_mask : function, optional
        Gives the mask of the whole picture (mode "L", of its size), or None.
    """

    path: Path
    class_name: str
    name: str
    split: str | None = None
    outline_mask: Callable[[tuple[int, int]], Image.Image | None] | None = None


class Broken(NamedTuple):
    """A picture that was left out, or its mask."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PreparedSet:
    """What was written.

    Attributes
    ----------
    folder : Path
        With ``SPLIT/CLASS/NAME``, and ``masks/SPLIT/CLASS/NAME.png`` where the source has outlines.
    class_names : tuple of str
        Sorted.
    counts : dict of str to dict of str to int
        Pictures by split and class.
    masks : int
        Masks.
    broken : tuple of Broken
        Files that are no pictures; they are left out.
    unmasked : tuple of Broken
        Pictures whose outline cannot be read; they are there, without a mask.
    duplicates : tuple of tuple of Path
        Files with the same content. They all went into one split, unless the source has its own split.
    contradictions : tuple of tuple of Path
        Those of them that lie in different classes.
    """

    folder: Path
    class_names: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    masks: int
    broken: tuple[Broken, ...]
    unmasked: tuple[Broken, ...]
    duplicates: tuple[tuple[Path, ...], ...]
    contradictions: tuple[tuple[Path, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "folder": str(self.folder),
            "class_names": list(self.class_names),
            "counts": self.counts,
            "masks": self.masks,
            "broken": [{"path": str(path), "reason": reason} for path, reason in self.broken],
            "unmasked": [{"path": str(path), "reason": reason} for path, reason in self.unmasked],
            "duplicates": [[str(path) for path in same] for same in self.duplicates],
            "contradictions": [[str(path) for path in same] for same in self.contradictions],
        }


class _Written(NamedTuple):
    """What became of one picture."""

    picture: SourcePicture
    split: str
    content: str
    masked: bool
    broken: str | None
    target: Path | None = None
    unmasked: str | None = None
    changed: bool = False  # since an earlier call wrote it


def split_of(content: bytes, val: float, test: float, seed: int) -> str:
    """The split of a picture, by the hash of its content alone.

    It stays in its split when other pictures are added, removed or renamed, and a copy of it goes into the same one.

    Examples
    --------
    >>> split_of(b"a picture", val=0.15, test=0.15, seed=0)
    'train'
    """
    digest = hashlib.sha256(f"{seed}:".encode() + hashlib.sha256(content).digest()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return "test" if share < test else "val" if share < test + val else "train"


def check_fractions(val: float, test: float) -> None:
    """Refuse shares that leave nothing to train with."""
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise TorchcamError(f"val={val:g}, test={test:g}; expected fractions from 0, together below 1, as 0.15")


def prepare_folder(
    pictures: Iterable[SourcePicture],
    out: str | Path,
    *,
    options: dict[str, Any],
    size: int | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    progress: bool | Callable[[int, int], None] = False,
) -> PreparedSet:
    """Split pictures into folders, by copying them, or as squares of one size.

    Nothing in the source is changed. The same call again completes what was stopped, and takes pictures that were
    added to the source; those that are there stay as they are. What the source has no more, or has changed, is named in
    a warning.

    Parameters
    ----------
    pictures : iterable of SourcePicture
        What to take.
    out : path
        New, empty, or written with the same options.
    options : dict
        What else makes this data set what it is, as JSON values: name and source.
    size : int, optional
        Side of a centred square that is cut from each picture and resized (Lanczos), in pixels; JPEG stays JPEG (of
        quality 95), all else becomes PNG; at most 4096. By default files are copied as they are.
    val, test : float
        Shares of the pictures without a split of their own, about; see `split_of`.
    seed : int
        Another seed gives another split.
    progress : bool or function
        Show a bar on stderr, or call the function with the numbers of pictures done and to do.

    Raises
    ------
    TorchcamError
        Size or shares are out of their range, or a class or split cannot be a folder of that name.
    SourceError
        There are no pictures, or `out` holds something else, lies in the source, or cannot be written.
    """
    check_fractions(val, test)
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise TorchcamError(
            f"size={size}; expected the side of the squares in pixels, 1 to {LARGEST_SIZE}, or None for the files as "
            "they are"
        )
    out, listed = Path(out), _named_apart(list(pictures))
    about = options | {"size": size, "val": val, "test": test, "seed": seed}
    if not listed:
        raise SourceError(f"{options.get('source', 'the source')} has no picture of these classes")
    _require_names(listed)
    _require_apart(out, options.get("source"))

    def take(picture: SourcePicture) -> _Written:
        return _take(picture, out, size, lambda content: split_of(content, val, test, seed))

    try:
        claim(out, about)
        with reporting("preparing pictures", progress) as report, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of what they can read all the same
            written = []
            with ThreadPoolExecutor() as pool:
                for done in pool.map(take, listed):
                    written.append(done)
                    if report:
                        report(len(written), len(listed))
        found = _found(out, written)
        complete(out, about, {key: value for key, value in found.to_json().items() if key != "folder"})
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error.strerror or error}") from error
    _warn_of_gaps(found, val, test)
    _warn_of_leaks(written)
    _warn_of_others(out, written)
    return found


def _require_names(pictures: Sequence[SourcePicture]) -> None:
    """Refuse what would be written elsewhere, or where nobody looks for it."""
    for name in {picture.class_name for picture in pictures}:
        if name in {"", ".", ".."} or "/" in name or "\\" in name:
            raise TorchcamError(f"class name {name!r} cannot be a folder's name; expected one as 'cat'")
    for split in {picture.split for picture in pictures} - {None, *SPLITS}:
        raise TorchcamError(f"split {split!r} is unknown; expected None, or one of {', '.join(SPLITS)}")


def _require_apart(out: Path, source: Any) -> None:
    if isinstance(source, str) and Path(source).resolve() in out.resolve().parents:
        raise SourceError(
            f"{out} lies in {source}, where the same call would take it for originals the next time; name a folder "
            "outside"
        )


def _named_apart(pictures: Sequence[SourcePicture]) -> list[SourcePicture]:
    """With names that no other picture of the same split and class has; a class has one name, however it is written."""
    plain = [picture.name.replace("/", "-").lstrip(".") for picture in pictures]
    classes = [composed(picture.class_name) for picture in pictures]
    keys = [(picture.split, label, name.lower()) for picture, label, name in zip(pictures, classes, plain, strict=True)]
    met = Counter(keys)
    named = []
    for picture, label, name, key in zip(pictures, classes, plain, keys, strict=True):
        if met[key] > 1:
            # the same name, however the source was written
            path = picture.path.parent.resolve() / picture.path.name
            name = f"{name}-{hashlib.sha256(str(path).encode('utf-8', 'replace')).hexdigest()[:8]}"
        named.append(SourcePicture(picture.path, label, name, picture.split, picture.outline_mask))
    return named


def _take(picture: SourcePicture, out: Path, size: int | None, choose: Callable[[bytes], str]) -> _Written:
    try:
        content = picture.path.read_bytes()
        opened = open_picture(picture.path)
    except ImageError as error:
        return _Written(picture, "", "", False, str(error))
    except Exception as error:  # a damaged file may bring a decoder to any error
        reason = f"{picture.path} cannot be read ({type(error).__name__}: {error})"
        return _Written(picture, "", "", False, reason)
    split = picture.split or choose(content)
    ending = picture.path.suffix.lower()
    if size is not None and ending not in _JPEG:
        ending = ".png"
    target = out / split / picture.class_name / f"{picture.name}{ending}"
    wanted = content if size is None else _encoded(_square(opened, size, Image.Resampling.LANCZOS), ending)
    changed = target.is_file() and target.read_bytes() != wanted
    if not target.is_file():
        write_beside(target, lambda file: file.write_bytes(wanted))
    mask, unmasked = out / "masks" / split / picture.class_name / f"{picture.name}.png", None
    try:
        masked = _write_mask(picture, opened.size, mask, size)
    except SourceError as error:
        masked, unmasked = False, str(error)
    return _Written(picture, split, hashlib.sha256(content).hexdigest(), masked, None, target, unmasked, changed)


def _encoded(picture: Image.Image, ending: str) -> bytes:
    file = io.BytesIO()
    quality = {"quality": 95, "subsampling": 0} if ending in _JPEG else {}
    picture.save(file, "JPEG" if quality else "PNG", **quality)
    return file.getvalue()


def _write_mask(picture: SourcePicture, extent: tuple[int, int], target: Path, size: int | None) -> bool:
    mask = None if picture.outline_mask is None else picture.outline_mask(extent)
    if mask is None:
        return False
    if not target.is_file():
        scaled = mask if size is None else _square(mask, size, Image.Resampling.NEAREST)
        write_beside(target, lambda file: scaled.save(file, "PNG"))
    return True


def _square(picture: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """The centred square, resized."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((size, size), resample)


def _found(out: Path, written: Sequence[_Written]) -> PreparedSet:
    good = [one for one in written if one.broken is None]
    class_names = tuple(sorted({one.picture.class_name for one in written}))
    counts = Counter((one.split, one.picture.class_name) for one in good)
    alike: dict[str, list[SourcePicture]] = defaultdict(list)
    for one in good:
        alike[one.content].append(one.picture)
    same = [pictures for pictures in alike.values() if len(pictures) > 1]
    return PreparedSet(
        folder=out,
        class_names=class_names,
        counts={
            split: {name: counts[split, name] for name in class_names}
            for split in SPLITS
            if any(counts[split, name] for name in class_names)
        },
        masks=sum(one.masked for one in good),
        broken=tuple(Broken(one.picture.path, one.broken) for one in written if one.broken is not None),
        unmasked=tuple(Broken(one.picture.path, one.unmasked) for one in good if one.unmasked is not None),
        duplicates=_paths(same),
        contradictions=_paths(group for group in same if len({picture.class_name for picture in group}) > 1),
    )


def _paths(groups: Iterable[Sequence[SourcePicture]]) -> tuple[tuple[Path, ...], ...]:
    return tuple(tuple(picture.path for picture in group) for group in groups)


def _gaps(found: PreparedSet, val: float, test: float) -> Iterator[str]:
    for split, share in (("train", 1.0), ("val", val), ("test", test)):
        none = [name for name in found.class_names if not found.counts.get(split, {}).get(name)]
        if none and (share or split in found.counts):
            yield f"{split} has no picture of {', '.join(map(repr, none))}"


def _warn_of_gaps(found: PreparedSet, val: float, test: float) -> None:
    if gaps := list(_gaps(found, val, test)):
        warnings.warn(
            f"{'; '.join(gaps)}: give more pictures, larger shares or another seed (into a new folder)",
            AssumptionWarning,
            stacklevel=3,
        )


def _warn_of_leaks(written: Sequence[_Written]) -> None:
    """Name pictures that the source's own split has on both sides."""
    splits: dict[str, set[str]] = defaultdict(set)
    for one in written:
        if one.broken is None:
            splits[one.content].add(one.split)
    shared = [one for one in written if one.broken is None and len(splits[one.content]) > 1]
    if shared:
        files = shortlist([str(one.picture.path) for one in shared], 4)
        warnings.warn(
            f"{len({one.content for one in shared})} of the pictures lie in several splits of the source, so that a "
            f"test may be of what was trained on: {files}",
            AssumptionWarning,
            stacklevel=3,
        )


def _warn_of_others(out: Path, written: Sequence[_Written]) -> None:
    """Name what an earlier call wrote of pictures that the source has no more, or has changed or named otherwise."""
    changed = [one.target.relative_to(out) for one in written if one.changed and one.target is not None]
    if changed:
        warnings.warn(
            f"{out} holds {len(changed)} picture{'s' if len(changed) > 1 else ''} that the source would give otherwise "
            f"now (changed since, or written with another version of Pillow): "
            f"{shortlist([str(path) for path in changed], 5)}; delete them and give the same call again, or prepare a "
            "new folder",
            AssumptionWarning,
            stacklevel=3,
        )
    known = {composed(str(one.target)) for one in written}
    folders = [out / split for split in SPLITS if (out / split).is_dir()]
    others = [
        path for folder in folders for path in files_below(folder) if is_picture(path) and composed(path) not in known
    ]
    if others:
        warnings.warn(
            f"{out} also holds {len(others)} picture{'s' if len(others) > 1 else ''} that the source has no more, or "
            f"not under that name: {shortlist([str(Path(path).relative_to(out)) for path in others], 5)}; delete them, "
            "or prepare a new folder",
            AssumptionWarning,
            stacklevel=3,
        )
