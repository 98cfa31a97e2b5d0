"""Products, planes and accuracies are what the activations themselves give."""

import numpy as np
import pytest
import torch
from worlds import World, labels_of, world

from torchcam_suite.concepts import gram as grams
from torchcam_suite.concepts.gram import accuracies, fit, products
from torchcam_suite.concepts.probes import PROBES
from torchcam_suite.concepts.testing import measure
from torchcam_suite.concepts.training import Training, train_layer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_products_are_taken_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    left, right = (1e3 + random.standard_normal((count, 1001)).astype(np.float32) for count in (7, 5))
    expected = left.astype(np.float64) @ right.astype(np.float64).T
    assert products(left, right).numpy() == pytest.approx(expected, rel=1e-14)
    monkeypatch.setattr(grams, "MOST_VALUES", 100)  # strips of 8 columns
    assert products(left, right).numpy() == pytest.approx(expected, rel=1e-14)
    assert products(left, left).numpy() == pytest.approx(left.astype(np.float64) @ left.astype(np.float64).T, rel=1e-14)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 20, 37])
def test_products_of_rows_with_themselves_are_symmetric_and_whole(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "MOST_VALUES", 2 * rows * 11)  # strips of 11 columns, the last of 3
    activations = np.random.default_rng(rows).standard_normal((rows, 80)).astype(np.float32)
    exact = activations.astype(np.float64)
    found = products(activations, activations).numpy()
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, exact @ exact.T, rtol=1e-12, atol=1e-12)
    exact -= exact.mean(0)
    centred = products(activations, activations, centred=True).numpy()
    np.testing.assert_allclose(centred, exact @ exact.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "columns"), [(0, 2**20), (1, 2**20), (1024, 1024), (2048, 512), (2**15, 512), (2**17, 256), (2**30, 1)]
)
def test_a_strip_is_small_but_not_narrow_and_never_large(rows: int, columns: int) -> None:
    assert grams.strip_width(rows) == columns


def test_memory_mapped_activations_are_taken_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert torch.equal(products(mapped, mapped), products(rows, rows))


@pytest.mark.parametrize("probe", PROBES)
def test_sensitivities_are_gradient_times_unit_vector(probe: str) -> None:
    drawn = world(1, planted=1.0)
    probes = drawn.train(Training(probe))
    planes = probes.planes["concept"]
    cavs = planes.vectors(drawn.activations)
    assert np.linalg.norm(cavs, axis=1) == pytest.approx(1, rel=1e-6)
    found = planes.sensitivities(products(drawn.gradients, drawn.activations, centred=probes.centred)).numpy()
    expected = cavs.astype(np.float64) @ drawn.gradients.T.astype(np.float64)
    assert found.shape == (20, 40)
    assert np.ptp(expected) > 0.1
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("probe", PROBES)
def test_a_cav_is_the_normal_of_a_probe_of_the_activations(probe: str) -> None:
    drawn = world(2, planted=2.0, sets=3)
    cavs = drawn.train(Training(probe)).planes["concept"].vectors(drawn.activations)
    for i, cav in enumerate(cavs):
        rows = np.concatenate([drawn.activations[:12], drawn.activations[drawn.rows[f"random_{i}"]]]).astype(np.float64)
        x = torch.from_numpy(rows)
        duals, _ = PROBES[probe]((x @ x.T)[None], labels_of(12))
        normal = (duals[0] @ x).numpy()
        assert cav == pytest.approx(normal / np.linalg.norm(normal), abs=1e-6)


def test_problems_that_are_solved_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = world(3)
    whole = drawn.measure(Training())
    monkeypatch.setattr(grams, "PROBLEMS", 2000)
    parts = drawn.measure(Training())
    assert np.array_equal(whole.positive, parts.positive)
    assert parts.runs.random_sensitivities == pytest.approx(whole.runs.random_sensitivities, rel=1e-9, nan_ok=True)


