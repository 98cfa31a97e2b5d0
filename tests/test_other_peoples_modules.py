"""Modules as people write them: what they do on the side is respected, and nothing of theirs is changed."""

import gc
import threading
import time
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from torchcam_suite import Model, explain, load
from torchcam_suite.cam.fast_forward import _copies

pytestmark = pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")

IMAGES = torch.rand(2, 1, 10, 10, generator=torch.Generator().manual_seed(0))


def small(*between: nn.Module, conv: nn.Module | None = None) -> nn.Sequential:
    """Enough channels that a fast copy is made."""
    torch.manual_seed(0)
    return nn.Sequential(
        conv or nn.Conv2d(1, 64, 3), *between, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 3)
    )


def opened(net: nn.Module) -> Model:
    return load(net, input_size=(1, 10, 10), preprocessing="unit", device="cpu")


class Merging(nn.Conv2d):
    """Merges a second weight when it is put into eval mode, as LoRA layers do."""

    def __init__(self) -> None:
        super().__init__(1, 64, 3)
        self.merged = False

    def train(self, mode: bool = True) -> Any:
        if not mode and not self.merged:
            self.weight.data += 1
            self.merged = True
        return super().train(mode)


def test_weights_that_eval_would_merge_stay_as_they_are() -> None:
    conv = Merging()
    net = small(conv=conv)
    model = opened(net)
    before, merged = conv.weight.detach().clone(), conv.merged
    first, second = (explain(model, IMAGES, method="scorecam", layer="0", target=1) for _ in range(2))
    model.fuse("1")
    assert torch.equal(conv.weight, before)
    assert conv.merged == merged
    torch.testing.assert_close(first.maps, second.maps)
    assert first.maps.std() > 0


def test_a_model_in_training_is_fused_and_stays_as_it_is() -> None:
    net = small(nn.BatchNorm2d(64))
    model = opened(net)
    expected = model.logits(IMAGES).detach()
    before = net.get_buffer("1.running_mean").clone()
    net.train()
    fused = model.fuse("2")
    assert net.training
    assert torch.equal(net.get_buffer("1.running_mean"), before)
    torch.testing.assert_close(fused.logits(IMAGES), expected)


class Gated(nn.Module):
    """Lets a second thread in while the first is half-way."""

    def __init__(self) -> None:
        super().__init__()
        self.first_is_in = threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        if not self.first_is_in.is_set():
            self.first_is_in.set()
            time.sleep(0.5)
        return x


def test_two_threads_get_the_maps_of_their_own_images() -> None:
    gate = Gated()
    gate.first_is_in.set()
    model = opened(small(gate))
    expected = [explain(model, image[None], method="eigencam", layer="2").raw for image in IMAGES]
    gate.first_is_in.clear()
    found: dict[int, Tensor] = {}

    def work(number: int) -> None:
        found[number] = explain(model, IMAGES[number : number + 1], method="eigencam", layer="2").raw

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    threads[0].start()
    assert gate.first_is_in.wait(30)
    threads[1].start()
    [thread.join(30) for thread in threads]
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected[0].abs().max()
    for number in range(2):
        torch.testing.assert_close(found[number], expected[number])


class Named(nn.Module):
    """Calls its last layer `logits`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.logits = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.conv(images).relu().mean(dim=(2, 3)))


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_a_layer_may_be_called_logits(method: str) -> None:
    model = opened(Named())
    torch.testing.assert_close(model.logits(IMAGES), model.module(IMAGES))
    assert explain(model, IMAGES, method=method, layer="conv", target=1).raw.std() > 0


def with_hook(seen: list[int]) -> nn.Sequential:
    """A net with a hook that refers to it."""
    net = small()
    net[1].register_forward_hook(lambda _module, _args, output: seen.append(len(output) * len(net)))
    return net


def test_hooks_of_the_user_see_each_pass_and_keep_nothing_alive() -> None:
    seen: list[int] = []
    net = with_hook(seen)
    model = opened(net)
    seen.clear()
    found = explain(model, IMAGES, method="scorecam", layer="0", target=1)
    assert sum(seen) == (2 + 128 - found.details["channels_skipped"]) * len(net)
    gone = weakref.ref(net)
    del net, model
    gc.collect()
    assert gone() is None


def test_of_changed_weights_no_copy_is_kept() -> None:
    net = small()
    model = opened(net)
    for precision in ("float32", "bf16"):
        explain(model, IMAGES, method="scorecam", layer="0", target=1, precision=precision)
    assert len(_copies[net]) == 2
    with torch.no_grad():
        net.get_parameter("0.weight").mul_(2)
    explain(model, IMAGES, method="scorecam", layer="0", target=1)
    assert len(_copies[net]) == 1


@pytest.mark.parametrize("parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrized_convolution_has_a_fast_copy(parametrize: Any) -> None:
    net = small(conv=parametrize(nn.Conv2d(1, 64, 3)))
    model = opened(net)
    explain(model, IMAGES, method="scorecam", layer="0", target=1)
    (copy,) = _copies[net].values()
    assert copy.net is not None


class Cosine(nn.Module):
    """Reads the weight of a parametrized layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 8, 3), nn.ReLU()
        self.head = parametrizations.weight_norm(nn.Linear(8, 3, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv(images)).mean(dim=(2, 3))
        return nn.functional.linear(features, nn.functional.normalize(self.head.weight))


def test_a_layer_that_is_called_without_arguments_can_be_fused() -> None:
    model = opened(Cosine())
    torch.testing.assert_close(model.fuse("relu").logits(IMAGES), model.logits(IMAGES))


def test_cam_works_inside_autocast() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    model = opened(net)
    exact = explain(model, IMAGES, method="cam", layer="1", target=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = explain(model, IMAGES, method="cam", layer="1", target=1)
    assert (found.raw - exact.raw).abs().max() < 0.05 * exact.raw.abs().max()


def test_a_flattened_map_is_no_grid_of_tokens() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 66, 3), nn.Flatten(2), nn.BatchNorm1d(66), nn.Flatten(), nn.Linear(66 * 64, 3))
    assert opened(net).default_layer == "0"
