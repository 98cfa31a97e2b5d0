"""Whether a map points at the object, where the object's mask is known."""

import torch
from torch import Tensor


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Tell for each map whether its maximum lies on the object.

    A map that is constant points nowhere and misses; of several equal maxima the first in reading order
    counts.

    Parameters
    ----------
    maps : Tensor
        (N, H, W), any range.
    masks : Tensor
        (N, H, W) bool, true on the object.

    Returns
    -------
    Tensor
        (N,) bool.

    Raises
    ------
    ValueError
        The shapes differ, or the masks are not bool.

    References
    ----------
    Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 4.2, without its
    tolerance of 15 pixels.

    Examples
    --------
    >>> maps = torch.tensor([[[0.1, 0.9]], [[0.9, 0.1]]])
    >>> pointing_game(maps, torch.tensor([[[False, True]], [[False, True]]]))
    tensor([ True, False])
    """
    _require_masks(maps, masks)
    flat = maps.flatten(1)
    hit = masks.flatten(1).gather(1, flat.argmax(dim=1, keepdim=True))[:, 0]
    return hit & (flat.amax(dim=1) > flat.amin(dim=1))


def energy_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Tell which share of a map lies on the object.

    .. math::

        \frac{\sum_{ij \in \text{object}} M_{ij}}{\sum_{ij} M_{ij}}

    Parameters
    ----------
    maps : Tensor
        (N, H, W), not negative.
    masks : Tensor
        (N, H, W) bool, true on the object; the paper takes bounding boxes.

    Returns
    -------
    Tensor
        (N,) float64 in [0, 1]; 0 where a map is zero everywhere.

    Raises
    ------
    ValueError
        The shapes differ, the masks are not bool, or a map has negative values.

    References
    ----------
    Wang et al., Score-CAM, CVPR Workshops 2020, arXiv:1910.01279, section 4.3, the energy-based pointing game.

    Examples
    --------
    >>> energy_in_mask(torch.tensor([[[0.5, 1.0, 0.5]]]), torch.tensor([[[False, True, True]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    _require_masks(maps, masks)
    if bool((maps < 0).any()):
        raise ValueError(f"a map with values down to {float(maps.min()):.3g}; energy is a share of values from 0 up")
    energy = maps.double().flatten(1)
    total = energy.sum(dim=1)
    return torch.where(total > 0, (energy * masks.flatten(1)).sum(dim=1) / total, 0)


def _require_masks(maps: Tensor, masks: Tensor) -> None:
    if maps.shape != masks.shape or masks.dtype != torch.bool:
        raise ValueError(
            f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} of {masks.dtype}; expected (N, H, W) of one "
            f"shape, the masks bool"
        )
