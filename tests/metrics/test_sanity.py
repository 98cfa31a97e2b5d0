"""The sanity check: weights become random from the head down, in a copy, and maps that do not mind are found out."""

import copy
from collections.abc import Callable

import pytest
import torch
from linear import convolutional, seeded
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from torchcam_suite import explain, load
from torchcam_suite.metrics.random_weights import randomised
from torchcam_suite.metrics.sanity import randomisation

HEAD_DOWN = ["6.weight", "3.weight", "1.weight", "0.weight"]


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not tensor.equal(after[name])}


def test_weights_become_random_from_the_head_down() -> None:
    model = convolutional()
    before, layers, seen = copy.deepcopy(model.module.state_dict()), [], []
    for stage in randomised(model, stages=4):
        layers.append(stage.layer.rpartition(".")[0])
        seen.append(changed(before, stage.model.module.state_dict()))
    assert layers == ["6", "3", "1", "0"]
    assert [{name.split(".")[0] for name in names} for names in seen] == [
        {"6"},
        {"6", "3"},
        {"6", "3", "1"},
        {"6", "3", "1", "0"},
    ]


def test_the_model_stays_as_it_is() -> None:
    model = convolutional()
    model.module.train()
    before = copy.deepcopy(model.module.state_dict())
    images = seeded(2, 3, 12, 12)
    randomisation(model, images, layer="4", stages=2)
    assert not changed(before, model.module.state_dict())
    assert all(part.training for part in model.module.modules())
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert not any(part._forward_hooks for part in model.module.modules())


class Keeping(nn.Module):
    """Keeps the features of its last run, and so their graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.features: Tensor | None = None
        self.pooled: dict[str, list[Tensor]] = {}

    def forward(self, images: Tensor) -> Tensor:
        self.features = self.conv(images).relu() * 2
        self.pooled["mean"] = [self.features.mean(dim=(2, 3))]
        return self.dense(self.pooled["mean"][0])


def test_a_module_that_keeps_what_it_computed_is_copied() -> None:
    model = load(Keeping(), input_size=(3, 12, 12), preprocessing="unit", device="cpu", head="none")
    images = seeded(2, 3, 12, 12).float()
    made = randomisation(model, images, layer="conv", target=1, stages=1)
    model.module(images)
    kept = model.module.features
    assert isinstance(kept, Tensor)
    assert kept.grad_fn is not None
    assert randomisation(model, images, layer="conv", target=1, stages=1).rank_correlation.equal(made.rank_correlation)
    assert model.module.get_parameter("conv.weight").requires_grad


def test_shuffling_keeps_the_values_of_each_weight() -> None:
    model = convolutional()
    (stage,) = randomised(model, stages=1)
    before, after = model.module.state_dict(), stage.model.module.state_dict()
    assert changed(before, after) == {
        name for name, tensor in before.items() if tensor.numel() > 1 and tensor.unique().numel() > 1
    }
    for name, tensor in before.items():
        assert after[name].flatten().sort().values.equal(tensor.flatten().sort().values)


def test_resetting_is_what_the_modules_do_on_construction() -> None:
    model = convolutional()
    state = torch.get_rng_state()
    (stage,) = randomised(model, how="reset", stages=1)
    assert torch.get_rng_state().equal(state)
    after = stage.model.module.state_dict()
    assert after["1.running_mean"].eq(0).all()
    assert after["1.running_var"].eq(1).all()
    bound = 1 / (8 * 12 * 12) ** 0.5
    assert float(after["6.weight"].abs().max()) <= bound < float(model.module.state_dict()["6.weight"].abs().max())


@pytest.mark.parametrize("how", ["permute", "reset"])
def test_the_seed_fixes_the_weights(how: str) -> None:
    model = convolutional()
    first, same, other = (
        next(iter(randomised(model, how=how, stages=1, seed=seed))).model.module.state_dict()  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    )
    assert not changed(first, same)
    assert changed(first, other)


class Rooted(nn.Module):
    """A network that holds a weight itself, and calls its modules in another order than it registers them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.register_buffer("offset", torch.rand(4))
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        assert self.head.weight.dtype == self.scale.dtype
        features = self.conv(images * self.scale).relu().mean(dim=(2, 3))
        return self.head(features + self.offset)


def test_the_order_is_that_in_which_weights_are_used() -> None:
    model = load(Rooted(), input_size=(3, 8, 8), preprocessing="unit", device="cpu")
    layers = [stage.layer for stage in randomised(model, stages=4)]
    assert layers == ["head.bias", "offset", "conv.bias", "scale"]


