"""Every method on every kind of model: finite maps, the same for an image alone, and nothing left behind."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any

import pytest
import torch
import torchvision
from token_cases import TokenCase, swin, vit
from torch import Tensor, nn

from torchcam_suite import Explanation, Model, explain, load
from torchcam_suite.cam import METHODS
from torchcam_suite.errors import LayerError

# random networks have classes without evidence, which is not what these tests are about
pytestmark = pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")

# so that the methods of many passes take few
CHEAP = {"samples": 2, "masks": 24, "grid": 4, "groups": 4}


def explained(model: Model, images: Tensor, name: str, layer: str, target: Any = None, **others: Any) -> Explanation:
    """Explain by a method, with those of the cheap and of the other options that it has."""
    method = METHODS[name]
    options = {option: value for option, value in (CHEAP | others).items() if option in method.options}
    layers = {"layer": layer} if method.takes_layer else {}
    return explain(model, images, method=name, target=target, **layers, **options)


def state_of(module: nn.Module) -> dict[str, Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    tensors = list(chain(module.parameters(), module.buffers()))
    return {
        "hooks": sum(len(getattr(part, name)) for part in module.modules() for name in hooks),
        "training": [part.training for part in module.modules()],
        "tensors": [(tensor.data_ptr(), tensor._version, tensor.stride(), tensor.requires_grad) for tensor in tensors],
        "grad": [tensor.grad for tensor in tensors],
        "autograd": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": torch.get_default_dtype(),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
    }


def require_sound(found: Explanation, images: Tensor) -> None:
    assert found.maps.shape == (len(images), *images.shape[2:])
    assert found.maps.dtype == torch.float32
    assert found.raw.isfinite().all()
    assert found.maps.isfinite().all()
    assert found.maps.min() >= 0
    assert found.maps.max() <= 1 + 1e-6
    assert len(found.flags) == len(found) == len(images)
    # a map is flagged if it is zero everywhere, and only then
    assert [bool(flags) for flags in found.flags] == [not bool(one.any()) for one in found.maps]


def largest_difference(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max().clamp(min=1e-12))


# ---------------------------------------------------------------- small nets of every kind


class Small(nn.Module):
    """One in-place ReLU after each of two convolutions, pooling, one dense layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(6, 5, 3, padding=1)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(5, classes)
        nn.init.normal_(self.norm.running_mean, std=0.1)
        nn.init.normal_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.first(images))))
        return self.head(self.dropout(self.gap(self.relu(self.second(x))).flatten(1)))


@dataclass(frozen=True)
class Kind:
    """A kind of model, of head or of caller.

    Attributes
    ----------
    classes : int
        Outputs.
    change : function
        What is done to the net before it is loaded.
    later : function
        What is done to the net after that.
    options : dict
        Of `load`.
    targets : list
        What is explained of the two images.
    caller : function
        Gives the context of the call.
    tolerance : float
        Of an image alone, and of the same net in float64.
    """

    classes: int = 4
    change: Callable[[nn.Module], Any] = lambda net: net
    later: Callable[[nn.Module], Any] = lambda net: net
    options: dict[str, Any] = field(default_factory=dict)
    targets: Any = (2, 1)
    caller: Callable[[], AbstractContextManager[Any]] = nullcontext
    tolerance: float = 1e-3

    def model(self) -> Model:
        net = Small(self.classes)
        self.change(net)
        model = load(net, input_size=(3, 12, 16), device="cpu", **self.options)
        self.later(net)
        return model


def channels_last(net: nn.Module) -> nn.Module:
    return net.to(memory_format=torch.channels_last)


KINDS = {
    "softmax": Kind(),
    "top class": Kind(targets=None),
    "single logit": Kind(classes=1, targets=(0, 1)),
    "multi-label": Kind(options={"head": "sigmoid"}),
    "float64": Kind(change=nn.Module.double, tolerance=1e-9),
    "bf16": Kind(change=nn.Module.bfloat16, tolerance=0.35),
    "channels last": Kind(change=channels_last),
    "frozen": Kind(change=lambda net: net.requires_grad_(False)),
    "training": Kind(later=nn.Module.train),
    "without autograd": Kind(caller=torch.no_grad),
    "in inference mode": Kind(caller=torch.inference_mode),
}
LAYER = "relu#1"


def small_images(dtype: torch.dtype = torch.float32) -> Tensor:
    images = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return images.bfloat16().to(dtype)  # exact in every dtype


@cache
def in_float64(name: str, classes: int, head: str | None, targets: tuple[int, ...] | None) -> Explanation:
    kind = Kind(classes, change=nn.Module.double, options={"head": head})
    return explained(kind.model(), small_images(torch.float64), name, LAYER, targets and list(targets))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_each_method_on_each_kind_of_model(name: str, kind: str) -> None:
    chosen = KINDS[kind]
    model, images, targets = chosen.model(), small_images(), chosen.targets and list(chosen.targets)
    with chosen.caller():
        before = state_of(model.module)
        found = explained(model, images, name, LAYER, targets)
        assert state_of(model.module) == before
    require_sound(found, images)
    expected = in_float64(name, chosen.classes, chosen.options.get("head"), chosen.targets)
    assert found.targets == expected.targets
    if name == "randommap":
        return  # each picture draws its own, and the same one in another dtype is another picture
    assert largest_difference(found.maps, expected.maps) < chosen.tolerance


