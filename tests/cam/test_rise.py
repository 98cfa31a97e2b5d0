"""RISE's masks and what they find; the random baseline."""

from typing import Any

import numpy as np
import pytest
import reference_forward
import torch
from cases import toy
from torch import Tensor, nn

from torchcam_suite import Explanation, explain, load
from torchcam_suite.cam.rise import draw_masks, rise


@pytest.mark.parametrize(("size", "grid"), [((12, 16), 4), ((10, 7), 3), ((5, 5), 7)])
def test_masks_are_cells_upsampled_and_cut_out_at_an_offset(size: tuple[int, int], grid: int) -> None:
    drawn = draw_masks(6, grid, 0.5, 3, torch.zeros(1, 3, *size, dtype=torch.float64))
    expected = np.stack(reference_forward.rise_masks(*size, 6, grid, 0.5, 3))
    assert expected.std(axis=(1, 2)).min() > 0.05
    np.testing.assert_allclose(drawn.build(torch.arange(6)), expected, rtol=0, atol=1e-12)
    picked = torch.tensor([4, 1])
    np.testing.assert_allclose(drawn.build(picked), expected[[4, 1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_expectation_of_a_mask_is_p_at_every_position(p: float) -> None:
    masks = draw_masks(4000, 5, p, 0, torch.zeros(1, 1, 13, 11)).build(torch.arange(4000))
    assert masks.min() == 0
    assert masks.max() == 1
    # the standard error of a mean of 4000
    assert (masks.mean(dim=0) - p).abs().max() < 4.5 * masks.std() / 4000**0.5
    assert masks.var(dim=0).min() > 0.2 * p * (1 - p)


def corner_net() -> Any:
    """Its logit of class 1 is the brightness of the picture's upper left corner."""
    conv = nn.Conv2d(1, 2, 12, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, :, 2:5, 1:4] = 1.0
    return load(
        nn.Sequential(conv, nn.Flatten()), input_size=(1, 12, 12), preprocessing="unit", head="softmax", device="cpu"
    )


def test_it_finds_what_the_score_depends_on() -> None:
    found = explain(corner_net(), torch.ones(1, 1, 12, 12), method="rise", target=1, masks=1000, grid=4, of="logit")
    row, column = divmod(int(found.maps[0].argmax()), 12)
    assert row <= 5
    assert column <= 4
    assert found.maps[0, 2:5, 1:4].mean() > 0.8
    assert found.maps[0, 7:, 6:].mean() < 0.4


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")
def test_with_p_of_1_every_mask_is_whole_and_the_map_is_the_score() -> None:
    case = toy()
    found = explain(case.model, case.images, method="rise", target=case.classes, masks=5, p=1.0)
    assert found.probabilities is not None
    torch.testing.assert_close(found.raw, found.probabilities[:, None, None].expand(-1, 16, 12))


def maps(**options: Any) -> Explanation:
    case = toy()
    return explain(case.model, case.images, method="rise", target=case.classes, **({"masks": 150} | options))


def test_the_seed_and_nothing_else_makes_the_masks() -> None:
    first = maps(grid=3).raw
    assert torch.equal(first, maps(grid=3).raw)
    torch.testing.assert_close(maps(grid=3, chunk_size=11).raw, first, rtol=1e-10, atol=1e-12)
    assert (maps(grid=3, seed=1).raw - first).abs().max() > 1e-3


def test_no_more_masks_than_a_chunk_are_built_at_once() -> None:
    built: list[int] = []
    steps = rise(torch.rand(2, 3, 16, 12), masks=300)
    request = next(steps)
    assert request.owner.tolist() == [0] * 300 + [1] * 300
    built.append(len(request.build(torch.arange(590, 600))))
    with pytest.raises(StopIteration) as end:
        steps.send(torch.rand(600))
    assert built == [10]
    assert end.value.value.shape == (2, 16, 12)


def test_an_image_of_half_precision_is_summed_in_float32() -> None:
    steps = rise(torch.rand(1, 3, 16, 12).bfloat16(), masks=20)
    assert next(steps).build(torch.arange(5)).dtype == torch.bfloat16
    with pytest.raises(StopIteration) as end:
        steps.send(torch.rand(20))
    assert end.value.value.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 0}, "masks=0; expected a whole number of at least 1"),
        ({"grid": "7"}, "grid='7'; expected a whole number"),
        ({"p": 0.0}, "p=0.0; expected a number from 1e-06 to 1"),
        ({"p": 2}, "p=2; expected a number"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maps(**options)


def random_maps(images: Tensor, **options: Any) -> Tensor:
    return explain(toy().model, images, method="randommap", layer="3", target=0, **options).raw


def test_a_random_map_belongs_to_its_image_and_seed() -> None:
    images = toy().images
    both, other = random_maps(images), random_maps(images, seed=1)
    assert torch.equal(random_maps(images.flip(0)), both.flip(0))
    assert torch.equal(random_maps(images, batch_size=1), both)
    assert (both[0] - both[1]).abs().max() > 0.1
    assert (both - other).abs().max() > 0.1


def test_a_random_map_is_uniform() -> None:
    images = torch.rand(40, 3, 16, 12, dtype=torch.float64)
    found = random_maps(images, resolution="input")
    assert found.shape == (40, 16, 12)
    assert abs(float(found.mean()) - 0.5) < 0.02
    assert abs(float(found.var()) - 1 / 12) < 0.005
    assert 0 <= found.min() < 0.01 < 0.99 < found.max() < 1
