"""A raw map becomes a picture-sized map, by OpenCV's rule and never NaN."""

import cv2
import numpy as np
import pytest
import reference
import torch
from torch import Tensor

from torchcam_suite.cam.saliency_map import finish, upsample
from torchcam_suite.errors import GradientError


def signed_maps(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(n, height, width, generator=torch.Generator().manual_seed(seed))


UPSCALING = [(37, 150), (7, 224), (10, 299), (74, 299)]
DOWNSCALING = [(299, 74), (150, 37), (8, 4)]


@pytest.mark.parametrize(("source", "target"), UPSCALING + DOWNSCALING)
def test_bilinear_resizing_equals_opencv(source: int, target: int) -> None:
    values = signed_maps(1, source, source + 3).double()
    expected = cv2.resize(values[0].numpy(), (target + 5, target), interpolation=cv2.INTER_LINEAR)
    assert expected.std() > 0.1
    np.testing.assert_allclose(upsample(values[None], (target, target + 5))[0, 0], expected, atol=2e-6)


@pytest.mark.parametrize(("source", "target"), UPSCALING)
def test_nearest_upsampling_equals_opencv(source: int, target: int) -> None:
    values = signed_maps(1, source, source + 3)
    expected = cv2.resize(values[0].numpy(), (target + 5, target), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(upsample(values[None], (target, target + 5), "nearest")[0, 0], expected)


def test_upsampling_is_bilinear_between_half_pixel_centres() -> None:
    values = signed_maps(1, 5, 3).double()
    expected = reference.upsample(values[0].numpy(), 11, 8)
    np.testing.assert_allclose(upsample(values[None], (11, 8))[0, 0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalize", ["max", "minmax", "none"])
@pytest.mark.parametrize("relu", ["before", "after", "none"])
def test_finish_is_the_loops(relu: str, normalize: str) -> None:
    raw = signed_maps(3, 4, 5).double()
    finished = finish(raw, (9, 12), relu=relu, normalize=normalize)
    for image, values in enumerate(raw.numpy()):
        expected = finished_by_loops(values, 9, 12, relu, normalize)
        assert expected.std() > 0.05
        np.testing.assert_allclose(finished.maps[image], expected, rtol=1e-5, atol=1e-6)
    assert finished.maps.dtype == torch.float32
    assert finished.zero.tolist() == [False] * 3


def finished_by_loops(values: np.ndarray, height: int, width: int, relu: str, normalize: str) -> np.ndarray:
    if relu == "before":
        values = np.maximum(values, 0)
    values = reference.upsample(values, height, width)
    if relu == "after":
        values = np.maximum(values, 0)
    if normalize == "max":
        return values / np.abs(values).max()
    if normalize == "minmax":
        return (values - values.min()) / (values.max() - values.min())
    return values


def test_relu_before_and_after_upsampling_differ_where_the_sign_changes() -> None:
    raw = torch.tensor([[[-3.0, 1.0]]])
    before, after = (
        finish(raw, (1, 4), relu=relu, normalize="none").maps[0, 0].tolist() for relu in ("before", "after")
    )
    assert before == [0.0, 0.25, 0.75, 1.0]
    assert after == [0.0, 0.0, 0.0, 1.0]


def test_the_raw_map_is_rectified_only_before_upsampling() -> None:
    raw = signed_maps(1, 3, 3)
    assert torch.equal(finish(raw, (6, 6), relu="before").raw, raw.relu())
    assert torch.equal(finish(raw, (6, 6), relu="after").raw, raw)


@pytest.mark.parametrize("normalize", ["max", "minmax", "none"])
@pytest.mark.parametrize("relu", ["before", "after"])
@pytest.mark.parametrize("value", [0.0, -0.3])
def test_no_positive_evidence_gives_zeros_and_the_flag(value: float, relu: str, normalize: str) -> None:
    raw = torch.stack([torch.full((7, 7), value), value - torch.rand(7, 7), torch.rand(7, 7)])
    if value == 0.0:
        raw[1] = -raw[1].abs()
    finished = finish(raw, (224, 224), relu=relu, normalize=normalize)
    assert finished.zero.tolist() == [True, True, False]
    assert finished.maps[:2].abs().max() == 0
    assert finished.maps[2].max() > 0


@pytest.mark.parametrize("relu", ["before", "after", "none"])
def test_a_constant_map_has_no_range(relu: str) -> None:
    raw = torch.full((1, 8, 8), 0.7)
    upsampled = upsample(raw[None], (60, 60))
    assert upsampled.max() > upsampled.min(), "this size was chosen because interpolation rounds"
    finished = finish(raw, (60, 60), relu=relu, normalize="minmax")
    assert finished.zero.tolist() == [True]
    assert finished.maps.max() == 0
    assert finish(raw, (60, 60), relu=relu, normalize="max").maps.min() > 0.9999


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20])
@pytest.mark.parametrize("normalize", ["max", "minmax"])
def test_maps_reach_from_zero_to_one_at_any_scale(scale: float, normalize: str) -> None:
    maps = finish(signed_maps(4, 10, 10) * scale, (299, 299), normalize=normalize).maps
    assert maps.amax(dim=(1, 2)).tolist() == [1.0] * 4
    assert maps.amin(dim=(1, 2)).tolist() == [0.0] * 4


def test_a_signed_map_divided_by_its_largest_magnitude_keeps_its_signs() -> None:
    maps = finish(torch.tensor([[[-4.0, 2.0]]]), (1, 2), relu="none").maps
    assert maps.tolist() == [[[-1.0, 0.5]]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_counted(bad: float) -> None:
    raw = signed_maps(2, 3, 3)
    raw[1, 0, :2] = bad
    with pytest.raises(GradientError, match="2 NaN or infinite values out of 18"):
        finish(raw, (6, 6))


def test_half_precision_is_finished_in_float32() -> None:
    raw = signed_maps(2, 7, 7).bfloat16()
    finished = finish(raw, (224, 224))
    assert finished.raw.dtype == finished.maps.dtype == torch.float32
    torch.testing.assert_close(finished.maps, finish(raw.float(), (224, 224)).maps, rtol=0, atol=0)


def test_an_empty_batch_gives_empty_maps() -> None:
    finished = finish(torch.zeros(0, 7, 7), (20, 30))
    assert finished.maps.shape == (0, 20, 30)
    assert finished.zero.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relu": "later"}, "relu='later' does not exist; expected one of 'before', 'after', 'none'"),
        ({"normalize": "sum"}, "normalize='sum' does not exist; expected one of 'max', 'minmax', 'none'"),
        ({"interpolation": "cubic"}, "interpolation='cubic' does not exist; expected one of 'bilinear', 'nearest'"),
    ],
)
def test_an_unknown_option_lists_the_known(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finish(signed_maps(1, 3, 3), (6, 6), **options)
