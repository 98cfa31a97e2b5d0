"""A whole training: what it learns, writes, remembers and refuses."""

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coloured import coloured_folder
from tiny_training import FAST, TINY
from torch.nn import functional

from torchcam_suite import explain, load
from torchcam_suite.errors import CheckpointError, SourceError
from torchcam_suite.labelled_images import labelled_folder
from torchcam_suite.training import TrainingResult, fitting, train
from torchcam_suite.training.checkpoint_file import read_checkpoint, write_checkpoint
from torchcam_suite.training.pictures import Examples, Key

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of their own colour."""
    return coloured_folder(tmp_path_factory.mktemp("data"), {"train": 14, "val": 5, "test": 3})


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A training of four epochs that nothing interrupted."""
    torch.set_num_threads(1)
    return train(pictures, FAST, out=tmp_path_factory.mktemp("whole") / "out", **TINY)


@pytest.fixture(scope="module")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with more of them."""
    return coloured_folder(tmp_path_factory.mktemp("many"), {"train": 30, "val": 5, "test": 3})


@pytest.fixture(scope="module")
def complementary(many_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A training that saw complementary labels alone."""
    torch.set_num_threads(1)
    options = TINY | {"width": 0.5, "learning_rate": 0.001, "epochs": 25, "patience": 0, "augment": False}
    out = tmp_path_factory.mktemp("complementary")
    return train(many_pictures, FAST, out=out, loss="complementary", **options)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Of the last epoch."""
    return read_checkpoint(out / "checkpoints/last.safetensors")["state_dict"]


def same_weights(left: Path, right: Path) -> bool:
    ours, theirs = weights(left), weights(right)
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def same_model(left: TrainingResult, right: TrainingResult) -> bool:
    """Whether the best epochs left the same weights."""
    ours, theirs = (load(one.model_file, device="cpu").module.state_dict() for one in (left, right))
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def without_seconds(result: TrainingResult) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]


# ---------------------------------------------------------------- what it computes


def measured(result: TrainingResult, folder: Path) -> tuple[float, float]:
    """Cross-entropy and accuracy of the model file, image after image."""
    model = load(result.model_file, device="cpu")
    losses, right = [], []
    for path, label in labelled_folder(folder):
        logits = model.logits(model.prepare([path])).detach()
        number = result.class_names.index(label)
        losses.append(float(functional.cross_entropy(logits.double(), torch.tensor([number]))))
        right.append(int(logits.argmax()) == number)
    return sum(losses) / len(losses), sum(right) / len(right)


def test_the_figures_are_those_of_the_model_that_is_kept(whole: TrainingResult, pictures: Path) -> None:
    for part in ("val", "test"):
        loss, accuracy = measured(whole, pictures / part)
        assert whole.metrics[f"{part}_loss"] == pytest.approx(loss, rel=1e-4)
        assert whole.metrics[f"{part}_accuracy"] == accuracy
    assert whole.history[0]["val_loss"] != whole.metrics["val_loss"]


def test_the_best_epoch_is_the_one_of_the_smallest_validation_loss(whole: TrainingResult) -> None:
    losses = [row["val_loss"] for row in whole.history]
    assert whole.best_epoch == losses.index(min(losses)) + 1
    assert whole.metrics["epoch"] == whole.best_epoch


def test_true_classes_are_learnt_and_both_accuracies_reported(complementary: TrainingResult) -> None:
    assert complementary.metrics["test_accuracy"] > 0.8  # 0.33 by chance
    assert complementary.metrics["val_accuracy"] > 0.8
    assert complementary.metrics["val_pseudo_accuracy"] > 0.9  # 0.67 by chance
    assert "pseudo-accuracy" in str(complementary)
    assert complementary.notes == ()


@pytest.mark.parametrize(
    ("loss", "advice"),
    [("yu2018", "a smaller learning rate, or more"), ("ishida2017-pc", "the loss yu2018, a smaller learning rate")],
)
def test_a_pseudo_accuracy_of_guessing_is_said_to_be_that(
    loss: str, advice: str, pictures: Path, tmp_path: Path
) -> None:
    frozen = replace(FAST, optimizer="sgd", learning_rate=1e-12, epochs=1, loss=loss)
    found = train(pictures, frozen, out=tmp_path / "out", **TINY)
    assert found.metrics["val_pseudo_accuracy"] < 0.9
    assert f"is not certainly better than guessing (0.667): try {advice}" in " ".join(str(found).split())


def test_complementary_labels_are_recorded_and_the_loss_is_of_them(
    complementary: TrainingResult, many_pictures: Path
) -> None:
    with (complementary.out / "complementary_labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (30 + 5)
    assert all(row["label"] != row["complementary_label"] for row in rows)
    model, values = load(complementary.model_file, device="cpu"), []
    for row in rows:
        if row["part"] == "val":
            shares = model.probabilities(model.prepare([many_pictures / row["path"]]))[0].detach()
            share = float(shares[complementary.class_names.index(row["complementary_label"])])
            values.append(share / (1 + share))
    assert complementary.metrics["val_loss"] == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_the_model_file_opens_and_explains_like_any_other(whole: TrainingResult, pictures: Path) -> None:
    model = whole.model(device="cpu")
    assert (model.class_names, model.preprocessing.name, model.head) == (["blue", "green", "red"], "unit", "softmax")
    found = explain(model, pictures / "test/red/0.png", layer="max_pooling2d_2")
    assert found.maps.shape == (1, 16, 16)


@pytest.mark.parametrize(("name", "classes"), [("dogs-and-cats", 2), ("vgg", 3), ("xception", 3)])
def test_each_recipe_trains(name: str, classes: int, tmp_path: Path) -> None:
    data = coloured_folder(tmp_path / "data", {"": 5}, classes=classes)
    size = {"vgg": 32, "xception": 32}.get(name, 16)
    options = TINY | {"input_size": size, "width": 0.04}
    result = train(data, name, out=tmp_path / "out", epochs=1, **options)
    assert result.counts == {"train": 4 * classes, "val": classes, "test": 0}
    assert load(result.model_file, device="cpu").class_names == list(result.class_names)
    assert "pseudo" not in str(result)  # however few pictures there are


# ---------------------------------------------------------------- what it leaves


def test_the_files_say_how_it_went(whole: TrainingResult) -> None:
    names = {"checkpoints", "curves.png", "history.csv", "model.safetensors", "training.json"}
    assert {path.name for path in whole.out.iterdir()} == names
    about = json.loads((whole.out / "training.json").read_text())
    assert (about["finished"], about["best_epoch"]) == (True, whole.best_epoch)
    assert about["metrics"] == whole.metrics
    with (whole.out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[2]["val_loss"]) == pytest.approx(whole.history[2]["val_loss"], rel=1e-8)


def test_the_result_prints_in_eighty_columns(whole: TrainingResult, complementary: TrainingResult) -> None:
    for result in (whole, complementary):
        lines = str(result).splitlines()
        assert max(map(len, lines)) <= 80
        assert f"best epoch {result.best_epoch} of {len(result.history)}" in lines[1]


def test_nothing_of_the_caller_is_changed(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    level, handler = logging.getLogger("lightning.pytorch").level, signal.getsignal(signal.SIGTERM)
    train(pictures, FAST, out=tmp_path / "out", epochs=1, **TINY)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (logging.getLogger("lightning.pytorch").level, signal.getsignal(signal.SIGTERM)) == (level, handler)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- again, and going on


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    whole: TrainingResult, pictures: Path, tmp_path: Path
) -> None:
    again = train(pictures, FAST, out=tmp_path / "again", workers=2, **TINY)  # the number of workers changes nothing
    assert without_seconds(again) == without_seconds(whole)
    assert same_weights(again.out, whole.out)
    other = train(pictures, FAST, out=tmp_path / "other", seed=1, **TINY)
    assert not same_weights(other.out, whole.out)


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_the_caller_has_switched_gradients_off(
    switched_off: Any, whole: TrainingResult, pictures: Path, tmp_path: Path
) -> None:
    with switched_off():
        found = train(pictures, FAST, out=tmp_path / "out", epochs=1, **TINY)
        assert not torch.is_grad_enabled()
    assert without_seconds(found) == without_seconds(whole)[:1]


def test_more_epochs_go_on_where_the_others_ended(whole: TrainingResult, pictures: Path, tmp_path: Path) -> None:
    train(pictures, FAST, out=tmp_path / "out", epochs=2, **TINY)
    found = train(pictures, FAST, out=tmp_path / "out", **TINY)
    assert without_seconds(found) == without_seconds(whole)
    assert same_weights(found.out, whole.out)


def test_a_finished_training_is_not_repeated(
    whole: TrainingResult, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "build", None)
    found = train(pictures, FAST, out=whole.out, **TINY)
    assert found.metrics == whole.metrics
    assert found.history == whole.history


KILLED = """
import os, signal, sys
from torchcam_suite.training import pictures
from torchcam_suite.training import train
sys.path.insert(0, {tests!r})
from tiny_training import FAST, TINY
plain = pictures.Examples.__getitem__
def deadly(self, key):
    if key.epoch == 2 and key.place == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, key)
