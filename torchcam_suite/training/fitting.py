"""The training itself, by Lightning. Imported only where a training begins, because Lightning takes seconds."""

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from torchcam_suite.architectures import ARCHITECTURES, ArticleNet, build
from torchcam_suite.errors import SourceError
from torchcam_suite.images import find_preprocessing
from torchcam_suite.training.augmentation import Augmentation
from torchcam_suite.training.batch_statistics import reach_over_one_epoch
from torchcam_suite.training.best_model import keep_best, require_weights_of
from torchcam_suite.training.checkpoint_file import read_checkpoint, write_checkpoint
from torchcam_suite.training.job import Job
from torchcam_suite.training.journal import best_epoch, first_not_finite, is_over, read_journal
from torchcam_suite.training.losses import find_loss, predictions
from torchcam_suite.training.optimization import make_optimizer, penalty, set_learning_rate
from torchcam_suite.training.pictures import (
    Example,
    Examples,
    Key,
    LabelledPicture,
    TrainingData,
    collate,
    training_batches,
    validation_batches,
)
from torchcam_suite.training.progress import Progress

_FAR_SEED = 2**63 - 1
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without which the matrix products of CUDA are not always the same


def fit(job: Job, data: TrainingData, *, rank: int = 0) -> None:
    """Train until the epochs or the patience are used up, from the last checkpoint on where there is one.

    After each epoch, the checkpoint and the history are written, and the model where the epoch is the best so far.

    Parameters
    ----------
    job : Job
        What is trained.
    data : TrainingData
        Its pictures, checked.
    rank : int
        Which of several processes this is; the others have to run too.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C was pressed; what the last epoch left is there.
    SourceError
        The loss is no longer a finite number.
    CheckpointError
        The checkpoint is damaged, or of another network.
    """
    resume = job.checkpoint if job.checkpoint.exists() else None
    if resume and is_over(read_journal(resume), job.recipe.epochs, job.recipe.patience):
        return
    forked = list(job.devices) if job.accelerator == "cuda" else []
    with torch.random.fork_rng(forked), Progress(job, enabled=job.progress and rank == 0) as progress:
        torch.manual_seed(job.seed)
        architecture = job.recipe.architecture
        net = build(architecture, classes=len(data.class_names), input_size=job.input_size, width=job.width)
        training = _Training(net, job, data, progress)
        with _quiet(), _deterministic(), _signals_restored():
            trainer = _trainer(job)
            try:
                trainer.fit(training, ckpt_path=None if resume is None else str(resume))
            except SystemExit:
                # Lightning answers Ctrl-C by ending the process with status 1
                if trainer.received_sigterm:
                    raise SystemExit(128 + signal.SIGTERM) from None
                raise KeyboardInterrupt from None


def _trainer(job: Job) -> Trainer:
    return Trainer(
        accelerator=job.accelerator,
        devices=len(job.devices) if job.accelerator == "cpu" else list(job.devices),
        strategy="ddp" if len(job.devices) > 1 else "auto",
        max_epochs=job.recipe.epochs,
        plugins=[_Checkpoints(), LightningEnvironment()],
        default_root_dir=job.out,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # so that the order of an epoch is known when its loader starts: Lightning 2.5.3 to 2.6 tells a sampler of the
        # epoch too late where a training goes on (Lightning-AI/pytorch-lightning#21938)
        reload_dataloaders_every_n_epochs=1,
    )


class _Checkpoints(CheckpointIO):
    """Checkpoints without pickle."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one, as a whole or not at all."""
        del storage_options
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one; its tensors are on the CPU."""
        del map_location, weights_only
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one."""
        Path(path).unlink(missing_ok=True)


