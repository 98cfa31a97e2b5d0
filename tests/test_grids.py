"""Tokens and channels-last outputs are recognised as feature maps, and put back where maps are replaced."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcam_suite.errors import LayerError
from torchcam_suite.grids import Ambiguity, Grid, Output, Reshape, channels_last, find_grids, make_reshape

CONV = Output((64, 4, 4), False)  # patches of 8 x 8 of an image of 32 x 32


def counted(*shape: int) -> Tensor:
    """No two values are the same."""
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


# ---------------------------------------------------------------- there and back


def test_tokens_are_positions_row_by_row_after_their_prefix() -> None:
    tokens = counted(2, 2 + 3 * 4, 5)
    maps = Grid(3, 4, prefix=2).maps(tokens)
    assert maps.shape == (2, 5, 3, 4)
    for i in range(3):
        for j in range(4):
            assert maps[1, :, i, j].tolist() == tokens[1, 2 + 4 * i + j].tolist()


def test_channels_last_become_channels_first() -> None:
    output = counted(2, 3, 4, 5)
    maps = Grid(3, 4, flat=False).maps(output)
    assert maps.shape == (2, 5, 3, 4)
    assert maps[1, :, 2, 3].tolist() == output[1, 2, 3].tolist()


@pytest.mark.parametrize(
    ("grid", "shape"),
    [
        (Grid(3, 4), (12, 5)),
        (Grid(3, 4, prefix=1), (13, 5)),
        (Grid(3, 4, prefix=5), (17, 5)),
        (Grid(3, 4, 0, False), (3, 4, 5)),
    ],
)
def test_the_way_back_undoes_the_way_there_and_keeps_the_prefix(grid: Grid, shape: tuple[int, ...]) -> None:
    output = counted(2, *shape)
    assert torch.equal(grid.tokens(grid.maps(output), output), output)
    replaced = grid.tokens(torch.zeros(2, 5, 3, 4), output)
    assert replaced.shape == output.shape
    assert torch.equal(replaced[:, : grid.prefix], output[:, : grid.prefix])
    assert replaced[:, grid.prefix :].abs().sum() == 0


@pytest.mark.parametrize(
    ("grid", "shape", "message"),
    [
        (Grid(3, 4, prefix=1), (2, 12, 5), r"gives 12 x 5 values, but 13 x channels were expected .* give reshape="),
        (Grid(3, 4), (2, 3, 4, 5), r"gives 3 x 4 x 5 values, but 12 x channels"),
        (Grid(3, 4, flat=False), (2, 4, 3, 5), r"gives 4 x 3 x 5 values, but 3 x 4 x channels"),
    ],
)
def test_another_number_of_tokens_is_an_error(grid: Grid, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        grid.maps(torch.zeros(shape))


# ---------------------------------------------------------------- which outputs are grids


@pytest.mark.parametrize(
    ("tokens", "grid"),
    [
        ((16, 64), Grid(4, 4)),
        ((17, 64), Grid(4, 4, prefix=1)),
        ((18, 64), Grid(4, 4, prefix=2)),
        ((21, 192), Grid(4, 4, prefix=5)),
        ((31, 64), Grid(4, 4, prefix=15)),
        ((32, 64), None),
        ((15, 64), None),
        ((1, 64), None),
    ],
)
def test_tokens_after_a_patch_convolution_have_its_grid(tokens: tuple[int, int], grid: Grid | None) -> None:
    assert find_grids([CONV, Output(tokens)], (32, 32)) == [None, grid]


def test_the_grid_of_a_picture_that_is_not_square_is_that_of_the_patch_convolution() -> None:
    vit = [Output((64, 6, 4), False), Output((25, 64)), Output((24, 64))]
    assert find_grids(vit, (96, 64))[1:] == [Grid(6, 4, prefix=1), Grid(6, 4)]


@pytest.mark.parametrize(
    ("size", "count", "grid"),
    [
        ((224, 224), 197, Grid(14, 14, prefix=1)),
        ((224, 224), 198, Grid(14, 14, prefix=2)),
        ((224, 224), 261, Grid(16, 16, prefix=5)),
        ((224, 224), 50, Grid(7, 7, prefix=1)),
        ((384, 224), 336, Grid(24, 14)),
        ((72, 72), 144, Grid(12, 12)),
        ((32, 32), 30, None),
        ((224, 224), 210, None),
    ],
)
def test_without_a_convolution_square_patches_are_tried(size: tuple[int, int], count: int, grid: Grid | None) -> None:
    assert find_grids([Output((count, 64))], size) == [grid]


def test_tokens_of_a_pyramid_have_the_grid_of_their_stage() -> None:
    pyramid = [
        Output((32, 8, 8), False),
        Output((64, 32)),
        Output((64, 4, 4), False),
        Output((16, 64)),
        Output((17, 64)),
    ]
    assert find_grids(pyramid, (32, 32)) == [None, Grid(8, 8), None, Grid(4, 4), Grid(4, 4, prefix=1)]


def test_tokens_of_two_possible_grids_are_ambiguous_and_both_are_named() -> None:
    outputs = [Output((8, 5, 5), False), Output((8, 4, 4), False), Output((26, 8))]
    (grid,) = find_grids(outputs, (32, 32))[2:]
    assert grid == Ambiguity("gives 26 tokens, which may be 4 x 4 and 10 more or 5 x 5 and 1 more")


SWIN = [
    Output((24, 8, 8), False),
    Output((8, 8, 24)),
    Output((8, 8, 24), True),
    Output((8, 8, 96), True),
    Output((4, 4, 48)),
    Output((48, 4, 4)),
    Output((48, 1, 1), False),
    Output((5,)),
]


def test_channels_last_are_recognised_by_class_or_by_size() -> None:
    wide, small = Grid(8, 8, flat=False), Grid(4, 4, flat=False)
    assert find_grids(SWIN, (32, 32)) == [None, wide, wide, wide, small, None, None, None]


def test_a_picture_that_is_not_square_tells_channels_last_apart() -> None:
    outputs = [Output((12, 8, 16), True), Output((12, 8, 16)), Output((16, 12, 8)), Output((12, 8, 12))]
    grid = Grid(12, 8, flat=False)
    assert find_grids(outputs, (96, 64)) == [grid, grid, None, grid]


def test_a_cube_is_ambiguous_in_a_model_that_has_channels_last() -> None:
    last, cube, first = find_grids([Output((8, 8, 8), True), Output((8, 8, 8)), Output((8, 8, 8), False)], (32, 32))
    assert last == Grid(8, 8, flat=False)
    assert cube == Ambiguity(
        "gives 8 x 8 x 8 values, which may be channels x height x width or height x width x channels"
    )
    assert first is None


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 8, 24), (4, 30, 2), (1, 1, 1)])
def test_in_a_model_without_channels_last_three_axes_are_feature_maps(shape: tuple[int, ...]) -> None:
    assert find_grids([Output(shape), Output((10,))], (32, 32)) == [None, None]


def test_windows_are_no_grid() -> None:
    # of torchvision's MaxViT: 64 windows of 49 positions
    outputs = [Output((64, 49, 128), True), Output((16, 49, 128)), Output((64, 56, 56))]
    windows, more, maps = find_grids(outputs, (224, 224))
    assert windows == Ambiguity(
        "gives 64 x 49 x 128 values, whose 64 x 49 positions are no grid over an image of 224 x 224"
    )
    assert isinstance(more, Ambiguity)
    assert maps is None


def test_heads_are_no_channels() -> None:
    attention, queries = find_grids([CONV, Output((17, 64)), Output((4, 17, 17)), Output((4, 17, 16))], (32, 32))[2:]
    assert attention == Ambiguity("gives 4 x 17 x 17 values, which seem to be those of 17 tokens in each of 4 heads")
    assert isinstance(queries, Ambiguity)


def test_unknown_sizes_are_left_alone() -> None:
    assert find_grids([Output((3, None, None)), Output((None, 8)), Output(())], (32, 32)) == [None, None, None]


class PutsChannelsFirst(nn.LayerNorm):
    """As torchvision's LayerNorm2d."""