@pytest.mark.parametrize("kind", ["softmax", "single logit", "multi-label", "float64", "bf16", "channels last"])
@pytest.mark.parametrize("name", METHODS)
def test_an_image_alone_has_the_same_map(name: str, kind: str) -> None:
    chosen = KINDS[kind]
    model, images = chosen.model(), small_images()
    together = explained(model, images, name, LAYER, chosen.targets and list(chosen.targets))
    for i in range(2):
        alone = explained(model, images[i : i + 1], name, LAYER, together.targets[i])
        assert largest_difference(alone.maps[0], together.maps[i]) < chosen.tolerance


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: maps on one are not compared with the CPU's")
@pytest.mark.parametrize("name", METHODS)
def test_a_cuda_device_gives_the_maps_of_the_cpu(name: str) -> None:
    model, images = Kind().model(), small_images()
    expected = explained(model, images, name, LAYER, [2, 1])
    model.to("cuda")
    before = state_of(model.module)
    found = explained(model, images, name, LAYER, [2, 1])
    assert state_of(model.module) == before
    assert found.maps.device.type == "cuda"
    assert largest_difference(found.maps.cpu(), expected.maps) < 1e-3


def test_the_checks_above_would_notice_what_is_left_behind() -> None:
    model = Kind().model()
    before = state_of(model.module)
    for spoil in (
        lambda net: net.head.register_forward_hook(lambda *_: None),
        lambda net: net.dropout.train(),
        lambda net: net.head.weight.requires_grad_(False),
        lambda net: net.norm.running_mean.add_(1),
        lambda net: setattr(net.head.bias, "grad", torch.zeros(4)),
    ):
        spoil(model.module)
        after = state_of(model.module)
        assert after != before
        before = after


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", [vit, swin], ids=["vit", "swin"])
@pytest.mark.parametrize("name", METHODS)
def test_each_method_on_tokens(name: str, make: Callable[[], TokenCase], dtype: torch.dtype) -> None:
    case = make()
    if name == "cam" or "guided_gradient" in METHODS[name].takes:
        pytest.skip("a transformer has neither the head of CAM nor ReLUs")
    expected = explained(case.model, case.images, name, case.layer, case.classes, relu="after")
    module = case.model.module.to(dtype).train()
    before = state_of(module)
    found = explained(case.model, case.images, name, case.layer, case.classes, relu="after")
    assert state_of(module) == before
    require_sound(found, case.images)
    assert found.raw.std() > 0
    if dtype is torch.float32 and name != "randommap":
        assert largest_difference(found.raw, expected.raw) < 1e-3


# ---------------------------------------------------------------- torchvision


@dataclass(frozen=True)
class Net:
    """A net of torchvision.

    Attributes
    ----------
    narrow : str
        A layer of few channels, for methods of one pass a channel.
    pooled : bool
        Whether pooling and one dense layer follow the last feature maps, as CAM needs.
    relu : bool
        Whether it has ReLUs, as guided methods need.
    """

    narrow: str
    pooled: bool = False
    relu: bool = True


NETS = {
    "resnet18": Net("layer1", pooled=True),
    "vgg11": Net("features.2"),
    "mobilenet_v2": Net("features.2", pooled=True),
    "densenet121": Net("features.denseblock1.denselayer1"),
    "convnext_tiny": Net("features.0", relu=False),
    "efficientnet_b0": Net("features.1", pooled=True, relu=False),
}


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> tuple[Net, Model]:
    """Each in turn, its BatchNorm statistics set by a batch, so that it tells images apart."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(request.param, weights=None, num_classes=5)
    if request.param == "vgg11":
        module.classifier = nn.Linear(512 * 7 * 7, 5)  # its own has 120 million weights
    with torch.no_grad():
        module(torch.rand(4, 3, 36, 36))
    return NETS[request.param], load(module, input_size=36, device="cpu")


@pytest.mark.parametrize("name", METHODS)
def test_each_method_on_nets_of_torchvision(name: str, net: tuple[Net, Model]) -> None:
    about, model = net
    method = METHODS[name]
    images = torch.rand(2, 3, 36, 36, generator=torch.Generator().manual_seed(3))
    by_channel = method.cost == "many forwards" and name != "reciprocam"
    layer = about.narrow if by_channel else model.default_layer
    suits = (about.pooled or name != "cam") and (about.relu or "guided_gradient" not in method.takes)
    before = state_of(model.module)
    if suits:
        found = explained(model, images, name, layer, [4, 2], relu="after", samples=1)
        require_sound(found, images)
        # Group-CAM drops groups that lower the score, which may be all of them
        assert found.raw.std() > 0 or name == "groupcam"
    else:
        with pytest.raises(LayerError, match=r"needs|ReLU"):
            explained(model, images, name, layer, [4, 2])
    assert state_of(model.module) == before
