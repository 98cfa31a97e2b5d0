"""Eigen-CAM and Eigen-Grad-CAM: pytorch-grad-cam's projection, with a sign that means something."""

import numpy as np
import pytest
import torch
from cases import toy
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor

from torchcam_suite import explain
from torchcam_suite.cam import eigen_cam, eigen_grad_cam, hi_res_cam
from torchcam_suite.errors import GradientError


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(4, 6, 5, 7), (4, 40, 3, 4)], ids=["more positions", "more channels"])
def test_centred_it_is_pytorch_grad_cams_up_to_the_sign(shape: tuple[int, ...]) -> None:
    activations, gradients = random_maps(*shape), random_maps(*shape, seed=1)
    for found, features in [
        (eigen_cam(activations, center=True), activations),
        (eigen_grad_cam(activations, gradients), activations * gradients),
    ]:
        theirs = torch.from_numpy(get_2d_projection(features.numpy())).double()
        signs = (found * theirs).sum(dim=(1, 2), keepdim=True).sign()
        np.testing.assert_allclose(found, theirs * signs, rtol=0, atol=1e-5 * theirs.abs().max())
        assert theirs.std() > 0.5


def test_feature_maps_that_are_not_negative_give_a_map_that_is_not_negative() -> None:
    found = eigen_cam(random_maps(8, 5, 6, 6).relu())
    assert found.min() > -1e-12
    assert found.std() > 0.1


def test_the_map_is_bright_where_the_layer_is_active() -> None:
    activations = random_maps(64, 5, 6, 6)
    for center in (False, True):
        found = eigen_cam(activations, center=center)
        assert ((found * activations.norm(dim=1)).sum(dim=(1, 2)) >= 0).all()
        torch.testing.assert_close(eigen_cam(-activations, center=center), found)


@pytest.mark.parametrize("center", [False, True])
def test_what_is_bright_in_eigen_grad_cam_speaks_for_the_class(center: bool) -> None:
    activations, gradients = random_maps(64, 5, 6, 6).abs(), random_maps(64, 5, 6, 6, seed=1)
    found = eigen_grad_cam(activations, gradients, center=center)
    against = eigen_grad_cam(activations, -gradients, center=center)
    assert ((found * hi_res_cam(activations, gradients)).sum(dim=(1, 2)) >= 0).all()
    torch.testing.assert_close(against, -found)


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e25])
def test_the_sign_does_not_depend_on_the_size_of_the_gradients(size: float) -> None:
    """As small as the gradients of a class that the model excludes."""
    activations, gradients = random_maps(16, 5, 6, 6).abs().float(), random_maps(16, 5, 6, 6, seed=1).float()
    expected = eigen_grad_cam(activations, gradients)
    found = eigen_grad_cam(activations, gradients * size) / size
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.1


def test_the_projection_carries_the_largest_share_that_a_direction_can() -> None:
    activations = random_maps(1, 5, 6, 6)
    found = eigen_cam(activations).square().sum()
    directions = torch.nn.functional.normalize(random_maps(500, 5, seed=2), dim=1)
    others = torch.einsum("dk,kij->dij", directions, activations[0]).square().sum(dim=(1, 2))
    assert others.max() <= found * (1 + 1e-12)
    assert others.max() > 0.7 * found


def test_eigen_cam_is_the_same_for_every_class_and_asks_for_no_gradient() -> None:
    case = toy()
    # without a graph: the model detaches its features
    with case.model.module[3].register_forward_hook(lambda *args: args[2].detach()):
        first, second = (
            explain(case.model, case.images, method="eigencam", layer="3", target=target) for target in (0, 1)
        )
    assert torch.equal(first.raw, second.raw)
    assert first.raw.std() > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted(bad: float) -> None:
    activations = random_maps(2, 3, 4, 4)
    activations[1, 0, 0, :2] = bad
    with pytest.raises(GradientError, match="2 NaN or infinite values out of 96"):
        eigen_cam(activations)
