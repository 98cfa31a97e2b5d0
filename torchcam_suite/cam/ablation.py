"""Maps from replaced feature maps: without a channel, or with one position alone."""

from collections.abc import Generator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcam_suite.cam.method import Raw, Rules, method
from torchcam_suite.cam.requests import ScoreFeatures
from torchcam_suite.cam.saliency_map import at_least_float32, require_feature_maps

Mask = Literal["gaussian", "spread", "single"]


@method(
    "ablationcam",
    "Ablation-CAM",
    "channels weighted by what the score loses without them",
    source="Desai and Ramaswamy 2020, WACV",
    cost="many forwards",
)
def ablation_cam(activations: Tensor) -> Generator[ScoreFeatures, Tensor, Raw]:
    r"""Ablation-CAM before its ReLU: channels weighted by the share of the score that is lost without them.

    .. math::

        w_k = \frac{y - y_k}{|y|}, \qquad M_{ij} = \sum_k w_k A_{kij}

    with y the class logit and y_k that with channel k set to zero. The paper divides by y: where y is negative, that
    turns the map into its opposite, which shows what speaks against the class. The magnitude keeps the meaning of the
    sign, and is the same where y is positive; where y is zero, nothing is divided.

    A channel that is zero everywhere has weight 0 and is not run.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).

    Yields
    ------
    ScoreFeatures
        The feature maps themselves, and without each of their channels.

    Returns
    -------
    Raw
        (N, h, w), signed; counts `channels` and `channels_skipped`.

    Raises
    ------
    LayerError
        The activations are not feature maps.

    References
    ----------
    Desai and Ramaswamy, Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
    Localization, WACV 2020.
    """
    require_feature_maps(activations)
    is_zero = (activations == 0).flatten(2).all(dim=2)
    # column 0 is the score with all channels
    queued = torch.cat([torch.ones_like(is_zero[:, :1]), ~is_zero], dim=1)
    owner, column = queued.nonzero().unbind(dim=1)
    channels = torch.arange(1, queued.shape[1], device=activations.device)

    def build(numbers: Tensor) -> Tensor:
        ablated = channels == column[numbers, None]
        return torch.where(ablated[:, :, None, None], 0, activations[owner[numbers]])

    found = yield ScoreFeatures(owner, build)
    scores = found.new_zeros(queued.shape).index_put((owner, column), found)
    score = scores[:, :1]
    # what was not run is a channel of zeros, whose weight plays no part
    weights = (score - scores[:, 1:]) / torch.where(score == 0, 1, score.abs())
    values = at_least_float32(activations)
    raw = torch.einsum("nk,nkij->nij", weights.to(values.dtype), values)
    return Raw(raw, {"channels": is_zero.numel(), "channels_skipped": int(is_zero.sum())})


@method(
    "reciprocam",
    "Recipro-CAM",
    "the score of each position of the feature maps alone",
    source="Byun and Lee 2022, arXiv:2209.14074",
    cost="many forwards",
    rules=Rules("probability", "none", "minmax"),
)
def recipro_cam(activations: Tensor, *, mask: Mask = "gaussian") -> Generator[ScoreFeatures, Tensor, Tensor]:
    r"""Recipro-CAM: the score where only the surroundings of one position are left of the feature maps.

    .. math::

        M_{ij} = \mathrm{score}(A \circ G_{ij}), \qquad
        G = \frac{1}{16} \begin{pmatrix} 1 & 2 & 1 \\ 2 & 4 & 2 \\ 1 & 2 & 1 \end{pmatrix}
        \text{ around } (i, j)

    It takes one pass a position through the part of the model above the layer, and none below it. Values are scores,
    so that every map is positive; the map is scaled by its minimum and maximum, and no ReLU is applied.

    The authors' code has two other masks: ``spread`` gives the 3 x 3 positions around (i, j) the features of (i, j),
    weighted by G (the first version); ``single`` leaves the features of (i, j) as they are (the version in OpenVINO).

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    mask : {"gaussian", "spread", "single"}
        What is left of the feature maps.

    Yields
    ------
    ScoreFeatures
        The masked feature maps, to be scored by a probability.

    Returns
    -------
    Tensor
        M, (N, h, w).

    Raises
    ------
    LayerError
        The activations are not feature maps.

    References
    ----------
    Byun and Lee, Recipro-CAM: Fast gradient-free visual explanations for convolutional neural networks, CVPR Workshops
    2024, arXiv:2209.14074.
    """
    require_feature_maps(activations)
    count, _, height, width = activations.shape
    positions = height * width

    def build(numbers: Tensor) -> Tensor:
        here = F.one_hot(numbers % positions, positions).view(-1, 1, height, width).to(activations.dtype)
        features = activations[numbers // positions]
        if mask == "single":
            return features * here
        around = F.conv2d(here, _gaussian(here), padding=1)
        if mask == "gaussian":
            return features * around
        return (features * here).sum(dim=(2, 3), keepdim=True) * around

    owner = torch.arange(count, device=activations.device).repeat_interleave(positions)
    scores = yield ScoreFeatures(owner, build)
    return scores.view(count, height, width)


def _gaussian(like: Tensor) -> Tensor:
    """(1, 1, 3, 3), of sum 1."""
    line = torch.tensor([1.0, 2.0, 1.0], device=like.device, dtype=like.dtype) / 4
    return line.outer(line)[None, None]
