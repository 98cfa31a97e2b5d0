"""Score-CAM: channels weighted by the score of the input that they mask, without gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torchcam_suite.cam.saliency_map import (
    Normalization,
    Rectification,
    at_least_float32,
    require_feature_maps,
    upsample,
)

Score = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]

# On 2 CPU cores 8 inputs are the fastest (32 take 1.3 to 1.5 times as long an input, ResNet-18 and a small CNN):
# larger chunks leave the caches. A GPU needs a few hundred to be busy; where memory is too small, "auto" halves.
_CHUNK_ON_CPU, _CHUNK_ON_ACCELERATOR = 8, 256


class ScoreCam(NamedTuple):
    """Score-CAM of a batch.

    Attributes
    ----------
    raw : Tensor
        (N, h, w), the weighted sum of the activations, signed.
    weights : Tensor
        (N, C), the channel weights.
    skipped : Tensor
        (N,) int, how many channels needed no forward pass of their own.
    chunk_size : int
        The number of masked inputs in one forward pass: the given one, or what "auto" came to.
    """

    raw: Tensor
    weights: Tensor
    skipped: Tensor
    chunk_size: int


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
    normalize: Normalization


def score_cam(
    activations: Tensor,
    images: Tensor,
    score: Score,
    *,
    variant: str = "official",
    chunk_size: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
) -> ScoreCam:
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

    All (image, channel) pairs of the batch form one queue, cut into chunks. A channel whose mask is zero
    everywhere is not run: it has weight 0 (``official``) or the score of the zero image, run once an image.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    images : Tensor
        X, (N, c, H, W), the model's input; "masked" means multiplied, so zero is the model's zero.
    score : function
        ``score(masked, owner)`` with masked (M, c, H, W) and owner (M,) long returns (M,): the score of the
        target of image ``owner[m]`` for each masked input, a probability or a logit as ``VARIANTS[...].of``
        says. It runs in `torch.inference_mode`.
    variant : str
        A key of `VARIANTS`.
    chunk_size : int or "auto"
        Masked inputs in one forward pass; results do not depend on it beyond rounding. "auto" starts with 8
        on a CPU and 256 on an accelerator, and halves whenever memory runs out.
    progress : function, optional
        ``progress(done, total)`` after each chunk, in forward passes of one input.

    Returns
    -------
    ScoreCam
        Float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        An unknown variant, a chunk size below 1, or shapes that do not fit.
    torch.OutOfMemoryError
        A chunk of the given size, or with "auto" a single input, does not fit into memory.

    References
    ----------
    Wang et al., Score-CAM, CVPR Workshops 2020, arXiv:1910.01279, Algorithm 1; the authors' code at
    https://github.com/haofanwang/Score-CAM.
    """
    rules = _require_variant(variant)
    _require_batch(activations, images)
    adapt, size = chunk_size == "auto", _first_chunk_size(chunk_size, images.device)
    activations = at_least_float32(activations.detach())
    blank = rules.is_blank(activations)
    # One blank channel of each image is run, and its score serves the others.
    stand_in = blank & (blank.cumsum(dim=1) == 1) & rules.scores_blank
    queued = ~blank | stand_in

    def score_chunk(pairs: Tensor) -> Tensor:
        owner = pairs // blank.shape[1]
        maps = torch.where(blank.flatten()[pairs, None, None], 0, activations.flatten(0, 1)[pairs])
        masks = rules.mask(upsample(maps[:, None], _size(images))[:, 0])
        return _require_scores(score(images[owner] * masks[:, None].to(images.dtype), owner), owner)

    pairs = queued.flatten().nonzero()[:, 0]
    found, size = _score_queue(pairs, activations.dtype, score_chunk, size, adapt=adapt, progress=progress)
    scores = found.new_zeros(blank.numel()).index_copy(0, pairs, found).view_as(blank)
    shared = torch.where(stand_in, scores, 0).sum(dim=1, keepdim=True)
    weights = torch.where(blank, shared, scores)
    if rules.softmax_over_channels:
        weights = weights.softmax(dim=1)
    raw = torch.einsum("nk,nkij->nij", weights, activations)
    return ScoreCam(raw, weights, (~queued).sum(dim=1), size)


