"""The guided rule holds for every kind of ReLU, for one pass, and as Captum has it."""

import threading
from collections.abc import Callable

import pytest
import torch
from captum.attr import GuidedBackprop, GuidedGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from torchcam_suite import explain, load
from torchcam_suite.cam.guided_relu import GuidedReLU
from torchcam_suite.errors import GradientError, LayerError

captum_warns = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 4)
    ).eval()


def require_same(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 1e-3 * expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


# ---------------------------------------------------------------- Captum


@captum_warns
def test_guided_backprop_is_captums() -> None:
    net, images, target = classifier(), pictures(3, 3, 12, 12), torch.tensor([2, 0, 2])
    model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    found = explain(model, images, method="guidedbackprop", target=target)
    expected = GuidedBackprop(net).attribute(images.clone().requires_grad_(), target)
    assert found.layer == "input"
    require_same(found.raw, expected.detach().abs().amax(dim=1))


@captum_warns
def test_guided_grad_cam_is_captums_with_bilinear_interpolation() -> None:
    net, images, target = classifier(), pictures(3, 3, 12, 12), torch.tensor([2, 0, 2])
    model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    found = explain(model, images, method="guidedgradcam", layer="2", target=target)
    expected = GuidedGradCam(net, net[2]).attribute(
        images.clone().requires_grad_(), target, interpolate_mode="bilinear"
    )
    require_same(found.raw, expected.detach().abs().amax(dim=1))


def test_the_layers_of_a_list_share_the_guided_pass() -> None:
    net, passes = classifier(), []
    model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    images = pictures(2, 3, 12, 12)
    with net.register_forward_pre_hook(lambda *_: passes.append(1)):
        found = explain(model, images, method="guidedgradcam", layer=["0", "2"], target=2)
    assert len(passes) == 2
    for layer in ("0", "2"):
        require_same(found[layer].raw, explain(model, images, method="guidedgradcam", layer=layer, target=2).raw)


# ---------------------------------------------------------------- every kind of ReLU

RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(0),
    "torch.clamp": lambda x: torch.clamp(x, min=0.0),
    "torch.clip": lambda x: torch.clip(x, 0),
    "clamp_min": lambda x: x.clamp_min(0),
}


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_of_any_kind_is_guided(name: str) -> None:
    x = torch.tensor([1.0, 2.0, -3.0, 4.0], requires_grad=True)
    with GuidedReLU() as guided:
        y = RELUS[name](x * 1)
    weights = torch.tensor([5.0, -5.0, 5.0, 3.0])
    assert guided.count == 1
    assert y.tolist() == [1.0, 2.0, 0.0, 4.0]
    assert torch.autograd.grad(y @ weights, x)[0].tolist() == [5.0, 0.0, 0.0, 3.0]


def test_a_saturated_relu6_passes_nothing() -> None:
    x = torch.tensor([7.0, 5.0], requires_grad=True)
    with GuidedReLU():
        y = F.relu6(x)
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "other",
    [
        torch.tanh,
        F.leaky_relu,
        lambda x: x.clamp(0, 1),
        lambda x: x.clamp(min=-1),
        lambda x: F.hardtanh(x, -1, 1),
        lambda x: x.clamp(min=torch.zeros(())),
    ],
)
def test_what_is_no_relu_keeps_its_gradient(other: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([0.2, 0.5], requires_grad=True)
    with GuidedReLU() as guided:
        y = other(x * 1)
    assert guided.count == 0
    assert (torch.autograd.grad(-y.sum(), x)[0] < 0).all()


@pytest.mark.parametrize("after", ["add", "scale"])
def test_an_in_place_operation_after_an_in_place_relu_is_outside_of_it(after: str) -> None:
    x = torch.tensor([1.0, 2.0, -1.0], requires_grad=True)
    with GuidedReLU():
        y = (x * 1).clamp_(min=0)  # after relu_ itself, torch allows none
        if after == "add":
            y += x  # the sum passes its gradient on to both
        else:
            y *= torch.tensor([-1.0, 1.0, 1.0])
    (found,) = torch.autograd.grad(y @ torch.tensor([-3.0, 3.0, 3.0]), x)
    # above the ReLU the gradient is (-3, 3, 3) for the sum, and (3, 3, 3) where the sign is changed
    assert found.tolist() == ([-3.0, 6.0, 3.0] if after == "add" else [3.0, 3.0, 0.0])


def test_a_relu_of_constants_is_left_alone() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with GuidedReLU() as guided:
        y = x * torch.relu(torch.tensor([-1.0, 2.0]))
    assert guided.count == 1
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 2.0]


