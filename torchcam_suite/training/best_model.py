"""The model of the best epoch and the history, as a training leaves them after each epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchcam_suite.architectures import ARCHITECTURES, ArticleNet, TrainedModel, build, save_trained
from torchcam_suite.architectures.trained import open_trained
from torchcam_suite.errors import CheckpointError, SourceError
from torchcam_suite.provenance import versions
from torchcam_suite.training.checkpoint_file import read_checkpoint
from torchcam_suite.training.job import HISTORY, MODEL, Job
from torchcam_suite.training.journal import Row, best_epoch, read_journal, write_history

IN_CHECKPOINT = "net."
"""What the names of the network's weights begin with in the checkpoint's `state_dict`."""


def keep_best(job: Job, class_names: Sequence[str], net: ArticleNet, journal: Sequence[Row]) -> None:
    """Write the history, and the network where the last epoch is the best one.

    Raises
    ------
    SourceError
        A file cannot be written, as on a disk that is full.
    """
    try:
        write_history(job.out / HISTORY, journal)
        if best_epoch(journal) == len(journal):
            save_trained(job.out / MODEL, net, _about(job, class_names, journal[-1]))
    except OSError as error:
        raise SourceError(f"cannot write to {job.out}: {error.strerror or error}") from error


def restore_best(job: Job, class_names: Sequence[str]) -> None:
    """Write what a stop between the checkpoint of an epoch and its model kept from being written.

    Raises
    ------
    CheckpointError
        The model of the best epoch is not there, and its weights are not in the checkpoint; or that is damaged, or of
        another network.
    """
    journal = read_journal(job.checkpoint)
    if not journal:
        return
    best = best_epoch(journal)
    if _epoch_of(job.out / MODEL) == best:
        write_history(job.out / HISTORY, journal)
        return
    if best != len(journal):
        raise CheckpointError(
            f"{job.out / MODEL} is missing, damaged or of another epoch than the best, {best}; {job.checkpoint} has "
            f"those of epoch {len(journal)} alone. Put it back, or begin anew (resume=False, --restart)"
        )
    state: Any = read_checkpoint(job.checkpoint).get("state_dict")
    with torch.random.fork_rng(devices=[]):
        net = build(job.recipe.architecture, classes=len(class_names), input_size=job.input_size, width=job.width)
    require_weights_of(job, {IN_CHECKPOINT + name: one for name, one in net.state_dict().items()}, state)
    net.load_state_dict({name.removeprefix(IN_CHECKPOINT): one for name, one in state.items()})
    keep_best(job, class_names, net, journal)


def require_weights_of(job: Job, ours: Mapping[str, Tensor], found: object) -> None:
    """Refuse a checkpoint whose weights have other names or shapes.

    Raises
    ------
    CheckpointError
        It says to begin anew.
    """
    theirs = found if isinstance(found, dict) else {}
    shapes = {name: tuple(one.shape) for name, one in ours.items()}
    if {name: tuple(getattr(one, "shape", ())) for name, one in theirs.items()} != shapes:
        raise CheckpointError(
            f"{job.checkpoint} holds the weights of another network than {job.recipe.architecture}; begin anew "
            "(resume=False, --restart)"
        )


def _epoch_of(model: Path) -> int | None:
    """The epoch whose weights a file holds."""
    try:
        metrics = open_trained(model)[1].training["metrics"]
        return int(metrics["epoch"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None


def _about(job: Job, class_names: Sequence[str], row: Row) -> TrainedModel:
    training = {"recipe": job.recipe.to_json(), "seed": job.seed, "devices": len(job.devices)}
    training |= {"metrics": dict(row), "versions": versions()}
    return TrainedModel(
        architecture=job.recipe.architecture,
        classes=len(class_names),
        class_names=list(class_names),
        input_size=job.input_size,
        width=float(job.width),
        preprocessing=ARCHITECTURES[job.recipe.architecture].preprocessing,
        training=training,
    )