class _Training(LightningModule):
    """The network with its loss, its pictures and its journal."""

    def __init__(self, net: ArticleNet, job: Job, data: TrainingData, progress: Progress) -> None:
        super().__init__()
        self.net = net
        self._job, self._data, self._progress = job, data, progress
        self._loss = find_loss(job.recipe.loss)
        self.journal: list[dict[str, float]] = []
        self._sums: dict[str, list[Tensor]] = {"train": [], "val": []}
        self._started = 0.0

    # ------------------------------------------------------------ what is computed

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        """Loss of a batch, with the penalty."""
        loss = self._measured("train", batch).mean()
        self._progress.step(self._epoch, batch_idx)
        return loss + penalty(self.net, self._job.recipe)

    def validation_step(self, batch: Example, batch_idx: int) -> None:
        """Only measures."""
        del batch_idx
        self._measured("val", batch)

    def _measured(self, part: str, batch: Example) -> Tensor:
        logits = self.net(batch.image)
        values = self._loss.values(logits, batch.complementary if self._loss.complementary else batch.label)
        said = predictions(logits)
        columns = (values.detach(), said == batch.label, said != batch.complementary, torch.ones_like(batch.weight))
        self._sums[part].append(torch.stack([(column * batch.weight).sum() for column in columns]))
        return values

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimizer, with Keras' constants."""
        return make_optimizer(self.net, self._job.recipe)

    # ------------------------------------------------------------ which pictures

    def train_dataloader(self) -> DataLoader[Example]:
        """The pictures of the epoch that begins."""
        batches = training_batches(
            len(self._data.train),
            self._job.recipe.batch_size,
            seed=self._job.seed,
            epoch=self._epoch,
            rank=self.global_rank,
            devices=len(self._job.devices),
        )
        reach_over_one_epoch(self.net, len(batches))
        self._progress.begin(self._epoch, len(batches))
        return self._loader(self._data.train, self._job.recipe.augmentation, batches)

    def val_dataloader(self) -> DataLoader[Example]:
        """All validation pictures, unchanged."""
        size, devices = self._job.recipe.batch_size, len(self._job.devices)
        batches = validation_batches(len(self._data.val), size, rank=self.global_rank, devices=devices)
        return self._loader(self._data.val, Augmentation(), batches)

    def _loader(
        self, pictures: tuple[LabelledPicture, ...], augmentation: Augmentation, batches: list[list[Key]]
    ) -> DataLoader[Example]:
        preprocessing = find_preprocessing(ARCHITECTURES[self._job.recipe.architecture].preprocessing)
        examples = Examples(self._data, pictures, self._job.input_size, preprocessing, augmentation, self._job.seed)
        return DataLoader(
            examples,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self._job.workers,
            pin_memory=self._job.accelerator == "cuda",
            # the loader draws a seed, which must not change the other random numbers
            generator=torch.Generator(),
        )

    # ------------------------------------------------------------ epochs

    @property
    def _epoch(self) -> int:
        """Of the epoch that runs or comes next, from 0."""
        return int(self.trainer.fit_loop.epoch_progress.state_dict()["current"]["processed"])

    def on_train_epoch_start(self) -> None:
        """Set the learning rate, which the epoch alone decides."""
        self._started = time.perf_counter()
        set_learning_rate(self.trainer.optimizers[0], self._job.recipe.learning_rate_at(self._epoch))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what is random in the network, so that it is the same after a stop."""
        del batch
        steps = (self._job.seed * 1_000_003 + self._epoch) * 1_000_003 + batch_idx
        torch.manual_seed((steps * 64 + self.global_rank) % _FAR_SEED)

    def on_train_epoch_end(self) -> None:
        """Note the epoch, keep the state, and the model where it is the best."""
        row = self._row()
        name = first_not_finite(row)
        if name:
            raise SourceError(
                f"{name} is {row[name]} in epoch {int(row['epoch'])}: the training has diverged; begin anew with a "
                f"smaller learning rate than {self._job.recipe.learning_rate:g} (learning_rate=, --learning-rate)"
            )
        self.journal.append(row)
        self.trainer.should_stop = is_over(self.journal, self._job.recipe.epochs, self._job.recipe.patience)
        self.trainer.save_checkpoint(self._job.checkpoint)
        if self.trainer.is_global_zero:
            keep_best(self._job, self._data.class_names, self.net, self.journal)
        self._progress.end(row, best_epoch(self.journal))

    def _row(self) -> dict[str, float]:
        row: dict[str, float] = {
            "epoch": len(self.journal) + 1,
            "learning_rate": self._job.recipe.learning_rate_at(len(self.journal)),
        }
        for part, sums in self._sums.items():
            mine = torch.stack(sums).cpu().double().sum(dim=0)
            dtype = torch.float32 if self.device.type == "mps" else torch.float64
            loss, right, pseudo, count = self.trainer.strategy.reduce(
                mine.to(self.device, dtype), reduce_op="sum"
            ).tolist()
            row |= {f"{part}_loss": loss / count, f"{part}_accuracy": right / count}
            if self._loss.complementary:
                row[f"{part}_pseudo_accuracy"] = pseudo / count
            sums.clear()
        return row | {"seconds": time.perf_counter() - self._started}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the journal with the state that it belongs to."""
        checkpoint["journal"] = self.journal

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the journal up, of a checkpoint whose weights fit."""
        require_weights_of(self._job, self.state_dict(), checkpoint.get("state_dict"))
        self.journal = [dict(row) for row in checkpoint["journal"]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notes and its warnings, which are for its own users, from the terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in ("lightning", "torch"):
            warnings.filterwarnings("ignore", module=rf"{module}\.")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Choose algorithms whose result is the same each time, as far as the device has them."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    workspace = os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        if workspace is None:
            del os.environ[_WORKSPACE]


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Lightning leaves Ctrl-C switched off after it was pressed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
