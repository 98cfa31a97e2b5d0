"""What is folded into a layer computes the layer and the step behind it, for every kind of layer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converters import folding
from converters.folding import Affine

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 8)),
    "conv without bias": (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 9, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 8)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), (2, 4, 9, 8)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 9, 8)),
    "conv1d": (nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "conv3d": (nn.Conv3d(4, 6, 2), (2, 4, 5, 6, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 5, 6)),
    "transposed in groups": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False), (2, 4, 5, 6)),
    "dense": (nn.Linear(4, 6), (2, 4)),
    "dense on a sequence": (nn.Linear(4, 6, bias=False), (2, 5, 4)),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaped(values: Tensor, output: Tensor, layer: nn.Module) -> Tensor:
    behind = 0 if isinstance(layer, nn.Linear) else output.ndim - 2
    return values.reshape(-1, *[1] * behind)


@pytest.mark.parametrize("name", LAYERS)
def test_a_scale_and_a_shift_go_into_the_layer_before(name: str) -> None:
    layer, shape = LAYERS[name]
    x = random(*shape)
    plain = layer(x).detach()
    channels = plain.shape[-1 if isinstance(layer, nn.Linear) else 1]
    affine = Affine(random(channels, seed=1).double(), random(channels, seed=2).double())
    expected = plain.double() * shaped(affine.scale, plain, layer) + shaped(affine.shift, plain, layer)
    folded = folding.after(layer, affine)
    assert expected.std() > 0.1
    torch.testing.assert_close(folded(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(layer(x), plain)
    assert type(folded) is type(layer)


def test_a_shift_alone_shares_the_weight() -> None:
    layer = nn.Conv2d(3, 4, 3)
    folded: Any = folding.after(layer, Affine(torch.ones(4).double(), torch.ones(4).double()))
    assert folded.weight is layer.weight
    torch.testing.assert_close(folded.bias, layer.bias + 1)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_a_norm_is_a_scale_and_a_shift(norm: Any, affine: bool) -> None:
    layer = norm(5, affine=affine, eps=1e-3).eval()
    layer.running_mean, layer.running_var = random(5), random(5, seed=1).square() + 0.1
    if affine:
        layer.weight.data, layer.bias.data = random(5, seed=2), random(5, seed=3)
    x = random(3, 5, *[4] * int(norm.__name__[-2]))
    found = folding.of_norm(layer)
    assert found is not None
    torch.testing.assert_close(folding.ChannelAffine(found, torch.float32)(x), layer(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3).train(), nn.BatchNorm2d(3, track_running_stats=False).eval()])
def test_a_norm_with_the_statistics_of_the_batch_is_none(norm: nn.Module) -> None:
    assert folding.of_norm(norm) is None


@pytest.mark.parametrize("comes_first", [False, True])
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
def test_a_constant_is_a_scale_and_a_shift(operation: str, comes_first: bool) -> None:
    x, constant = random(3, 4, 5), random(4, seed=1)
    found = folding.of_constant(operation, constant, comes_first=comes_first)
    if operation == "div" and comes_first:
        assert found is None
        return
    assert found is not None
    function = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}[operation]
    expected = function(constant[:, None], x) if comes_first else function(x, constant[:, None])
    torch.testing.assert_close(folding.ChannelAffine(found, torch.float32)(x), expected)


def test_two_steps_become_one() -> None:
    first, second = (Affine(random(3, seed=i).double(), random(3, seed=i + 1).double()) for i in (0, 5))
    x = random(2, 3, 4).double()
    one, other = folding.ChannelAffine(first, torch.float64), folding.ChannelAffine(second, torch.float64)
    torch.testing.assert_close(folding.ChannelAffine(first.then(second), torch.float64)(x), other(one(x)))


@pytest.mark.parametrize(
    ("constant", "axis", "fits"),
    [
        ((1, 6, 1, 1), 1, True),
        ((6, 1, 1), 1, True),
        ((), 1, True),
        ((1,), 1, True),
        ((6,), 1, False),  # along the width
        ((4, 1), 1, False),  # along the height
        ((2, 1, 1, 1), 1, False),  # along the batch
        ((6, 4, 6), 1, False),
        ((1, 1, 6, 1, 1), 1, False),  # adds an axis
        ((6,), 3, True),
    ],
)
def test_a_constant_is_one_value_a_channel_or_is_left_alone(constant: tuple, axis: int, fits: bool) -> None:
    values = random(*constant) if constant else torch.tensor(2.0)
    found = folding.a_channel(values, (2, 6, 4, 6), axis)
    assert (found is not None) == fits
    if found is not None:
        assert torch.equal(found, values.reshape(-1).expand(6))


def test_a_constant_of_several_channels_does_not_widen_one() -> None:
    assert folding.a_channel(random(3, 1, 1), (2, 1, 4, 4), 1) is None


def test_a_constant_of_integers_is_left_alone() -> None:
    assert folding.a_channel(torch.ones(6, 1, 1, dtype=torch.int64), (2, 6, 4, 4), 1) is None


def test_more_padding_is_the_padding_of_both() -> None:
    layer, x = nn.Conv2d(2, 3, 3, padding=(1, 0)), random(1, 2, 6, 7)
    wider: Any = folding.padding_more(layer, (2, 3))
    torch.testing.assert_close(wider(x), layer(nn.functional.pad(x, (3, 3, 2, 2))))
    assert layer.padding == (1, 0)
    assert wider.weight is layer.weight


def test_a_matrix_becomes_a_layer_that_uses_its_memory() -> None:
    matrix, x = random(4, 3), random(5, 4, seed=1)
    layer = folding.from_matrix(matrix)
    torch.testing.assert_close(layer(x), x @ matrix)
    assert layer.weight.data_ptr() == matrix.data_ptr()


def test_a_copy_uses_the_same_memory_and_moves_alone() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).requires_grad_(False)
    copy = folding.sharing_tensors(module)
    ours, theirs = copy.state_dict(), module.state_dict()
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in theirs)
    assert not any(weight.requires_grad for weight in copy.parameters())
    copy.double()
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}


def test_a_module_that_keeps_what_it_computed_is_copied_without_the_graph() -> None:
    module: Any = nn.Sequential(nn.Conv2d(2, 3, 3))
    module.kept = module(random(1, 2, 4, 4).float())
    assert module.kept.grad_fn is not None
    copy: Any = folding.sharing_tensors(module)
    assert copy.kept.grad_fn is None
    assert torch.equal(copy.kept, module.kept)
