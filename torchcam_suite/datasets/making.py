"""A procedural set as files: each picture by itself, so that it can be drawn by any process, or later."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torchcam_suite
from torchcam_suite.datasets.description import claim, complete, write_beside
from torchcam_suite.datasets.procedural import LARGEST_SIZE, SMALLEST_SIZE, SPLITS, find, generator_of
from torchcam_suite.errors import SourceError, TorchcamError
from torchcam_suite.progress import reporting

__all__ = ["make"]

_MOST_PICTURES = 1_000_000  # of a set: hours of drawing, and gigabytes; more is a slip of the hand
_DRAWINGS = 1  # goes up when the same numbers give other pictures
_FEW = 200  # pictures: in the time that a further process takes to start, this one draws about half as many
_WORKER = "from torchcam_suite.datasets.worker import main; main()"


@dataclass(frozen=True)
class Task:
    """One picture to draw."""

    split: str
    class_index: int
    index: int


def make(
    name: str,
    folder: str | Path,
    *,
    train: int = 400,
    val: int = 0,
    test: int = 0,
    size: int = 128,
    seed: int = 0,
    masks: bool = True,
    workers: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Path:
    """Draw a procedural set into a folder.

    Writes ``FOLDER/train/CLASS/0000.png`` and so on, masks beside them in ``FOLDER/masks/train/CLASS/0000.png``, and
    last ``FOLDER/dataset.json``. Each picture has its own stream of random numbers, by seed, split, class and number:
    a longer set begins with the pictures of a shorter one. A set that was stopped half-way is completed by the same
    call, and one that is complete is left as it is.

    Parameters
    ----------
    name : str
        A key of `PROCEDURAL`.
    folder : path
        New, empty, or of the same set.
    train, val, test : int
        Pictures in each split, spread evenly over the classes; those that remain go to the first classes. Together at
        most a million.
    size : int
        Side of the square pictures in pixels, 16 to 4096.
    seed : int
        At least 0.
    masks : bool
        Whether to write the masks: 255 on the object, 0 elsewhere.
    workers : int, optional
        Processes that draw. By default as many as there are processors, and one for a few pictures.
    progress : bool or function
        Show a bar on stderr, or call the function with the numbers of pictures done and to do.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TorchcamError
        The name is unknown, or a number is out of its range.
    SourceError
        The folder holds something else, or cannot be written.

    Examples
    --------
    >>> folder = make("pets", getfixture("tmp_path") / "pets", train=4, size=32)
    >>> sorted(path.relative_to(folder).as_posix() for path in folder.glob("train/*/*"))
    ['train/cat/0000.png', 'train/cat/0001.png', 'train/dog/0000.png', 'train/dog/0001.png']
    """
    known, folder = find(name), Path(folder)
    counts = {"train": train, "val": val, "test": test}
    _check(counts, size, seed, workers, len(known.class_names))
    about = {
        "name": name,
        "drawings": _DRAWINGS,
        **counts,
        "size": size,
        "seed": seed,
        "masks": masks,
    }
    try:
        claim(folder, about)
        tasks = list(_tasks(counts, len(known.class_names)))
        missing = [task for task in tasks if not all(path.is_file() for path in _files(folder, about, task))]
        with reporting(f"drawing {name}", progress) as report:
            _draw_all(missing, folder, about, workers, report or (lambda _done, _total: None))
        complete(folder, about, {"class_names": list(known.class_names), "counts": _counts(tasks, known.class_names)})
    except OSError as error:
        raise SourceError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder


def _check(counts: dict[str, int], size: int, seed: int, workers: int | None, classes: int) -> None:
    for split, count in counts.items():
        if count < 0 or 0 < count < classes:
            raise TorchcamError(f"{split}={count}; expected 0, or at least one picture for each of {classes} classes")
    if not any(counts.values()):
        raise TorchcamError("train=0, val=0 and test=0: nothing to draw; give a number of pictures")
    if sum(counts.values()) > _MOST_PICTURES:
        given = ", ".join(f"{split}={count}" for split, count in counts.items())
        raise TorchcamError(
            f"{given}; expected at most {_MOST_PICTURES} pictures together; draw further ones with another seed, into "
            "another folder"
        )
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE or seed < 0:
        raise TorchcamError(
            f"size={size}, seed={seed}; expected a size of {SMALLEST_SIZE} to {LARGEST_SIZE} pixels and a seed of 0 or "
            "more"
        )
    if workers is not None and workers < 1:
        raise TorchcamError(f"workers={workers}; expected 1 or more")


def _tasks(counts: dict[str, int], classes: int) -> Iterator[Task]:
    """Every picture, the classes in turn."""
    for split in SPLITS:
        for number in range(counts.get(split, 0)):
            yield Task(split, number % classes, number // classes)


def _counts(tasks: Sequence[Task], class_names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Pictures by split and class."""
    met = Counter((task.split, class_names[task.class_index]) for task in tasks)
    return {split: {name: met[split, name] for name in class_names} for split in SPLITS if met[split, class_names[0]]}


