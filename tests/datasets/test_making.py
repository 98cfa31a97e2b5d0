"""Procedural sets as files: who draws them, how many, and when makes no difference to a picture."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchcam_suite.datasets import PROCEDURAL, draw, make, making
from torchcam_suite.datasets.procedural import generator_of
from torchcam_suite.errors import SourceError, TorchcamError


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("pets", tmp_path_factory.mktemp("sets") / "pets", train=6, val=2, test=4, size=24, seed=3)


def test_a_set_is_splits_of_class_folders_with_masks_beside_them(pets: Path) -> None:
    numbers = {"train": 3, "val": 1, "test": 2}
    pictures = {f"{s}/{c}/{i:04d}.png" for s, n in numbers.items() for c in ("cat", "dog") for i in range(n)}
    assert set(contents(pets)) == pictures | {f"masks/{path}" for path in pictures} | {"dataset.json"}


def test_the_files_hold_what_is_drawn_from_the_numbers_of_the_picture(pets: Path) -> None:
    picture, mask = draw("pets", "dog", generator_of(3, "test", 1, 1), 24)
    assert np.asarray(picture).std() > 10
    for path, drawn in (("test/dog/0001.png", picture), ("masks/test/dog/0001.png", mask)):
        with Image.open(pets / path) as file:
            assert file.mode == drawn.mode
            np.testing.assert_array_equal(np.asarray(file), np.asarray(drawn))
    assert len({content for path, content in contents(pets).items() if not path.startswith("masks")}) == 13


def test_the_description_says_what_is_there(pets: Path) -> None:
    assert json.loads((pets / "dataset.json").read_bytes()) == {
        "name": "pets",
        "drawings": 1,
        "train": 6,
        "val": 2,
        "test": 4,
        "size": 24,
        "seed": 3,
        "masks": True,
        "class_names": ["cat", "dog"],
        "counts": {"train": {"cat": 3, "dog": 3}, "val": {"cat": 1, "dog": 1}, "test": {"cat": 2, "dog": 2}},
    }


def test_a_longer_set_begins_with_a_shorter_one(pets: Path, tmp_path: Path) -> None:
    longer = contents(make("pets", tmp_path / "pets", train=9, size=24, seed=3, masks=False))
    shorter = {path: content for path, content in contents(pets).items() if path.startswith("train/")}
    assert {path: longer[path] for path in shorter} == shorter
    assert len(longer) == 9 + 1
    assert sum(path.startswith("train/cat") for path in longer) == 5


def test_processes_draw_the_same_files(pets: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    counts = {"train": 6, "val": 2, "test": 4}
    by_two = make("pets", tmp_path / "pets", **counts, size=24, seed=3, workers=2, progress=lambda *at: done.append(at))
    assert contents(by_two) == contents(pets)
    assert done == [(number, 12) for number in range(1, 13)]


def test_many_pictures_are_given_to_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(making, "_draw_in_processes", lambda *arguments: asked.append(arguments[3]))
    monkeypatch.setattr(making, "draw_files", lambda *_: asked.append(1))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for number, train in enumerate((10, 199, 200, 800, 10_000)):
        make("pets", tmp_path / str(number), train=train)
    assert asked == [1, 1, 2, 5, 8]


@pytest.mark.parametrize(
    ("end", "reason"),
    [("sys.exit('out of memory')", "out of memory"), ("sys.exit(0)", "exit status 0, 0 of 6 pictures")],
)
def test_a_process_that_ends_early_is_told_and_the_rest_can_be_drawn_later(
    end: str, reason: str, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"train": 6, "val": 2, "test": 4, "size": 24, "seed": 3}
    monkeypatch.setattr(making, "_WORKER", f"import sys; sys.stdin.read(); {end}")
    with pytest.raises(TorchcamError, match=rf"a process that draws pictures ended \({reason}\)"):
        make("pets", tmp_path / "pets", **counts, workers=2)
    assert set(contents(tmp_path / "pets")) == {".unfinished.json"}
    make("pets", tmp_path / "pets", **counts)
    assert contents(tmp_path / "pets") == contents(pets)


def test_a_process_that_ends_before_it_has_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a job that is longer than what a pipe holds
    monkeypatch.setattr(making, "_WORKER", "import sys; sys.stdin.close(); sys.exit('no module')")
    with pytest.raises(TorchcamError, match=r"a process that draws pictures ended \(no module\)"):
        make("pets", tmp_path / "pets", train=6000, masks=False, workers=2)


def test_what_was_stopped_half_way_is_completed(pets: Path, tmp_path: Path) -> None:
    counts: dict[str, Any] = {"train": 6, "val": 2, "test": 4, "size": 24, "seed": 3}

    def stop(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("pets", tmp_path / "pets", **counts, progress=stop)
    assert not (tmp_path / "pets/dataset.json").exists()
    first = tmp_path / "pets/train/cat/0000.png"
    before = first.stat().st_mtime_ns
    with pytest.raises(SourceError, match="holds a data set with size=24, but size=32 was asked for"):
        make("pets", tmp_path / "pets", **counts | {"size": 32})
    drawn: list[int] = []
    make("pets", tmp_path / "pets", **counts, progress=lambda _done, total: drawn.append(total))
    assert drawn == [7] * 7
    assert first.stat().st_mtime_ns == before
    assert contents(tmp_path / "pets") == contents(pets)


def test_the_same_call_leaves_a_set_as_it_is_and_draws_what_was_deleted(tmp_path: Path) -> None:
    folder = make("families", tmp_path / "set", train=3, size=16)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    make("families", folder, train=3, size=16)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before
    content = (folder / "train/ember/0000.png").read_bytes()
    (folder / "train/ember/0000.png").unlink()
    make("families", folder, train=3, size=16)
    assert (folder / "train/ember/0000.png").read_bytes() == content


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 4}, r"holds a data set with seed=0, but seed=4 was asked for; name a new folder, or delete this one"),
        ({"train": 9, "masks": False}, r"with train=3, masks=true, but train=9, masks=false was asked"),
        ({"name": "objects"}, r'with name="families", but name="objects"'),
    ],
)
def test_another_set_is_not_mixed_with_one_that_is_there(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"name": "families", "train": 3, "size": 16}
    make(folder=tmp_path / "set", **asked)
    before = contents(tmp_path / "set")
    with pytest.raises(SourceError, match=message):
        make(folder=tmp_path / "set", **asked | changed)
    assert contents(tmp_path / "set") == before


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: (folder / "thesis.txt").write_text("mine"), "is not empty, and holds no data set"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "no description of a data set"),
        (lambda folder: (folder / "dataset.json").write_bytes(b"\xff{"), "no description of a data set"),
    ],
)
def test_nothing_of_the_user_is_touched(prepare: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(SourceError, match=message):
        make("pets", tmp_path, train=2, size=16)
    assert contents(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "pets").write_text("mine")
    with pytest.raises(SourceError, match="pets is a file; name a folder"):
        make("pets", tmp_path / "pets", train=2)
    with pytest.raises(SourceError, match="cannot write to /dev/null/pets"):
        make("pets", "/dev/null/pets", train=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "pet"}, "data set 'pet' is unknown; the procedural ones are pets"),
        ({"train": 1}, "train=1; expected 0, or at least one picture for each of 2 classes"),
        ({"test": -2}, "test=-2; expected 0, or"),
        ({"train": 0}, "train=0, val=0 and test=0: nothing to draw"),
        ({"train": 10**12}, "train=1000000000000, val=0, test=0; expected at most 1000000 pictures together"),
        ({"train": 600_000, "test": 400_001}, "train=600000, val=0, test=400001; expected at most"),
        ({"size": 15}, "size=15, seed=0; expected a size of 16 to 4096 pixels"),
        ({"size": 100_000_000}, "size=100000000, seed=0; expected a size of 16 to 4096 pixels"),
        ({"seed": -1}, "size=128, seed=-1; expected"),
        ({"workers": 0}, "workers=0; expected 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TorchcamError, match=message):
        make(**{"name": "pets", "folder": tmp_path / "set"} | options)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", PROCEDURAL)
def test_each_set_can_be_made(name: str, tmp_path: Path) -> None:
    classes = len(PROCEDURAL[name].class_names)
    folder = make(name, tmp_path / name, train=classes, size=16)
    assert len(list(folder.glob("train/*/0000.png"))) == len(list(folder.glob("masks/train/*/0000.png"))) == classes
