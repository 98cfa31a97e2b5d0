"""`tcav` prints a table for each target and layer, and writes the result and its chart."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Ran, Run
from PIL import Image

from torchcam_suite import load
from torchcam_suite.concepts import TcavResult, tcav

LAYER = "max_pooling2d_3"
COLOURS = ("red", "green", "blue", "yellow", "black", "white")


@pytest.fixture
def folders(data: Path) -> Path:
    """Concepts, classes and six random sets, in the article's layout."""
    return data / "tcav_families/pictures"


@pytest.fixture
def labels(data: Path) -> Path:
    """Fire, grass and water."""
    return data / "tcav_families/labels.txt"


@pytest.fixture
def ask(families: Path, folders: Path, labels: Path, run: Run) -> Any:
    """Ask for concepts and targets at the layer before the linear head."""

    def ask_it(*arguments: object, concepts: tuple[str, ...] = ("red", "blue"), targets: tuple[str, ...] = ()) -> Ran:
        named = [part for concept in concepts for part in ("--concept", concept)]
        named += [part for target in targets or ("fire",) for part in ("--target", target)]
        options = ["--layer", LAYER, "--preprocess", "unit", "--classes", labels]
        return run("tcav", families, "--data", folders, *named, *options, *arguments)

    return ask_it


def test_the_table_has_every_colour_for_every_family_in_eighty_columns(ask: Any) -> None:
    found = ask(concepts=COLOURS, targets=("fire", "grass", "water"))
    assert found.status == 0
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith(LAYER)] == [
        f"{name} at {LAYER}" for name in ("fire", "grass", "water")
    ]
    tables = [line.split() for line in lines if line.split(" ")[0] in COLOURS]
    assert [line[0] for line in tables] == list(COLOURS) * 3
    scores = {(i // 6, line[0]): float(line[1]) for i, line in enumerate(tables)}
    assert scores[0, "red"] == scores[1, "green"] == scores[2, "blue"] == 1
    assert scores[0, "blue"] == scores[1, "red"] == scores[2, "red"] == 0
    assert "p: calibrated test, correction for 18 question(s): holm" in found.stderr
    # six random sets cannot decide, and it says what would
    assert {line[-1] for line in tables} == {"undecided"}
    text = " ".join(found.stdout.split())
    assert "Too few random sets to decide: 6 allow no p value below 0.143; 18 question(s)" in text
    assert "need 359" in text


def test_more_and_smaller_random_sets_decide_more(ask: Any) -> None:
    options = ["--correction", "none", "--level", "0.1"]
    few, more = (ask(*options, *extra, "--json") for extra in ([], ["--redeal"]))
    few, more = (json.loads(found.stdout) for found in (few, more))
    assert {row["verdict"] for row in few["rows"]} == {"undecided"}
    assert {row["verdict"] for row in more["rows"]} == {"significant"}
    assert {row["runs"] for row in few["rows"]} == {6}
    assert {row["runs"] for row in more["rows"]} == {18}


def test_files_and_json_are_those_of_the_library(
    ask: Any, families: Path, folders: Path, labels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    found = ask("-o", out, "--seed", "3", "--probe", "logistic", "--runs", "5", "--json", targets=("fire", "2=water"))
    assert found.status == 0
    assert found.stderr == ""
    about = json.loads(found.stdout)
    files = [Path(path) for path in about.pop("files")]
    assert sorted(files) == sorted(out.iterdir())
    assert [path.name for path in files] == ["tcav.json", "tcav.csv", "cavs.safetensors", "tcav.png"]
    model = load(families, preprocessing="unit", class_names=labels.read_text().split())
    expected = tcav(
        model,
        layers=LAYER,
        concepts=["red", "blue"],
        target={"fire": folders / "fire", 2: folders / "water"},
        data=folders,
        probe="logistic",
        runs=5,
        seed=3,
    )
    assert about == json.loads(json.dumps(expected.to_json()))
    assert TcavResult.load(out).rows == expected.rows
    with (out / "tcav.csv").open(newline="") as file:
        assert [(row["concept"], row["target"]) for row in csv.DictReader(file)] == [
            (row.concept, row.target) for row in expected.rows
        ]
    with Image.open(out / "tcav.png") as picture:
        picture.load()


def test_a_class_number_and_a_folder_are_the_same_as_the_name(ask: Any) -> None:
    named, numbered = (json.loads(ask("--json", targets=(target,)).stdout) for target in ("fire", "0=fire"))
    assert [row["target"] for row in named["rows"] + numbered["rows"]] == ["fire"] * 2 + ["0"] * 2
    for one, other in zip(named["rows"], numbered["rows"], strict=True):
        assert {**one, "target": ""} == {**other, "target": ""}
    assert f"class 0 at {LAYER}" in ask(targets=("0=fire",)).stdout.splitlines()


@pytest.mark.parametrize(
    ("options", "verdict", "shape"),
    [
        (["--relative"], "not tested", [16, 8, 8]),
        (["--test", "paper", "--correction", "none"], "significant", [16, 8, 8]),
        (["--pool", "mean"], "undecided", [16]),
    ],
)
def test_options_reach_the_library(options: list[str], verdict: str, shape: list[int], ask: Any) -> None:
    found = json.loads(ask(*options, "--json").stdout)
    assert {row["verdict"] for row in found["rows"]} == {verdict}
    assert found["shapes"] == {LAYER: shape}


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(ask: Any, tmp_path: Path) -> None:
    found = ask("--dry-run", "-o", tmp_path / "out", concepts=COLOURS, targets=("fire", "grass", "water"))
    assert found.status == 0
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "pictures     480 different ones, one forward pass each"
    assert lines[-1] == "random sets  6; 18 questions at a level of 0.05 need 359: TOO FEW to decide"
    assert not (tmp_path / "out").exists()
    about = json.loads(ask("--dry-run", "--redeal", "--json").stdout)
    assert (about["pictures"], about["runs"], about["needed"], about["decides"]) == (400, 18, 39, False)


def test_kept_activations_give_the_same_again(ask: Any, tmp_path: Path) -> None:
    first = ask("--cache", tmp_path / "kept", "--json")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.rows")}
    assert kept
    again = ask("--cache", tmp_path / "kept", "--json")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.rows")} == kept


def test_doubts_about_pictures_are_told_on_stderr(ask: Any, folders: Path, tmp_path: Path) -> None:
    for name in ("fire", "red", "blue", "random500_0", "random500_1"):
        shutil.copytree(folders / name, tmp_path / name)
    for picture in sorted((tmp_path / "red").iterdir())[10:]:
        picture.rename(tmp_path / "random500_0" / f"red_{picture.name}")
    shutil.copy(next(iter(sorted((tmp_path / "blue").iterdir()))), tmp_path / "random500_1" / "blue.png")
    found = ask("--data", tmp_path)
    assert found.status == 0
    assert "note: few pictures of red (10)" in found.stderr
    assert "note: the same pictures are in blue and random500_1 (1)" in found.stderr
    assert "few pictures" not in found.stdout


def test_without_matplotlib_only_the_chart_is_missing(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = ask("-o", tmp_path / "out")
    assert found.status == 1
    assert "left out tcav.png: charts need Matplotlib" in found.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"tcav.json", "tcav.csv", "cavs.safetensors"}
    assert f"fire at {LAYER}" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concept", "gren"], "has no folder 'gren'; did you mean 'green'"),
        (["--random", "noise"], "begins with 'noise'"),
        (["--layer", "max_pooling2d_9"], "layer 'max_pooling2d_9' is not in this model"),
        (["--target", "fyre=fire"], "target 'fyre' is no class of this model; did you mean 'fire'?"),
        (["--target", "0"], "--target 0 is a class number, and"),
        (["--target", "0=fyre"], "has no folder 'fyre'; did you mean 'fire'"),
        (["--probe", "svm"], "probe='svm'; expected one of ridge"),
        (["--test", "t"], "test='t'; expected one of calibrated"),
        (["--correction", "some"], "correction='some'; expected one of holm"),
        (["--level", "5"], "level=5.0; expected a number between 0 and 1"),
        (["--pool", "max"], "pool='max'; expected 'flatten'"),
        (["--runs", "7"], "runs=7, but there are 6 random sets"),
        (["--data", "nowhere"], "nowhere is no folder"),
        (["-o", "/dev/null/out"], "cannot write to /dev/null/out"),
    ],
)
def test_what_does_not_fit_is_told(arguments: list[str], message: str, ask: Any) -> None:
    found = ask(*arguments)
    assert found.status == 1
    assert found.stdout == ""
    assert message in " ".join(found.stderr.split())


def test_a_name_needs_class_names(families: Path, folders: Path, run: Run) -> None:
    found = run("tcav", families, "--data", folders, "--concept", "red", "--target", "fire", "--preprocess", "unit")
    assert found.status == 1
    assert "this model has no class names; give them (--classes)" in found.stderr
    assert "(--target 0=fire)" in found.stderr


@pytest.mark.parametrize("missing", ["--data", "--concept", "--target"])
def test_what_has_no_default_has_to_be_said(missing: str, families: Path, folders: Path, run: Run) -> None:
    given = {"--data": folders, "--concept": "red", "--target": "fire"}
    del given[missing]
    found = run("tcav", families, *(part for option in given.items() for part in option))
    assert found.status == 2
    assert missing in found.stderr
