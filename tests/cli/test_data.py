"""`data` draws, copies and fetches data sets, and prints what is there."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image

from torchcam_suite.datasets import make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Somebody's class folders."""
    random = np.random.default_rng(0)
    for label in ("ada", "ben"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(0, 256, (10, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{index}.png")
    return tmp_path / "pictures"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_drawn_pictures_are_those_of_the_library(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "pets"
    found = run("data", "pets", "-o", out, "--train", 4, "--val", 2, "--test", 2, "--size", 24, "--seed", 5)
    assert found.status == 0
    expected = make("pets", tmp_path / "same", train=4, val=2, test=2, size=24, seed=5)
    assert files(out) == files(expected)
    assert len(files(out)) == 2 * 8 + 1
    rows = [line.split() for line in found.stdout.splitlines()]
    assert rows == [
        ["class", "train", "val", "test"],
        ["cat", "2", "1", "1"],
        ["dog", "2", "1", "1"],
        ["all", "4", "2", "2"],
    ]
    assert found.stderr == f"written: {out}\n"


def test_json_is_the_description(tmp_path: Path, run: Run) -> None:
    found = run("data", "objects", "-o", tmp_path / "set", "--train", 3, "--size", 16, "--no-masks", "--json")
    about = json.loads(found.stdout)
    assert about.pop("folder") == str(tmp_path / "set")
    assert about == json.loads((tmp_path / "set/dataset.json").read_bytes())
    assert about["counts"] == {"train": {"aeroplane": 1, "leopard": 1, "watch": 1}}
    assert not (tmp_path / "set/masks").exists()
    assert found.stderr == ""


def test_a_folder_is_split_and_what_is_broken_is_named(pictures: Path, tmp_path: Path, run: Run) -> None:
    (pictures / "ada/broken.jpg").write_bytes(b"")
    (pictures / "ben/0.png").write_bytes((pictures / "ada/0.png").read_bytes())
    asked = ["--from", pictures, "-o", tmp_path / "out", "--size", 8, "--val", 0.2, "--test", 0.2]
    found = run("data", "crops", *asked)
    assert found.status == 0
    (tallied,) = (line.split()[1:] for line in found.stdout.splitlines() if line.startswith("all"))
    assert sum(map(int, tallied)) == 24
    assert len(list((tmp_path / "out").glob("*/*/*.png"))) == 24
    assert f"left out: {pictures}/ada/broken.jpg is not an image" in found.stderr
    assert f"in different classes: {pictures}/ada/0.png, {pictures}/ben/0.png" in found.stderr
    again = run("data", "crops", *asked, "--json")
    assert json.loads(again.stdout)["broken"][0]["path"] == f"{pictures}/ada/broken.jpg"


def test_all_of_many_broken_files_are_counted(pictures: Path, tmp_path: Path, run: Run) -> None:
    for index in range(13):
        (pictures / f"ada/broken-{index}.jpg").write_bytes(b"")
    found = run("data", "crops", "--from", pictures, "-o", tmp_path / "out", "--val", 0, "--test", 0)
    assert found.stderr.count("left out: ") == 10
    assert "and 3 more, listed in dataset.json" in found.stderr


def test_classes_of_caltech_are_named_with_commas(pictures: Path, tmp_path: Path, run: Run) -> None:
    shares = ["--val", 0, "--test", 0, "--json"]
    one = run("data", "caltech101", "--from", pictures, "--classes", "ben", "-o", tmp_path / "one", *shares)
    assert json.loads(one.stdout)["counts"] == {"train": {"ben": 12}}
    every = run("data", "caltech101", "--from", pictures, "--classes", "all", "-o", tmp_path / "all", *shares)
    assert json.loads(every.stdout)["counts"] == {"train": {"ada": 12, "ben": 12}}


def test_without_a_name_the_sets_are_listed(run: Run) -> None:
    found = run("data")
    names = ["pets", "families", "faces", "objects", "dogs-vs-cats", "caltech101", "crops", "fashion-mnist", "cifar-10"]
    assert [item["name"] for item in json.loads(run("data", "--json").stdout)] == names
    assert all(name in found.stdout for name in names)
    assert max(map(len, found.stdout.splitlines())) <= 80


def test_the_help_has_an_example_of_each_kind(run: Run) -> None:
    said = " ".join(run("data", "--help").stdout.split())
    for example in ("data pets -o drawn", "data caltech101 --from", "data crops --from", "data cifar-10 -o"):
        assert f"torchcam-suite {example}" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pet", "-o", "out"], "data set 'pet' is unknown; choose one of pets, families, faces, objects, dogs-vs-cats"),
        (["pets"], "name the folder to write: torchcam-suite data pets -o FOLDER"),
        (["crops", "-o", "out"], "name the folder of crops: torchcam-suite data crops --from FOLDER -o out"),
        (["crops", "--from", "none", "-o", "out"], "no such folder: none"),
        (["pets", "-o", "out", "--val", "0.2"], "--val 0.2 of pets; expected a number of pictures, as 100"),
        (["pets", "-o", "out", "--from", "x"], "pets takes no --from; it takes --train, --val, --test, --size, --seed"),
        (["crops", "--from", "x", "-o", "out", "--train", "4", "--no-masks"], "crops takes no --train, --no-masks"),
        (["cifar-10", "-o", "out", "--size", "64"], "cifar-10 takes no --size"),
        (["pets", "-o", "out", "--size", "4"], "size=4, seed=0; expected a size of 16 to 4096 pixels"),
        (["pets", "-o", "out", "--size", "100000000"], "size=100000000, seed=0; expected a size of 16 to 4096"),
        (["pets", "-o", "/dev/null/out"], "cannot write to /dev/null/out"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str], message: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("data", *arguments)
    assert found.status == 1
    assert found.stdout == ""
    assert message in " ".join(found.stderr.split())
    assert list(tmp_path.iterdir()) == []
