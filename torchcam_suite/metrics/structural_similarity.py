"""How far two maps look alike."""

from functools import lru_cache

import torch
from torch import Tensor

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity (SSIM) of maps with values in [0, 1].

    A Gaussian window of 11 x 11 pixels with a standard deviation of 1.5, K1 = 0.01, K2 = 0.03, at the positions where
    the window lies inside; maps that are smaller than the window are one position.

    Parameters
    ----------
    first, second : Tensor
        (N, H, W) in [0, 1].

    Returns
    -------
    Tensor
        (N,) float64, 1 for equal maps.

    Raises
    ------
    ValueError
        The shapes differ.

    References
    ----------
    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004, equation 13.

    Examples
    --------
    >>> structural_similarity(torch.eye(16)[None], torch.eye(16)[None])
    tensor([1.], dtype=torch.float64)
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(
            f"maps of shape {tuple(first.shape)} and {tuple(second.shape)}; expected (N, H, W) of one shape"
        )
    return similarity_of_moments(*moments(first), *moments(second.to(first.device)), products(first, second))


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of (N, H, W) maps under the window, at each position where it lies inside; float64."""
    maps = maps.double()
    mean = local_mean(maps)
    return mean, local_mean(maps * maps) - mean**2


def products(first: Tensor, second: Tensor) -> Tensor:
    """Mean of the products of two maps under the window."""
    return local_mean(first.double() * second.to(first.device).double())


def similarity_of_moments(
    mean_1: Tensor, variance_1: Tensor, mean_2: Tensor, variance_2: Tensor, products: Tensor
) -> Tensor:
    """SSIM (N,) of what `moments` and `products` give: those of a map serve all its pairs."""
    both = mean_1 * mean_2
    luminance = (2 * both + _K1**2) / (mean_1**2 + mean_2**2 + _K1**2)
    structure = (2 * (products - both) + _K2**2) / (variance_1 + variance_2 + _K2**2)
    return (luminance * structure).mean(dim=(1, 2))


def local_mean(maps: Tensor) -> Tensor:
    """Means of (N, H, W) float64 maps under the window."""
    down, across = (_windows(side).to(maps.device) for side in maps.shape[1:])
    # a product with a matrix of shifted windows; a convolution in float64 takes eight times as long
    return down @ maps @ across.T


@lru_cache(maxsize=8)
def _windows(side: int) -> Tensor:
    """The window at each of its positions along a side: (positions, side)."""
    size = min(_WINDOW, side)
    rows = torch.zeros(side - size + 1, side, dtype=torch.float64, device="cpu")
    window = _gaussian(size)
    for position, row in enumerate(rows):
        row[position : position + size] = window
    return rows


def _gaussian(size: int) -> Tensor:
    positions = torch.arange(size, dtype=torch.float64, device="cpu") - (size - 1) / 2
    weights = (-0.5 * (positions / _SIGMA) ** 2).exp()
    return weights / weights.sum()