@pytest.mark.parametrize(
    ("module", "last"),
    [
        (nn.Linear(2, 2), True),
        (nn.LayerNorm(2), True),
        (nn.LayerNorm((2, 3, 3)), None),
        (PutsChannelsFirst(2), None),
        (nn.Conv2d(1, 1, 1), False),
        (nn.BatchNorm2d(2), False),
        (nn.AdaptiveAvgPool2d(1), False),
        (nn.GELU(), None),
    ],
)
def test_some_classes_tell_where_their_channels_are(module: nn.Module, last: bool | None) -> None:
    assert channels_last(module) is last


# ---------------------------------------------------------------- as the user says


def without_class_token(tokens: Tensor, height: int = 3, width: int = 4) -> Tensor:
    return tokens[:, 1:].unflatten(1, (height, width)).permute(0, 3, 1, 2)


def with_class_token(maps: Tensor, like: Tensor) -> Tensor:
    return torch.cat([like[:, :1], maps.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def test_a_pair_of_functions_is_the_way_there_and_back() -> None:
    reshape, grid, tokens = make_reshape((without_class_token, with_class_token)), Grid(3, 4, 1), counted(2, 13, 5)
    assert torch.equal(reshape.maps(tokens), grid.maps(tokens))
    maps = torch.rand(2, 5, 3, 4)
    assert torch.equal(reshape.tokens(maps, tokens), grid.tokens(maps, tokens))


@pytest.mark.parametrize(
    ("function", "name"),
    [(without_class_token, "without_class_token"), (partial(without_class_token, height=4, width=3), "partial")],
)
def test_a_reshape_has_a_name(function: Any, name: str) -> None:
    assert make_reshape(function).name == name


@pytest.mark.parametrize("given", [14, "vit", (14, 14), (), (without_class_token, 3), [without_class_token] * 3])
def test_what_is_no_function_is_an_error(given: Any) -> None:
    with pytest.raises(ValueError, match=r"reshape=.*; expected a function that makes feature maps .* or a pair"):
        make_reshape(given)


@pytest.mark.parametrize(
    ("function", "found"), [(lambda tokens: tokens[0], r"\(13, 5\)"), (lambda _: None, "NoneType")]
)
def test_a_function_that_gives_no_feature_maps_is_an_error(function: Any, found: str) -> None:
    message = rf"reshape= gave {found} of outputs of shape \(2, 13, 5\); expected feature maps \(N, C, h, w\)"
    with pytest.raises(LayerError, match=message):
        Reshape(function).maps(counted(2, 13, 5))


def test_without_the_way_back_maps_cannot_be_replaced() -> None:
    with pytest.raises(LayerError, match=r"needs the way back too: reshape=\(to_maps, to_tokens\)"):
        Reshape(without_class_token).tokens(torch.rand(2, 5, 3, 4), counted(2, 13, 5))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda maps, like: torch.cat([like[:, :1] * 0, maps.permute(0, 2, 3, 1).flatten(1, 2)], dim=1),
        lambda maps, like: torch.cat([like[:, :1], maps.permute(0, 3, 2, 1).flatten(1, 2)], dim=1),
        lambda maps, _: maps.permute(0, 2, 3, 1).flatten(1, 2),
        lambda *_: None,
    ],
)
def test_a_way_back_that_does_not_undo_the_way_there_is_an_error(wrong: Any) -> None:
    with pytest.raises(LayerError, match="is not the outputs again"):
        Reshape(without_class_token, wrong).tokens(torch.rand(2, 5, 3, 4), counted(2, 13, 5))