def test_a_transformer_begins_at_its_head_and_ends_at_its_patches() -> None:
    net = VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
    )
    model = load(net, input_size=16, preprocessing="unit", device="cpu")
    layers = [stage.layer for stage in randomised(model, stages=100)]
    assert layers[0].startswith("heads.head")
    assert layers[-1].startswith("conv_proj")
    first, second = (next(i for i, name in enumerate(layers) if f"layer_{block}" in name) for block in (0, 1))
    assert second < first
    names = {name for name, tensor in net.state_dict().items() if tensor.numel() > 1}
    *_, last = randomised(model, stages=1)
    left = names - changed(net.state_dict(), last.model.module.state_dict())
    # those whose values are all equal are the same in any order
    assert all(net.state_dict()[name].unique().numel() == 1 for name in left)


def test_stages_are_equal_numbers_of_layers() -> None:
    model = convolutional()
    assert [stage.layer.split(".")[0] for stage in randomised(model, stages=2)] == ["3", "0"]
    assert [stage.layer.split(".")[0] for stage in randomised(model, stages=3)] == ["6", "1", "0"]
    assert len(list(randomised(model, stages=50))) == 4


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), {"stages": 0}, "stages=0; expected at least 1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), {"how": "zero"}, "how='zero'; expected 'permute' or 'reset'"),
        (Rooted(), {"how": "reset"}, "'the root module' is a Rooted, which has no reset_parameters"),
        (nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), {}, "has no weights, so there is nothing to randomise"),
    ],
    ids=["stages", "how", "reset", "weights"],
)
def test_what_cannot_be_randomised_is_refused(module: nn.Module, options: dict, message: str) -> None:
    model = load(module, input_size=(3, 8, 8), preprocessing="unit", device="cpu")
    with pytest.raises(ValueError, match=message):
        list(randomised(model, **options))


def test_maps_that_do_not_see_the_model_are_found_out() -> None:
    model, images = convolutional(), seeded(4, 3, 12, 12)
    found = randomisation(model, images, "randommap", "4", stages=2)
    assert found.rank_correlation.shape == (4, 2)
    assert found.rank_correlation.flatten().tolist() == pytest.approx([1] * 8)
    assert found.structural_similarity.flatten().tolist() == pytest.approx([1] * 8)


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")  # of the random model
def test_grad_cam_changes_with_the_weights_and_the_figures_are_those_of_the_last_stage() -> None:
    model, images = convolutional(), seeded(4, 3, 12, 12)
    found = randomisation(model, images, layer="4", stages=4)
    assert [layer.split(".")[0] for layer in found.layers] == ["6", "3", "1", "0"]
    assert float(found.rank_correlation.abs().mean()) < 0.6
    correlation, similarity = found.figures
    assert correlation.name == "rank_correlation[random weights,permute]"
    assert similarity.name == "structural_similarity[random weights,permute]"
    assert correlation.better == similarity.better == "zero"
    assert correlation.values.equal(found.rank_correlation[:, -1])
    assert similarity.values.equal(found.structural_similarity[:, -1])
    # one stage ends at the same weights
    at_once = randomisation(model, images, layer="4", stages=1).rank_correlation[:, -1]
    torch.testing.assert_close(at_once, correlation.values)
    # the same by hand
    target = model.logits(images).argmax(dim=1).tolist()
    *_, last = randomised(model, stages=4)
    maps = [explain(one, images, layer="4", target=target).maps.flatten(1) for one in (model, last.model)]
    assert target != last.model.logits(images).argmax(dim=1).tolist()
    expected = [by_ranks(*(part[i].tolist() for part in maps)) for i in range(4)]
    assert correlation.values.tolist() == pytest.approx(expected)


def by_ranks(first: list[float], second: list[float]) -> float:
    """Spearman's correlation by definition, 0 where a map is constant."""
    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    ranks = [[sum(y < x for y in values) + (values.count(x) - 1) / 2 for x in values] for values in (first, second)]
    return float(torch.corrcoef(torch.tensor(ranks, dtype=torch.float64))[0, 1])


def test_a_map_without_evidence_has_no_correlation() -> None:
    model, images = convolutional(), seeded(2, 3, 12, 12)
    with torch.no_grad():
        model.module[3].bias.fill_(-1e3)
    with pytest.warns(UserWarning, match="zero everywhere"):
        assert explain(model, images, layer="4").flags[0]
    found = randomisation(model, images, layer="4", stages=1)
    assert found.rank_correlation.tolist() == [[0], [0]]


def test_progress_counts_the_stages() -> None:
    seen: list[tuple[int, int]] = []
    report: Callable[[int, int], None] = lambda *both: seen.append(both)  # noqa: E731
    randomisation(convolutional(), seeded(1, 3, 12, 12), layer="4", stages=3, progress=report)
    assert seen == [(1, 3), (2, 3), (3, 3)]