pictures.Examples.__getitem__ = deadly
import torch
torch.set_num_threads(1)
train({data!r}, FAST, out={out!r}, **TINY)
"""


def test_after_kill_9_it_goes_on_and_ends_with_the_same_weights(
    whole: TrainingResult, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = KILLED.format(tests=str(Path(__file__).parent), data=str(pictures), out=str(out))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=300, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len((out / "history.csv").read_text().splitlines()) == 3  # the header and two epochs
    assert load(out / "model.safetensors", device="cpu").class_names == ["blue", "green", "red"]
    found = train(pictures, FAST, out=out, **TINY)
    assert without_seconds(found) == without_seconds(whole)
    assert same_weights(out, whole.out)
    assert same_model(found, whole)


def interrupting(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Press Ctrl-C in the midst of an epoch."""
    plain = Examples.__getitem__

    def interrupted(self: Examples, key: Key) -> Any:
        if key.epoch == epoch and key.place == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, key)

    monkeypatch.setattr(Examples, "__getitem__", interrupted)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_the_finished_epochs_and_stays_possible(
    whole: TrainingResult, pictures: Path, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        interrupting(patch, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            train(pictures, FAST, out=tmp_path / "out", **TINY)
    assert signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "out/curves.png").exists()
    assert not json.loads((tmp_path / "out/training.json").read_text())["finished"]
    found = train(pictures, FAST, out=tmp_path / "out", **TINY)
    assert same_weights(found.out, whole.out)


def test_patience_ends_it_early_and_is_remembered(pictures: Path, tmp_path: Path) -> None:
    frozen = replace(FAST, optimizer="sgd", learning_rate=1e-12, epochs=9, patience=2)
    found = train(pictures, frozen, out=tmp_path / "out", **TINY)
    assert found.stopped_early
    assert len(found.history) == 3
    again = train(pictures, frozen, out=tmp_path / "out", **TINY)
    assert len(again.history) == 3
    assert "ended early" in str(again)


# ---------------------------------------------------------------- several processes


def test_two_processes_train_one_model_and_count_each_picture_once(pictures: Path, tmp_path: Path) -> None:
    # with batch normalization, of which each process has its own statistics
    found = train(pictures, "xception", out=tmp_path / "out", epochs=2, devices=2, **TINY | {"width": 0.04})
    loss, accuracy = measured(found, pictures / "val")  # 15 pictures, which two devices cannot share evenly
    assert found.metrics["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert found.metrics["val_accuracy"] == accuracy
    assert len(found.history) == 2
    assert 0 < found.history[-1]["train_loss"] < 2


# ---------------------------------------------------------------- other settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate 0.01 then, 0.5 now"),
        ({"seed": 7, "width": 0.3}, "seed 0 then, 7 now; width 0.2 then, 0.3 now"),
        ({"loss": "yu2018"}, "loss 'cross-entropy' then, 'yu2018' now"),
        ({"augment": False}, "augmentation {"),
    ],
)
def test_other_settings_are_refused(
    changes: dict[str, Any], message: str, whole: TrainingResult, pictures: Path
) -> None:
    before = whole.model_file.read_bytes()
    with pytest.raises(SourceError, match=re.escape(f"holds a training with other settings ({message}")):
        train(pictures, FAST, out=whole.out, **TINY | changes)
    assert whole.model_file.read_bytes() == before