def test_random_sets_are_told_apart_from_both_sides() -> None:
    runs = world(4, sets=5).measure(Training()).runs
    off = ~np.eye(5, dtype=bool)
    assert np.isnan(runs.random_scores.diagonal()).all()
    assert (runs.random_scores + runs.random_scores.T)[off] == pytest.approx(1)
    assert (runs.random_sensitivities + runs.random_sensitivities.T)[off] == pytest.approx(0)
    assert runs.reverse_scores == pytest.approx(1 - runs.scores)


def by_hand(drawn: World, probe: str, fold: np.ndarray) -> float:
    """Accuracy of the concept against the first random set, one fold after the other, in the activations."""
    rows = drawn.activations[:24].astype(np.float64)
    labels = np.repeat([1.0, -1.0], 12)
    right = 0.0
    for number in range(3):
        train = torch.from_numpy(rows[fold != number])
        duals, intercepts = PROBES[probe]((train @ train.T)[None], torch.from_numpy(labels[fold != number]))
        values = rows[fold == number] @ (duals[0] @ train).numpy() + float(intercepts[0])
        right += float((values * labels[fold == number] > 0).sum())
    return right / 24


@pytest.mark.parametrize("probe", PROBES)
def test_accuracy_is_that_of_pictures_that_were_held_out(probe: str) -> None:
    drawn = world(5, planted=1.5)
    fold = grams._folds(labels_of(12), 0).numpy()
    assert [int((fold[:12] == number).sum()) for number in range(3)] == [4, 4, 4]
    assert drawn.train(Training(probe)).accuracies["concept"][0] == pytest.approx(by_hand(drawn, probe, fold))


def test_accuracy_is_chance_for_random_pictures_and_high_for_a_concept() -> None:
    assert world(6, sets=40).train(Training(), chance=False).accuracies["concept"].mean() == pytest.approx(0.5, abs=0.1)
    assert world(6, planted=8.0).train(Training(), chance=False).accuracies["concept"].mean() > 0.95


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("kind", ["constant", "the same on both sides"])
def test_where_there_is_no_direction_none_is_made_up(probe: str, kind: str) -> None:
    drawn = world(8, sets=3, features=200)
    drawn.activations[:] = drawn.activations[0] if kind == "constant" else np.tile(drawn.activations[:12], (4, 1))
    probes = drawn.train(Training(probe))
    measured = measure(probes, products(drawn.gradients, drawn.activations, centred=probes.centred))["concept"]
    if probe == "sgd":  # its steps leave something behind, of either sign
        assert np.isfinite(measured.runs.sensitivities).all()
        return
    assert not measured.positive.any()
    assert not measured.negative.any()
    assert not probes.planes["concept"].vectors(drawn.activations).any()


@pytest.mark.parametrize("probe", ["ridge", "logistic", "mean_difference"])
@pytest.mark.parametrize("offset", [1e2, 1e4, 1e5])
def test_what_all_activations_share_costs_no_digits(probe: str, offset: float) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((40, 500))
    rows[:20, :10] += 2
    # rounded as float32 would round them beside the offset, so that both have the same pictures
    moved = (rows + offset).astype(np.float32)
    plain = (moved.astype(np.float64) - offset).astype(np.float64)
    sets = {"concept": np.arange(20), "random": np.arange(20, 40)}
    cavs = [
        train_layer(one, sets, {"concept": ["random"]}, Training(probe), chance=False).planes["concept"].vectors(one)[0]
        for one in (moved, plain)
    ]
    assert np.linalg.norm(cavs[0]) == pytest.approx(1, rel=1e-5)
    assert float(cavs[0] @ cavs[1]) > 0.999999


def test_accuracy_of_pictures_that_are_all_the_same_is_chance() -> None:
    same = torch.full((8, 8), 5.0, dtype=torch.float64)
    rows = torch.arange(8)[None]
    assert not fit(same, rows, labels_of(4), "ridge", magnitude=5.0).duals.any()
    assert accuracies(same, rows, labels_of(4), "ridge").tolist() == [0.5]
