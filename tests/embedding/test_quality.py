"""Figures of quality: by loops in float64, and as scikit-learn computes them."""

import numpy as np
import pytest
from feature_tables import clusters, noise
from sklearn.manifold import trustworthiness
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from torchcam_suite.embedding import neighbours, quality
from torchcam_suite.embedding.neighbours import centred, nearest
from torchcam_suite.embedding.quality import Affinities, Quality, affinities_of, judge, kl_divergence


def judged(
    table: np.ndarray, points: np.ndarray, k: int = 5, labels: np.ndarray | None = None, perplexity: float = 8
) -> Quality:
    indices, distances = nearest(centred(table), int(3 * perplexity))
    return judge(centred(table), points, affinities_of(indices, distances, perplexity), k=k, labels=labels, seed=0)


def affinities_by_loops(table: np.ndarray, perplexity: float, neighbours: int) -> np.ndarray:
    """(N, N): each row's Gaussian by bisection of its precision, over its nearest rows, then symmetrised."""
    count = len(table)
    conditional = np.zeros((count, count))
    for i in range(count):
        squared = [sum((a - b) ** 2 for a, b in zip(table[i], table[j], strict=True)) for j in range(count)]
        near = [j for j in np.argsort(squared, kind="stable") if j != i][:neighbours]
        low, high = 0.0, 1e6
        for _ in range(200):
            precision = (low + high) / 2
            weights = {j: np.exp(-precision * (squared[j] - squared[near[0]])) for j in near}
            total = sum(weights.values())
            shares = {j: weight / total for j, weight in weights.items()}
            entropy = -sum(share * np.log(share) for share in shares.values() if share > 0)
            low, high = (precision, high) if entropy > np.log(perplexity) else (low, precision)
        for j, share in shares.items():
            conditional[i, j] = share
    return (conditional + conditional.T) / (2 * count)


def divergence_by_loops(p: np.ndarray, points: np.ndarray) -> float:
    count = len(points)
    q = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if i != j:
                q[i, j] = 1 / (1 + sum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True)))
    q /= q.sum()
    pairs = [(i, j) for i in range(count) for j in range(count) if p[i, j] > 0]
    return float(sum(p[i, j] * np.log(p[i, j] / q[i, j]) for i, j in pairs))


@pytest.mark.parametrize("k", [1, 5, 12])
def test_trustworthiness_is_scikit_learns(k: int) -> None:
    table, points = noise(80, 6), noise(80, 2, seed=1)
    expected = trustworthiness(table, points, n_neighbors=k)
    assert expected < 0.7
    assert judged(table, points, k).trustworthiness == pytest.approx(expected, abs=1e-12)
    better = table[:, :2]
    assert judged(table, better, k).trustworthiness == pytest.approx(trustworthiness(table, better, n_neighbors=k))


def test_neighbour_preservation_is_that_of_loops() -> None:
    table, points = noise(40, 5), noise(40, 2, seed=1)
    kept = 0
    for i in range(40):
        in_features, on_map = (
            [j for j in np.argsort([np.linalg.norm(space[i] - other) for other in space]) if j != i][:6]
            for space in (table, points)
        )
        kept += len(set(in_features) & set(on_map))
    assert judged(table, points, 6).neighbour_preservation == pytest.approx(kept / 240)


def test_a_map_that_is_the_features_is_perfect() -> None:
    points = noise(60, 2)
    found = judged(points, points * 3 + 7)
    assert found.trustworthiness == 1
    assert found.neighbour_preservation == 1


@pytest.mark.parametrize("k", [3, 4])
def test_label_accuracy_is_that_of_scikit_learns_classifier_left_one_out(k: int) -> None:
    table, group = clusters(60, groups=3)
    points = noise(60, 2) + group[:, None]
    found = judged(table, points, k, group)
    classifier = KNeighborsClassifier(k)
    assert found.label_accuracy == pytest.approx(cross_val_score(classifier, points, group, cv=LeaveOneOut()).mean())
    assert found.label_accuracy_in_features == 1