def _score_queue(
    queue: Tensor,
    dtype: torch.dtype,
    score_chunk: Callable[[Tensor], Tensor],
    size: int,
    *,
    adapt: bool,
    progress: Progress | None,
) -> tuple[Tensor, int]:
    """Score a queue chunk by chunk; return the scores and the chunk size that it ended with."""
    # Allocated outside inference mode, so that the caller gets ordinary tensors.
    scores = torch.zeros(len(queue), dtype=dtype, device=queue.device)
    done = 0
    while done < len(queue):
        step = _even_step(len(queue) - done, size)
        try:
            with torch.inference_mode():
                scores[done : done + step] = score_chunk(queue[done : done + step])
        except RuntimeError as error:
            if not (adapt and step > 1 and _is_out_of_memory(error)):
                raise
            size = step // 2
            continue
        done += step
        if progress is not None:
            progress(done, len(queue))
    return scores, size


def _even_step(remaining: int, size: int) -> int:
    """Cut what remains into equal chunks of at most `size`: no small, inefficient chunk at the end."""
    chunks = -(-remaining // size)
    return -(-remaining // chunks)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU allocator raises a plain RuntimeError; only its text tells what happened.
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        "DefaultCPUAllocator" in text and ("can't allocate memory" in text or "not enough memory" in text)
    )


def _to_unit_range(maps: Tensor) -> Tensor:
    low = maps.amin(dim=(1, 2), keepdim=True)
    span = maps.amax(dim=(1, 2), keepdim=True) - low
    return torch.where(span > 0, (maps - low) / span, 0)


def _over_range(maps: Tensor) -> Tensor:
    span = maps.amax(dim=(1, 2), keepdim=True) - maps.amin(dim=(1, 2), keepdim=True)
    return maps / (span + 1e-5)


def _is_constant(activations: Tensor) -> Tensor:
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
            mask=_to_unit_range,
            is_blank=_is_constant,
            scores_blank=False,
            softmax_over_channels=False,
            relu="after",
            normalize="minmax",
        ),
        ScoreCamVariant(
            name="paper",
            summary="Algorithm 1: softmax over channels of the probabilities, nearly the mean activation",
            of="probability",
            mask=_to_unit_range,
            is_blank=_is_constant,
            scores_blank=True,
            softmax_over_channels=True,
            relu="before",
            normalize="max",
        ),
        ScoreCamVariant(
            name="logit",
            summary="softmax over channels of the class logits, as pytorch-grad-cam and torch-cam do",
            of="logit",
            mask=_to_unit_range,
            is_blank=_is_constant,
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


def _require_variant(name: str) -> ScoreCamVariant:
    if name not in VARIANTS:
        raise ValueError(f"Score-CAM variant {name!r} does not exist; expected one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def _require_batch(activations: Tensor, images: Tensor) -> None:
    require_feature_maps(activations)
    if images.ndim != 4 or len(images) != len(activations):
        raise ValueError(
            f"images of shape {tuple(images.shape)} with activations of shape {tuple(activations.shape)}; "
            "expected (N, c, H, W) and (N, C, h, w): pass the batch that the activations were recorded from"
        )


def _require_scores(scores: Tensor, owner: Tensor) -> Tensor:
    if scores.shape != owner.shape:
        raise ValueError(
            f"the score function gave shape {tuple(scores.shape)} for {len(owner)} masked inputs; "
            f"expected ({len(owner)},): one score each"
        )
    return scores


def _first_chunk_size(chunk_size: int | str, device: torch.device) -> int:
    if chunk_size == "auto":
        return _CHUNK_ON_CPU if device.type == "cpu" else _CHUNK_ON_ACCELERATOR
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size!r}; expected a whole number of at least 1, or 'auto'")
    return chunk_size


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]
