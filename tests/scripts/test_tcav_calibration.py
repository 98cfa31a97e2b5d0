"""The calibration counts what it says, and docs/concepts.md shows what was counted."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from test_bench import SCRIPTS, run_script
from torch import nn

from torchcam_suite import load
from torchcam_suite.concepts.gram import products
from torchcam_suite.concepts.probes import PROBES
from torchcam_suite.concepts.significance import Runs
from torchcam_suite.concepts.testing import measure
from torchcam_suite.concepts.training import Training, train_layer
from torchcam_suite.datasets.creatures import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
SETS = 5


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        import tcav_calibration

        yield tcav_calibration


@pytest.fixture(scope="module")
def worlds(calibration: ModuleType) -> ModuleType:
    import tcav_calibration_worlds

    assert calibration.Synthetic is tcav_calibration_worlds.Synthetic
    return tcav_calibration_worlds


@pytest.fixture(scope="module")
def intervals(calibration: ModuleType) -> ModuleType:
    import tcav_calibration_intervals

    assert calibration.tcav_calibration_intervals is tcav_calibration_intervals
    return tcav_calibration_intervals


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Activations of five random sets and three concepts of 20 pictures, and gradients."""
    random = np.random.default_rng(0)
    activations = random.standard_normal(((SETS + 3) * 20, 30)).astype(np.float32)
    return activations, random.standard_normal((11, 30)).astype(np.float32)


@pytest.fixture(scope="module")
def drawn(worlds: ModuleType, rows: tuple[np.ndarray, np.ndarray]) -> Any:
    activations, gradients = rows
    return worlds.Drawn(products(activations, activations), {"here": products(gradients, activations)})


def same(one: Runs, other: Runs) -> None:
    for part in fields(Runs):
        expected = pytest.approx(getattr(other, part.name), rel=1e-6, abs=1e-9, nan_ok=True)
        assert getattr(one, part.name) == expected


@pytest.mark.parametrize("probe", PROBES)
def test_runs_are_those_of_the_package(
    calibration: ModuleType, drawn: Any, rows: tuple[np.ndarray, np.ndarray], probe: str
) -> None:
    activations, gradients = rows
    names = [*(f"random_{i}" for i in range(SETS)), "null", "weak", "strong"]
    places = {name: np.arange(20 * i, 20 * i + 20) for i, name in enumerate(names)}
    probes = train_layer(activations, places, dict.fromkeys(names[SETS:], names[:SETS]), Training(probe, seed=3), True)
    expected = measure(probes, products(gradients, activations))
    found = calibration.runs_of(drawn, probe, seed=3)
    assert list(found) == [("here", "null"), ("here", "weak"), ("here", "strong")]
    for concept in names[SETS:]:
        same(found["here", concept], expected[concept].runs)


def test_fewer_sets_are_the_first_ones(calibration: ModuleType, worlds: ModuleType, drawn: Any) -> None:
    some = torch.cat([torch.arange(3 * 20), torch.arange(SETS * 20, (SETS + 3) * 20)])
    fewer = worlds.Drawn(drawn.gram[some[:, None], some], {"here": drawn.cross["here"][:, some]})
    expected = calibration.runs_of(fewer, "ridge", seed=0)
    found = calibration.runs_of(drawn, "ridge", seed=0)
    for key, runs in found.items():
        assert len(runs.scores) == SETS
        same(calibration.first(runs, 3), expected[key])


def test_scores_alone_leave_ties_where_they_are(calibration: ModuleType) -> None:
    # the concept beats all sets, and set 2 loses to all: both are at the extreme
    scores = np.array([1.0, 1.0, 1.0])
    chance = np.array([[np.nan, 1, 1], [0, np.nan, 1], [0, 0, np.nan]])
    runs = Runs(scores, np.full(3, 5.0), np.zeros(3), chance, 0.1 * (chance - 0.5))
    found = calibration.p_values(runs)
    assert found["calibrated"] == 1 / 4
    assert found["scores alone"] == 2 / 4
    assert set(found) == {"calibrated", "paper", "reference", "scores alone"}


