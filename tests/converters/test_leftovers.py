"""What killed runs left behind is removed a day later; what is being written, and what is the user's, is not."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from converters.bundle import new_folder
from converters.left_behind import ENDING, remove_left_behind
from torchcam_suite.explanation import write_atomically
from torchcam_suite.training.checkpoint_file import write_checkpoint

DAY = 24 * 60 * 60


def aged(path: Path, days: float) -> Path:
    """The same, last written so long ago."""
    then = time.time() - days * DAY
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def file(path: Path, days: float) -> Path:
    path.write_bytes(b"half")
    return aged(path, days)


def folder(path: Path, days: float, content: float) -> Path:
    path.mkdir()
    file(path / "weights.safetensors", content)
    return aged(path, days)


def test_only_what_nobody_writes_to_any_more_is_removed(tmp_path: Path) -> None:
    file(tmp_path / f".maps.npz-1{ENDING}", 1.1)
    folder(tmp_path / f".model.bundle-1{ENDING}", 3, 2)
    file(tmp_path / f".maps.npz-2{ENDING}", 0.9)
    folder(tmp_path / f".model.bundle-2{ENDING}", 3, 0.1)
    remove_left_behind(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".maps.npz-2{ENDING}", f".model.bundle-2{ENDING}"}


def test_nothing_of_the_user_is_removed(tmp_path: Path) -> None:
    file(tmp_path / f"mine{ENDING}", 9)
    file(tmp_path / ".maps.npz-20240101", 9)
    file(tmp_path / ".model.part", 9)
    (tmp_path / "deeper").mkdir()
    file(tmp_path / "deeper" / f".maps.npz-1{ENDING}", 9)
    folder(tmp_path / "pictures", 9, 9)
    (tmp_path / f".link-1{ENDING}").symlink_to(tmp_path / "pictures")
    aged(tmp_path / f".link-1{ENDING}", 9)
    before = {path for path in tmp_path.rglob("*") if "link" not in path.name}
    remove_left_behind(tmp_path)
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_is_looked_at_once(tmp_path: Path) -> None:
    remove_left_behind(tmp_path)
    late = file(tmp_path / f".maps.npz-1{ENDING}", 9)
    remove_left_behind(tmp_path)
    assert late.exists()


def write_file(path: Path) -> None:
    write_atomically(path, lambda opened: opened.write(b"whole"))


def write_folder(path: Path) -> None:
    with new_folder(path) as place:
        (place / "manifest.json").write_text("{}")


def write_state(path: Path) -> None:
    write_checkpoint(path, {"weight": torch.ones(2)})


@pytest.mark.parametrize("write", [write_file, write_folder, write_state])
def test_the_next_run_cleans_up_and_writes_under_a_name_that_can_be_told(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(tmp_path / f".other.npz-1{ENDING}", 2)
    running = file(tmp_path / f".other.npz-2{ENDING}", 0)
    met = list[set[str]]()
    fsync = os.fsync

    def watching(number: int) -> None:
        met.append({path.name for path in tmp_path.iterdir()})
        fsync(number)

    monkeypatch.setattr(os, "fsync", watching)
    write(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", running.name}
    (begun,) = met[0] - {running.name}
    assert begun.startswith(".whole-")
    assert begun.endswith(ENDING)
