"""Structural similarity: the formula of the paper, window by window."""

import math

import numpy as np
import pytest
import torch
from linear import seeded

from torchcam_suite.metrics.structural_similarity import structural_similarity


def by_windows(first: np.ndarray, second: np.ndarray) -> float:
    """The mean over all windows of 11 x 11 pixels of one pair of maps."""
    weights = np.array(
        [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    )
    weights /= weights.sum()
    found = []
    for i in range(first.shape[0] - 10):
        for j in range(first.shape[1] - 10):
            x, y = first[i : i + 11, j : j + 11], second[i : i + 11, j : j + 11]
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            found.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    return float(np.mean(found))


def test_similarity_is_the_formula_window_by_window() -> None:
    first = seeded(3, 14, 17)
    second = torch.stack([first[0] ** 2, 1 - first[1], seeded(14, 17, seed=1)])
    expected = [by_windows(x.numpy(), y.numpy()) for x, y in zip(first, second, strict=True)]
    assert np.std(expected) > 0.1
    assert structural_similarity(first, second).tolist() == pytest.approx(expected, abs=1e-9)


def test_equal_maps_are_1_and_small_ones_one_window() -> None:
    assert structural_similarity(seeded(2, 20, 20), seeded(2, 20, 20)).tolist() == pytest.approx([1, 1])
    assert structural_similarity(torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)).tolist() == [1]
    assert -1 < float(structural_similarity(seeded(1, 4, 5), seeded(1, 4, 5, seed=1))) < 0.9


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        structural_similarity(seeded(1, 20, 20), seeded(2, 20, 20))
