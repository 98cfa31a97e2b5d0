"""How far the maps of all pairs of columns agree, image by image, and what they reach without the same image."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchcam_suite.metrics.agreement import ranks, seats
from torchcam_suite.metrics.structural_similarity import moments, products, similarity_of_moments

MEASURES = ("pearson", "spearman", "ssim", "iou")
TITLES = {"pearson": "Pearson", "spearman": "Spearman", "ssim": "SSIM", "iou": "IoU of top 20 %"}
SHARE = 0.2
"""Of the pixels, that count as the highest."""
RESAMPLES = 2000

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Pair = tuple[int, int]


class Estimate(NamedTuple):
    """A mean over images.

    Attributes
    ----------
    mean : float or None
        None where no image has a value.
    low, high : float or None
        95 % interval, by the percentiles of 2000 bootstrap resamples of the images; None for less than two.
    """

    mean: float | None
    low: float | None
    high: float | None


class PairAgreement(NamedTuple):
    """How far two columns agree on a group of images.

    Attributes
    ----------
    first, second : int
        The columns, from 0.
    group : str
        `"all"`, `"both right"`, `"both wrong"`, `"one right"`, or `"shuffled"`: each map of the first column beside
        that of another image in the second.
    images : int
        How many images have values.
    constant : int
        Further images, in which one of the maps is constant, so that there is nothing to compare.
    measures : dict of str to Estimate
        By the names of `MEASURES`.
    """

    first: int
    second: int
    group: str
    images: int
    constant: int
    measures: dict[str, Estimate]


class AllPairs(NamedTuple):
    """Figures of each pair and image; NaN where one of the maps is constant.

    Attributes
    ----------
    pairs : tuple of (int, int)
        The columns.
    values : array
        (pairs, 4, N), of the same image, in the order of `MEASURES`.
    shuffled : array
        (pairs, 4, N), of image n in the first column and another one in the second; NaN for a single image.
    """

    pairs: tuple[Pair, ...]
    values: Values
    shuffled: Values


class _Prepared(NamedTuple):
    """What is computed once of the maps of one image, in all columns."""

    deviations: Tensor  # (columns, P), of length 1
    ranks: Tensor
    seats: Tensor
    maps: Tensor  # (columns, H, W)
    mean: Tensor
    variance: Tensor
    constant: Tensor


def compare_all(maps: Sequence[Tensor], seed: int = 0) -> AllPairs:
    """Compare the maps of all pairs of columns.

    Parameters
    ----------
    maps : sequence of Tensor
        (N, H, W) in [0, 1] each, of the same N images.
    seed : int
        Of the order in which another image is chosen for the shuffled figures: the images are put into a random order,
        and each one is compared with the one before.
    """
    count, pairs = len(maps[0]), tuple(combinations(range(len(maps)), 2))
    values = np.full((len(pairs), len(MEASURES), count), np.nan)
    shuffled = values.copy()
    order = np.random.default_rng(seed).permutation(count).tolist()
    prepared = first = _prepared(maps, order[0])
    for place, image in enumerate(order):
        values[..., image] = _between(prepared, prepared, pairs)
        if count > 1:
            following = first if place + 1 == count else _prepared(maps, order[place + 1])
            shuffled[..., image] = _between(prepared, following, pairs)
            prepared = following
    return AllPairs(pairs, values, shuffled)


def _prepared(maps: Sequence[Tensor], image: int) -> _Prepared:
    stack = torch.stack([column[image].detach().cpu().double() for column in maps])
    flat = stack.flatten(1)
    highest = max(1, round(SHARE * flat.shape[1]))
    mean, variance = moments(stack)
    return _Prepared(
        _of_length_1(flat),
        _of_length_1(torch.stack([ranks(one) for one in flat])),
        torch.stack([seats(one, highest) for one in flat]),
        stack,
        mean,
        variance,
        flat.amax(dim=1) == flat.amin(dim=1),
    )


def _of_length_1(values: Tensor) -> Tensor:
    deviations = values - values.mean(dim=1, keepdim=True)
    return torch.nn.functional.normalize(deviations, eps=torch.finfo(torch.float64).tiny)


def _between(one: _Prepared, other: _Prepared, pairs: Sequence[Pair]) -> Values:
    """(pairs, 4): the first of each pair in one image, the second in the other."""
    a, b = torch.tensor(pairs, device="cpu").T
    places = one.seats.sum(dim=1)[0]
    shared = torch.stack([torch.minimum(one.seats[i], other.seats[j]).sum() for i, j in pairs])
    moments_of = (one.mean[a], one.variance[a], other.mean[b], other.variance[b])
    found = torch.stack(
        [
            (one.deviations @ other.deviations.T)[a, b].clamp(-1, 1),
            (one.ranks @ other.ranks.T)[a, b].clamp(-1, 1),
            similarity_of_moments(*moments_of, products(one.maps[a], other.maps[b])),
            shared / (2 * places - shared),
        ],
        dim=1,
    )
    found[one.constant[a] | other.constant[b]] = torch.nan
    return found.numpy()


# ---------------------------------------------------------------- groups of images


def summarize(found: AllPairs, right: Sequence[Flags] | None, seed: int = 0) -> tuple[PairAgreement, ...]:
    """Take means over groups of images.

    Parameters
    ----------
    found : AllPairs
        From `compare_all`.
    right : sequence of array, or None
        For each column, (N,) whether its model's prediction is right; None without labels.
    seed : int
        Of the bootstrap.

    Returns
    -------
    tuple of PairAgreement
        For each pair its groups: all; with labels both right, both wrong and one right; shuffled.
    """
    rows = []
    for number, (first, second) in enumerate(found.pairs):
        values = found.values[number]
        for group, members in _groups(values.shape[1], right, first, second).items():
            rows.append(_summary(first, second, group, values[:, members], seed))
        if values.shape[1] > 1:
            rows.append(_summary(first, second, "shuffled", found.shuffled[number], seed))
    return tuple(rows)


def _groups(count: int, right: Sequence[Flags] | None, first: int, second: int) -> dict[str, Flags]:
    groups = {"all": np.ones(count, bool)}
    if right is not None:
        one, other = right[first], right[second]
        groups |= {"both right": one & other, "both wrong": ~one & ~other, "one right": one != other}
    return groups


def _summary(first: int, second: int, group: str, values: Values, seed: int) -> PairAgreement:
    known = values[:, ~np.isnan(values[0])]
    measures = {name: _estimate(row, seed) for name, row in zip(MEASURES, known, strict=True)}
    return PairAgreement(first, second, group, known.shape[1], values.shape[1] - known.shape[1], measures)


def _estimate(values: Values, seed: int) -> Estimate:
    if not len(values):
        return Estimate(None, None, None)
    if len(values) == 1:
        return Estimate(float(values[0]), None, None)
    means = _weights(len(values), seed) @ values
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


@lru_cache(maxsize=8)
def _weights(count: int, seed: int) -> Values:
    """(resamples, count): how often each image is drawn, as a share."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn / count
