"""Variations on Score-CAM: fewer channels, or several masked images a channel."""

from collections.abc import Callable, Generator
from typing import Literal

import torch
from torch import Tensor

from torchcam_suite.cam.bounds import require_between, require_count
from torchcam_suite.cam.method import Raw, Rules, method
from torchcam_suite.cam.requests import ScoreInputs
from torchcam_suite.cam.saliency_map import at_least_float32, require_feature_maps, upsample
from torchcam_suite.cam.score import image_size, is_constant, require_batch, score_cam, to_unit_range

Noise = Literal["activation", "input"]
Integration = Literal["linear", "cumulative"]

# Of the authors' code of Score-CAM, on which all three build: probabilities, and ReLU after the upsampling.
_OFFICIAL = Rules("probability", "after", "minmax")


@method(
    "fasterscorecam",
    "Faster-Score-CAM",
    "the channels that vary most, weighted as by Score-CAM",
    source="tabayashi0117 2020, https://github.com/tabayashi0117/Score-CAM",
    cost="many forwards",
    rules=_OFFICIAL,
)
def faster_score_cam(activations: Tensor, images: Tensor, *, channels: int = 10) -> Generator[ScoreInputs, Tensor, Raw]:
    r"""Score-CAM of the few channels with the largest standard deviation, before its ReLU.

    .. math::

        M_{ij} = \sum_{k \in T} a_k A_{kij}, \qquad
        T = \text{the channels with the largest } \mathrm{std}_{ij}(A_{kij})

    with a the weights of Score-CAM's ``official`` variant. It approximates Score-CAM: the channels left out have
    weight 0. With all channels it is Score-CAM.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    images : Tensor
        X, (N, c, H, W), the model's input.
    channels : int
        How many are kept.

    Yields
    ------
    ScoreInputs
        The masked images, to be scored by a probability.

    Returns
    -------
    Raw
        (N, h, w), signed; counts `channels` and `channels_skipped`, which needed no forward pass.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        Shapes that do not fit, or `channels` below 1.

    References
    ----------
    The code at https://github.com/tabayashi0117/Score-CAM (``max_N``); there is no paper.
    """
    require_count("channels", channels)
    require_feature_maps(activations)
    spread = at_least_float32(activations).flatten(2).std(dim=2, correction=0)
    kept = spread.topk(min(channels, activations.shape[1]), dim=1).indices
    found = yield from score_cam(torch.take_along_dim(activations, kept[:, :, None, None], dim=1), images)
    left_out = spread.numel() - found.counts["channels"]
    return Raw(
        found.raw,
        {"channels": spread.numel(), "channels_skipped": found.counts["channels_skipped"] + left_out},
    )


@method(
    "sscam",
    "SS-CAM",
    "channels weighted by their mean score under noise",
    source="Wang et al. 2020, arXiv:2006.14255",
    cost="many forwards",
    rules=_OFFICIAL,
)
def ss_cam(
    activations: Tensor,
    images: Tensor,
    *,
    noise: Noise = "activation",
    samples: int = 10,
    sigma: float = 2.0,
    seed: int = 0,
) -> Generator[ScoreInputs, Tensor, Raw]:
    r"""Smoothed Score-CAM before its ReLU: a channel's weight is its mean score under Gaussian noise.

    .. math::

        a_k = \frac{1}{n} \sum_{s=1}^{n} \mathrm{score}(X \circ (H_k + \sigma \epsilon_s))
        \quad \text{or} \quad
        \frac{1}{n} \sum_{s=1}^{n} \mathrm{score}(X \circ H_k + \sigma \epsilon_s), \\
        M_{ij} = \sum_k a_k A_{kij}

    with H the masks of Score-CAM's ``official`` variant, in [0, 1], and standard normal noise of the input's height
    and width, in the second form also of its channels. Each of the n draws serves all channels and images, so that
    channels are compared under the same noise and a map depends on neither batch nor chunks.

    Published definitions differ. The paper's sigma is taken in units of the mask, as torch-cam does; the authors' code
    takes noise of standard deviation (2 / (max - min))^2 around a map that is not scaled to [0, 1], and for noise on
    the input the largest score in place of the mean. Weights are probabilities, as in that code; torch-cam takes a
    softmax over channels of logits.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    images : Tensor
        X, (N, c, H, W), the model's input.
    noise : {"activation", "input"}
        On the mask (the paper's first form), or on the masked input (its second).
    samples : int
        n; the cost is so many times that of Score-CAM.
    sigma : float
        Standard deviation of the noise: of a mask in [0, 1], or of the model's input as it was preprocessed.
    seed : int
        Of the noise.

    Yields
    ------
    ScoreInputs
        The noisy masked images, to be scored by a probability.

    Returns
    -------
    Raw
        (N, h, w), signed; counts `channels` and `channels_skipped`: constant ones have weight 0.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        Shapes or options that do not fit.

    References
    ----------
    Wang et al., SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization, 2020, arXiv:2006.14255.
    """
    require_count("samples", samples)
    require_between("sigma", sigma, 0)
    require_batch(activations, images)
    colours = 1 if noise == "activation" else images.shape[1]
    drawn = sigma * draw_normal((samples, colours, *image_size(images)), images, seed)

    def alter(images: Tensor, masks: Tensor, sample: Tensor) -> Tensor:
        return images * (masks + drawn[sample]) if noise == "activation" else images * masks + drawn[sample]

    return (yield from _repeatedly_scored(activations, images, samples, alter))


