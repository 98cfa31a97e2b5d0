"""ROAD: pixels are removed in the order of a map, and filled in from what is around them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchcam_suite.cam.score_variations import draw_normal
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.metrics.changed_images import Answer, ChunkSize, black_to_white, confidences
from torchcam_suite.metrics.figure import Road
from torchcam_suite.metrics.imputation import impute_linearly
from torchcam_suite.metrics.perturbation import counts_of, ranks
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.targets import Target


def road(
    model: Model,
    images: Any,
    maps: Tensor,
    target: Target = None,
    *,
    of: Answer = "probability",
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise: float = 0.01,
    seed: int = 0,
    chunk_size: ChunkSize = "auto",
    progress: bool | Progress = False,
) -> Road:
    """Confidence without the least relevant pixels minus that without the most relevant; higher is better.

    Removed pixels are filled in by noisy linear imputation, so that their shape tells little. The figure is
    (LeRF - MoRF) / 2, each the mean over `shares`, in [-0.5, 0.5], as `ROADCombined` of pytorch-grad-cam; the paper
    plots the two orders apart, and the accuracy.

    Parameters
    ----------
    model, images, maps, target, chunk_size
        As for `torchcam_suite.metrics.confidence.confidence_change`; of the maps, of any range, only the order of the
        pixels counts.
    of : {"probability", "accuracy"}
        The confidence in the target, or, as in the paper, whether it is the top class.
    shares : sequence of float
        Shares of the pixels that are removed, between 0 and 1.
    noise : float
        Standard deviation of what is added to each filled-in value, as a share of the range from black to white.
    seed : int
        Of the noise and of the order of pixels of equal value; both are the same for all images.
    progress : bool or function
        As for `torchcam_suite.explain`.

    Returns
    -------
    Road

    Raises
    ------
    HeadError, TargetError, ValueError
        As for `confidence_change`; or a share that is not between 0 and 1.

    References
    ----------
    Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022, arXiv:2202.00449.
    """
    if of not in ("probability", "accuracy"):
        raise ValueError(f"of={of!r}; expected 'probability' or 'accuracy'")
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares={tuple(shares)}; expected numbers between 0 and 1, as (0.2, 0.5, 0.8)")
    with reporting("road", progress) as report:
        queue = confidences(model, images, maps, target, chunk_size)
        prepared = queue.images
        device, count, (height, width) = prepared.device, len(prepared), prepared.shape[2:]
        order = ranks(maps.to(device), seed)
        listed = torch.tensor(shares, dtype=torch.float64, device="cpu")
        removed = counts_of(listed, height * width)
        removed = removed.clamp(max=height * width - 1).to(device)  # one pixel to fill in from
        added = draw_normal(tuple(prepared.shape[1:]), prepared, seed) * black_to_white(model) * noise

        def build(numbers: Tensor) -> Tensor:
            owner, kind = numbers // (2 * len(shares)), numbers % (2 * len(shares))
            number, from_top = removed[kind // 2, None, None], (kind % 2 == 0)[:, None, None]
            known = torch.where(from_top, order[owner] >= number, order[owner] < height * width - number)
            return impute_linearly(prepared[owner], known) + added * ~known[:, None]

        owner = torch.arange(count, device=device).repeat_interleave(2 * len(shares))
        found = queue.after(owner, build, report, of).view(count, len(shares), 2).cpu()
    most, least = found.unbind(dim=2)
    values = (least - most).mean(dim=1) / 2
    name = _name(of, shares, noise)
    return Road(name, "higher", values, listed, most, least)


def _name(of: Answer, shares: Sequence[float], noise: float) -> str:
    percent = ",".join(f"{100 * share:g}" for share in shares)
    percent = "10..90" if percent == "10,20,30,40,50,60,70,80,90" else percent
    return f"road[{'accuracy,' if of == 'accuracy' else ''}{percent}%,noise={noise:g}]"