def test_points_without_a_label_do_not_count() -> None:
    points = np.array([[0.0, 0], [1, 0], [2, 0], [10, 0], [11, 0], [12, 0]])
    labels = np.array([0, 0, -1, 1, 1, -1])
    assert judged(points, points, 1, labels, perplexity=1.5).label_accuracy == 1
    assert judged(points, points, 1, np.full(6, -1), perplexity=1.5).label_accuracy is None
    assert judged(points, points, 1, None, perplexity=1.5).label_accuracy is None


@pytest.mark.parametrize("perplexity", [3, 8])
def test_affinities_and_divergence_are_those_of_loops(perplexity: int) -> None:
    table, points = noise(26, 4), noise(26, 2, seed=1)
    p = affinities_by_loops(table, perplexity, 3 * perplexity)
    indices, distances = nearest(centred(table), 3 * perplexity)
    found = affinities_of(indices, distances, perplexity)
    dense = np.zeros((26, 26))
    dense[found.first, found.second] = found.p
    np.testing.assert_allclose(dense, p, atol=1e-10)
    assert dense.sum() == pytest.approx(1)
    assert judged(table, points, perplexity=perplexity).kl_divergence == pytest.approx(divergence_by_loops(p, points))


def test_the_divergence_is_what_opentsne_says_of_its_map() -> None:
    opentsne = pytest.importorskip("openTSNE")
    table = clusters(120)[0].astype(np.float64)
    # theta=0: without it openTSNE approximates its sums, and is 1 % off
    theirs = opentsne.TSNE(perplexity=15, random_state=42, neighbors="exact", theta=0).fit(table)
    found = judged(table, np.array(theirs, np.float64), perplexity=15)
    assert found.kl_divergence == pytest.approx(theirs.kl_divergence, rel=1e-6)
    assert found.kl_divergence > 0.1


def test_the_divergence_of_a_map_with_the_same_similarities_is_0() -> None:
    points = noise(12, 2)
    similarity = 1 / (1 + np.square(points[:, None] - points[None]).sum(axis=2))
    np.fill_diagonal(similarity, 0)
    first, second = np.nonzero(similarity)
    same = Affinities(first, second, similarity[first, second] / similarity.sum())
    assert kl_divergence(same, points, similarity.sum()) == pytest.approx(0, abs=1e-12)


def test_copies_leave_all_figures_finite() -> None:
    table = np.repeat(noise(10, 3), 5, axis=0)
    found = judged(table, noise(50, 2), perplexity=4)
    assert np.isfinite([found.kl_divergence, found.trustworthiness, found.neighbour_preservation]).all()


def test_of_many_points_a_drawn_part_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    table, group = clusters(900)
    points = table[:, :2]
    every = judged(table, points, labels=group)
    monkeypatch.setattr(quality, "EXACT", 500)
    monkeypatch.setattr(quality, "ANCHORS", 400)
    part = judged(table, points, labels=group)
    assert (every.judged, part.judged) == (900, 400)
    for name in ("trustworthiness", "neighbour_preservation", "kl_divergence", "label_accuracy"):
        assert getattr(part, name) == pytest.approx(getattr(every, name), abs=0.02)
        assert getattr(part, name) != getattr(every, name)


def test_float32_moves_the_figures_of_many_features_by_less_than_a_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    table, group = clusters(400, features=600)
    exact = judged(table + 5, table[:, :2], labels=group)
    monkeypatch.setattr(neighbours, "_EXACT", 0)
    rounded = judged(table + 5, table[:, :2], labels=group)
    for name in ("trustworthiness", "neighbour_preservation", "kl_divergence", "label_accuracy_in_features"):
        assert getattr(rounded, name) == pytest.approx(getattr(exact, name), abs=1e-3)
