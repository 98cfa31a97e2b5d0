"""The weighted-channel methods are their formulas, and what Captum and pytorch-grad-cam compute."""

from collections.abc import Callable

import numpy as np
import pytest
import reference
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAMElementWise, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from torch import Tensor, nn

from torchcam_suite.cam import (
    eigen_cam,
    eigen_grad_cam,
    element_wise_grad_cam,
    grad_cam_plus_plus,
    hi_res_cam,
    layer_cam,
    x_grad_cam,
)
from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.errors import LayerError
from torchcam_suite.recorder import Recorder, Site


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_grad_cam_is_the_mean_gradient_times_the_activations() -> None:
    activations, gradients = random_maps(3, 5, 4, 6), random_maps(3, 5, 4, 6, seed=1)
    expected = reference.grad_cam(activations.numpy(), gradients.numpy())
    assert expected.std() > 0.1
    assert expected.min() < 0 < expected.max()
    np.testing.assert_allclose(grad_cam(activations, gradients).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("activations", "gradients", "expected"),
    [
        ([[[[1.0, 2.0]]]], [[[[4.0, 0.0]]]], [[[2.0, 4.0]]]),
        ([[[[1.0, 2.0]]]], [[[[-4.0, 0.0]]]], [[[-2.0, -4.0]]]),
        ([[[[1.0, 2.0]], [[1.0, 0.0]]]], [[[[1.0, 1.0]], [[-3.0, -3.0]]]], [[[-2.0, 2.0]]]),
        ([[[[1.0, 2.0]]]], [[[[1.0, -1.0]]]], [[[0.0, 0.0]]]),
    ],
    ids=["positive", "signed", "two channels", "gradients that cancel"],
)
def test_grad_cam_by_hand(activations: list, gradients: list, expected: list) -> None:
    assert grad_cam(torch.tensor(activations), torch.tensor(gradients)).tolist() == expected


def test_grad_cam_agrees_with_captum() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 64, 4)
    ).eval()
    images, target = torch.rand(3, 3, 12, 12), torch.tensor([2, 0, 3])
    expected = LayerGradCam(net, net[2]).attribute(images, target, relu_attributions=True)[:, 0].detach()
    with Recorder(net, [Site("2")], gradients=True) as recorder:
        score = recorder.run(net, images).gather(1, target[:, None]).sum()
        gradients = recorder.gradients(score)
    raw = grad_cam(recorder.activations[Site("2")], gradients[Site("2")])
    assert (expected.amax(dim=(1, 2)) > 100 * 1e-5 * expected.max()).all()
    torch.testing.assert_close(raw.relu(), expected, rtol=1e-5, atol=1e-5 * float(expected.max()))


FAMILY = [
    grad_cam,
    hi_res_cam,
    element_wise_grad_cam,
    x_grad_cam,
    layer_cam,
    grad_cam_plus_plus,
    eigen_grad_cam,
]
Map = Callable[[Tensor, Tensor], Tensor]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (hi_res_cam, [[[2.0 - 3.0, 8.0 - 1.0]]]),
        (element_wise_grad_cam, [[[2.0, 8.0]]]),
        (layer_cam, [[[2.0, 8.0 - 1.0]]]),
        # (2 + 8) / 3 and (-3 - 1) / 2
        (x_grad_cam, [[[10 / 3 * 1 + -4 / 2 * 3, 10 / 3 * 2 + -4 / 2 * -1]]]),
    ],
)
def test_by_hand(function: Map, expected: list) -> None:
    found = function(torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]]), torch.tensor([[[[2.0, 4.0]], [[-1.0, 1.0]]]]))
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize(
    ("function", "theirs"),
    [(hi_res_cam, HiResCAM), (element_wise_grad_cam, GradCAMElementWise), (layer_cam, LayerCAM)],
)
def test_pytorch_grad_cam_defines_the_raw_map_alike(function: Map, theirs: type) -> None:
    activations, gradients = random_maps(3, 5, 4, 6), random_maps(3, 5, 4, 6, seed=1)
    # these functions of theirs take everything from their arguments, nothing from the object
    expected = theirs.get_cam_image(None, None, None, None, activations.numpy(), gradients.numpy(), False)
    assert expected.std() > 0.1
    np.testing.assert_allclose(function(activations, gradients), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("function", "theirs"), [(x_grad_cam, XGradCAM), (grad_cam_plus_plus, GradCAMPlusPlus)])