@method(
    "iscam",
    "IS-CAM",
    "channels weighted by their mean score under ever stronger masks",
    source="Naidu et al. 2020, arXiv:2010.03023",
    cost="many forwards",
    rules=_OFFICIAL,
)
def is_cam(
    activations: Tensor, images: Tensor, *, samples: int = 10, path: Integration = "linear"
) -> Generator[ScoreInputs, Tensor, Raw]:
    r"""Integrated Score-CAM before its ReLU: a channel's weight is its mean score on the way from black to its mask.

    .. math::

        a_k = \frac{1}{n} \sum_{s=1}^{n} \mathrm{score}(c_s \, X \circ H_k), \qquad
        M_{ij} = \sum_k a_k A_{kij}

    with H the masks of Score-CAM's ``official`` variant. The factor is c = s / n on the ``linear`` path, the sum that
    stands for an integral from the black image to the masked one. torch-cam reads the paper's sum as ``cumulative``,
    c = (1 + 2 + ... + s) / n, which ends at (n + 1) / 2 times the masked image. Weights are probabilities, as in the
    authors' code of Score-CAM; torch-cam takes a softmax over channels of logits.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    images : Tensor
        X, (N, c, H, W), the model's input.
    samples : int
        n; the cost is so many times that of Score-CAM.
    path : {"linear", "cumulative"}
        Which factors.

    Yields
    ------
    ScoreInputs
        The masked images, to be scored by a probability.

    Returns
    -------
    Raw
        (N, h, w), signed; counts `channels` and `channels_skipped`: constant ones have weight 0.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        Shapes or options that do not fit.

    References
    ----------
    Naidu et al., IS-CAM: Integrated Score-CAM for axiomatic-based explanations, 2020, arXiv:2010.03023.
    """
    require_count("samples", samples)
    require_batch(activations, images)
    steps = torch.arange(1, samples + 1, device=images.device, dtype=images.dtype) / samples
    factors = steps if path == "linear" else steps.cumsum(0)

    def alter(images: Tensor, masks: Tensor, sample: Tensor) -> Tensor:
        return images * (masks * factors[sample, None, None, None])

    return (yield from _repeatedly_scored(activations, images, samples, alter))


def draw_normal(shape: tuple[int, ...], like: Tensor, seed: int) -> Tensor:
    """Standard normal numbers, the same for a seed on every device and for every dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu").to(like)


def _repeatedly_scored(
    activations: Tensor, images: Tensor, samples: int, alter: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Generator[ScoreInputs, Tensor, Raw]:
    """Score-CAM of the authors' code, where a channel has the mean score of several masked images.

    ``alter(images, masks, sample)`` gives the inputs (m, c, H, W) of images (m, c, H, W), masks (m, 1, H, W) in [0, 1]
    and the numbers (m,) of the samples.
    """
    activations = at_least_float32(activations)
    count, channels = activations.shape[:2]
    pairs = (~is_constant(activations)).flatten().nonzero()[:, 0]
    owner = pairs // channels

    def build(numbers: Tensor) -> Tensor:
        which, sample = numbers // samples, numbers % samples
        masks = to_unit_range(upsample(activations.flatten(0, 1)[pairs[which], None], image_size(images))[:, 0])
        return alter(images[owner[which]], masks[:, None].to(images.dtype), sample)

    found = yield ScoreInputs(owner.repeat_interleave(samples), build)
    scores = found.reshape(len(pairs), samples).mean(dim=1).to(activations.dtype)
    weights = scores.new_zeros(count * channels).index_copy(0, pairs, scores).view(count, channels)
    raw = torch.einsum("nk,nkij->nij", weights, activations)
    return Raw(raw, {"channels": weights.numel(), "channels_skipped": weights.numel() - len(pairs)})