# ---------------------------------------------------------------- nothing is left behind


def plain_gradient(net: nn.Module, images: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    return torch.autograd.grad(net(images)[:, 1].sum(), images)[0]


def test_after_the_pass_and_after_an_error_gradients_are_plain() -> None:
    net, images = classifier(), pictures(2, 3, 12, 12)
    model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    before = plain_gradient(net, images)
    guided = explain(model, images, method="guidedbackprop", target=1)
    assert torch.equal(plain_gradient(net, images), before)
    assert (guided.raw - before.abs().amax(dim=1)).abs().max() > 1e-3

    def fail(_logits: Tensor) -> Tensor:
        raise RuntimeError("in the target")

    with pytest.raises(RuntimeError, match="in the target"):
        explain(model, images, method="guidedbackprop", target=fail)
    with pytest.raises(RuntimeError), GuidedReLU():
        net(images[:, :1])
    assert torch.equal(plain_gradient(net, images), before)


def test_another_thread_sees_nothing_of_it() -> None:
    net, images = classifier(), pictures(2, 3, 12, 12)
    before, found = plain_gradient(net, images), []
    with GuidedReLU():
        thread = threading.Thread(target=lambda: found.append(plain_gradient(net, images)))
        thread.start()
        thread.join()
        inside = plain_gradient(net, images)
    assert torch.equal(found[0], before)
    assert not torch.equal(inside, before)


def test_in_place_and_ordinary_relus_give_one_map() -> None:
    images = pictures(2, 3, 12, 12)
    maps = []
    for inplace in (False, True):
        net = classifier()
        for part in net.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = inplace
        model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
        maps.append(explain(model, images, method="guidedgradcam", layer="0", target=1).raw)
    require_same(maps[0], maps[1])


@pytest.mark.parametrize(("method", "layer"), [("guidedbackprop", None), ("guidedgradcam", "0")])
def test_a_model_without_a_relu_is_refused(method: str, layer: str | None) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 2))
    model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    with pytest.raises(
        LayerError, match=f"{method} changes the gradient of ReLUs, but this model calls none that can be"
    ):
        explain(model, pictures(1, 3, 12, 12), method=method, layer=layer)


class Scaled(nn.Module):
    """A net whose only ReLU makes a weight, as the positions of Swin V2 are made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense, self.scale = nn.Conv2d(3, 4, 3), nn.Linear(400, 2), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.dense((self.conv(images) * self.scale.relu()).sigmoid().flatten(1))


def test_a_relu_that_sees_nothing_of_the_input_guides_nothing() -> None:
    model = load(Scaled(), input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    with pytest.raises(LayerError, match="none that can be seen between its input and the score, so that nothing"):
        explain(model, pictures(1, 3, 12, 12), method="guidedbackprop")


def test_a_model_without_a_graph_is_told_so_and_not_that_it_lacks_relus() -> None:
    class Detached(nn.Sequential):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)

    net = Detached(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    model = load(net, input_size=(3, 12, 12), preprocessing="unit", device="cpu")
    with pytest.raises(GradientError, match="the score carries no graph"):
        explain(model, pictures(1, 3, 12, 12), method="guidedbackprop")
