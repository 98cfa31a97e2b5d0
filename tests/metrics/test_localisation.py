"""The pointing game, and the energy in the mask: does a map lie on the object?"""

import numpy as np
import pytest
import torch

from torchcam_suite.metrics.localisation import energy_in_mask, pointing_game


def by_hand(maps: np.ndarray, masks: np.ndarray) -> list[bool]:
    """Look at every pixel in reading order."""
    hits = []
    for values, mask in zip(maps, masks, strict=True):
        best, where = -np.inf, (0, 0)
        for i in range(values.shape[0]):
            for j in range(values.shape[1]):
                if values[i, j] > best:
                    best, where = values[i, j], (i, j)
        hits.append(bool(mask[where]) and values.min() < best)
    return hits


def test_a_hit_is_a_maximum_on_the_object() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((50, 5, 7)), rng.random((50, 5, 7)) < 0.4
    expected = by_hand(maps, masks)
    assert 5 < sum(expected) < 45
    assert pointing_game(torch.from_numpy(maps), torch.from_numpy(masks)).tolist() == expected


@pytest.mark.parametrize(
    ("values", "mask", "hit"),
    [
        ([[0.0, 1.0], [0.0, 0.0]], [[False, True], [False, False]], True),
        ([[0.0, 1.0], [0.0, 0.0]], [[True, False], [True, True]], False),
        ([[-3.0, -1.0], [-2.0, -4.0]], [[False, True], [False, False]], True),
        ([[1.0, 0.0], [0.0, 1.0]], [[True, False], [False, False]], True),
        ([[1.0, 0.0], [0.0, 1.0]], [[False, False], [False, True]], False),
        ([[0.0, 0.0], [0.0, 0.0]], [[True, True], [True, True]], False),
        ([[0.5, 0.5], [0.5, 0.5]], [[True, True], [True, True]], False),
    ],
    ids=["hit", "miss", "negative", "first of two", "second of two", "zero", "constant"],
)
def test_the_rules_of_the_game(values: list[list[float]], mask: list[list[bool]], hit: bool) -> None:
    assert pointing_game(torch.tensor([values]), torch.tensor([mask])).tolist() == [hit]


@pytest.mark.parametrize(
    "masks",
    [torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4), torch.ones(1, 4, 5, dtype=torch.bool)],
    ids=["count", "dtype", "size"],
)
def test_masks_that_do_not_fit_are_refused(masks: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"maps \(1, 4, 4\) and masks .*; expected \(N, H, W\) of one shape"):
        pointing_game(torch.rand(1, 4, 4), masks)


def test_energy_is_the_share_of_the_sum_on_the_object() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((20, 5, 7)), rng.random((20, 5, 7)) < 0.4
    expected = []
    for values, mask in zip(maps, masks, strict=True):
        inside = sum(values[i, j] for i in range(5) for j in range(7) if mask[i, j])
        expected.append(inside / sum(values[i, j] for i in range(5) for j in range(7)))
    assert np.std(expected) > 0.01
    assert energy_in_mask(torch.from_numpy(maps), torch.from_numpy(masks)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "mask", "energy"),
    [
        ([[0.0, 1.0], [0.0, 0.0]], [[False, True], [False, False]], 1),
        ([[0.0, 1.0], [0.0, 0.0]], [[True, False], [True, True]], 0),
        ([[1.0, 1.0], [1.0, 1.0]], [[True, False], [True, True]], 0.75),
        ([[0.0, 0.0], [0.0, 0.0]], [[True, True], [True, True]], 0),
    ],
    ids=["all", "nothing", "constant", "zero"],
)
def test_energies_by_hand(values: list[list[float]], mask: list[list[bool]], energy: float) -> None:
    assert energy_in_mask(torch.tensor([values]), torch.tensor([mask])).tolist() == [energy]


def test_energy_of_negative_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"values down to -0\.5; energy is a share of values from 0 up"):
        energy_in_mask(torch.full((1, 2, 2), -0.5), torch.ones(1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected \(N, H, W\) of one shape"):
        energy_in_mask(torch.rand(1, 2, 2), torch.ones(1, 2, 3, dtype=torch.bool))