def test_pytorch_grad_cam_adds_a_small_number_to_denominators_which_hardly_matters_for_large_gradients(
    function: Map, theirs: type
) -> None:
    activations, gradients = random_maps(3, 5, 4, 6).abs() + 0.1, random_maps(3, 5, 4, 6, seed=1)
    weights = theirs.get_cam_weights(None, None, None, None, activations.numpy(), gradients.numpy())
    expected = np.einsum("nk,nkij->nij", weights, activations)
    assert expected.std() > 0.1
    np.testing.assert_allclose(function(activations, gradients), expected, rtol=1e-3, atol=1e-3)


def test_hi_res_cam_adds_up_to_the_logit_without_its_bias_where_one_dense_layer_follows() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 4)).double()
    images = random_maps(2, 3, 8, 8)
    with Recorder(net, [Site("1")], gradients=True) as recorder:
        logits = recorder.run(net, images)
        gradients = recorder.gradients(logits[:, 2].sum())
    found = hi_res_cam(recorder.activations[Site("1")], gradients[Site("1")])
    expected = logits[:, 2].detach() - net[3].bias[2].detach()
    torch.testing.assert_close(found.sum(dim=(1, 2)), expected, rtol=1e-12, atol=1e-12)


def test_x_grad_cam_adds_up_to_what_hi_res_cam_does() -> None:
    activations, gradients = random_maps(2, 5, 4, 6).abs(), random_maps(2, 5, 4, 6, seed=1)
    found = x_grad_cam(activations, gradients)
    expected = hi_res_cam(activations, gradients)
    assert (found - expected).abs().max() > 0.1
    torch.testing.assert_close(found.sum(dim=(1, 2)), expected.sum(dim=(1, 2)))


@pytest.mark.parametrize("channel", [[0.0, 0.0, 0.0], [0.1, 0.2, -0.3]], ids=["zeros", "cancels up to rounding"])
def test_x_grad_cam_gives_a_channel_that_adds_up_to_nothing_no_weight(channel: list[float]) -> None:
    activations = torch.tensor([[[channel], [[1.0, 2.0, 3.0]]]])
    gradients = random_maps(1, 2, 1, 3).float()
    found = x_grad_cam(activations, gradients)
    torch.testing.assert_close(found, x_grad_cam(activations[:, 1:], gradients[:, 1:]))
    assert found.abs().max() > 0.1


@pytest.mark.parametrize("function", FAMILY)
def test_half_precision_is_summed_in_float32(function: Map) -> None:
    activations = (random_maps(2, 64, 7, 7).abs() + 0.1).bfloat16()
    gradients = random_maps(2, 64, 7, 7, seed=1).bfloat16()
    raw = function(activations, gradients)
    wide = function(activations.double(), gradients.double())
    assert raw.dtype == torch.float32
    assert wide.dtype == torch.float64
    torch.testing.assert_close(raw.double(), wide, rtol=1e-3, atol=1e-5 * float(wide.abs().max()))


@pytest.mark.parametrize("function", FAMILY)
def test_a_layer_without_positions_is_named(function: Map) -> None:
    with pytest.raises(LayerError, match=r"shape \(2, 10\).*feature maps \(N, C, h, w\)"):
        function(torch.zeros(2, 10), torch.zeros(2, 10))


def test_eigen_cam_needs_positions() -> None:
    with pytest.raises(LayerError, match=r"shape \(2, 10\).*feature maps \(N, C, h, w\)"):
        eigen_cam(torch.zeros(2, 10))


@pytest.mark.parametrize("function", FAMILY)
def test_gradients_of_another_layer_are_refused(function: Map) -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\) and gradients of shape \(1, 2, 4, 1\)"):
        function(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 1))
