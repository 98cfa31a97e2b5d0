"""Figures of maps on a simulated GPU: no operation mixes devices, and figures are those of the CPU.

Nothing is told of CUDA's kernels, numbers, memory or speed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from twins import SIZE, Twins, pictures, require_equal, twins

from torchcam_suite import explain
from torchcam_suite.metrics import agreement
from torchcam_suite.metrics.faithfulness import (
    METRICS,
    confidence_change,
    deletion_auc,
    insertion_auc,
    max_sensitivity,
    randomisation,
    road,
    score_maps,
)
from torchcam_suite.metrics.localisation import energy_in_mask, pointing_game
from torchcam_suite.metrics.structural_similarity import structural_similarity

pytestmark = [
    pytest.mark.usefixtures("one_thread", "cuda"),
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
]
TARGET = [1, 2, 3]


@pytest.fixture
def models() -> Twins:
    return twins()


def masks() -> Tensor:
    marked = torch.zeros(3, *SIZE[1:], dtype=torch.bool)
    marked[:, 2:9, 3:8] = True
    return marked


def contrast(logits: Tensor) -> Tensor:
    return (logits[:, 1] - logits[:, 2]).sigmoid()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("target", [TARGET, contrast], ids=["classes", "function"])
def test_each_figure_is_that_of_the_cpu(models: Twins, metric: str, target: Any) -> None:
    function = target if callable(target) else None
    found: list[Sequence[Any]] = []
    for model in models.both:
        explanation = explain(model, pictures(), method="hirescam", layer="relu#0", target=target)
        found.append(
            score_maps(model, pictures(), explanation, metrics=[metric], masks=masks(), target=function, batch_size=2)
        )
    for here, there in zip(*found, strict=True):
        assert (there.name, there.better) == (here.name, here.better)
        assert not there.values.is_cuda
        require_equal(there.values, here.values, 1e-5, varied=False)
        assert there.mean == pytest.approx(here.mean, rel=1e-5, abs=1e-7)
        assert len(there.values.tolist()) == 3


OPTIONS: dict[str, Callable[..., Any]] = {
    "insertion into zeros": lambda *args: insertion_auc(*args, baseline="zero", chunk_size=7),
    "deletion by blur": lambda *args: deletion_auc(*args, baseline="blur", steps=9, seed=4),
    "confidence": lambda *args: confidence_change(*args)[0],
    "road": lambda *args: road(*args, shares=(0.2, 0.6), noise=0.1, of="probability", seed=3),
}


@pytest.mark.parametrize("maps_on", ["cpu", "cuda"])
@pytest.mark.parametrize("figure", OPTIONS.values(), ids=list(OPTIONS))
def test_maps_may_be_on_either_device(models: Twins, figure: Callable[..., Any], maps_on: str) -> None:
    maps = explain(models.here, pictures(), layer="relu#0", target=TARGET).maps
    here = figure(models.here, pictures(), maps, TARGET)
    there = figure(models.there, pictures(), maps.to(maps_on), torch.tensor(TARGET))
    require_equal(there.values, here.values, 1e-5)


@pytest.mark.parametrize("how", ["permute", "reset"])
def test_the_sanity_check_draws_its_weights_on_the_device(models: Twins, how: Any) -> None:
    if how == "reset":  # the net has a constant of its own, which cannot be drawn anew
        models = twins(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(560, 4)))
    options = {"method": "hirescam", "layer": "relu#0" if how == "permute" else "1", "target": TARGET}
    here, there = (randomisation(model, pictures(), how=how, stages=3, seed=2, **options) for model in models.both)
    assert there.layers == here.layers
    assert not there.rank_correlation.is_cuda
    if how == "permute":  # a GPU draws other weights
        require_equal(there.rank_correlation, here.rank_correlation, 1e-5)
        require_equal(there.structural_similarity, here.structural_similarity, 1e-5)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(*(m.module.parameters() for m in models.both), strict=True))


@pytest.mark.parametrize("samples", [1, 3])
def test_noise_is_that_of_the_cpu(models: Twins, samples: int) -> None:
    options = {"layer": "relu#0", "target": TARGET, "samples": samples, "seed": 1}
    here, there = (max_sensitivity(model, pictures(), **options) for model in models.both)
    require_equal(there.values, here.values, 1e-5)


AGREEMENT: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "error": agreement.relative_errors,
    "Pearson": agreement.correlations,
    "Spearman": agreement.rank_correlations,
    "overlap": agreement.top_overlaps,
    "IoU": agreement.top_ious,
    "SSIM": agreement.structural_similarities,
    "similarity": lambda one, other: structural_similarity(one, other.to(one.device)).tolist(),
    "pointing game": lambda one, _: pointing_game(one, masks().to(one.device)).tolist(),
    "energy": lambda one, _: energy_in_mask(one, masks().to(one.device)).tolist(),
}


@pytest.mark.parametrize("compare", AGREEMENT.values(), ids=list(AGREEMENT))
def test_maps_of_two_devices_are_compared(models: Twins, compare: Callable[[Tensor, Tensor], Any]) -> None:
    one, other = (
        [explain(model, pictures(), method=method, layer="relu#0", target=TARGET).maps for model in models.both]
        for method in ("hirescam", "layercam")
    )
    expected = compare(one[0], other[0])
    assert len(set(expected)) > 1 or expected == [True] * 3
    for first, second in ((1, 1), (1, 0), (0, 1)):
        assert list(compare(one[first], other[second])) == pytest.approx(list(expected), rel=1e-5)
