"""`train`: check everything, train, test, and write down how it went."""

import csv
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from torchcam_suite.architectures import Architecture, build
from torchcam_suite.architectures.catalogue import find_architecture
from torchcam_suite.errors import MissingLibraryError, SourceError, TorchcamError
from torchcam_suite.evaluate import evaluate
from torchcam_suite.explanation import write_atomically
from torchcam_suite.progress import reporting
from torchcam_suite.provenance import versions
from torchcam_suite.sources import load
from torchcam_suite.training.augmentation import Augmentation
from torchcam_suite.training.best_model import restore_best
from torchcam_suite.training.job import (
    ABOUT,
    CURVES,
    LABELS,
    MODEL,
    Job,
    find_devices,
    remove_training,
    require_same_settings,
)
from torchcam_suite.training.journal import Row, best_epoch, is_exhausted, read_journal
from torchcam_suite.training.launch import launch
from torchcam_suite.training.losses import find_loss
from torchcam_suite.training.optimization import penalty
from torchcam_suite.training.pictures import VALIDATION_FOLDERS, TrainingData, check_pictures, find_training_data
from torchcam_suite.training.recipes import Recipe, find_recipe
from torchcam_suite.training.result import TrainingResult

_MOST_WORKERS = 8
_MOST_SEED = 2**31 - 1


def train(
    data: Path | str,
    recipe: str | Recipe,
    *,
    out: Path | str,
    loss: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    input_size: int | tuple[int, int] | None = None,
    width: float = 1.0,
    learning_rate: float | None = None,
    augment: bool = True,
    patience: int | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    devices: int | str = 1,
    workers: int | None = None,
    resume: bool = True,
    progress: bool = True,
) -> TrainingResult:
    """Train a network of an article on pictures in class folders.

    After each epoch, the state, the history and the best model so far are in `out`. A training that was stopped, killed
    too, goes on after the last finished epoch when it is called again with the same settings; on the CPU it then ends
    with exactly the weights that it would have had.

    Parameters
    ----------
    data : path
        With `train/CLASS/*.png`, and perhaps `val/CLASS/...` and `test/CLASS/...`; or with `CLASS/*.png`. Without
        validation pictures, a fifth of each class's training pictures is split off.
    recipe : str or Recipe
        One of `RECIPES`, or your own.
    out : path
        Folder for `model.safetensors`, `history.csv`, `curves.png`, `training.json`, `checkpoints/`, and with a
        complementary loss `complementary_labels.csv`.
    loss : str, optional
        One of `torchcam_suite.training.losses.LOSSES`; default: the recipe's.
    epochs, batch_size : int, optional
        Instead of the recipe's.
    learning_rate : float, optional
        Instead of the recipe's.
    input_size : int or (height, width), optional
        Of the network's input; default: the article's.
    width : float
        By which the article's numbers of channels are multiplied.
    augment : bool
        Whether training pictures are changed at random, as the recipe says.
    patience : int, optional
        Epochs without a smaller validation loss after which the training ends; 0 never ends it early.
    seed : int
        From 0. Of the weights, the order, the changes, the dropout, the complementary labels and the split.
    accelerator : {"auto", "cpu", "cuda", "gpu", "mps"}
        What computes.
    devices : int or str
        How many; "auto" for all GPUs, "0,2" for certain ones. With several, each has a process of its own.
    workers : int, optional
        Processes that decode pictures, for each device; default: none on the CPU, else as many as there are
        processors, up to 8.
    resume : bool
        Whether a training in `out` is gone on with; otherwise it is removed.
    progress : bool
        Whether a bar and a line an epoch are shown on stderr.

    Returns
    -------
    TrainingResult
        Prints as a table.

    Raises
    ------
    SourceError
        The data or the folder do not allow it; the message says why.
    ImageError
        Pictures are broken; the message names them.
    ValueError
        An option that does not exist, or is out of range.
    MissingLibraryError
        Lightning is not installed.
    KeyboardInterrupt
        Ctrl-C was pressed; what the last epoch left is in `out`.
    """
    chosen = _chosen(recipe, loss, epochs, batch_size, learning_rate, patience, augment)
    architecture = find_architecture(chosen.architecture)
    _require_seed_and_workers(seed, workers)
    kind, numbers = find_devices(accelerator, devices)
    found = find_training_data(data, seed=seed)
    size = _size(input_size, architecture)
    _require_fitting(chosen, architecture, found, size, width, numbers)
    job = Job(
        data=Path(data).resolve(),
        out=Path(out).resolve(),
        recipe=chosen,
        input_size=(size[0], size[1]),
        width=float(width),
        seed=seed,
        accelerator=kind,
        devices=numbers,
        workers=_workers(kind, workers),
        progress=progress,
    )
    require_lightning()
    with _owned(job, found), torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
        return _run(job, found, resume)


