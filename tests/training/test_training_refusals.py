"""What a training refuses, before anything is written, and the devices that it finds."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coloured import coloured_folder
from tiny_training import FAST, TINY

from torchcam_suite.errors import ImageError, MissingLibraryError, SourceError
from torchcam_suite.training import Recipe, train
from torchcam_suite.training.job import Job, find_devices

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of their own colour."""
    return coloured_folder(tmp_path_factory.mktemp("data"), {"train": 14, "val": 5, "test": 3})


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("recipe", "options", "error", "message"),
    [
        ("exception", {}, ValueError, "recipe 'exception' does not exist; did you mean 'xception'?"),
        ("families", {"loss": "hinge"}, ValueError, "loss 'hinge' does not exist"),
        ("dogs-and-cats", {}, SourceError, "dogs-and-cats tells two classes apart, and"),
        ("dogs-and-cats", {"loss": "complementary"}, SourceError, "loss 'complementary' needs a logit for each class"),
        ("families", {"input_size": 4}, SourceError, "families: input_size=(4, 4); expected"),
        ("families", {"input_size": 16.0}, SourceError, "families: input_size=16.0; expected (height, width)"),
        ("families", {"input_size": (16,)}, SourceError, "families: input_size=(16,); expected (height, width)"),
        ("families", {"epochs": 2.5}, ValueError, "epochs=2.5; expected a whole number, at least 1"),
        ("families", {"batch_size": 8.0}, ValueError, "batch_size=8.0; expected a whole number, at least 2"),
        ("families", {"seed": 1.5}, ValueError, "seed=1.5; expected a whole number from 0"),
        ("families", {"workers": 1.5}, ValueError, "workers=1.5; expected 0"),
        ("families", {"width": -1.0}, SourceError, "families: width=-1.0; expected"),
        ("families", {"seed": -1}, ValueError, "seed=-1; expected a whole number from 0"),
        ("families", {"workers": -1}, ValueError, "workers=-1; expected 0"),
        ("families", {"devices": 5}, ValueError, "batch_size=8 for 5 devices; expected a multiple of 5"),
        ("families", {"devices": "two"}, ValueError, "devices='two'; expected a number of devices"),
        ("families", {"accelerator": "tpu"}, ValueError, "accelerator 'tpu'; expected auto, cpu, cuda, gpu or mps"),
        (replace(FAST, l2={"dense_9": 0.1}), {}, SourceError, "l2 of the layer 'dense_9': families has no such layer"),
        (Recipe("lenet"), {}, SourceError, "architecture 'lenet' is not known"),
    ],
)
def test_options_that_do_not_fit_are_told_before_anything_is_written(
    recipe: str, options: dict[str, Any], error: type[Exception], message: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        train(pictures, recipe, out=tmp_path / "out", **TINY | options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_told(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(SourceError, match="out is a file; expected a folder for the results"):
        train(pictures, "families", out=tmp_path / "out", **TINY)


@pytest.mark.parametrize(
    ("parts", "out"),
    [("", "out"), ("train", "train/out"), ("train", "val/out"), ("train", "test"), ("train", "train/red/out")],
)
def test_results_among_the_classes_are_refused(parts: str, out: str, tmp_path: Path) -> None:
    data = coloured_folder(tmp_path, {parts: 3})
    with pytest.raises(SourceError, match="would become a class of the data"):
        train(data, "families", out=data / out, **TINY)
    assert not (data / out).exists()


def test_a_broken_picture_is_named_before_the_training(tmp_path: Path) -> None:
    data = coloured_folder(tmp_path, {"train": 3, "val": 1})
    (data / "train/red/broken.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"one picture cannot be read: .*broken\.png is not an image"):
        train(data, "families", out=tmp_path / "out", **TINY)


def test_a_broken_picture_costs_no_training_that_is_there(tmp_path: Path) -> None:
    data, out = coloured_folder(tmp_path / "data", {"": 3}), tmp_path / "out"
    train(data, "families", out=out, epochs=1, **TINY)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    (data / "red/broken.png").write_bytes(b"")
    with pytest.raises(ImageError, match="one picture cannot be read"):
        train(data, "families", out=out, epochs=1, resume=False, **TINY)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_a_training_that_diverges_says_so(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has diverged; begin anew with a smaller learning rate than 1e"):
        train(pictures, replace(FAST, optimizer="sgd"), out=tmp_path / "out", learning_rate=1e30, **TINY)


def test_without_lightning_the_extra_is_named(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchcam_suite.training.run.find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'torchcam-suite\[train\]'"):
        train(pictures, "families", out=tmp_path / "out", **TINY)


def test_two_trainings_do_not_share_a_folder(pictures: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "out/checkpoints").mkdir(parents=True)
    with FileLock(tmp_path / "out/checkpoints/lock"), pytest.raises(SourceError, match="another training writes into"):
        train(pictures, "families", out=tmp_path / "out", **TINY)


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("accelerator", "devices", "expected"),
    [("cpu", 1, ("cpu", (0,))), ("cpu", "3", ("cpu", (0, 1, 2))), ("cpu", "auto", ("cpu", (0,)))],
)
def test_devices_are_found(accelerator: str, devices: Any, expected: tuple[str, tuple[int, ...]]) -> None:
    assert find_devices(accelerator, devices) == expected


def test_gpus_are_counted_and_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert find_devices("auto", "auto") == ("cuda", (0, 1, 2, 3))
    assert find_devices("gpu", "1,3") == ("cuda", (1, 3))
    with pytest.raises(ValueError, match="devices=5 of cuda, of which this machine has 4; take at most 4"):
        find_devices("cuda", 5)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="of which this machine has none; take accelerator cpu"):
        find_devices("cuda", 1)


def test_a_job_survives_json(tmp_path: Path) -> None:
    job = Job(tmp_path, tmp_path / "out", FAST, (16, 20), 0.5, 3, "cuda", (0, 2), 4, True)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
