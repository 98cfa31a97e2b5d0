"""Any number of images as batches on the model's device; files are decoded ahead of need, in worker processes."""

import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchcam_suite import images as pictures
from torchcam_suite.errors import ImageError
from torchcam_suite.images import InputSpec, Preprocessing
from torchcam_suite.models import Model

OnError = Literal["raise", "skip"]

_FEW = 64  # files that are decoded before processes for it would have started
_MOST_WORKERS = 8
_WAITING = 2  # batches that each worker has ready
_SHARED_MEMORY = Path("/dev/shm")


class Unreadable(NamedTuple):
    """An image that was left out.

    Attributes
    ----------
    path : str
        Its file, or "image 3" for one that is no file.
    reason : str
        What is wrong with it.
    """

    path: str
    reason: str


class Batch(NamedTuple):
    """Images that are ready for the model.

    Attributes
    ----------
    positions : tuple of int
        Where they stand among the given images, from 0, in order; n of them.
    images : Tensor
        (n, C, H, W) on the model's device, of its dtype.
    """

    positions: tuple[int, ...]
    images: Tensor


def stream(
    model: Model,
    images: Any,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    on_error: OnError = "raise",
    unreadable: list[Unreadable] | None = None,
) -> Iterator[Batch]:
    """Make the model's input of pictures, batch after batch, in order; no more than a few batches are in memory.

    The values are those of `Model.prepare`.

    Parameters
    ----------
    model : Model
        From `load`. Only what it says of its input goes to the worker processes.
    images : as for `Model.prepare`
        A sequence of paths, PIL images or arrays; or a tensor (N, C, H, W), which is taken as ready and only checked.
    batch_size : int
        Images in a batch; fewer in the last one, and where images are left out.
    workers : int, optional
        Processes that decode files; 0 decodes in this one. By default 0 for a model on the CPU, which takes all
        processors itself; else as many as there are processors, up to 8. Also 0 for fewer than 64 files, for images
        that are in memory, and where processes cannot be forked (macOS, Windows, inside a worker process): there they
        would import the caller's script again, which has to allow for it (``if __name__ == "__main__"``).
    on_error : {"raise", "skip"}
        What happens at an image that cannot be read. A tensor with NaN in it is always an error.
    unreadable : list, optional
        With "skip", images that cannot be read are appended here when their batch is due.

    Returns
    -------
    iterator of Batch
        A batch without any readable image is left out.

    Raises
    ------
    ImageError
        No images, or pictures do not fit the model; while it runs: an image cannot be read, or a worker process ended.
    ValueError
        An option that does not exist.

    Examples
    --------
    >>> from torch import nn
    >>> from torchcam_suite import load
    >>> model = load(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), input_size=2, preprocessing="unit", device="cpu")
    >>> grey = Image.new("L", (8, 8), 51)
    >>> [(batch.positions, tuple(batch.images.shape)) for batch in stream(model, [grey] * 3, batch_size=2)]
    [((0, 1), (2, 3, 2, 2)), ((2,), (1, 3, 2, 2))]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected at least 1")
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers}; expected 0, which decodes in this process, or more")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error={on_error!r} does not exist; expected 'raise' or 'skip'")
    if isinstance(images, Tensor):
        return _ready(model, images[None] if images.ndim == 3 else images, batch_size)
    sources = pictures.as_list(images)
    # what no picture could change is told before the first one is opened
    pictures.to_tensor([Image.new("RGB", (1, 1))], model.input, model.preprocessing)
    batches = _Batches(sources, batch_size, model.input, model.preprocessing)
    count = _choose_workers(sources, batches, model.device) if workers is None else workers
    return _read(model, batches, min(count, len(batches)), on_error, [] if unreadable is None else unreadable)


def image_name(source: Any, position: int) -> str:
    """How an image is called: its path, or "image 3" for the one at position 3 if it is no file."""
    return str(source) if isinstance(source, str | Path) else f"image {position}"


def _ready(model: Model, images: Tensor, size: int) -> Iterator[Batch]:
    # no image at all is one empty batch, which the model refuses
    for start in range(0, max(1, len(images)), size):
        batch = model.prepare(images[start : start + size])
        yield Batch(tuple(range(start, start + len(batch))), batch)


class _Decoded(NamedTuple):
    """What a worker makes of the files of a batch; `images` is None if none of them can be read."""

    positions: Sequence[int]
    images: Tensor | None
    unreadable: Sequence[Unreadable]


class _Batches(Dataset[_Decoded]):
    """Batches by their number: all that a worker process knows."""

    def __init__(self, sources: Sequence[Any], size: int, spec: InputSpec, preprocessing: Preprocessing) -> None:
        self._sources = sources
        self._size = size
        self._spec = spec
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return -(-len(self._sources) // self._size)

    def __getitem__(self, number: int) -> _Decoded:
        start = number * self._size
        ready: dict[int, Tensor] = {}
        unreadable = []
        for position, source in enumerate(self._sources[start : start + self._size], start):
            try:
                # one at a time: large pictures are never in memory together
                ready[position] = self._prepared(source, position)
            except ImageError as error:
                unreadable.append(Unreadable(image_name(source, position), str(error)))
        return _Decoded(list(ready), torch.cat(list(ready.values())) if ready else None, unreadable)

    def _prepared(self, source: Any, position: int) -> Tensor:
        try:
            picture = pictures.open_picture(source)
        except ImageError:
            raise
        except Exception as error:  # a damaged file may bring a decoder to any error
            raise ImageError(f"{image_name(source, position)} is damaged ({type(error).__name__}: {error})") from error
        return pictures.to_tensor([picture], self._spec, self._preprocessing)

    @property
    def nbytes(self) -> int:
        """Of one batch."""
        return 4 * self._size * self._spec.channels * self._spec.height * self._spec.width


def _choose_workers(sources: Sequence[Any], batches: _Batches, device: torch.device) -> int:
    files = sum(isinstance(source, str | Path) for source in sources)
    forbidden = sys.platform != "linux" or multiprocessing.current_process().daemon
    # a model on the CPU takes all processors, and processes beside it only interrupt it
    if files < _FEW or forbidden or device.type == "cpu":
        return 0
    # a container may have 64 MB of shared memory, and a worker that finds no room in it is killed
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS, free // ((_WAITING + 1) * batches.nbytes))


def _read(
    model: Model, batches: _Batches, workers: int, on_error: OnError, unreadable: list[Unreadable]
) -> Iterator[Batch]:
    like = model.prepare(torch.zeros(1, *model.input, device="cpu"))
    for decoded in _decoded(batches, workers, pin_memory=like.device.type == "cuda"):
        if decoded.unreadable and on_error == "raise":
            raise ImageError(decoded.unreadable[0].reason)
        unreadable.extend(decoded.unreadable)
        if decoded.images is not None:
            # from pinned memory, the copy runs while the device still computes the batch before
            placed = decoded.images.to(like.device, like.dtype, non_blocking=True)
            yield Batch(tuple(decoded.positions), placed)


def _decoded(batches: _Batches, workers: int, *, pin_memory: bool) -> Iterator[_Decoded]:
    if workers:
        Image.init()  # a forked process must not wait for an import that another thread had begun
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_WAITING if workers else None,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # the loader draws a seed, which must not change the caller's random numbers
        multiprocessing_context=_forking() if workers and sys.platform == "linux" else None,
    )
    try:
        # the seed is drawn on the default device, which may be another than that of the generator
        with _forking_is_meant(), torch.device("cpu"):
            found = iter(loader)
        yield from found
    except RuntimeError as error:
        if not workers:
            raise
        raise ImageError(
            f"a process that decodes pictures ended ({error}): a picture brought its decoder down, or memory ran out; "
            "take fewer workers, or find the picture with workers=0"
        ) from error


def _forking() -> BaseContext:
    """How worker processes are made where a process can be copied."""
    from multiprocessing.context import ForkContext, ForkProcess

    class Decoder(ForkProcess):
        def run(self) -> None:
            # The loader seeds both generators, which waits for ever if another thread was drawing a number at the
            # moment of the copy, and so held a lock that nobody here gives back. Decoding draws no numbers.
            vars(torch)["manual_seed"] = vars(np.random)["seed"] = _as_it_is
            super().run()

    class Forking(ForkContext):
        Process = Decoder

    return Forking()


def _as_it_is(decoded: Any) -> Any:
    return decoded


@contextmanager
def _forking_is_meant() -> Iterator[None]:
    """Python warns of forks where threads run; the workers take none of their locks, and run torch on one thread."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        yield
