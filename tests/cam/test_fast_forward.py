"""The fast forward pass gives the model's own logits, leaves the model alone, and follows its changes."""

import copy
import gc
import shutil
import sysconfig
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converters import onednn
from torchcam_suite import Model, explain, load
from torchcam_suite.cam import fast_forward as fast
from torchcam_suite.errors import UnsupportedModelError

SIZE = (3, 20, 18)
HEADER = Path(sysconfig.get_path("include")) / "Python.h"
# torch 2.11 imports a module of its own that it calls deprecated
ABOUT_ITSELF = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Net(nn.Module):
    """A stem, a residual block with in-place ReLUs, and a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu, self.pool, self.head = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Linear(8, 4)
        self.middle: Callable[[Tensor], Tensor] = lambda x: x

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.stem(images))
        x = self.middle(self.relu(self.norm(self.conv(x)) + x))
        return self.head(x.mean((2, 3)))


class Branching(Net):
    """torch.fx cannot follow what depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.sum() > -1e9 else images


class Random(Net):
    """Never the same twice."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 + 0.1 * torch.rand(()))


def model_of(kind: type[Net] = Net, head: str = "softmax") -> Model:
    torch.manual_seed(5)
    net = kind()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
    with torch.no_grad():
        net.head.weight.mul_(20)
    return load(net, input_size=SIZE, head=head, device="cpu")


def images(count: int = 2) -> Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(1))


def maps(model: Model, **options: Any) -> Tensor:
    found = explain(model, images(), method="scorecam", layer="relu", target=[1, 2], **{"variant": "logit"} | options)
    return found.raw


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say from how many passes on a copy is made."""
    return lambda passes: monkeypatch.setattr(fast, "_WORTH_PASSES", passes)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, worth: Callable[[int], None]) -> list[str]:
    """Which copies were made, where every pass is worth one."""
    worth(1)
    names: list[str] = []
    for name in ("_fused", "_unfused"):
        plain = getattr(fast, name)

        def make(*args: Any, name: str = name, plain: Callable[..., nn.Module] = plain) -> nn.Module:
            names.append(name)
            return plain(*args)

        make.__name__ = name
        monkeypatch.setattr(fast, name, make)
    return names


def plain_maps(model: Model, worth: Callable[[int], None], **options: Any) -> Tensor:
    worth(10**9)
    found = maps(Model(**{**vars_of(model), "module": copy.deepcopy(model.module)}), **options)
    worth(1)
    return found


def vars_of(model: Model) -> dict[str, Any]:
    names = ("input", "preprocessing", "layers", "head", "name", "class_names", "source")
    return {name: getattr(model, name) for name in names}


def require_same(found: Tensor, expected: Tensor, allowed: float = 1e-5) -> None:
    largest = expected.abs().max()
    assert expected.std() > 0.01 * largest
    assert (found - expected).abs().max() <= allowed * largest


@pytest.mark.parametrize("variant", ["official", "paper", "logit", "keep-learning"])
def test_maps_are_those_of_the_plain_model_to_rounding(
    variant: str, made: list[str], worth: Callable[[int], None]
) -> None:
    model = model_of()
    expected = plain_maps(model, worth, variant=variant)
    require_same(maps(model, variant=variant), expected)
    assert made == ["_fused"]


@pytest.mark.filterwarnings("ignore:Pytorch's nearest neighbor interpolation:UserWarning")
def test_maps_of_an_imported_model_are_those_of_the_plain_one(
    data: Path, made: list[str], worth: Callable[[int], None]
) -> None:
    model = load(data / "keras224/keras224_func.h5", preprocessing="unit", device="cpu")
    batch = torch.rand(1, *model.input, generator=torch.Generator().manual_seed(7))
    found = [explain(model, batch, method="scorecam", layer="relu6", target=1).raw]
    worth(10**9)
    fast._copies.clear()
    found.append(explain(model, batch, method="scorecam", layer="relu6", target=1).raw)
    require_same(*found)
    assert made == ["_fused"]


def test_the_fast_pass_is_another_one() -> None:
    model = model_of()
    logits = model.logits(images()).detach()
    forward = fast.fast_forward(model, images(), logits, passes=1000, precision="float32")
    ((_, kept),) = fast._copies[model.module].items()
    assert kept.net is not None
    kinds = {type(part) for part in kept.net.modules()}
    assert nn.BatchNorm2d not in kinds
    assert (onednn.FusedConvolution in kinds) is onednn.is_available()
    torch.testing.assert_close(forward(images(5)), model.logits(images(5)).detach(), rtol=1e-5, atol=1e-5)


def test_weights_of_a_copy_are_channels_last_and_those_of_the_model_are_not() -> None:
    model = model_of()
    before = {name: (each.clone(), each.stride()) for name, each in model.module.state_dict().items()}
    logits = model.logits(images()).detach()
    fast.fast_forward(model, images(), logits, passes=1000, precision="bf16")
    ((_, kept),) = fast._copies[model.module].items()
    assert kept.net is not None
    convs = [part.weight for part in kept.net.modules() if isinstance(part, nn.Conv2d)]
    assert len(convs) == 2
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convs)
    for name, each in model.module.state_dict().items():
        assert torch.equal(each, before[name][0])
        assert each.stride() == before[name][1]
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_few_passes_make_no_copy(worth: Callable[[int], None]) -> None:
    model = model_of()
    worth(17)  # 2 images of 8 channels
    maps(model)
    assert not fast._copies.get(model.module)
    worth(16 - int(explain(model, images(), method="scorecam", layer="relu").details["channels_skipped"]))
    maps(model)
    assert len(fast._copies[model.module]) == 1