def require_lightning() -> None:
    """Raise where the library that trains is missing.

    Raises
    ------
    MissingLibraryError
        It says how to install it.
    """
    if find_spec("lightning") is None:
        raise MissingLibraryError(
            "training needs lightning, which is not installed: pip install 'torchcam-suite[train]'"
        )


# ---------------------------------------------------------------- before


def _chosen(
    recipe: str | Recipe,
    loss: str | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    patience: int | None,
    augment: bool,
) -> Recipe:
    asked = {"loss": loss, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if patience is not None:
        changes["patience"] = patience or None
    if not augment:
        changes["augmentation"] = Augmentation()
    return replace(find_recipe(recipe), **changes)


def _require_seed_and_workers(seed: int, workers: int | None) -> None:
    if not isinstance(seed, int) or not 0 <= seed <= _MOST_SEED:
        raise ValueError(f"seed={seed}; expected a whole number from 0 to {_MOST_SEED}")
    if workers is not None and (not isinstance(workers, int) or workers < 0):
        raise ValueError(f"workers={workers}; expected 0, which decodes in the training's own process, or more")


def _size(size: int | tuple[int, int] | None, architecture: Architecture) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size or architecture.input_size


def _require_fitting(
    recipe: Recipe,
    architecture: Architecture,
    data: TrainingData,
    size: tuple[int, int],
    width: float,
    devices: Sequence[int],
) -> None:
    """Tell of what does not fit before the pictures are read."""
    classes, several = len(data.class_names), len(devices)
    if architecture.head == "sigmoid" and find_loss(recipe.loss).complementary:
        raise SourceError(
            f"loss {recipe.loss!r} needs a logit for each class, and {architecture.name} has one logit for two: with "
            "two classes a complementary label says which is the true one; take cross-entropy, or another recipe"
        )
    if architecture.head == "sigmoid" and classes != 2:
        raise SourceError(
            f"{architecture.name} tells two classes apart, and {data.folder} has {classes} "
            f"({', '.join(data.class_names[:8])}); take another recipe"
        )
    with torch.device("meta"):  # no memory is taken
        penalty(build(architecture.name, classes=classes, input_size=size, width=width), recipe)
    if recipe.batch_size % several or recipe.batch_size // several < 2:
        raise ValueError(
            f"batch_size={recipe.batch_size} for {several} devices; expected a multiple of {several}, two images a "
            "device or more"
        )
    if len(data.train) < 2 * several:
        raise SourceError(f"{len(data.train)} training pictures for {several} devices; expected two a device or more")


def _workers(accelerator: str, workers: int | None) -> int:
    if workers is not None:
        return workers
    # a network on the CPU takes all processors, and processes beside it only interrupt it
    if accelerator == "cpu" or sys.platform != "linux":
        return 0
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


@contextmanager
def _owned(job: Job, data: TrainingData) -> Iterator[None]:
    """Hold the folder of the results for this training alone."""
    from filelock import FileLock, Timeout

    parts = ("train", *VALIDATION_FOLDERS, "test") if (data.folder / "train").is_dir() else ("",)
    for classes in (data.folder / part for part in parts):
        if job.out.is_relative_to(classes.resolve()):
            raise SourceError(f"{job.out} would become a class of the data in {classes}; choose a folder outside")
    if job.out.exists() and not job.out.is_dir():
        raise SourceError(f"{job.out} is a file; expected a folder for the results")
    lock = FileLock(job.checkpoint.parent / "lock")
    try:
        job.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SourceError(f"another training writes into {job.out}; wait until it ends, or choose another") from error
    except OSError as error:
        raise SourceError(f"cannot write to {job.out}: {error.strerror or error}") from error
    with lock:
        yield


# ---------------------------------------------------------------- the training and after it


def _run(job: Job, data: TrainingData, resume: bool) -> TrainingResult:
    with reporting("check pictures", job.progress) as report:
        settings = job.settings(check_pictures(data, report))
    if not resume:
        remove_training(job.out)
    require_same_settings(job.out, settings)
    if job.checkpoint.exists():
        restore_best(job, data.class_names)
    _write_about(job, data, settings, {"finished": False})
    if find_loss(job.recipe.loss).complementary:
        _write_labels(job, data)
    try:
        if len(job.devices) > 1:
            launch(job)
        else:
            from torchcam_suite.training.fitting import fit

            fit(job, data)
    except KeyboardInterrupt:
        with suppress(TorchcamError):
            _draw(job)
        raise
    result = _result(job, data)
    about = {"finished": True, "best_epoch": result.best_epoch, "metrics": dict(result.metrics)}
    about |= {"stopped_early": result.stopped_early, "history": [dict(row) for row in result.history]}
    _write_about(job, data, settings, about)
    return result


def _result(job: Job, data: TrainingData) -> TrainingResult:
    history = tuple(read_journal(job.checkpoint))
    metrics = dict(history[best_epoch(history) - 1])
    if data.test_folder is not None:
        metrics |= _tested(job, data.test_folder)
    counts = {part: len(pictures) for part, pictures in data.parts.items()}
    notes = [f"validation: {data.rule}"] if not data.rule.startswith("the pictures") else []
    notes += _no_better_than_guessing(metrics, job.recipe.loss, len(data.class_names), counts["val"])
    return TrainingResult(
        out=job.out,
        model_file=job.out / MODEL,
        class_names=data.class_names,
        history=history,
        metrics=metrics,
        counts=counts,
        recipe=job.recipe,
        stopped_early=len(history) < job.recipe.epochs and is_exhausted(history, job.recipe.patience),
        notes=(*notes, *_draw(job)),
    )


def _no_better_than_guessing(metrics: Mapping[str, float], loss: str, classes: int, count: int) -> tuple[str, ...]:
    """A note where the pseudo-accuracy, by which alone one would know it, is within two errors of that of guessing."""
    chance, found = 1 - 1 / classes, metrics.get("val_pseudo_accuracy")
    if found is None or found > chance + 2 * math.sqrt(chance * (1 - chance) / count):
        return ()
    return (
        f"a pseudo-accuracy of {found:.3f} of {count} validation pictures is not certainly better than guessing "
        f"({chance:.3f}): try {'the loss yu2018, ' * (loss != 'yu2018')}a smaller learning rate, or more pictures",
    )


def _tested(job: Job, folder: Path) -> dict[str, float]:
    """Loss and accuracy of the best model on the test pictures."""
    device = job.accelerator if job.accelerator != "cuda" else f"cuda:{job.devices[0]}"
    scores = evaluate(
        load(job.out / MODEL, device=device),
        folder,
        mistakes=0,
        strict=True,
        batch_size=job.recipe.batch_size,
        workers=job.workers,
        progress=job.progress,
    ).scores
    logits, labels = torch.from_numpy(scores.logits).double(), torch.from_numpy(scores.labels)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return {"test_loss": float(functional.cross_entropy(logits, labels)), "test_accuracy": float(scores.accuracy)}


def _draw(job: Job) -> tuple[str, ...]:
    """Draw the curves; a note where that is not possible."""
    history: Sequence[Row] = read_journal(job.checkpoint) if job.checkpoint.exists() else ()
    if not history:
        return ()
    if find_spec("matplotlib") is None:
        return (f"{CURVES} is not drawn: matplotlib is not installed: pip install 'torchcam-suite[plots]'",)
    from torchcam_suite.present.overlay import save_png
    from torchcam_suite.present.training_curves import training_curves

    title = f"{job.recipe.architecture}, loss {job.recipe.loss}"
    with warnings.catch_warnings():
        save_png(training_curves(history, title=title), job.out / CURVES)
    return ()


def _write_about(job: Job, data: TrainingData, settings: dict[str, Any], state: dict[str, Any]) -> None:
    about = {
        "schema": 1,
        "settings": settings,
        "job": job.to_json(),
        "class_names": list(data.class_names),
        "pictures": {part: len(pictures) for part, pictures in data.parts.items()},
        "validation": data.rule,
        "versions": versions() | _lightning_version(),
    }
    text = json.dumps(about | state, indent=2)
    _written(job.out / ABOUT, lambda file: file.write(text.encode()))


def _write_labels(job: Job, data: TrainingData) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("part", "path", "label", "complementary_label"))
    for part in ("train", "val"):
        for picture in data.parts[part]:
            names = data.class_names[picture.label], data.class_names[data.complementary(picture, job.seed)]
            writer.writerow((part, picture.name, *names))
    _written(job.out / LABELS, lambda file: file.write(text.getvalue().encode("utf-8", "surrogateescape")))


def _written(path: Path, write: Callable[[Any], object]) -> None:
    try:
        write_atomically(path, write)
    except OSError as error:
        raise SourceError(f"cannot write to {path}: {error.strerror or error}") from error


def _lightning_version() -> dict[str, str]:
    from importlib.metadata import version

    return {"lightning": version("lightning")}
