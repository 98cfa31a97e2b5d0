"""Score-CAM: channels weighted by the score of the input that they mask, without gradients."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torchcam_suite.cam.method import Rules, Scale, method
from torchcam_suite.cam.requests import ScoreInputs
from torchcam_suite.cam.saliency_map import (
    Rectification,
    at_least_float32,
    require_feature_maps,
    upsample,
)

Variant = Literal["official", "paper", "logit", "keep-learning"]


class ScoreCam(NamedTuple):
    """Score-CAM of a batch.

    Attributes
    ----------
    raw : Tensor
        (N, h, w), the weighted sum of the activations, signed.
    counts : dict of str to int
        `channels`, and `channels_skipped`, which needed no forward pass of their own.
    weights : Tensor
        (N, C), the channel weights.
    skipped : Tensor
        (N,) int, the skipped channels of each image.
    """

    raw: Tensor
    counts: dict[str, int]
    weights: Tensor
    skipped: Tensor


@dataclass(frozen=True)
class ScoreCamVariant:
    """One published definition of Score-CAM.

    Attributes
    ----------
    name, summary : str
        The name in `VARIANTS`, and the definition in one line.
    of : {"probability", "logit"}
        What the `score` function has to return for the target class.
    mask : function
        Upsampled maps (M, H, W) to masks (M, H, W).
    is_blank : function
        Activations (N, C, h, w) to (N, C) bool: the channel's mask is zero everywhere.
    scores_blank : bool
        Whether a blank channel has the score of the zero image; otherwise its weight is zero.
    softmax_over_channels : bool
        Whether the scores become weights by a softmax over the channels of an image.
    relu, normalize : str
        How `torchcam_suite.cam.saliency_map.finish` completes the map.
    """

    name: str
    summary: str
    of: Literal["probability", "logit"]
    mask: Callable[[Tensor], Tensor]
    is_blank: Callable[[Tensor], Tensor]
    scores_blank: bool
    softmax_over_channels: bool
    relu: Rectification
    normalize: Scale


def _rules(variant: Variant) -> Rules:
    found = VARIANTS[variant]
    return Rules(found.of, found.relu, found.normalize)


@method(
    "scorecam",
    "Score-CAM",
    "channels weighted by the score of the image that they mask",
    source="Wang et al. 2020, arXiv:1910.01279",
    cost="many forwards",
    rules=_rules,
)
def score_cam(
    activations: Tensor, images: Tensor, *, variant: Variant = "official"
) -> Generator[ScoreInputs, Tensor, ScoreCam]:
    r"""Score-CAM before its ReLU, in one of its published definitions.

    .. math::

        H_k = \mathrm{mask}(\mathrm{Up}(A_k)), \qquad s_k = \mathrm{score}(X \circ H_k), \qquad
        M_{ij} = \sum_k a_k A_{kij}

    with Up the bilinear upsampling to the input's size. The variants (`VARIANTS`) differ in the rest:

    ``official``
        The authors' code: H scaled to [0, 1] by its minimum and maximum, s the class probability, a = s, a
        constant channel is left out; ReLU after upsampling.
    ``paper``
        Algorithm 1: a = softmax over channels of s - score(zero image), s the class probability; ReLU at the
        layer's resolution. The baseline is the same for every channel, so the softmax cancels it, and it is
        not computed. As s lies in [0, 1], all weights lie within a factor e of each other: the map is nearly
        the plain mean of the activations.
    ``logit``
        As ``paper``, with s the class logit (pytorch-grad-cam, torch-cam). To reproduce the former to the
        digit, masks would have to be upsampled with ``align_corners=True``.
    ``keep-learning``
        A Keras article for a sigmoid network: H = Up(A) / (max - min + 1e-5), the minimum not taken off, max
        and min of the upsampled map; a = s, the probability; ReLU after upsampling.

    A channel whose mask is zero everywhere is not run: it has weight 0 (``official``) or the score of the zero
    image, run once an image.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    images : Tensor
        X, (N, c, H, W), the model's input; "masked" means multiplied, so zero is the model's zero.
    variant : {"official", "paper", "logit", "keep-learning"}
        See above; a key of `VARIANTS`.

    Yields
    ------
    ScoreInputs
        The masked images of all (image, channel) pairs, to be scored by a probability or a logit as
        ``VARIANTS[variant].of`` says.

    Returns
    -------
    ScoreCam
        `raw` (N, h, w), signed, and the channels' `weights` (N, C), float32 or wider; `counts`, and `skipped` (N,), of
        channels that needed no forward pass of their own.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        Shapes that do not fit.

    References
    ----------
    Wang et al., Score-CAM, CVPR Workshops 2020, arXiv:1910.01279, Algorithm 1; the authors' code at
    https://github.com/haofanwang/Score-CAM.
    """
    rules = VARIANTS[variant]
    require_batch(activations, images)
    activations = at_least_float32(activations)
    blank = rules.is_blank(activations)
    # One blank channel of each image is run, and its score serves the others.
    stand_in = blank & (blank.cumsum(dim=1) == 1) & rules.scores_blank
    queued = ~blank | stand_in
    pairs = queued.flatten().nonzero()[:, 0]
    owner = pairs // blank.shape[1]

    def build(numbers: Tensor) -> Tensor:
        chosen = pairs[numbers]
        maps = torch.where(blank.flatten()[chosen, None, None], 0, activations.flatten(0, 1)[chosen])
        masks = rules.mask(upsample(maps[:, None], image_size(images))[:, 0])
        return images[owner[numbers]] * masks[:, None].to(images.dtype)

    found = yield ScoreInputs(owner, build)
    scores = found.new_zeros(blank.numel()).index_copy(0, pairs, found).view_as(blank).to(activations.dtype)
    shared = torch.where(stand_in, scores, 0).sum(dim=1, keepdim=True)
    weights = torch.where(blank, shared, scores)
    if rules.softmax_over_channels:
        weights = weights.softmax(dim=1)
    raw = torch.einsum("nk,nkij->nij", weights, activations)
    skipped = (~queued).sum(dim=1)
    return ScoreCam(raw, {"channels": blank.numel(), "channels_skipped": int(skipped.sum())}, weights, skipped)


def to_unit_range(maps: Tensor) -> Tensor:
    """Scale each of (M, H, W) maps to [0, 1] by its minimum and maximum; a constant one becomes zero."""
    low = maps.amin(dim=(1, 2), keepdim=True)
    span = maps.amax(dim=(1, 2), keepdim=True) - low
    # of a constant map the numerator is zero; dividing in place spares two passes over memory
    return (maps - low).div_(torch.where(span > 0, span, 1))


def _over_range(maps: Tensor) -> Tensor:
    span = maps.amax(dim=(1, 2), keepdim=True) - maps.amin(dim=(1, 2), keepdim=True)
    return maps / (span + 1e-5)


def is_constant(activations: Tensor) -> Tensor:
    """Tell of each channel of (N, C, h, w) whether it has one value everywhere."""
    return activations.amax(dim=(2, 3)) == activations.amin(dim=(2, 3))


def _is_zero(activations: Tensor) -> Tensor:
    return (activations == 0).flatten(2).all(dim=2)


VARIANTS: dict[str, ScoreCamVariant] = {
    rules.name: rules
    for rules in (
        ScoreCamVariant(
            name="official",
            summary="the authors' code: class probabilities as weights, constant channels left out",
            of="probability",
            mask=to_unit_range,
            is_blank=is_constant,
            scores_blank=False,
            softmax_over_channels=False,
            relu="after",
            normalize="minmax",
        ),
        ScoreCamVariant(
            name="paper",
            summary="Algorithm 1: softmax over channels of the probabilities, nearly the mean activation",
            of="probability",
            mask=to_unit_range,
            is_blank=is_constant,
            scores_blank=True,
            softmax_over_channels=True,
            relu="before",
            normalize="max",
        ),
        ScoreCamVariant(
            name="logit",
            summary="softmax over channels of the class logits, as pytorch-grad-cam and torch-cam do",
            of="logit",
            mask=to_unit_range,
            is_blank=is_constant,
            scores_blank=True,
            softmax_over_channels=True,
            relu="before",
            normalize="minmax",
        ),
        ScoreCamVariant(
            name="keep-learning",
            summary="a Keras article: masks keep their minimum, probabilities as weights",
            of="probability",
            mask=_over_range,
            is_blank=_is_zero,
            scores_blank=True,
            softmax_over_channels=False,
            relu="after",
            normalize="max",
        ),
    )
}


def require_batch(activations: Tensor, images: Tensor) -> None:
    """Raise `LayerError` or `ValueError` unless these are feature maps and the images that they were recorded from."""
    require_feature_maps(activations)
    if images.ndim != 4 or len(images) != len(activations):
        raise ValueError(
            f"images of shape {tuple(images.shape)} with activations of shape {tuple(activations.shape)}; "
            "expected (N, c, H, W) and (N, C, h, w): pass the batch that the activations were recorded from"
        )


def image_size(images: Tensor) -> tuple[int, int]:
    """Height and width."""
    return images.shape[2], images.shape[3]
