"""How far two maps look alike."""

import torch
import torch.nn.functional as F
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
    first, second = first.double(), second.to(first.device).double()
    mean_1, mean_2 = _local_mean(first), _local_mean(second)
    variance_1 = _local_mean(first * first) - mean_1**2
    variance_2 = _local_mean(second * second) - mean_2**2
    covariance = _local_mean(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + _K1**2) / (mean_1**2 + mean_2**2 + _K1**2)
    structure = (2 * covariance + _K2**2) / (variance_1 + variance_2 + _K2**2)
    return (luminance * structure).mean(dim=(1, 2))


def _local_mean(maps: Tensor) -> Tensor:
    down, across = (_gaussian(min(_WINDOW, side)).to(maps) for side in maps.shape[1:])
    return F.conv2d(F.conv2d(maps[:, None], down.view(1, 1, -1, 1)), across.view(1, 1, 1, -1))[:, 0]


def _gaussian(size: int) -> Tensor:
    positions = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = (-0.5 * (positions / _SIGMA) ** 2).exp()
    return weights / weights.sum()
