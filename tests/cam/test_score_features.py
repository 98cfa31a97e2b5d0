"""Replaced feature maps are scored as if each were run alone, in models of every kind, in chunks of any size."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcam_suite import Model, explain, load
from torchcam_suite.cam.requests import ScoreFeatures
from torchcam_suite.cam.scoring import Scored, score_features
from torchcam_suite.recorder import Recorder, Site


class Net(nn.Module):
    """What the kinds below have in common: `stem` comes first, `conv` is what is replaced, `fc` comes last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.wide = nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(4, 3)

    def pooled(self, x: Tensor) -> Tensor:
        return self.fc(x.mean(dim=(2, 3)))


class Chain(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.conv(self.stem(x)).tanh())


class InPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(self.relu(self.conv(self.stem(x))))


class Skip(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.pooled((x + self.conv(x)).tanh())


class SkipInPlace(Net):
    """The branch of one image is the one that is added to, so that it cannot be broadcast."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x += self.conv(x)
        return self.pooled(x.tanh())


class Concatenation(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.pooled(self.wide(torch.cat([x, self.conv(x)], dim=1)).tanh())


class EarlyView(Net):
    """The batch size is read before the replaced layer."""

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        return self.fc(self.conv(self.stem(x)).tanh().reshape(count, 4, -1).mean(dim=2))


class EarlyCut(Net):
    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        return self.pooled(self.conv(self.stem(x)).tanh()[:count])


class FirstForAll(Net):
    """Where one image is given with several feature maps, the answer has the right shape and is wrong."""

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        found = self.pooled(self.conv(self.stem(x)).tanh())
        return found[:count].expand(len(found), -1)


class Shared(Net):
    """The replaced layer is called three times, and the second call is the one that is replaced."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x)).tanh()
        x = self.conv(x).tanh()
        return self.pooled(x + self.conv(x))


BROADCAST: list[type[Net]] = [Chain, InPlace, Skip, Shared]
PLAIN: list[type[Net]] = [SkipInPlace, Concatenation, EarlyView, EarlyCut, FirstForAll]


def opened(net: type[Net]) -> Model:
    return load(net(), input_size=(3, 6, 5), preprocessing="unit", head="softmax", device="cpu")


def site_of(net: type[Net]) -> Site:
    return Site("conv", 1 if net is Shared else 0)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = seeded(3, 3, 6, 5)
OWNER = torch.tensor([0] * 7 + [2] * 4)  # image 1 is asked for nothing
FEATURES = seeded(len(OWNER), 4, 6, 5, seed=1)


def recorded(model: Model, site: Site) -> Tensor:
    with Recorder(model.module, [site]) as recorder:
        recorder.run(model.logits, IMAGES)
    return recorder.activations[site]


def scored(net: type[Net], score: Any = None, **options: Any) -> Scored:
    model, site = opened(net), site_of(net)

    def second_logit(logits: Tensor, owner: Tensor) -> Tensor:
        return logits[:, 1] + 100 * owner

    request = ScoreFeatures(OWNER, lambda numbers: FEATURES[numbers])
    return score_features(model, site, request, IMAGES, recorded(model, site), score or second_logit, **options)


def one_by_one(net: type[Net]) -> Tensor:
    """Each feature map in a pass of its own, by a hook of our own."""
    model, site = opened(net), site_of(net)
    found = []
    for number, image in enumerate(OWNER):
        calls = iter(range(9))

        def replace(_module: nn.Module, _args: Any, output: Tensor, calls: Any = calls, number: int = number) -> Tensor:
            return FEATURES[number : number + 1].clone() if next(calls) == site.call else output

        handle = model.module.get_submodule("conv").register_forward_hook(replace)
        with torch.no_grad():
            found.append(model.module(IMAGES[image : image + 1])[0, 1] + 100 * image)
        handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize("chunk_size", [1, 3, 100, "auto"])
@pytest.mark.parametrize("net", BROADCAST + PLAIN)
def test_each_is_scored_as_if_alone(net: type[Net], chunk_size: Any) -> None:
    expected = one_by_one(net)
    assert (expected - 100 * OWNER).std() > 0.02
    torch.testing.assert_close(scored(net, chunk_size=chunk_size).scores[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("net", "broadcast"), [(net, True) for net in BROADCAST] + [(net, False) for net in PLAIN])
def test_layers_below_see_one_image_where_the_rest_can_be_broadcast(net: type[Net], broadcast: bool) -> None:
    model, site = opened(net), site_of(net)
    activations = recorded(model, site)
    seen: list[int] = []
    model.module.get_submodule("stem").register_forward_hook(lambda _m, _a, output: seen.append(len(output)))
    request = ScoreFeatures(OWNER, lambda numbers: FEATURES[numbers])
    score_features(model, site, request, IMAGES, activations, lambda logits, _: logits[:, 1], chunk_size=100)
    assert seen[-2:] == ([1, 1] if broadcast else [7, 4])


@pytest.mark.parametrize("net", [InPlace, SkipInPlace])
def test_what_was_recorded_is_not_altered_by_in_place_operations(net: type[Net]) -> None:
    model, site = opened(net), site_of(net)
    activations = recorded(model, site)
    before, features = activations.clone(), FEATURES.clone()
    request = ScoreFeatures(OWNER, lambda numbers: features[numbers.min() : numbers.max() + 1])
    score_features(model, site, request, IMAGES, activations, lambda logits, _: logits[:, 1])
    assert torch.equal(activations, before)
    assert torch.equal(features, FEATURES)


def test_auto_halves_where_memory_runs_out_and_stays_small() -> None:
    sizes: list[int] = []

    def score(logits: Tensor, owner: Tensor) -> Tensor:
        sizes.append(len(owner))
        if len(owner) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return logits[:, 1] + 100 * owner

    found = scored(Chain, score)
    torch.testing.assert_close(found.scores[0], one_by_one(Chain), rtol=0, atol=1e-4)
    assert sizes == [7, 3] + [1] * len(OWNER)
    assert found.chunk_size == 1


@pytest.mark.parametrize(
    ("net", "size", "expected"),
    [(Chain, (6, 5), 64), (Concatenation, (6, 5), 8), (Chain, (1024, 512), 8), (Chain, (512, 256), 32)],
)
def test_auto_takes_larger_chunks_where_the_layers_below_run_for_one_image(
    net: type[Net], size: tuple[int, int], expected: int
) -> None:
    model, site = opened(net), site_of(net)
    maps = torch.zeros(1, 4, *size)
    request = ScoreFeatures(OWNER[:2], lambda numbers: maps.expand(len(numbers), -1, -1, -1))
    images = torch.zeros(1, 3, *size)
    found = score_features(model, site, request, images, maps, lambda logits, _: logits[:, 1])
    assert found.chunk_size == expected
    for first in (2, 100):
        again = score_features(model, site, request, images, maps, lambda logits, _: logits[:, 1], first=first)
        assert again.chunk_size == min(first, expected)


def test_chunks_of_one_image_are_even_and_progress_counts_all_images() -> None:
    seen: list[tuple[int, int]] = []
    sizes: list[int] = []

    def score(logits: Tensor, owner: Tensor) -> Tensor:
        assert len(owner.unique()) == 1
        sizes.append(len(owner))
        return logits[:, 1]

    scored(Chain, score, chunk_size=5, progress=lambda done, total: seen.append((done, total)))
    assert sizes == [4, 3, 4]
    assert seen == [(4, 11), (7, 11), (11, 11)]


def test_nothing_to_score_is_nothing() -> None:
    model, site = opened(Chain), site_of(Chain)
    request = ScoreFeatures(OWNER[:0], lambda numbers: FEATURES[numbers])
    found = score_features(model, site, request, IMAGES, recorded(model, site), lambda logits, _: logits[:, 1])
    assert found.scores[0].shape == (0,)


def test_scores_are_ordinary_tensors_and_no_hook_remains() -> None:
    model, site = opened(Skip), site_of(Skip)
    request = ScoreFeatures(OWNER, lambda numbers: FEATURES[numbers])
    found = score_features(model, site, request, IMAGES, recorded(model, site), lambda logits, _: logits[:, 1])
    assert not found.scores[0].is_inference()
    assert not any(part._forward_hooks for part in model.module.modules())


@pytest.mark.parametrize("net", BROADCAST + PLAIN)
@pytest.mark.parametrize("method", ["ablationcam", "reciprocam"])
def test_layers_and_images_together_give_what_each_gives_alone(net: type[Net], method: str) -> None:
    model = opened(net)
    layers = ["stem", "conv#1" if net is Shared else "conv"]
    targets = [2, 0, 1]
    together = explain(model, IMAGES, method=method, layer=layers, target=targets, relu="after")
    for layer in layers:
        assert together[layer].raw.std() > 0
        for i in range(3):
            alone = explain(model, IMAGES[i], method=method, layer=layer, target=targets[i], relu="after")
            torch.testing.assert_close(together[layer].raw[i], alone.raw[0], rtol=0, atol=1e-4)
