"""docs/differences.md is what its script wrote, and each difference in it can be seen."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "differences.md"
RESNET = "ResNet-18"
SLOW = {"Score-CAM", "SS-CAM", "IS-CAM", "Ablation-CAM", "Attribution at the input", "FullGrad", "Guided Grad-CAM"}

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that are measured


@pytest.fixture(scope="module")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        yield importlib.import_module


@pytest.fixture(scope="module")
def differences(script: Callable[[str], ModuleType]) -> list[Any]:
    return [one for section in script("known_differences").SECTIONS.values() for one in section]


@pytest.fixture(scope="module")
def setting(script: Callable[[str], ModuleType]) -> Any:
    return script("difference_settings").resnet18(64, 1)


def test_the_page_has_every_difference_in_its_words(
    script: Callable[[str], ModuleType], differences: list[Any]
) -> None:
    page, paragraph = PAGE.read_text(encoding="utf-8"), script("measure_differences").paragraph
    titles = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    assert titles == [one.title for one in differences]
    for one in differences:
        assert paragraph(one.text) in page


def test_the_page_has_figures_for_every_difference(differences: list[Any]) -> None:
    parts = PAGE.read_text(encoding="utf-8").split("### ")[1:]
    for one, part in zip(differences, parts, strict=True):
        if one.measure is None:
            continue
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
        assert {cells[0] for cells in rows} == set(one.on)
        assert max(float(cells[2]) for cells in rows) > 1e-4


def test_the_same_definitions_differ_by_rounding_on_the_page() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").split("## ")[1].splitlines() if line.startswith("| ")]
    figures = [cell for row in rows[1:] for cell in row.strip("| ").split(" | ")[2:] if cell != "not comparable"]
    assert len(figures) > 25
    assert max(map(float, figures)) < 1e-4


def test_a_difference_can_be_seen_or_told(differences: list[Any], setting: Any) -> None:
    for one in differences:
        if RESNET not in one.on or one.title in SLOW:
            continue
        if one.measure is not None:
            pairs = one.measure(setting)
            assert all(pair.ours.shape == pair.theirs.shape == (1, 64, 64) for pair in pairs)
            assert max(float((pair.ours - pair.theirs).abs().max()) for pair in pairs) > 1e-4
        if one.facts is not None:
            assert all(one.facts(setting))


def test_facts_are_those_of_the_page(script: Callable[[str], ModuleType], setting: Any) -> None:
    facts = script("difference_facts")
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for fact in (*facts.left_behind(setting), *facts.no_evidence(setting), *facts.half_precision(setting)):
        assert fact in page


def test_a_page_is_written_of_what_is_measured(
    script: Callable[[str], ModuleType], setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, known = script("measure_differences"), script("known_differences")
    torch.manual_seed(0)
    ours = torch.rand(1, 8, 8)
    pair = script("difference_settings").Pair("two maps", ours, 1 - ours)
    difference = known.Difference("A title", "Some words.", lambda _: [pair], lambda _: ["a fact"], on=(RESNET,))
    monkeypatch.setattr(page, "SECTIONS", {"A section": [difference]})
    monkeypatch.setattr(page, "_same", lambda _: "| same |\n")
    text = page.page({"demo": setting, RESNET: setting}, lambda _: None)
    largest = float((2 * ours - 1).abs().max())
    assert "## A section\n\n### A title\n\nSome words.\n" in text
    assert f"| {RESNET} | two maps | {largest:.2f} | -1.00 | 0.00 |" in text
    assert "* a fact\n" in text
