"""Fused operations give what the plain layers give, and what cannot be fused safely is left."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from converters import onednn
from converters.fusion import fuse
from torchcam_suite import load

pytestmark = pytest.mark.skipif(not onednn.is_available(), reason="this torch was built without oneDNN")


def conv(channels: int = 6, **options: object) -> nn.Conv2d:
    return nn.Conv2d(6, channels, 3, **{"padding": 1, **options})  # type: ignore[arg-type]


class Net(nn.Module):
    """A stem, and a block that is written in one of many ways."""

    def __init__(self, block: Callable[["Net", Tensor], Tensor], second: nn.Conv2d | None = None) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 6, 3), conv(), second or conv()
        self.relu, self.block = nn.ReLU(inplace=True), block

    def forward(self, images: Tensor) -> Tensor:
        return self.block(self, self.stem(images)).mean((2, 3))


def preactivated(net: Net, x: Tensor) -> Tensor:
    branch = net.first(x)
    again = F.relu(x, inplace=True)  # changes x between the convolution and the sum
    return branch + net.second(again) * 0.5 + again


def added_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    y += x
    return F.relu(y)


def added_to_the_other_in_place(net: Net, x: Tensor) -> Tensor:
    y = F.relu(x)
    return y.add_(net.second(x)) * y


# how it is written, fused convolutions, nodes left between input and mean: what was not merged
BLOCKS: dict[str, tuple[Callable[[Net, Tensor], Tensor], list[str]]] = {
    "activation module": (lambda net, x: net.relu(net.first(x)), []),
    "activation function": (lambda net, x: F.relu(net.first(x)), []),
    "activation method": (lambda net, x: net.first(x).relu_(), []),
    "two activations": (lambda net, x: F.silu(F.relu6(net.first(x))), ["silu"]),
    "silu": (lambda net, x: F.silu(net.first(x)), []),
    "hardswish": (lambda net, x: F.hardswish(net.first(x)), []),
    "sum": (lambda net, x: net.first(x) + x, []),
    "sum the other way round": (lambda net, x: x + net.first(x), []),
    "sum and activation": (lambda net, x: net.relu(torch.add(net.first(x), x)), []),
    "sum in place": (added_in_place, []),
    "sum of two": (lambda net, x: net.relu(net.first(x) + net.second(x)), []),
    "sum of itself": (lambda net, x: (lambda y: y + y)(net.first(x)), ["add"]),
    "weighted sum": (lambda net, x: torch.add(net.first(x), x, alpha=2), ["add"]),
    "sum with a row": (lambda net, x: net.first(x) + x[:, :, :1], ["getitem", "add"]),
    "sum with a number": (lambda net, x: net.first(x) + 2, ["add"]),
    "read twice": (lambda net, x: (lambda y: F.relu(y) * y)(net.first(x)), ["relu", "mul"]),
    "called twice": (lambda net, x: net.first(F.relu(net.first(x))), []),
    "changed in place between": (preactivated, ["relu", "mul", "add", "add"]),
    "other in place": (added_to_the_other_in_place, ["relu", "add_", "mul"]),
}


def traced(net: nn.Module, size: int = 12) -> tuple[fx.GraphModule, Tensor]:
    example = torch.randn(2, 3, size, size + 1, generator=torch.Generator().manual_seed(1))
    found = fuse(net.eval(), (), example).module
    assert isinstance(found, fx.GraphModule)
    onednn.fuse_convolutions(found, example)
    return found, torch.randn(5, 3, size, size + 1, generator=torch.Generator().manual_seed(2))


def left(net: fx.GraphModule) -> list[str]:
    names = [
        node.name if node.op == "call_module" else getattr(node.target, "__name__", str(node.target))
        for node in net.graph.nodes
        if node.op in ("call_function", "call_method", "call_module")
        and not isinstance(
            net.get_submodule(str(node.target)) if node.op == "call_module" else 0, onednn.FusedConvolution
        )
    ]
    assert names.pop() == "mean"
    return names


@pytest.mark.parametrize("name", BLOCKS)
def test_each_way_to_write_a_block_gives_the_same(name: str) -> None:
    torch.manual_seed(4)
    block, expected = BLOCKS[name]
    net = Net(block)
    found, images = traced(net)
    with torch.inference_mode():
        wanted = net(images.clone())
        for given in (images, images.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(found(given.clone()), wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 0.01
    assert left(found) == expected


@pytest.mark.parametrize(
    "second",
    [
        conv(padding="same"),
        conv(padding=2, padding_mode="circular", dilation=2),
        conv(padding=1, padding_mode="reflect"),
    ],
    ids=lambda each: f"{each.padding}-{each.padding_mode}",
)
def test_a_padding_of_another_kind_is_left(second: nn.Conv2d) -> None:
    net = Net(lambda net, x: net.second(x), second)
    found, images = traced(net)
    torch.testing.assert_close(found(images), net(images), rtol=1e-5, atol=1e-5)
    assert len(left(found)) == 1


@pytest.mark.parametrize(
    "second",
    [conv(stride=2), conv(dilation=2), conv(groups=6, bias=False), conv(9, groups=3), conv(padding=(0, 2))],
    ids=lambda each: str(each).replace(" ", ""),
)
def test_settings_of_a_convolution_are_kept(second: nn.Conv2d) -> None:
    net = Net(lambda net, x: F.relu(net.second(x)), second)
    found, images = traced(net)
    assert net(images).std() > 0.01
    torch.testing.assert_close(found(images), net(images), rtol=1e-5, atol=1e-5)
    assert left(found) == []


def test_a_convolution_with_a_hook_is_left() -> None:
    net = Net(lambda net, x: F.relu(net.first(x)))
    net.first.register_forward_hook(lambda _module, _args, output: output - 1)
    found, images = traced(net)
    torch.testing.assert_close(found(images), net(images), rtol=1e-5, atol=1e-5)
    assert left(found) == ["first", "relu"]


def test_float64_is_left() -> None:
    net = Net(lambda net, x: F.relu(net.first(x))).double().eval()
    images = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    found = fuse(net, (), images).module
    assert isinstance(found, fx.GraphModule)
    onednn.fuse_convolutions(found, images)
    assert torch.equal(found(images), net(images))
    assert left(found) == ["stem", "first", "relu"]


def test_the_layers_of_the_original_stay_as_they_are() -> None:
    net = Net(lambda net, x: F.relu(net.first(x)))
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in net.state_dict().items()}
    traced(net)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.stride() == before[name][1]


@pytest.mark.filterwarnings("ignore:Pytorch's nearest neighbor interpolation:UserWarning")
def test_an_imported_model_gives_the_same(data: Path) -> None:
    model = load(data / "keras224/keras224_func.h5", preprocessing="unit", device="cpu")
    example = torch.rand(2, *model.input, generator=torch.Generator().manual_seed(0))
    found = fuse(model.module, (), example).module
    onednn.fuse_convolutions(found.trunk, example)  # type: ignore[arg-type]
    fused = [part for part in found.modules() if isinstance(part, onednn.FusedConvolution)]
    with torch.inference_mode():
        wanted = model.logits(example)
        torch.testing.assert_close(found.logits(example), wanted, rtol=1e-4, atol=1e-5)  # type: ignore[operator]
    assert wanted.std() > 0
    assert len(fused) >= 5
    assert any(part._activation != onednn._NONE for part in fused)
