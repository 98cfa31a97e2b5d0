"""The commands of docs/data.md lay other people's data sets out as the page says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from page_runs import PageRun


@pytest.fixture(scope="module")
def folder(run_of: Callable[[str], PageRun]) -> Path:
    run = run_of("docs/data.md")
    run.require()
    return run.folder


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("drawn", {"cat": 8, "dog": 8}),
        ("pets", {"cat": 12, "dog": 12}),
        ("objects", {"airplanes": 6, "Leopards": 6, "watch": 6}),
    ],
)
def test_every_picture_is_in_its_class(folder: Path, name: str, pictures: dict[str, int]) -> None:
    counts = json.loads((folder / name / "dataset.json").read_text())["counts"]
    found = {label: sum(by_class[label] for by_class in counts.values()) for label in counts["train"]}
    assert found == pictures
    files = [path for path in (folder / name).glob("*/*/*") if path.parent.parent.name in counts]
    assert {label: sum(path.parent.name == label for path in files) for label in pictures} == pictures


def test_outlines_become_masks(folder: Path) -> None:
    masks = list((folder / "objects" / "masks").rglob("*.png"))
    assert len(masks) == 6
    assert {mask.parent.name for mask in masks} == {"watch"}


@pytest.mark.parametrize(("name", "pictures"), [("fashion", 9), ("cifar", 12)])
def test_what_is_fetched_becomes_pictures(folder: Path, name: str, pictures: int) -> None:
    files = [path for path in (folder / name).rglob("*.png") if ".source" not in path.parts]
    assert len(files) == pictures
    assert {path.parent.parent.name for path in files} <= {"train", "val", "test"}
