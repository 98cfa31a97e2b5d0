"""Finer-CAM compares a class with those nearest to it, all layers in one backward pass."""

from typing import Any

import pytest
import torch
from cases import toy
from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget
from torch import Tensor, nn

from torchcam_suite import explain, load
from torchcam_suite.cam.finer import Comparison
from torchcam_suite.errors import TargetError
from torchcam_suite.recorder import Recorder


def test_with_gamma_0_it_is_grad_cam() -> None:
    case = toy()
    finer = explain(case.model, case.images, method="finercam", layer="3", target=case.classes, gamma=0, relu="after")
    plain = explain(case.model, case.images, method="gradcam", layer="3", target=case.classes, relu="after")
    torch.testing.assert_close(finer.raw, plain.raw)


def test_the_nearest_classes_are_compared_whether_above_or_below() -> None:
    logits = torch.tensor([[0.0, 5.0, 4.0, 9.0, 6.5]])
    value = Comparison(2, 0.5, "paper")(logits, torch.tensor([1]))
    assert value.tolist() == [5 - 0.5 * (4 + 6.5) / 2]


def test_the_top_class_is_not_compared_with_itself_where_logits_are_equal() -> None:
    logits = torch.tensor([[3.0, 3.0, 3.0]])
    assert Comparison(1, 1.0, "paper")(logits, torch.tensor([1])).tolist() == [0.0]
    assert Comparison(1, 0.5, "paper")(logits, torch.tensor([1])).tolist() == [1.5]


def test_the_official_objective_and_its_gradient_are_those_of_pytorch_grad_cam() -> None:
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    order = (logits - logits[0, 2]).abs().argsort(dim=1)[0].tolist()
    ours = Comparison(3, 0.7, "official")(logits, torch.tensor([2]))
    theirs = FinerWeightedTarget(2, order[1:4], 0.7)(logits[0])
    torch.testing.assert_close(ours[0], theirs, rtol=1e-7, atol=1e-7)
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (ours, theirs)]
    assert gradients[1].abs().max() > 0.1
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-7, atol=1e-7)


def test_similar_classes_of_negligible_probability_still_count() -> None:
    logits = torch.tensor([[60.0, 1.0, 0.0]])
    value = Comparison(2, 1.0, "official")(logits, torch.tensor([0]))
    shares = torch.tensor([1.0, 0.0]).softmax(dim=0)
    torch.testing.assert_close(value, (shares * torch.tensor([59.0, 60.0])).sum()[None])


def test_a_single_logit_is_compared_with_its_negative() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 1))
    model = load(net, input_size=(1, 8, 8), preprocessing="unit", head="sigmoid", device="cpu")
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for target in (0, 1):
        finer = explain(model, images, method="finercam", layer="1", target=target, relu="after")
        plain = explain(model, images, method="gradcam", layer="1", target=target, relu="after")
        torch.testing.assert_close(finer.raw, 1.6 * plain.raw)
        assert plain.raw.std() > 0


def test_all_layers_of_a_list_are_served_by_one_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    case, calls, plain = toy(), [], Recorder.gradients

    def counted(recorder: Recorder, score: Tensor, **options: Any) -> Any:
        calls.append(score)
        return plain(recorder, score, **options)

    monkeypatch.setattr(Recorder, "gradients", counted)
    options: dict[str, Any] = {"method": "finercam", "target": case.classes}
    together = explain(case.model, case.images, layer=["0", "3", "5"], **options)
    assert len(calls) == 1
    for layer, found in together.items():
        torch.testing.assert_close(found.raw, explain(case.model, case.images, layer=layer, **options).raw)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"similar": 0}, ValueError, "similar=0; expected a whole number of at least 1"),
        ({"gamma": float("nan")}, ValueError, "gamma=nan; expected a finite number"),
        ({"of": "probability"}, ValueError, "finercam compares logits, so of='probability' does not apply"),
        ({"target": lambda logits: logits[:, 0]}, TargetError, "finercam compares classes"),
        ({"variant": "best"}, ValueError, "finercam: variant='best'; expected one of paper, official"),
    ],
)
def test_a_wrong_call_says_what_was_expected(options: dict, error: type[Exception], message: str) -> None:
    case = toy()
    with pytest.raises(error, match=message):
        explain(case.model, case.images, **{"method": "finercam", "layer": "3"} | options)
