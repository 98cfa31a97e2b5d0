"""The pictures of concepts and the random ones: found, dealt into sets, and looked at critically."""

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.class_names import composed
from torchcam_suite.errors import ConceptError, ConceptWarning, ImageError
from torchcam_suite.images import as_list
from torchcam_suite.picture_files import ENDINGS
from torchcam_suite.streaming import image_name

FEWEST, FEW = 6, 15  # pictures of a concept: two for each fold of the held-out accuracy; fewer than FEW warn


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some pictures, in order.

    Attributes
    ----------
    items : sequence, or Tensor
        Paths, PIL images or arrays; or (N, C, H, W), ready for the model.
    names : tuple of str
        The paths of files; "image 3" for the one at position 3 of what the caller gave.
    """

    items: Sequence[Any] | Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, positions: np.ndarray) -> "Pictures":
        """Some of them, under their own names."""
        names = tuple(self.names[i] for i in positions)
        if isinstance(self.items, Tensor):
            return Pictures(self.items[positions.tolist()], names)
        return Pictures([self.items[i] for i in positions], names)

    @cached_property
    def contents(self) -> tuple[bytes, ...]:
        """A hash of each picture: of the bytes of a file, or of its values."""
        return tuple(map(_content, self.items))

    @property
    def digest(self) -> str:
        """A hash of all of them, in order."""
        return hashlib.sha256(b"".join(self.contents)).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class PictureSets:
    """The pictures of the concepts and the random ones, by the names of the sets."""

    concepts: dict[str, Pictures]
    random: dict[str, Pictures]

    @property
    def all(self) -> dict[str, Pictures]:
        """Concepts and random sets; a name of both kinds cannot be."""
        return self.concepts | self.random


def random_folders(data: Path, prefix: str, concepts: Collection[str] = ()) -> dict[str, Pictures]:
    """Find the sub-folders of random pictures, as `random500_0`, in the order of their numbers.

    Parameters
    ----------
    data : Path
        Holds one folder of pictures a concept, one a target class, and several of random pictures.
    prefix : str
        What the names of the random folders begin with.
    concepts : collection of str
        Folders that are something else, whatever their name.

    Raises
    ------
    ConceptError
        There is none, or one without a picture.
    """
    known = [folder.name for folder in _folders(data)]
    names = [name for name in known if name.startswith(prefix) and name not in concepts]
    if not names:
        raise ConceptError(
            f"no folder in {data} begins with {prefix!r}; TCAV compares with random pictures: say how their folders "
            f"are called (random=, --random). Found: {_listed(known)}"
        )
    return {name: pictures_of(data, name) for name in sorted(names, key=_by_number)}


def pictures_of(data: Path, name: str) -> Pictures:
    """The pictures in one sub-folder, by name.

    Raises
    ------
    ConceptError
        It is missing, or there is none in it.
    """
    folder = _sub_folder(Path(data), name)
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise ConceptError(f"{folder} holds no picture (PNG, JPEG, WebP, ...)")
    return Pictures(found, tuple(map(str, found)))


def _sub_folder(data: Path, name: str) -> Path:
    if (data / name).is_dir():
        return data / name
    known = [found.name for found in _folders(data)]
    for one in known:
        if composed(one) == composed(name):
            return data / one
    near = get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"found: {_listed(known)}"
    raise ConceptError(f"{data} has no folder {name!r}; {hint}")


def given_sets(random: Any) -> dict[str, Pictures]:
    """Name the sets of random pictures that the caller has at hand; one list or tensor of pictures is a pool.

    Raises
    ------
    ConceptError
        A set is empty, or nothing that holds pictures.
    """
    if isinstance(random, Iterator):
        random = list(random)
    if isinstance(random, Mapping):
        return {str(name): given(pictures, f"random set {name!r}") for name, pictures in random.items()}
    if _is_many_sets(random):
        return {f"random_{i}": given(pictures, f"random set {i}") for i, pictures in enumerate(random)}
    return {"random": given(random, "the random ones")}


def _is_many_sets(random: Any) -> bool:
    def holds_pictures(item: Any) -> bool:
        if isinstance(item, np.ndarray | Tensor):
            return item.ndim == 4
        return isinstance(item, list | tuple) or (isinstance(item, str | Path) and Path(item).is_dir())

    return isinstance(random, list | tuple) and len(random) > 0 and all(map(holds_pictures, random))


def given(pictures: Any, what: str) -> Pictures:
    """Take pictures as they are, or those in a folder.

    Raises
    ------
    ConceptError
        There is none, or it is nothing that pictures can be.
    """
    if isinstance(pictures, Pictures):
        return pictures
    if isinstance(pictures, str | Path) and Path(pictures).is_dir():
        folder = Path(pictures)
        return pictures_of(folder.parent, folder.name)
    if isinstance(pictures, Tensor):
        items: Any = pictures[None] if pictures.ndim == 3 else pictures
    else:
        try:
            items = as_list(pictures)
        except ImageError as error:
            raise ConceptError(f"no picture of {what} was given: {error}") from error
    if not len(items):
        raise ConceptError(f"no picture of {what} was given")
    if not isinstance(items, Tensor) and any(isinstance(item, Tensor) for item in items):
        raise ConceptError(f"{what} is a list of tensors; give one tensor (N, C, H, W): torch.stack(...)")
    return Pictures(items, tuple(image_name(item, i) for i, item in enumerate(items)))


def dealt(sets: PictureSets, runs: int | None, *, redeal: bool, seed: int) -> PictureSets:
    """Choose the random sets: as they are, the first ones, or dealt anew from all random pictures.

    Parameters
    ----------
    sets : PictureSets
        What was found.
    runs : int or None
        How many random sets to use. None takes all, or as many as a pool allows.
    redeal : bool
        Put all random pictures together and deal them into disjoint sets as large as the smallest concept; with `runs`,
        into so many, as large as the pictures allow and at most as large as the largest concept. A single random set
        is always dealt. Copies of a picture are left out, with a warning.
    seed : int
        Shuffles the pool.

    Raises
    ------
    ConceptError
        There are fewer sets, or fewer pictures, than `runs` needs.
    """
    if len(sets.random) > 1 and not redeal:
        if runs is not None and runs > len(sets.random):
            raise ConceptError(
                f"runs={runs}, but there are {len(sets.random)} random sets; give more, or redeal=True (--redeal), "
                f"which deals their {sum(map(len, sets.random.values()))} pictures into new sets"
            )
        return PictureSets(sets.concepts, dict(list(sets.random.items())[:runs]))
    pool = _without_copies(_joined(list(sets.random.values())))
    least = min(map(len, sets.concepts.values()), default=FEWEST)
    count = len(pool) // least if runs is None else runs
    size = least if runs is None else min(len(pool) // count, max(map(len, sets.concepts.values()), default=FEWEST))
    if count < 2 or size < FEWEST:
        raise ConceptError(
            f"{len(pool)} random pictures make no {max(count, 2)} sets of {max(least, FEWEST)}, the size of the "
            f"smallest concept; give more random pictures" + ("" if runs is None else ", or ask for fewer runs=")
        )
    width = len(str(count - 1))
    return PictureSets(sets.concepts, _deal(pool, count, size, seed, lambda i: f"random_{i:0{width}}"))


def others(sets: Mapping[str, Pictures], name: str, seed: int) -> dict[str, Pictures]:
    """The pictures of the other concepts, mixed and dealt into sets as large as this one: for relative CAVs."""
    pool = _joined([pictures for other, pictures in sets.items() if other != name])
    size = min(len(sets[name]), len(pool))
    return _deal(pool, len(pool) // size, size, seed, lambda i: f"not {name} {i}")


def _deal(pool: Pictures, count: int, size: int, seed: int, name: Callable[[int], str]) -> dict[str, Pictures]:
    order = np.random.default_rng(seed).permutation(len(pool))[: count * size].reshape(count, size)
    return {name(i): pool.chosen(row) for i, row in enumerate(order)}


def _without_copies(pool: Pictures) -> Pictures:
    first = {content: i for i, content in reversed(list(enumerate(pool.contents)))}
    if len(first) == len(pool):
        return pool
    text = f"{len(pool) - len(first)} of {len(pool)} random pictures are copies of others, and are left out"
    warnings.warn(text, ConceptWarning, stacklevel=5)
    return pool.chosen(np.array(sorted(first.values())))


def _joined(parts: Sequence[Pictures]) -> Pictures:
    if len(parts) == 1:
        return parts[0]
    names = tuple(name for part in parts for name in part.names)
    return Pictures(joined_items(parts), names)


def joined_items(parts: Sequence[Pictures]) -> Sequence[Any] | Tensor:
    """All pictures of several sets.

    Raises
    ------
    ConceptError
        Some are tensors and some are not, or they have different sizes.
    """
    tensors = [part.items for part in parts if isinstance(part.items, Tensor)]
    if not tensors:
        return [picture for part in parts for picture in part.items]
    if len(tensors) < len(parts):
        raise ConceptError("some of the sets are tensors and some are pictures; give all of them in the same way")
    if len({tuple(tensor.shape[1:]) for tensor in tensors}) > 1:
        shapes = sorted({str(tuple(tensor.shape[1:])) for tensor in tensors})
        raise ConceptError(f"the tensors of the sets have images of {' and '.join(shapes)}; expected one shape")
    return torch.cat(tensors)


def check(sets: PictureSets, *, relative: bool = False) -> None:
    """Refuse what gives no meaningful TCAV, and warn of what makes it doubtful.

    Raises
    ------
    ConceptError
        A set has too few pictures, there is nothing to compare with, or a name stands for two sets.
    """
    if not sets.concepts:
        raise ConceptError("no concept was given; name at least one")
    if both := sets.concepts.keys() & sets.random.keys():
        raise ConceptError(f"{_listed(sorted(both))} names a concept and a random set; give them different names")
    for name, pictures in sets.all.items():
        if len(pictures) < FEWEST:
            raise ConceptError(f"{name!r} has {len(pictures)} pictures; a probe needs at least {FEWEST} of each kind")
    if relative and len(sets.concepts) < 2:
        raise ConceptError("relative=True tells a concept from the others, but only one was given")
    if not relative and len(sets.random) < 2:
        raise ConceptError("there is one random set only; a concept is compared with several (19 for a level of 0.05)")
    _warn_of_few(sets)
    if not relative:  # else each concept has a pool of its own to be told from
        _warn_of_a_small_set(sets)
    _warn_of_duplicates(sets, relative=relative)


def _warn_of_few(sets: PictureSets) -> None:
    few = [f"{name} ({len(pictures)})" for name, pictures in sets.concepts.items() if len(pictures) < FEW]
    if few:
        text = f"few pictures of {', '.join(few)}: a CAV of fewer than {FEW} depends much on which they are"
        warnings.warn(text, ConceptWarning, stacklevel=5)


def _warn_of_a_small_set(sets: PictureSets) -> None:
    smallest = min(sets.random.items(), key=lambda one: len(one[1]))
    short = [name for name, pictures in sets.concepts.items() if len(pictures) > len(smallest[1])]
    if short and len(smallest[1]) < FEW:
        warnings.warn(
            f"probes of {', '.join(short)} use {len(smallest[1])} of their pictures, since {smallest[0]!r} has no more "
            f"and both sides have to be of one size; leave that set out, or ask for fewer runs",
            ConceptWarning,
            stacklevel=5,
        )


def _warn_of_duplicates(sets: PictureSets, *, relative: bool) -> None:
    repeated = {
        name: len(pictures) - len(set(pictures.contents))
        for name, pictures in sets.all.items()
        if len(set(pictures.contents)) < len(pictures)
    }
    if repeated:
        text = f"the same picture is several times in {_counted(repeated)}; copies make the held-out accuracy too good"
        warnings.warn(text, ConceptWarning, stacklevel=5)
    shared = _shared(sets.all)
    # concepts may share pictures, as striped and black and white do, unless they are told from each other
    pairs = {pair: count for pair, count in shared.items() if relative or pair[1] in sets.random}
    if pairs:
        warnings.warn(
            f"the same pictures are in {_counted({f'{one} and {other}': n for (one, other), n in pairs.items()})}; a "
            f"picture on both sides spoils the probe and its significance: take it out of one of them",
            ConceptWarning,
            stacklevel=5,
        )


def warn_of_images_among(sets: PictureSets, images: Pictures, target: str) -> None:
    """Warn where images of the target are pictures that the probes are trained on."""
    seen = set(images.contents)
    among = {name: n for name, pictures in sets.all.items() if (n := len(seen & set(pictures.contents)))}
    if among:
        warnings.warn(
            f"images of target {target!r} are also in {_counted(among)}; a probe fits the pictures that it was trained "
            f"on, so that their sensitivities say less",
            ConceptWarning,
            stacklevel=4,
        )


def _shared(sets: Mapping[str, Pictures]) -> dict[tuple[str, str], int]:
    """How many pictures of a set are in one before it."""
    first: dict[bytes, str] = {}
    pairs: dict[tuple[str, str], int] = {}
    for name, pictures in sets.items():
        for content in set(pictures.contents):
            if (other := first.setdefault(content, name)) != name:
                pairs[other, name] = pairs.get((other, name), 0) + 1
    return pairs


def _counted(counts: Mapping[str, int], most: int = 4) -> str:
    """As in "red (2), blue (3) and 5 more"."""
    listed = [f"{name} ({count})" for name, count in counts.items()]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _content(picture: Any) -> bytes:
    if isinstance(picture, str | Path):
        try:
            return hashlib.sha256(Path(picture).read_bytes()).digest()
        except OSError:
            return hashlib.sha256(
                str(picture).encode(errors="surrogateescape")
            ).digest()  # opening it says what is wrong
    if isinstance(picture, Tensor):
        flat = picture.detach().cpu().contiguous().flatten().view(torch.uint8)
        return hashlib.sha256(f"{picture.shape}{picture.dtype}".encode() + flat.numpy().tobytes()).digest()
    array = np.asarray(picture)
    return hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.tobytes()).digest()


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ConceptError(f"{root} is no folder; expected one with a sub-folder of pictures for each concept")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _by_number(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _listed(names: Sequence[str], most: int = 8) -> str:
    text = ", ".join(map(repr, names[:most])) or "nothing"
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
