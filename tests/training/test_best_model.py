"""The model of the best epoch is there after any stop, or its absence is told."""

import errno
from pathlib import Path

import pytest
import torch
from coloured import coloured_folder
from safetensors import SafetensorError
from tiny_training import FAST, TINY

from torchcam_suite import load
from torchcam_suite.architectures import ArticleNet, TrainedModel, save_trained
from torchcam_suite.errors import CheckpointError, TorchcamError
from torchcam_suite.training import TrainingResult, best_model, train
from torchcam_suite.training.checkpoint_file import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = TINY | {"epochs": 2}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of their own colour."""
    return coloured_folder(tmp_path_factory.mktemp("data"), {"train": 14, "val": 5})


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A training of two epochs that nothing interrupted; the second is the better one."""
    torch.set_num_threads(1)
    found = train(pictures, FAST, out=tmp_path_factory.mktemp("whole") / "out", **OPTIONS)
    assert found.best_epoch == 2
    return found


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    return load(result.model_file, device="cpu").module.state_dict()


@pytest.mark.parametrize("epoch", [1, 2])  # in the midst of the training, and at its end
def test_a_stop_between_checkpoint_and_model_costs_no_best_epoch(
    epoch: int, whole: TrainingResult, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(file: Path, net: ArticleNet, about: TrainedModel) -> None:
        if about.training["metrics"]["epoch"] == epoch:
            raise RuntimeError("power cut")
        save_trained(file, net, about)

    with monkeypatch.context() as patch:
        patch.setattr(best_model, "save_trained", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(pictures, FAST, out=tmp_path, **OPTIONS)
    found = train(pictures, FAST, out=tmp_path, **OPTIONS)
    assert found.best_epoch == 2
    ours, theirs = weights(found), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_model_that_is_gone_is_written_again_from_the_checkpoint(
    whole: TrainingResult, pictures: Path, tmp_path: Path
) -> None:
    train(pictures, FAST, out=tmp_path, **OPTIONS)
    for name in ("model.safetensors", "history.csv"):
        (tmp_path / name).unlink()
    found = train(pictures, FAST, out=tmp_path, **OPTIONS)
    ours, theirs = weights(found), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("writer", "error"),
    [
        ("safetensors.torch.save_file", SafetensorError("I/O error: No space left on device (os error 28)")),
        ("torchcam_suite.training.best_model.save_trained", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_disk_that_is_full_is_told_and_costs_no_epoch(
    writer: str,
    error: Exception,
    whole: TrainingResult,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    train(pictures, FAST, out=tmp_path, **OPTIONS | {"epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(writer, full)
        with pytest.raises(TorchcamError, match=r"cannot write .*No space left on device"):
            train(pictures, FAST, out=tmp_path, **OPTIONS)
    assert not list(tmp_path.rglob(".*"))
    ours, theirs = weights(train(pictures, FAST, out=tmp_path, **OPTIONS)), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_best_epoch_whose_weights_are_nowhere_is_told(pictures: Path, tmp_path: Path) -> None:
    train(pictures, FAST, out=tmp_path, **OPTIONS)
    state = read_checkpoint(tmp_path / "checkpoints/last.safetensors")
    state["journal"][0]["val_loss"] = 0.0  # so that the first epoch is the best, and the model is of the second
    write_checkpoint(tmp_path / "checkpoints/last.safetensors", state)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is missing, damaged or of another epoch than the best"
    ):
        train(pictures, FAST, out=tmp_path, **OPTIONS)