def test_synthetic_draws_are_what_they_are_called(worlds: ModuleType) -> None:
    world = worlds.Synthetic()
    one, again, other = world.draw(0, 4), world.draw(0, 4), world.draw(1, 4)
    assert torch.equal(one.gram, again.gram)
    assert not torch.allclose(one.gram, other.gram)
    assert one.gram.shape == (7 * 20, 7 * 20)
    assert one.cross["synthetic"].shape == (worlds.IMAGES, 140)
    assert one.cross["synthetic (linear)"].shape == (1, 140)
    # along the common gradient, in units of its length
    means = [float(world.draw(i, 4).cross["synthetic (linear)"].view(7, 20).mean(1)[-3:].diff()[-1]) for i in range(40)]
    length = np.sqrt(worlds.FEATURES)
    assert np.mean(means) / length == pytest.approx(worlds.SHIFTS["strong"] - worlds.SHIFTS["weak"], abs=0.2)


@pytest.fixture(scope="module")
def pool(worlds: ModuleType) -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 10 * 10, 3))
    model = load(net, input_size=32, preprocessing="unit", class_names=list(FAMILIES), device="cpu")
    (found,) = worlds.creatures(model, {"1": "here"}, random=61, planted=21)
    return found


def test_a_pool_deals_disjoint_sets(worlds: ModuleType, pool: Any) -> None:
    assert pool.gram.shape == (61 + 2 * 21,) * 2
    assert pool.cross.shape == (worlds.IMAGES, 103)
    assert pool.settings == ("here",)
    found = pool.draw(0, 2)
    places = [int((pool.gram.diagonal() == value).nonzero()) for value in found.gram.diagonal()]
    assert len(set(places)) == len(places) == 5 * 20
    assert max(places[:60]) < 61 <= min(places[60:80])
    assert max(places[60:80]) < 61 + 21 <= min(places[80:])
    assert torch.equal(found.cross["here"], pool.cross[:, places])


def test_a_cast_is_on_the_creature_alone(worlds: ModuleType) -> None:
    picture, mask = Image.new("RGB", (4, 2), (10, 20, 30)), Image.new("L", (4, 2))
    mask.paste(255, (0, 0, 2, 2))
    found = np.asarray(worlds._tinted(picture, mask, 0.5), dtype=float)
    assert found[:, 2:] == pytest.approx(np.broadcast_to([10, 20, 30], (2, 2, 3)))
    assert found[:, :2] == pytest.approx(
        np.broadcast_to((np.array([10, 20, 30]) + worlds.COLOUR) / 2, (2, 2, 3)), abs=1
    )


def test_a_population_is_the_same_again_and_speaks_for_its_concept(intervals: ModuleType) -> None:
    assert np.array_equal(intervals.population(0, "weak").positive, intervals.population(0, "weak").positive)
    scores = {concept: [intervals.population(i, concept).score for i in range(4)] for concept in intervals.CONCEPTS}
    assert np.mean(scores["null"]) == pytest.approx(0.5, abs=0.3)
    assert np.mean(scores["null"]) < np.mean(scores["weak"]) < np.mean(scores["strong"])
    assert min(scores["strong"]) > 0.95


