"""Agreement of maps: by hand, and as SciPy computes it."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from torchcam_suite.metrics.agreement import rank_correlations, relative_errors, top_overlaps


def maps(*rows: list[float]) -> Tensor:
    """(N, 1, W)."""
    return torch.tensor(rows)[:, None]


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1, 2, 4], [1, 2, 4], 0),
        ([1, 2, 3], [1, 2, 4], 0.25),
        ([1, 2, 4], [1, 2, 3], 0.25),
        ([-8, 0, 0], [8, 0, 0], 2),
        ([0, 0, 0], [0, 0, 5], 1),
        ([0, 0, 0], [0, 0, 0], 0),
    ],
)
def test_errors_are_relative_to_the_largest_magnitude(found: list, expected: list, error: float) -> None:
    assert relative_errors(maps(found), maps(expected)) == (error,)


def test_each_image_has_its_own_figures() -> None:
    found, expected = maps([0, 1, 2], [0, 1, 2]), maps([0, 1, 2], [4, 1, 0])
    assert relative_errors(found, expected) == (0, 1)
    assert rank_correlations(found, expected) == pytest.approx((1, -1))
    assert top_overlaps(found, expected, share=1 / 3) == (1, 0)


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_rank_correlation_is_scipys_with_ties_and_without(levels: int) -> None:
    found = (noise(0, 1, 20, 15) * levels).round()
    expected = ((0.5 * noise(0, 1, 20, 15) + 0.5 * noise(1, 1, 20, 15)) * levels).round()
    wanted = spearmanr(found.flatten().numpy(), expected.flatten().numpy()).statistic
    assert 0.3 < wanted < 0.95
    assert rank_correlations(found, expected)[0] == pytest.approx(wanted, abs=1e-12)


def test_the_order_alone_counts_for_ranks() -> None:
    found = noise(2, 1, 8, 8)
    assert rank_correlations(found, found.exp() * 100 - 7) == pytest.approx((1,))
    assert rank_correlations(found, -found) == pytest.approx((-1,))


def test_the_overlap_counts_the_highest_pixels_in_common() -> None:
    found = maps([9, 8, 1, 2, 3, 0, 0, 0, 0, 0])
    assert top_overlaps(found, maps([9, 0, 8, 2, 3, 0, 0, 0, 0, 0])) == (0.5,)
    assert top_overlaps(found, found) == (1,)


def test_pixels_that_tie_share_the_places() -> None:
    # two places: the first is taken in both maps, the four that tie for the second have a quarter each
    tied, clear = maps([9, 5, 5, 5, 5, 0, 0, 0, 0, 0]), maps([9, 5, 1, 1, 1, 0, 0, 0, 0, 0])
    assert top_overlaps(tied, tied) == (1,)
    assert top_overlaps(tied, clear) == ((1 + 0.25) / 2,)


def test_unrelated_maps_overlap_by_the_share() -> None:
    overlaps = top_overlaps(noise(3, 20, 40, 40), noise(4, 20, 40, 40))
    assert math.fsum(overlaps) / 20 == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_map_has_no_order(value: float) -> None:
    constant, other = torch.full((1, 4, 4), value), noise(5, 1, 4, 4).float()
    assert rank_correlations(constant, other) == (None,)
    assert rank_correlations(other, constant) == (None,)
    assert top_overlaps(constant, other) == (None,)


@pytest.mark.parametrize("figure", [relative_errors, rank_correlations, top_overlaps])
def test_maps_of_different_shapes_are_refused(figure: object) -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 4\) and \(1, 4, 5\); expected \(N, H, W\) of one shape"):
        figure(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


@pytest.mark.parametrize("share", [0, 1, -0.2])
def test_a_share_lies_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        top_overlaps(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), share=share)
