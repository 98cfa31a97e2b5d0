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
    if maps.shape != masks.shape or masks.dtype != torch.bool:
        raise ValueError(
            f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} of {masks.dtype}; expected (N, H, W) of one "
            f"shape, the masks bool"
        )
    flat = maps.flatten(1)
    hit = masks.flatten(1).gather(1, flat.argmax(dim=1, keepdim=True))[:, 0]
    return hit & (flat.amax(dim=1) > flat.amin(dim=1))