def _files(folder: Path, about: dict[str, Any], task: Task) -> list[Path]:
    """Where a picture goes, and its mask."""
    path = Path(task.split, find(about["name"]).class_names[task.class_index], f"{task.index:04d}.png")
    return [folder / path, *([folder / "masks" / path] if about["masks"] else [])]


def draw_files(tasks: Sequence[Task], folder: Path, about: dict[str, Any], done: Callable[[], None]) -> None:
    """Draw pictures into files, and call `done` after each."""
    known = find(about["name"])
    for task in tasks:
        generator = generator_of(about["seed"], task.split, task.class_index, task.index)
        drawn = known.draw(known.class_names[task.class_index], generator, about["size"])
        for path, picture in zip(_files(folder, about, task), drawn, strict=False):
            write_beside(path, partial(picture.save, format="PNG"))
        done()


def _draw_all(
    tasks: list[Task], folder: Path, about: dict[str, Any], workers: int | None, report: Callable[[int, int], None]
) -> None:
    if workers is None:
        workers = min(len(tasks) // _FEW + 1, os.cpu_count() or 1)
    lock, finished = threading.Lock(), 0

    def done() -> None:
        nonlocal finished
        with lock:
            finished += 1
            report(finished, len(tasks))

    if workers == 1 or len(tasks) < 2:
        draw_files(tasks, folder, about, done)
    else:
        _draw_in_processes(tasks, folder, about, workers, done)


def _draw_in_processes(
    tasks: list[Task], folder: Path, about: dict[str, Any], workers: int, done: Callable[[], None]
) -> None:
    """Give each process every n-th picture; they write one line a picture."""
    shares = [tasks[start::workers] for start in range(min(workers, len(tasks)))]
    processes = [_start() for _ in shares]
    try:
        with ThreadPoolExecutor(len(shares)) as pool:
            running = [
                pool.submit(_follow, process, share, folder, about, done)
                for process, share in zip(processes, shares, strict=True)
            ]
            try:
                for one in running:
                    one.result()
            except BaseException:
                for process in processes:
                    process.kill()
                raise
    finally:
        for process in processes:
            process.wait()


def _start() -> subprocess.Popen:
    # not multiprocessing, which runs the caller's script again; -P: the current folder may have a random.py of its own
    root = str(Path(torchcam_suite.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )


def _follow(
    process: subprocess.Popen, share: list[Task], folder: Path, about: dict[str, Any], done: Callable[[], None]
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        job = {"folder": str(folder.absolute()), "about": about, "tasks": [vars(task) for task in share]}
        with suppress(BrokenPipeError):  # it has ended already, and stderr says why
            process.stdin.write(json.dumps(job))
            process.stdin.close()
        drawn = 0
        for _ in process.stdout:
            drawn += 1
            done()
        said = process.stderr.read().strip()
    if process.wait() != 0 or drawn < len(share):
        reason = (
            said.splitlines()[-1] if said else f"exit status {process.returncode}, {drawn} of {len(share)} pictures"
        )
        raise TorchcamError(f"a process that draws pictures ended ({reason}); make again to go on, or take workers=1")
