"""A torch module that was never imported is traced and fused, its kept layers by their own paths."""

from collections import Counter
from typing import Any

import pytest
import torch
from fusing import images, require_same, seen
from torch import Tensor, nn

from converters.errors import UnsupportedModelError
from converters.fusion import fuse


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(4)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features, generator=generator)
            part.running_var = torch.rand(part.num_features, generator=generator) + 0.5
            part.weight.data = torch.randn(part.num_features, generator=generator)
    return module.eval()


class Standardised(nn.Conv2d):
    """As timm has it: a convolution that changes its weight first."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.weight / self.weight.norm(), self.bias)


class Shared(nn.Module):
    """One convolution, called twice, with a norm of its own each time; and a residual."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv, self.block = conv, nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.last, self.drop = nn.BatchNorm2d(3), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        once = self.block(self.conv(x))
        return self.drop(self.last(self.conv(once)) + once).mean((2, 3))


def same_module(module: nn.Module, keep: list[tuple[str, int]], x: Tensor) -> Any:
    found = fuse(module, keep, x[:2])
    paths = [path for path, _ in keep]
    ours = seen(found.module, found.module, x, [found.paths[place] for place in keep])
    require_same(ours, seen(module, module, x, paths))
    return found.module


def test_a_shared_convolution_gets_the_norm_of_each_call() -> None:
    module = randomised(Shared(nn.Conv2d(3, 3, 1)))
    found = same_module(module, [("block", 0), ("last", 0)], images(4, 3, 6, 6))
    calls = Counter(type(part).__name__ for part in found.modules())
    assert (calls["Conv2d"], calls["BatchNorm2d"]) == (2, 0)


def test_the_second_call_alone_can_be_kept() -> None:
    module, x = randomised(Shared(nn.Conv2d(3, 3, 1))), images(4, 3, 6, 6)
    found = fuse(module, [("conv", 1)], x[:2])
    calls: list[Tensor] = []
    module.get_submodule("conv").register_forward_hook(lambda _, __, output: calls.append(output.detach().clone()))
    module(x)
    kept: list[Tensor] = []
    path = found.paths["conv", 1]
    found.module.get_submodule(path).register_forward_hook(lambda _, __, output: kept.append(output.detach()))
    found.module(x)
    assert (calls[0] - calls[1]).abs().max() > 0.1
    torch.testing.assert_close(kept, calls[1:])


@pytest.mark.parametrize(
    "conv",
    [
        Standardised(3, 3, 1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)),
    ],
    ids=["subclass", "parametrized"],
)
def test_a_convolution_of_another_kind_is_left_alone(conv: nn.Module) -> None:
    found = same_module(randomised(Shared(conv)), [("block", 0)], images(4, 3, 6, 6))
    assert sum(isinstance(part, nn.BatchNorm2d) for part in found.modules()) == 2


def test_a_convolution_with_a_hook_is_left_alone() -> None:
    conv = nn.Conv2d(3, 3, 1)
    conv.register_forward_hook(lambda _, __, output: output * 2)
    found = same_module(randomised(Shared(conv)), [("block", 0)], images(4, 3, 6, 6))
    assert sum(isinstance(part, nn.BatchNorm2d) for part in found.modules()) == 2


class Undecided(nn.Module):
    """Its way depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class WithLogits(nn.Linear):
    """Has a method that a graph of its forward does not have."""

    def logits(self, x: Tensor) -> Tensor:
        return self(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Undecided(), r"Undecided cannot be fused, because torch.fx cannot trace it \(TraceError: .*without fuse\(\)"),
        (WithLogits(3, 3), "WithLogits has a method `logits`, which a traced copy would lose"),
    ],
)
def test_a_module_that_cannot_be_traced_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        fuse(module, (), images(2, 3, 6, 6))


def test_a_layer_that_the_trace_does_not_enter_is_named() -> None:
    encoder = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, batch_first=True).eval()
    with pytest.raises(UnsupportedModelError, match=r"torch\.fx does not see layer 0\.linear1#0, inside a layer"):
        fuse(nn.Sequential(encoder), [("0.linear1", 0)], images(2, 3, 4))
