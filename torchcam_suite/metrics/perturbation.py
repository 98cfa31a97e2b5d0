"""Insertion and deletion: pixels are changed in the order of a map."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcam_suite.cam.saliency_map import at_least_float32
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.metrics.changed_images import ChunkSize, Confidences, confidences
from torchcam_suite.metrics.figure import Curve
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.targets import Target

Baseline = Literal["blur", "zero"]

# of the authors of RISE, for pictures of 224 x 224
_BLUR_SIZE, _BLUR_SIGMA = 11, 5.0


def insertion_auc(
    model: Model,
    images: Any,
    maps: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = "blur",
    steps: int = 50,
    seed: int = 0,
    chunk_size: ChunkSize = "auto",
    progress: bool | Progress = False,
) -> Curve:
    """Area under the confidence while the most relevant pixels come back first; higher is better.

    Parameters
    ----------
    model, images, maps, target, chunk_size
        As for `torchcam_suite.metrics.confidence.confidence_change`; of the maps, of any range, only the order of the
        pixels counts.
    baseline : {"blur", "zero"}
        What the image starts as: blurred, as in the paper, or the model's zero.
    steps : int
        Number of steps, of equal numbers of pixels; the paper takes 224 for 224 x 224 pixels.
    seed : int
        Of the order of pixels of equal value.
    progress : bool or function
        As for `torchcam_suite.explain`.

    Returns
    -------
    Curve
        Values in [0, 1].

    Raises
    ------
    HeadError, TargetError, ValueError
        As for `confidence_change`.

    References
    ----------
    Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, section 4.1.
    """
    name = f"insertion_auc[{baseline},steps={steps}]"
    with reporting(name.partition("[")[0], progress) as report:
        queue = confidences(model, images, maps, target, chunk_size)
        return _pixel_by_pixel(name, "higher", queue, maps, baseline, steps, seed, report)


def deletion_auc(
    model: Model,
    images: Any,
    maps: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = "zero",
    steps: int = 50,
    seed: int = 0,
    chunk_size: ChunkSize = "auto",
    progress: bool | Progress = False,
) -> Curve:
    """Area under the confidence while the most relevant pixels go first; lower is better.

    Parameters, results and reference are those of `insertion_auc`; deleted pixels become the model's zero, as in the
    paper, or blurred.
    """
    name = f"deletion_auc[{baseline},steps={steps}]"
    with reporting(name.partition("[")[0], progress) as report:
        queue = confidences(model, images, maps, target, chunk_size)
        return _pixel_by_pixel(name, "lower", queue, maps, baseline, steps, seed, report)


def _pixel_by_pixel(
    name: str,
    better: Literal["higher", "lower"],
    queue: Confidences,
    maps: Tensor,
    baseline: Baseline,
    steps: int,
    seed: int,
    report: Progress | None,
) -> Curve:
    """Insertion (higher is better) or deletion (lower)."""
    if steps < 1:
        raise ValueError(f"steps={steps}; expected at least 1")
    images, count = queue.images, len(queue.images)
    order = ranks(maps.to(images.device), seed)
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device="cpu")
    changed = counts_of(shares, order[0].numel()).to(images.device)
    other = baseline_images(images, baseline)
    first, last = (other, images) if better == "higher" else (images, other)

    def build(numbers: Tensor) -> Tensor:
        owner, step = numbers // (steps + 1), numbers % (steps + 1)
        there = order[owner] < changed[step, None, None]
        return torch.where(there[:, None], last[owner], first[owner])

    owner = torch.arange(count, device=images.device).repeat_interleave(steps + 1)
    found = queue.after(owner, build, report).view(count, steps + 1).cpu()
    return Curve(name, better, area_under(found), shares, found)


def ranks(maps: Tensor, seed: int = 0) -> Tensor:
    """The place of each pixel in the order of falling relevance, from 0.

    Pixels of equal value, as all that a ReLU set to zero, come in a random order: reading order would favour what lies
    at the top. The order of equals is the same for every map, so that a batch gives what single images give.

    Parameters
    ----------
    maps : Tensor
        (N, H, W), any range.
    seed : int
        Of the random order.

    Returns
    -------
    Tensor
        (N, H, W) long, each a permutation of 0 to H W - 1.

    Examples
    --------
    >>> ranks(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]))
    tensor([[[3, 0],
             [1, 2]]])
    """
    flat = maps.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(flat.shape[1], generator=generator, device="cpu").to(flat.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(maps)


def counts_of(shares: Tensor, pixels: int) -> Tensor:
    """How many of the pixels a share is, to the nearest whole number: long, of the shape of `shares`."""
    return (shares * pixels + 0.5).floor().long()


def baseline_images(images: Tensor, baseline: Baseline) -> Tensor:
    """What takes the place of deleted pixels.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W), ready for the model.
    baseline : {"blur", "zero"}
        The image under a Gaussian of 11 x 11 pixels with a standard deviation of 5, mirrored at the border, or the
        model's zero.

    Raises
    ------
    ValueError
        Another baseline.
    """
    if baseline == "zero":
        return torch.zeros_like(images)
    if baseline == "blur":
        return blurred(at_least_float32(images)).to(images.dtype)
    raise ValueError(f"baseline={baseline!r}; expected 'blur' or 'zero'")


def blurred(images: Tensor) -> Tensor:
    """Convolve images (N, C, H, W) with a Gaussian; small images with what of it fits."""
    channels, height, width = images.shape[1:]
    kernels = [_gaussian(min(_BLUR_SIZE, 2 * side - 1)).to(images) for side in (height, width)]
    rows, columns = (len(kernel) // 2 for kernel in kernels)
    padded = F.pad(images, (columns, columns, rows, rows), mode="reflect")
    down = F.conv2d(padded, kernels[0].view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(down, kernels[1].view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def _gaussian(size: int) -> Tensor:
    positions = torch.arange(size, dtype=torch.float64, device="cpu") - size // 2
    weights = (-0.5 * (positions / _BLUR_SIGMA) ** 2).exp()
    return weights / weights.sum()


def area_under(values: Tensor) -> Tensor:
    """Area under curves (N, S) by the trapezoidal rule, the S points spread evenly over [0, 1]: (N,).

    Examples
    --------
    >>> area_under(torch.tensor([[0.0, 1.0, 1.0]]))
    tensor([0.7500])
    """
    return (values[:, 1:] + values[:, :-1]).mean(dim=1) / 2
