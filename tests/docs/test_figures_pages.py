"""The examples of docs/evaluating.md and docs/map-quality.md print and write what the pages say."""

import re
from collections.abc import Callable

import numpy as np
from page_runs import PageRun


def test_evaluation_lists_its_mistakes_and_saves(run_of: Callable[[str], PageRun]) -> None:
    run = run_of("docs/evaluating.md")
    printed, result = run.printed("python"), run.names["result"]
    assert str(result.scores.accuracy) in printed
    assert len(result.mistakes) > 0
    for mistake in result.mistakes:
        assert f"{mistake.path} {mistake.label} {mistake.prediction}" in printed
    assert (run.folder / "out" / "evaluation.json").is_file()


def test_figures_of_maps_are_printed_under_their_names(run_of: Callable[[str], PageRun]) -> None:
    run = run_of("docs/map-quality.md")
    printed = run.printed("python")
    for name in ("average_drop[image*map,%] lower", "deletion_auc[zero,steps=50] lower"):
        assert name in printed
    assert run.names["curve"].confidences.shape == (2, 101)
    rows = (run.folder / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert {row.split(",")[0] for row in rows[1:]} != {""}
    assert len(np.unique(run.names["explanation"].maps.cpu())) > 100


def test_the_table_of_the_demo_has_the_figures_that_are_printed(run_of: Callable[[str], PageRun]) -> None:
    run = run_of("docs/map-quality.md")
    (table,) = (block.code for block in run.outcomes if block.language == "text")
    (printed,) = (outcome.printed for block, outcome in run.outcomes.items() if "--metric all" in block.code)
    assert "max_sensitivity" in table
    assert first_column(table) == first_column(printed)


def first_column(table: str) -> list[str]:
    """Of each line but the one with the names of the methods; figures are two spaces or more away."""
    return [re.split(r" {2,}", line.strip())[0] for line in table.rstrip().splitlines()[1:]]
