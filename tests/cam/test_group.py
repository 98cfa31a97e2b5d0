"""Group-CAM: the authors' sum at the picture's resolution, its groups, its background."""

from typing import Any

import numpy as np
import pytest
import reference_forward
import torch
from cases import toy

from torchcam_suite import explain
from torchcam_suite.cam.group import _denoised, _grouped, blur
from torchcam_suite.cam.saliency_map import upsample

# a toy net has classes without evidence
pytestmark = pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")


@pytest.mark.parametrize("options", [{"groups": 2}, {"groups": 5, "percentile": 30.0}])
def test_the_upsampled_map_is_the_sum_of_upsampled_masks(options: dict[str, Any]) -> None:
    case = toy()
    found = explain(case.model, case.images, method="groupcam", layer="3", target=case.classes, **options)
    arguments = {"percentile": 70.0} | options
    fine = np.stack([reference_forward.group_cam_at_both(case, image, **arguments)[1] for image in range(2)])
    assert fine.std(axis=(1, 2)).min() > 1e-4
    np.testing.assert_allclose(upsample(found.raw[:, None], (16, 12))[:, 0], fine, rtol=0, atol=1e-12)


def test_channels_are_cut_into_groups_as_torch_chunk_does() -> None:
    activations = torch.ones(1, 7, 1, 1)
    gradients = torch.arange(1.0, 8).view(1, 7, 1, 1)
    assert _grouped(activations, gradients, 3).flatten().tolist() == [1 + 2 + 3, 4 + 5 + 6, 7]
    assert _grouped(activations, gradients, 32).flatten().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert _grouped(activations, -gradients, 3).flatten().tolist() == [0, 0, 0]


@pytest.mark.parametrize("percentile", [0.0, 33.0, 70.0, 99.9, 100.0])
def test_the_threshold_is_numpys_percentile(percentile: float) -> None:
    maps = torch.rand(2, 3, 5, 4, dtype=torch.float64).relu()
    maps[0, 0, :3] = 0.25  # ties
    found = _denoised(maps, percentile)
    for map_, one in zip(maps.flatten(0, 1), found.flatten(0, 1), strict=True):
        threshold = np.percentile(map_.numpy(), percentile)
        assert one.tolist() == torch.where(map_ > threshold, map_, 0).tolist()


@pytest.mark.parametrize("size", [(60, 70), (16, 12), (1, 3)])
def test_the_background_is_a_gaussian_blur(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    found = blur(images)
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one, reference_forward.blurred(image.numpy()), rtol=1e-10)
    assert found.std() < images.std()


def test_groups_without_a_mask_are_skipped_and_counted() -> None:
    case = toy()
    with torch.no_grad():
        case.model.module.get_parameter("3.weight")[:2] = 0  # the first group of two
    seen: list[tuple[int, int]] = []
    found = explain(
        case.model,
        case.images,
        method="groupcam",
        layer="3",
        groups=3,
        percentile=0.0,
        target=case.classes,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found.details["groups"] == 6
    assert found.details["groups_skipped"] >= 2
    assert seen[-1][1] == 2 + 6 - found.details["groups_skipped"]  # the background of each image, and the groups


def test_channel_weights_are_gradients_of_the_logit_however_sure_the_model_is() -> None:
    case = toy()
    with torch.no_grad():
        case.model.module.get_parameter("7.bias")[2] += 200  # probability 1, gradient of the probability 0
    found = explain(case.model, case.images, method="groupcam", layer="3", target=2, groups=2, of="logit")
    assert found.raw.abs().amax(dim=(1, 2)).min() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups=0; expected a whole number of at least 1"),
        ({"percentile": 101}, "percentile=101; expected a number from 0 to 100"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    case = toy()
    with pytest.raises(ValueError, match=message):
        explain(case.model, case.images, method="groupcam", layer="3", **options)
