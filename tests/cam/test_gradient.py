"""Grad-CAM is its formula, and what Captum computes."""

import numpy as np
import pytest
import reference
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

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


def test_half_precision_is_summed_in_float32() -> None:
    activations, gradients = random_maps(2, 64, 7, 7).bfloat16(), random_maps(2, 64, 7, 7, seed=1).bfloat16()
    raw = grad_cam(activations, gradients)
    assert raw.dtype == torch.float32
    torch.testing.assert_close(raw.double(), grad_cam(activations.double(), gradients.double()), rtol=1e-4, atol=1e-5)


def test_a_layer_without_positions_is_named() -> None:
    with pytest.raises(LayerError, match=r"shape \(2, 10\).*feature maps \(N, C, h, w\)"):
        grad_cam(torch.zeros(2, 10), torch.zeros(2, 10))


def test_gradients_of_another_layer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\) and gradients of shape \(1, 2, 4, 1\)"):
        grad_cam(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 1))
