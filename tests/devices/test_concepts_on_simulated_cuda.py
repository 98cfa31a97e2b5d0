"""TCAV on a simulated GPU: no operation mixes devices, and scores are those of the CPU.

Nothing is told of CUDA's kernels, numbers, memory or speed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_cuda import NAME
from torch import Tensor
from twins import Twins, net, pictures, require_equal, twins

from torchcam_suite import TcavResult, apply_cavs, concept_map, tcav
from torchcam_suite.concepts.probes import PROBES

pytestmark = [
    pytest.mark.usefixtures("one_thread", "cuda"),
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ConceptWarning"),
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
]


def red(count: int, seed: int) -> Tensor:
    drawn = pictures(count, seed)
    drawn[:, 0] += 1
    return drawn


def ask(models: Twins, **options: Any) -> list[TcavResult]:
    """Of the CPU, and of the device."""
    question: dict[str, Any] = {
        "layers": ["relu#1"],
        "concepts": {"red": red(8, 1), "noise": pictures(8, 2)},
        "target": {1: pictures(8, 3), 2: pictures(6, 4)},
        "random": [pictures(8, 100 + number) for number in range(4)],
    }
    return [tcav(model, **(question | options)) for model in models.both]


def require_same_result(there: TcavResult, here: TcavResult, tolerance: float = 1e-4) -> None:
    assert there.cavs.keys() == here.cavs.keys()
    for layer, expected in here.cavs.items():
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(there.cavs[layer], expected, rtol=0, atol=tolerance)
    for key, means in here.sensitivities.items():
        np.testing.assert_allclose(there.sensitivities[key], means, rtol=1e-3, atol=1e-4 * np.abs(means).max())
    for key, scores in here.scores.items():
        np.testing.assert_array_equal(there.scores[key], scores)
    for one, other in zip(there.rows, here.rows, strict=True):
        assert (one.layer, one.concept, one.target, one.verdict) == (
            other.layer,
            other.concept,
            other.target,
            other.verdict,
        )
        assert (one.score, one.p, one.accuracy) == pytest.approx((other.score, other.p, other.accuracy))


@pytest.fixture
def models() -> Twins:
    return twins()


@pytest.mark.parametrize("probe", PROBES)
def test_each_probe_gives_what_it_gives_on_the_cpu(models: Twins, probe: str) -> None:
    here, there = ask(models, probe=probe)
    require_same_result(there, here)
    assert (there.versions["device"], here.versions["device"]) == (NAME, "cpu")


OPTIONS: dict[str, dict[str, Any]] = {
    "paper's test": {"test": "paper"},
    "reference's test": {"test": "reference"},
    "relative": {"relative": True},
    "channels": {"pool": "mean", "probe": "sgd"},
    "loss": {"gradient": "loss"},
    "dealt anew": {"redeal": True},
    "little memory": {"memory": 4000},
    "small batches, two layers": {"batch_size": 5, "layers": ["relu#0", "relu#1"]},
    "function": {"target": lambda logits: logits[:, 1] - logits[:, 0], "images": pictures(8, 3)},
    "sets of two sizes": {"concepts": {"red": red(8, 1), "noise": pictures(6, 2)}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_each_option_gives_what_it_gives_on_the_cpu(models: Twins, options: dict[str, Any]) -> None:
    here, there = ask(models, **options)
    require_same_result(there, here)


def test_a_binary_head_is_asked_on_both_sides() -> None:
    here, there = ask(twins(net(1)), target={0: pictures(8, 3), 1: pictures(6, 4)})
    require_same_result(there, here)


@pytest.mark.parametrize("of", ["presence", "sensitivity"])
@pytest.mark.parametrize("pool", ["flatten", "mean"])
def test_concept_maps_are_those_of_the_cpu(models: Twins, tmp_path: Path, of: Any, pool: Any) -> None:
    result, _ = ask(models, pool=pool)
    result = TcavResult.load(result.save(tmp_path / "result"))
    options = {"layer": "relu#1", "of": of, "target": [1, 2, 0], "batch_size": 2}
    here, there = (concept_map(result, model, pictures(), "red", **options) for model in models.both)
    assert there.maps.is_cuda
    require_equal(there.raw, here.raw)
    require_equal(there.maps, here.maps, varied=False)  # the concept may be nowhere
    require_equal(there.scores, here.scores, 1e-5)


def test_cavs_are_carried_from_one_device_to_the_other(models: Twins, tmp_path: Path) -> None:
    results = [TcavResult.load(one.save(tmp_path / str(number))) for number, one in enumerate(ask(models))]
    require_same_result(results[1], results[0])
    asked = {"target": {1: pictures(9, 5)}, "batch_size": 4}
    for result in results:
        here, there = (apply_cavs(result, model, **asked) for model in models.both)
        require_same_result(there, here)