def test_other_pictures_are_refused(tmp_path: Path, whole: TrainingResult) -> None:
    data = coloured_folder(tmp_path, {"train": 14, "val": 5, "test": 2})
    with pytest.raises(SourceError, match="the pictures are others, or have other names"):
        train(data, FAST, out=whole.out, **TINY)


def test_without_resume_it_begins_anew_and_leaves_other_files_alone(pictures: Path, tmp_path: Path) -> None:
    first = train(pictures, FAST, out=tmp_path / "out", epochs=1, **TINY)
    (tmp_path / "out/notes.txt").write_text("mine")
    found = train(pictures, FAST, out=tmp_path / "out", epochs=1, seed=4, resume=False, **TINY)
    assert len(found.history) == 1
    assert without_seconds(found) != without_seconds(first)
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


def test_a_model_of_another_origin_is_not_overwritten(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(SourceError, match=r"holds model\.safetensors, but no training\.json"):
        train(pictures, FAST, out=tmp_path, **TINY)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


def test_a_damaged_checkpoint_is_told(pictures: Path, tmp_path: Path) -> None:
    train(pictures, FAST, out=tmp_path, epochs=1, **TINY)
    (tmp_path / "checkpoints/last.safetensors").write_bytes(b"x" * 500)
    with pytest.raises(CheckpointError, match="no checkpoint of a training, or is damaged"):
        train(pictures, FAST, out=tmp_path, **TINY)


def test_a_checkpoint_with_weights_of_another_network_is_told(pictures: Path, tmp_path: Path) -> None:
    train(pictures, FAST, out=tmp_path, epochs=1, **TINY)
    path = tmp_path / "checkpoints/last.safetensors"
    state = read_checkpoint(path)
    state["state_dict"]["net.conv2d_1.convolution.weight"] = torch.zeros(2, 3, 3, 3)
    write_checkpoint(path, state)
    with pytest.raises(CheckpointError, match="holds the weights of another network than families"):
        train(pictures, FAST, out=tmp_path, **TINY)