def test_a_copy_is_made_once(made: list[str]) -> None:
    model = model_of()
    first, second = maps(model), maps(model)
    assert torch.equal(first, second)
    assert made == ["_fused"]


def change_in_place(net: Any) -> None:
    with torch.no_grad():
        net.conv.weight.mul_(1.00001)


def change_a_statistic(net: Any) -> None:
    net.norm.running_mean.add_(0.5)


def change_unseen(net: Any) -> None:
    net.conv.weight.data.mul_(1.5)  # `.data` counts no version


def change_the_head(net: Any) -> None:
    net.head = nn.Linear(8, 4)


def change_what_is_computed(net: Any) -> None:
    net.middle = torch.tanh


@pytest.mark.parametrize(
    "change", [change_in_place, change_a_statistic, change_unseen, change_the_head, change_what_is_computed]
)
def test_a_changed_model_gets_a_new_copy(
    change: Callable[[Any], None], made: list[str], worth: Callable[[int], None]
) -> None:
    model = model_of()
    maps(model)
    change(model.module)
    expected = plain_maps(model, worth)
    require_same(maps(model), expected)
    assert made == ["_fused", "_fused"]


def test_what_cannot_be_traced_is_copied_unfused(made: list[str], worth: Callable[[int], None]) -> None:
    model = model_of(Branching)
    expected = plain_maps(model, worth)
    require_same(maps(model), expected)
    assert made == ["_fused", "_unfused"]


def test_a_model_that_no_copy_reproduces_is_run_itself(made: list[str]) -> None:
    model = model_of(Random)
    assert maps(model).isfinite().all()
    ((_, kept),) = fast._copies[model.module].items()
    assert kept.net is None
    maps(model)
    assert made == ["_fused", "_unfused"]  # not tried anew for each batch


def test_half_precision_models_are_run_as_they_are(made: list[str]) -> None:
    model = model_of()
    model.module.bfloat16()
    assert maps(model).isfinite().all()
    assert made == []


def test_float64_stays_float64(made: list[str], worth: Callable[[int], None]) -> None:
    model = model_of()
    model.module.double()
    expected = plain_maps(model, worth)
    assert expected.dtype == torch.float64
    require_same(maps(model), expected, 1e-12)
    assert made == ["_fused"]


def test_a_copy_lives_no_longer_than_its_module(made: list[str]) -> None:
    model = model_of()
    maps(model)
    alive = weakref.ref(model.module)
    assert made == ["_fused"]
    del model
    gc.collect()
    assert alive() is None


def test_nothing_is_left_on_the_module(made: list[str]) -> None:
    model = model_of()
    names = [name for name, _ in model.module.named_modules()]
    maps(model)
    assert made
    assert [name for name, _ in model.module.named_modules()] == names
    assert not any(part._forward_hooks for part in model.module.modules())
    assert torch.equal(copy.deepcopy(model)(images()), model(images()))


# ---------------------------------------------------------------- torch.compile


class Calls:
    """A forward pass in the place of a compiled one, which notes the shapes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, forward: Callable[[Tensor], Tensor], _: torch.device) -> Callable[[Tensor], Tensor]:
        def run(inputs: Tensor) -> Tensor:
            self.shapes.append(tuple(inputs.shape))
            return forward(inputs)

        return run


@pytest.mark.parametrize("chunk_size", [3, 5, 64])
def test_compiled_passes_have_one_shape_and_give_the_same_maps(
    chunk_size: int, monkeypatch: pytest.MonkeyPatch, worth: Callable[[int], None]
) -> None:
    model, calls = model_of(), Calls()
    monkeypatch.setattr(fast, "compiled", calls)
    expected = plain_maps(model, worth)
    require_same(maps(model, compile=True, chunk_size=chunk_size), expected)
    assert set(calls.shapes) == {(chunk_size, *SIZE)}
    assert explain(model, images(), method="scorecam", layer="relu", compile=True).options["compile"] is True


@pytest.mark.parametrize("grad", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_torch_compile_runs_whatever_the_grad_mode_is(grad: Callable[[], Any]) -> None:
    forward = fast.compiled(nn.Linear(3, 2), torch.device("cpu"), backend="eager")
    with grad():
        found = forward(torch.ones(4, 3))
    assert found.shape == (4, 2)
    assert not found.requires_grad


@pytest.mark.skipif(shutil.which("g++") is None or not HEADER.exists(), reason="no C++ compiler, or no Python.h")
@ABOUT_ITSELF
def test_compiled_code_gives_the_same_logits() -> None:
    from torch._inductor import config

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 18 * 16, 2)).eval()
    forward = fast.compiled(net, torch.device("cpu"))
    # not monkeypatch, which deletes what it cannot find in __dict__, and torch then takes the setting for removed
    with config.patch(compile_threads=1), torch.inference_mode():
        found, expected = forward(images()), net(images())
    assert expected.std() > 0.01
    torch.testing.assert_close(found.clone(), expected, rtol=1e-5, atol=1e-5)


@ABOUT_ITSELF
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")  # torch 2.8, of the caches that are left out
def test_a_missing_compiler_is_told(worth: Callable[[int], None]) -> None:
    from torch._inductor import config, cpp_builder

    worth(1)
    getattr(cpp_builder.get_cpp_compiler, "cache_clear", lambda: None)()
    with (
        config.patch({"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True}),
        pytest.raises(UnsupportedModelError, match=r"needs a C\+\+ compiler.*install g\+\+ or clang\+\+"),
    ):
        maps(model_of(), compile=True)


def test_an_error_of_the_model_itself_is_not_blamed_on_the_compiler() -> None:
    def fails(_: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(Exception, match="mine") as caught:
        fast.compiled(fails, torch.device("cpu"), backend="eager")(torch.ones(1))
    assert not isinstance(caught.value, UnsupportedModelError)
