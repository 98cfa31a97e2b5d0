"""ROAD beside pytorch-grad-cam's, and its noise."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from linear import WeightedMean, convolutional, seeded, weighted_mean
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

from torchcam_suite.errors import TargetError
from torchcam_suite.metrics.road import road


def theirs(model, images, maps, targets, shares: Sequence[float], kind) -> np.ndarray:  # type: ignore[no-untyped-def]
    """(N, shares) of pytorch-grad-cam without noise."""
    asked = [ClassifierOutputSoftmaxTarget(target) for target in targets]
    found = []
    for share in shares:
        remove = kind(100 - 100 * share, NoisyLinearImputer(noise=0))
        metric = PerturbationConfidenceMetric(remove)
        found.append(metric(images, maps.numpy(), asked, model.module, return_diff=False))
    return np.stack(found, axis=1)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # of their code with NumPy 2
def test_both_orders_are_those_of_pytorch_grad_cam() -> None:
    # 100 pixels, so that their percentiles cut where shares do
    model, images, maps = convolutional(size=10), seeded(3, 3, 10, 10).float(), seeded(3, 10, 10, seed=1)
    model.module.float()
    targets, shares = [1, 0, 3], (0.1, 0.5, 0.9)
    found = road(model, images, maps, targets, shares=shares, noise=0, chunk_size=4)
    most = theirs(model, images, maps, targets, shares, RemoveMostRelevantFirst)
    least = theirs(model, images, maps, targets, shares, RemoveLeastRelevantFirst)
    assert most.std() > 0.01
    assert least.std() > 0.01
    np.testing.assert_allclose(found.most_relevant_first.numpy(), most, atol=1e-5)
    np.testing.assert_allclose(found.least_relevant_first.numpy(), least, atol=1e-5)
    np.testing.assert_allclose(found.values.numpy(), (least.mean(1) - most.mean(1)) / 2, atol=1e-5)
    assert found.name == "road[10,50,90%,noise=0]"
    assert found.better == "higher"


def test_accuracy_is_whether_the_target_is_the_top_class() -> None:
    model, images, maps = convolutional(), seeded(6, 3, 12, 12), seeded(6, 12, 12, seed=1)
    found = road(model, images, maps, of="accuracy", shares=(0.3, 0.9))
    confidence = road(model, images, maps, shares=(0.3, 0.9))
    assert found.name == "road[accuracy,30,90%,noise=0.01]"
    assert set(found.most_relevant_first.flatten().tolist()) == {0.0, 1.0}
    # of four classes the top one has at least a quarter, and one with more than a half is it
    assert found.most_relevant_first[confidence.most_relevant_first > 0.5].eq(1).all()
    assert found.most_relevant_first[confidence.most_relevant_first < 0.25].eq(0).all()
    with pytest.raises(TargetError, match="accuracy is about a class"):
        road(model, images, maps, lambda logits: logits.softmax(dim=1)[:, 0], of="accuracy")


def test_accuracy_of_a_single_logit() -> None:
    model = weighted_mean([[0.2, 0.3], [0.2, 0.3]])
    images, maps = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]]), torch.tensor([[[0.9, 0.2], [0.7, 0.3]]])
    # most relevant half gone: the left column becomes a mean of the right one, of 0 and 1, and 0.7 less
    for target, expected in ((1, 1.0), (0, 0.0)):
        found = road(model, images, maps, target, of="accuracy", shares=(0.5,), noise=0)
        assert found.least_relevant_first.tolist() == [[expected]]


@pytest.mark.parametrize(("preprocessing", "white"), [("unit", 1.0), ("tf", 2.0), ("raw", 255.0)])
def test_the_noise_is_a_share_of_black_to_white_on_removed_pixels_alone(preprocessing: str, white: float) -> None:
    model = weighted_mean(torch.full((20, 20), 1 / 400).tolist(), preprocessing)
    assert isinstance(model.module, WeightedMean)
    images, maps, shown = seeded(1, 1, 20, 20), seeded(1, 20, 20, seed=1), []
    for noise in (0.0, 0.01):
        model.module.shown.clear()
        road(model, images, maps, lambda logits: torch.full_like(logits[:, 0], 0.5), shares=(0.5,), noise=noise)
        shown.append(torch.cat(model.module.shown[1:]))
    change = (shown[1] - shown[0]).flatten(1)
    assert change.shape == (2, 400)
    assert change.ne(0).sum(dim=1).tolist() == [200, 200]
    for row in change:
        assert float(row[row != 0].std()) == pytest.approx(0.01 * white, rel=0.2)


def test_the_seed_fixes_the_noise_and_a_batch_is_its_images() -> None:
    model, images, maps = convolutional(), seeded(3, 3, 12, 12), seeded(3, 12, 12, seed=1)
    first = road(model, images, maps, shares=(0.5,), noise=0.3).values
    assert first.equal(road(model, images, maps, shares=(0.5,), noise=0.3).values)
    assert not first.equal(road(model, images, maps, shares=(0.5,), noise=0.3, seed=1).values)
    alone = [road(model, images[i : i + 1], maps[i : i + 1], shares=(0.5,), noise=0.3).values for i in range(3)]
    torch.testing.assert_close(first, torch.cat(alone))


@pytest.mark.parametrize("shares", [(), (0.0,), (1.0,), (0.5, 1.2)])
def test_shares_that_leave_nothing_to_measure_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected numbers between 0 and 1"):
        road(convolutional(), seeded(1, 3, 12, 12), seeded(1, 12, 12), shares=shares)


def test_the_usual_shares_have_a_short_name() -> None:
    model = weighted_mean([[0.25, 0.25], [0.25, 0.25]])
    assert road(model, seeded(1, 1, 2, 2), seeded(1, 2, 2), 1).name == "road[10..90%,noise=0.01]"