def test_sets_and_images_are_drawn_each_for_itself(intervals: ModuleType) -> None:
    places = np.arange(intervals.POPULATION)[:, None] * intervals.IMAGES + np.arange(intervals.IMAGES)
    found = intervals.drawn(intervals.Population(places), 5, 30, 0)
    assert found.shape == (5, 30)
    assert (found // intervals.IMAGES == found[:, :1] // intervals.IMAGES).all()
    assert (found % intervals.IMAGES == found[:1] % intervals.IMAGES).all()
    assert not np.array_equal(found, intervals.drawn(intervals.Population(places), 5, 30, 1))


@pytest.mark.parametrize(
    ("given", "held", "width"), [((0.0, 1.0), 2, 1.0), ((2.0, 2.5), 0, 0.5), ((-1.0, -0.5), 0, 0.5)]
)
def test_held_is_counted_with_the_width(
    intervals: ModuleType, monkeypatch: pytest.MonkeyPatch, given: tuple[float, float], held: int, width: float
) -> None:
    monkeypatch.setattr(intervals, "interval", lambda *_, **__: given)
    monkeypatch.setattr(intervals, "CONCEPTS", ("weak",))
    found = intervals.count(2)
    assert {(row["sets"], row["images"]) for row in found} == {(s, i) for s in intervals.SETS for i in (30, 200)}
    assert {(row["held"], row["draws"]) for row in found} == {(held, 2)}
    assert [row["width"] for row in found] == pytest.approx([width] * len(found))


@pytest.mark.parametrize(("found", "draws"), [(15, 300), (0, 100), (100, 100)])
def test_intervals_are_clopper_and_pearsons(calibration: ModuleType, found: int, draws: int) -> None:
    low, high = calibration.interval(found, draws)
    assert low == pytest.approx(stats.beta.ppf(0.025, found, draws - found + 1) if found else 0)
    assert high == pytest.approx(stats.beta.ppf(0.975, found + 1, draws - found) if found < draws else 1)


def test_a_page_is_filled_between_its_markers(calibration: ModuleType) -> None:
    page = f"before\n{calibration.BEGIN}\nold\n{calibration.END}\nafter\n"
    once = calibration.filled(page, "new")
    assert once == calibration.filled(once, "new")
    assert once.split() == ["before", *calibration.BEGIN.split(), "new", *calibration.END.split(), "after"]
    with pytest.raises(ValueError, match="once each"):
        calibration.filled("no marker", "new")


def test_the_page_shows_the_figures_that_are_stored(calibration: ModuleType) -> None:
    record = json.loads((DOCS / "tcav-calibration.json").read_text(encoding="utf-8"))
    page = (DOCS / "concepts.md").read_text(encoding="utf-8")
    assert calibration.filled(page, calibration.section(record)) == page


def test_what_the_page_says_of_the_figures_is_true() -> None:
    rows = json.loads((DOCS / "tcav-calibration.json").read_text(encoding="utf-8"))["rows"]
    null = [row for row in rows if row["concept"] == "null"]
    keeps = [stats.binomtest(row["significant"]["calibrated"], row["draws"], 0.05, "greater").pvalue for row in null]
    assert min(keeps) > 0.05 / len(keeps)  # Bonferroni
    for row in null:
        assert row["significant"]["paper"] > 4 * 0.05 * row["draws"]
        assert row["significant"]["reference"] > 4 * 0.05 * row["draws"]
    strong = [row["significant"] for row in rows if row["concept"] == "strong" and row["sets"] == 20]
    linear = [
        row["significant"]
        for row in rows
        if row["concept"] == "strong" and row["sets"] == 20 and "lin" in row["setting"]
    ]
    assert all(found["calibrated"] >= found["scores alone"] for found in strong)
    assert all(found["calibrated"] > found["scores alone"] for found in linear)


def test_what_the_page_says_of_intervals_is_true() -> None:
    rows = json.loads((DOCS / "tcav-calibration.json").read_text(encoding="utf-8"))["intervals"]
    held = {
        sets: [100 * row["held"] / row["draws"] for row in rows if row["sets"] == sets]
        for sets in {row["sets"] for row in rows}
    }
    assert round(min(held[20] + held[40])) == 94
    assert round(min(held[10])) == 90
    assert round(min(held[2] + held[3])) == 62


def test_the_script_counts_and_writes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- tcav_calibration.py writes from here -->\n<!-- to here -->\n")
    options = f"--quick --worlds synthetic --probes ridge mean_difference --page {page}".split()
    found, printed = run_script("tcav_calibration.py", tmp_path / "found.json", *options)
    asked = {(row["setting"], row["probe"], row["sets"], row["concept"]) for row in found["rows"]}
    assert len(asked) == len(found["rows"]) == 2 * 2 * 2 * 3
    for row in found["rows"]:
        assert row["draws"] == 10
        assert all(0 <= count <= 10 for count in row["significant"].values())
    strong = [row["significant"]["calibrated"] for row in found["rows"] if row["concept"] == "strong"]
    assert min(strong) >= 8
    assert page.read_text().count("| synthetic (linear) | ridge |") == 3
    assert max(map(len, printed.splitlines())) <= 80
