"""Ablation-CAM and Recipro-CAM by hand, and beside pytorch-grad-cam."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcam_suite import Model, explain, load
from torchcam_suite.cam import ablation_cam, recipro_cam
from torchcam_suite.errors import LayerError


def answered(steps: Any, score: Any) -> Any:
    """What a generator returns, its features scored by ``score(features, owner)``."""
    request = next(steps)
    count = len(request.owner)
    try:
        steps.send(score(request.build(torch.arange(count)), request.owner))
    except StopIteration as end:
        return end.value
    raise AssertionError("it asked again")


# two channels of 1 x 2; their sums are 3 and -1
MAPS = torch.tensor([[[[1.0, 2.0]], [[-1.0, 0.0]]]])


@pytest.mark.parametrize(
    ("weights", "bias", "expected"),
    [
        # y = 2 * 3 - 3 * -1 = 9; without the channels 3 and 6
        ([2.0, -3.0], 0.0, [[6 / 9 * 1 + 3 / 9 * -1, 6 / 9 * 2]]),
        # y = -11, without the channels -17 and -14: the first still speaks for the class
        ([2.0, -3.0], -20.0, [[6 / 11 * 1 + 3 / 11 * -1, 6 / 11 * 2]]),
        # y = 0: nothing is divided
        ([2.0, -3.0], -9.0, [[6.0 * 1 + 3.0 * -1, 6.0 * 2]]),
    ],
    ids=["positive score", "negative score", "score of zero"],
)
def test_weights_are_the_lost_share_of_the_score(weights: list[float], bias: float, expected: list) -> None:
    def score(features: Tensor, _: Tensor) -> Tensor:
        return features.sum(dim=(2, 3)) @ torch.tensor(weights) + bias

    torch.testing.assert_close(answered(ablation_cam(MAPS), score).raw, torch.tensor([expected]))


def test_channels_of_zeros_are_not_run() -> None:
    maps = torch.rand(3, 5, 2, 2) + 0.1
    maps[0, 1] = maps[0, 4] = maps[2, 0] = 0
    owners = []

    def score(features: Tensor, owner: Tensor) -> Tensor:
        owners.append(owner)
        return features.square().sum(dim=(1, 2, 3))

    found = answered(ablation_cam(maps), score)
    assert found.counts == {"channels": 15, "channels_skipped": 3}
    assert torch.cat(owners).bincount().tolist() == [1 + 3, 1 + 5, 1 + 4]
    score_all = maps.square().sum(dim=(1, 2, 3), keepdim=True)
    weights = maps.square().sum(dim=(2, 3), keepdim=True) / score_all
    torch.testing.assert_close(found.raw, (weights * maps).sum(dim=1))


def small(dtype: torch.dtype = torch.float32) -> Model:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    net.append(nn.Linear(5, 4))
    return load(net.to(dtype), input_size=(3, 12, 10), preprocessing="unit", head="softmax", device="cpu")


def test_where_the_score_is_positive_it_is_what_pytorch_grad_cam_computes() -> None:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = small()
    with torch.no_grad():
        model.module.get_parameter("6.bias").add_(1)
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))
    found = explain(model, images, method="ablationcam", layer="3", target=[1, 2], normalize="minmax")
    assert (found.scores > 0).all()
    with AblationCAM(model.module, [model.module.get_submodule("3")]) as theirs:
        expected = theirs(images, [ClassifierOutputTarget(1), ClassifierOutputTarget(2)])
    assert expected.std() > 0.1
    torch.testing.assert_close(found.maps, torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_a_single_position_behind_global_pooling_is_class_activation_mapping() -> None:
    model = small(torch.float64)
    images = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = explain(model, images, method="reciprocam", layer="3", target=1, mask="single", of="logit")
    net = model.module
    activations = nn.Sequential(*list(net.children())[:4])(images)
    mapped = torch.einsum("k,nkij->nij", net.get_parameter("6.weight")[1], activations) / (8 * 6)
    expected = (mapped + net.get_parameter("6.bias")[1]).detach()
    assert expected.std() > 5e-5
    torch.testing.assert_close(found.raw, expected)


@pytest.mark.parametrize(
    ("mask", "corner", "middle"),
    [
        ("single", [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]),
        ("gaussian", [[4.0, 4.0, 0.0], [8.0, 5.0, 0.0]], [[2.0, 8.0, 6.0], [4.0, 10.0, 6.0]]),
        ("spread", [[4.0, 2.0, 0.0], [2.0, 1.0, 0.0]], [[4.0, 8.0, 4.0], [2.0, 4.0, 2.0]]),
    ],
)
def test_masks_by_hand(mask: Any, corner: list, middle: list) -> None:
    maps = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    request = next(recipro_cam(maps, mask=mask))
    whole = 1 if mask == "single" else 16
    features = request.build(torch.tensor([0, 1])) * whole
    assert features[:, 0].tolist() == [corner, middle]


def test_masks_of_half_precision_keep_it() -> None:
    for steps in (recipro_cam(MAPS.bfloat16()), ablation_cam(MAPS.bfloat16())):
        assert next(steps).build(torch.tensor([0, 1])).dtype == torch.bfloat16


@pytest.mark.parametrize("method", [ablation_cam, recipro_cam])
def test_a_layer_without_positions_is_named(method: Any) -> None:
    with pytest.raises(LayerError, match=r"shape \(2, 10\).*feature maps"):
        next(method(torch.zeros(2, 10)))
