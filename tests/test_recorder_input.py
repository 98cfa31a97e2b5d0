"""The input of a forward pass is recorded like a layer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorder_nets import SITES, full_autograd, make_images, make_net, state_of
from torch import Tensor, nn

from torchcam_suite.errors import GradientError, LayerError
from torchcam_suite.recorder import INPUT, Recorder, Site


@pytest.mark.parametrize("caller", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("sites", [[INPUT], [Site("shared", 1), INPUT, Site("stem.0")]])
def test_the_input_is_captured_and_differentiated_like_a_layer(sites: list[Site], caller: Callable[[], Any]) -> None:
    net, images = make_net(), make_images().requires_grad_()
    (expected,) = torch.autograd.grad(net(images)[:, 1].sum(), images)
    assert expected.std() > 1e-4
    with caller():
        before = state_of(net)
        with Recorder(net, sites, gradients=True) as recorder:
            gradients = recorder.gradients(recorder.run(net, make_images())[:, 1].sum())
        assert state_of(net) == before
    assert list(recorder.activations) == list(gradients) == sites
    assert torch.equal(recorder.activations[INPUT], make_images())
    torch.testing.assert_close(gradients[INPUT], expected, rtol=1e-12, atol=1e-15)


def test_layers_have_the_same_gradients_whether_the_input_is_captured_or_not() -> None:
    net, images = make_net(), make_images()
    with Recorder(net, [INPUT, *SITES], gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(net, images)[:, 2].sum())
    _, expected = full_autograd(net, images, 2)
    for site in SITES:
        torch.testing.assert_close(gradients[site], expected[site], rtol=1e-12, atol=1e-15)


def test_a_write_into_the_images_neither_alters_the_captured_input_nor_the_callers() -> None:
    net, images = make_net(), make_images()

    def forward(batch: Tensor) -> Tensor:
        batch *= 2
        return net(batch)

    with Recorder(net, [INPUT], gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(forward, images)[:, 1].sum())
    assert torch.equal(images, make_images())
    assert torch.equal(recorder.activations[INPUT], images)
    doubled = (2 * images).requires_grad_()
    (expected,) = torch.autograd.grad(net(doubled)[:, 1].sum(), doubled)
    torch.testing.assert_close(gradients[INPUT], 2 * expected)


def test_the_input_without_gradients_carries_no_graph() -> None:
    net = make_net()
    with Recorder(net, [INPUT, Site("last")]) as recorder:
        output = recorder.run(net, make_images().requires_grad_())
    assert not output.requires_grad
    assert not recorder.activations[INPUT].requires_grad
    assert torch.equal(recorder.activations[INPUT], make_images())


def test_a_layer_can_be_replaced_while_the_input_is_captured() -> None:
    net, images, site = make_net(), make_images(), Site("stem.0")
    with Recorder(net, [INPUT, site], gradients=True, replace={site: lambda x: x.detach() * 0 + 1}) as recorder:
        # through the branch alone
        gradients = recorder.gradients(recorder.run(net, images)[:, 0].sum())
    assert torch.equal(recorder.activations[INPUT], images)
    assert (recorder.activations[site] == 1).all()
    leaf = images.clone().requires_grad_()
    stem = net.stem[1](torch.ones(2, 6, 7, 7, dtype=torch.float64)).relu()
    x = net.shared(net.shared(net.shared(stem).relu()).relu()) + net.branch[0](leaf).relu()
    logits = net.fc(net.last(x.relu()).relu().mean(dim=(2, 3)))
    (expected,) = torch.autograd.grad(logits[:, 0].sum(), leaf)
    assert expected.std() > 1e-5
    torch.testing.assert_close(gradients[INPUT], expected, rtol=1e-12, atol=1e-15)


def test_the_input_itself_can_be_replaced_and_captures_see_the_new_one() -> None:
    net, images = make_net(), make_images()
    with Recorder(net, [INPUT], gradients=True, replace={INPUT: lambda x: x + 3}) as recorder:
        output = recorder.run(net, images)
        gradients = recorder.gradients(output[:, 0].sum())
    torch.testing.assert_close(output.detach(), net(images + 3).detach())
    assert torch.equal(recorder.activations[INPUT], images + 3)
    assert gradients[INPUT].abs().max() > 1e-4


def test_an_input_that_cannot_be_differentiated_is_named() -> None:
    with Recorder(nn.Identity(), [INPUT], gradients=True) as recorder, pytest.raises(LayerError, match="the input"):
        recorder.run(lambda x: x.double(), torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


def test_a_score_that_does_not_depend_on_the_input_is_explained() -> None:
    net = make_net()

    def forward(images: Tensor) -> Tensor:
        return net.fc(net.last(net.stem(torch.ones_like(images))).mean(dim=(2, 3)))

    with Recorder(net, [INPUT, Site("last")], gradients=True) as recorder:
        score = recorder.run(forward, make_images())[:, 0].sum()
        with pytest.raises(GradientError, match="no gradient arrives at layer the input: the score does not depend"):
            recorder.gradients(score)


def test_an_optional_site_that_the_score_does_not_see_is_left_out() -> None:
    net = make_net()

    def forward(images: Tensor) -> Tensor:
        return net.stem(images) + net.branch(images).detach()

    sites = [Site("branch.0"), INPUT, Site("stem.0")]
    with Recorder(net, sites, gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(forward, make_images()).sum(), optional=[Site("branch.0")])
    assert list(gradients) == [INPUT, Site("stem.0")]
