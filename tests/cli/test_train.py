"""`train` prints a table, writes files, goes on where it was stopped, and says what does not fit."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Run

from torchcam_suite.training.pictures import Examples, Key

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from coloured import coloured_folder

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ["--input-size", 16, "--width", 0.2, "--batch-size", 8, "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of their own colour."""
    return coloured_folder(tmp_path_factory.mktemp("data"), {"train": 6, "val": 2, "test": 2})


def test_the_table_is_printed_and_the_files_are_named(pictures: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    asked = ["train", pictures, "--recipe", "families", "-o", out, *TINY, "--epochs", 2, "--loss", "complementary"]
    found = run(*asked)
    assert found.status == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert ["validation", "6"] in [line.split()[:2] for line in found.stdout.splitlines()]
    names = ["model.safetensors", "curves.png", "history.csv", "complementary_labels.csv", "training.json"]
    said = [line.removeprefix("written: ") for line in found.stderr.splitlines() if line.startswith("written")]
    assert said == [str(out / name) for name in names]
    assert all(path.is_file() for path in map(Path, said))
    epochs = [line for line in found.stderr.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in epochs] == ["1/2", "2/2"]
    assert "(pseudo " in epochs[0]
    assert run("layers", out / "model.safetensors").status == 0


def test_json_has_the_figures_of_the_best_epoch(pictures: Path, tmp_path: Path, run: Run) -> None:
    found = run(
        "train",
        pictures,
        "--recipe",
        "families",
        "-o",
        tmp_path / "out",
        *TINY,
        "--epochs",
        1,
        "--patience",
        0,
        "--json",
    )
    assert found.status == 0
    about = json.loads(found.stdout)
    assert (about["best_epoch"], about["pictures"]) == (1, {"train": 18, "val": 6, "test": 6})
    assert about["recipe"]["patience"] is None
    assert set(about["metrics"]) >= {"train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy"}
    assert about["files"][0] == about["model_file"] == str(tmp_path / "out/model.safetensors")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_has_status_130_and_the_same_command_goes_on(
    pictures: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, out = Examples.__getitem__, tmp_path / "out"

    def interrupted(self: Examples, key: Key) -> Any:
        if key.epoch == 1 and key.place == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, key)

    asked = ["train", pictures, "--recipe", "families", "-o", out, *TINY, "--epochs", 3]
    with monkeypatch.context() as patch:
        patch.setattr(Examples, "__getitem__", interrupted)
        found = run(*asked)
    assert found.status == 130
    assert f"interrupted; kept in {out}: 1 epoch, the best of them in model.safetensors" in found.stderr
    assert found.stdout == ""
    found = run(*asked)
    assert found.status == 0
    assert [line.split()[1] for line in found.stderr.splitlines() if line.startswith("epoch")] == ["2/3", "3/3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "exception"], "recipe 'exception' does not exist; did you mean 'xception'?"),
        (["--recipe", "dogs-and-cats"], "dogs-and-cats tells two classes apart"),
        (["--recipe", "families", "--loss", "complementry"], "did you mean 'complementary'?"),
        (["--recipe", "families", "--input-size", "big"], "--input-size 'big'; expected 224"),
        (["--recipe", "families", "--devices", "none"], "devices='none'; expected a number of devices"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str], message: str, pictures: Path, tmp_path: Path, run: Run
) -> None:
    found = run("train", pictures, "-o", tmp_path / "out", "--accelerator", "cpu", *arguments)
    assert found.status == 1
    assert found.stdout == ""
    assert message in " ".join(found.stderr.split())
    assert not (tmp_path / "out").exists()


def test_another_training_is_not_overwritten_unless_asked(pictures: Path, tmp_path: Path, run: Run) -> None:
    asked = ["train", pictures, "--recipe", "families", "-o", tmp_path / "out", *TINY, "--epochs", 1]
    assert run(*asked).status == 0
    found = run(*asked, "--seed", 1)
    assert found.status == 1
    assert "holds a training with other settings (seed 0 then, 1 now)" in " ".join(found.stderr.split())
    assert run(*asked, "--seed", 1, "--restart").status == 0
    assert torch.get_num_threads() == 1


def test_the_help_has_an_example(run: Run) -> None:
    found = run("train", "--help")
    assert found.status == 0
    assert "torchcam-suite train photos --recipe xception --loss complementary" in " ".join(found.stdout.split())
