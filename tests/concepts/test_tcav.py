"""`tcav` from pictures to table: known answers, and its options."""

import numpy as np
import pytest
import torch
from asking import IMAGES, RANDOM, RED, SIZE, ask, make, pictures
from torch import Tensor, nn

from torchcam_suite import load
from torchcam_suite.concepts import TcavResult
from torchcam_suite.concepts.probes import PROBES
from torchcam_suite.concepts.testing import interval
from torchcam_suite.errors import TargetError
from torchcam_suite.models import Model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model() -> Model:
    return make(class_names=["a", "b", "c"])


# ---------------------------------------------------------------- known answers


def linear_model(weights: Tensor) -> Model:
    """One logit, the sum of the picture times weights (3, H, W)."""
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(weights.numel(), 2, bias=False))
    with torch.no_grad():
        net[2].weight[:] = torch.stack([-weights.flatten(), weights.flatten()])
    return load(net, input_size=tuple(weights.shape), preprocessing="unit", device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("probe", PROBES)
def test_a_linear_head_with_a_known_direction_gives_exactly_0_or_1(probe: str) -> None:
    redness = torch.zeros(3, SIZE, SIZE)
    redness[0] = 1.0
    result = ask(linear_model(redness), layers="0", probe=probe, target={0: IMAGES, 1: IMAGES}, images=None)
    assert result.row("red", target="1").score == 1.0
    assert result.row("red", target="0").score == 0.0
    assert result.row("red", target="1").mean_sensitivity > 1


def test_a_linear_head_is_decided_by_the_calibrated_test() -> None:
    redness = torch.zeros(3, SIZE, SIZE)
    redness[0] = 1.0
    result = ask(linear_model(redness), layers="0", concepts={"red": RED})
    assert result.row("red").p == pytest.approx(1 / 21)
    assert result.row("red").significant is True


def by_hand(model: Model, result: TcavResult, concept: str, layer: str, run: int, images: Tensor) -> np.ndarray:
    """Directional derivatives by finite differences of the logit along a CAV, in float64."""
    net = model.module
    net.double()
    cav = torch.from_numpy(result.cavs[layer][result.concepts.index(concept), run]).double()
    rest = {
        "relu": lambda maps: net.head(net.act(net.second(maps)).flatten(1)),
        "act": lambda maps: net.head(maps.flatten(1)),
    }
    with torch.no_grad():
        maps = net.relu(net.first(images.double()))
        if layer == "act":
            maps = net.act(net.second(maps))
        step = 1e-6 * cav.reshape(maps.shape[1:])
        derivative = (rest[layer](maps + step) - rest[layer](maps - step))[:, 1] / 2e-6
    net.float()
    return derivative.numpy()


@pytest.mark.parametrize("layer", ["relu", "act"])
def test_sensitivities_are_derivatives_of_the_logit_along_the_cav(model: Model, layer: str) -> None:
    result = ask(model)
    for run in (0, 7):
        expected = by_hand(model, result, "red", layer, run, IMAGES)
        assert np.ptp(expected) > 1e-3 or layer == "act"
        assert result.sensitivities[layer, "red", "1"][run] == pytest.approx(expected.mean(), rel=1e-3, abs=1e-6)
        assert result.scores[layer, "red", "1"][run] == pytest.approx((expected > 0).mean())


def test_turning_the_gradient_round_gives_one_less_the_score(model: Model) -> None:
    def negative(logits: Tensor) -> Tensor:
        return -logits[:, 1]

    plain, turned = ask(model, layers="relu"), ask(model, layers="relu", target=negative)
    row, other = plain.row("red"), turned.row("red")
    assert 0 <= row.score <= 1
    assert other.score == pytest.approx(1 - row.score)
    assert other.mean_sensitivity == pytest.approx(-row.mean_sensitivity)
    assert other.p == row.p


def test_a_binary_head_explains_class_0_by_the_negative_logit() -> None:
    result = ask(make(classes=1), target={0: IMAGES, 1: IMAGES}, images=None, layers="relu")
    assert result.row("red", target="0").mean_sensitivity == pytest.approx(
        -result.row("red", target="1").mean_sensitivity
    )
    assert result.row("red", target="0").score == pytest.approx(1 - result.row("red", target="1").score)


# ---------------------------------------------------------------- options


def test_one_gradient_pass_an_image_for_all_layers_and_concepts(model: Model) -> None:
    passes = 0

    def count(_module: nn.Module, _gradients_in: object, gradients_out: tuple[Tensor, ...]) -> None:
        nonlocal passes
        passes += len(gradients_out[0])

    handle = model.module.head.register_full_backward_hook(count)  # type: ignore[union-attr]
    ask(model)
    handle.remove()
    assert passes == len(IMAGES)


def test_memory_bounds_change_nothing(model: Model) -> None:
    whole, mapped = ask(model), ask(model, memory=20_000)
    assert [row.score for row in mapped.rows] == [row.score for row in whole.rows]
    for key, values in whole.sensitivities.items():
        assert mapped.sensitivities[key] == pytest.approx(values, rel=1e-9)
    assert all(np.array_equal(mapped.cavs[layer], whole.cavs[layer]) for layer in whole.cavs)


def test_batches_change_nothing_but_rounding(model: Model) -> None:
    whole, small = ask(model), ask(model, batch_size=4)
    for key, values in whole.sensitivities.items():
        assert small.sensitivities[key] == pytest.approx(values, rel=1e-4, abs=1e-7)


def test_the_same_seed_gives_the_same_result(model: Model) -> None:
    pool = torch.cat(RANDOM)
    one, again, other = (ask(model, random=pool, seed=seed) for seed in (3, 3, 4))
    assert one.rows == again.rows
    assert one.rows != other.rows


def test_pooled_cavs_have_a_weight_for_each_channel(model: Model) -> None:
    result = ask(model, pool="mean")
    assert result.shapes == {"relu": (5,), "act": (4,)}
    # moving all positions along the CAV
    cav = torch.from_numpy(result.cavs["act"][0, 0]).double()
    weights = model.module.head.weight[1].detach().double().reshape(4, -1).sum(1)  # type: ignore[union-attr]
    expected = float(weights @ cav)
    assert result.sensitivities["act", "red", "1"][0] == pytest.approx(expected, rel=1e-4)


def test_a_pool_of_random_pictures_is_dealt_into_disjoint_sets(model: Model) -> None:
    result = ask(model, random=torch.cat(RANDOM), runs=10)
    assert result.row("red", "relu").runs == 10
    assert len(result.settings["told_from"]) == 10
    assert result.settings["pictures_used"] == {"red": 15, "noise": 15}


def test_too_few_random_sets_are_said_to_be_too_few(model: Model) -> None:
    result = ask(model, random=RANDOM[:5])
    assert {row.verdict for row in result.rows} == {"undecided"}
    assert all(row.significant is None for row in result.rows)
    assert "Too few random sets to decide: 5 allow no p value below 0.167" in result.notes[0]
    assert "need 79" in result.notes[0]


@pytest.mark.parametrize(("sets", "told"), [(9, True), (10, False)])
def test_intervals_over_few_sets_are_said_to_be_too_short(model: Model, sets: int, told: bool) -> None:
    notes = ask(model, layers="act", runs=sets).notes
    assert any(f"intervals are too short, since {sets} set(s)" in note for note in notes) is told


def test_relative_cavs_tell_concepts_from_each_other(model: Model) -> None:
    concepts = {"red": RED, "noise": pictures(15, 7), "bright": pictures(15, 8) + 0.5}
    result = ask(model, concepts=concepts, relative=True, random="not used")
    assert {row.verdict for row in result.rows} == {"not tested"}
    assert list(result.settings["told_from"]["red"]) == ["not red 0", "not red 1"]
    assert result.row("red", "relu").accuracy > 0.9


def test_the_gradient_of_the_reference_implementation(model: Model) -> None:
    result = ask(model, gradient="loss")
    batch = IMAGES.clone()
    net = model.module
    maps = net.act(net.second(net.relu(net.first(batch)))).detach().requires_grad_()
    probabilities = net.head(maps.flatten(1)).softmax(1)
    loss = nn.functional.cross_entropy(probabilities, torch.ones(30, dtype=torch.long), reduction="sum")
    gradient = torch.autograd.grad(loss, maps)[0].flatten(1)
    expected = -(gradient.double() @ torch.from_numpy(result.cavs["act"][0, 0]).double())
    assert result.sensitivities["act", "red", "1"][0] == pytest.approx(float(expected.mean()), rel=1e-3, abs=1e-8)


def test_progress_names_each_picture(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    ask(model, progress=lambda done, total: seen.append((done, total)))
    assert (30, 30) in seen


def test_no_hook_stays_behind(model: Model) -> None:
    ask(model)
    with pytest.raises(TargetError):
        ask(model, target=9)
    assert not any(part._forward_hooks or part._backward_hooks for part in model.module.modules())


def test_tokens_beside_the_grid_are_no_positions() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 4, 3, stride=3)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patches(images).flatten(2).mT
            tokens = self.norm(torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1))
            return self.head(tokens.sum(1))

    torch.manual_seed(0)
    model = load(Tokens(), input_size=(3, SIZE, SIZE), preprocessing="unit", device="cpu")
    result = ask(model, layers="norm", pool="mean", concepts={"red": RED})
    assert result.shapes["norm"] == (4,)
    # the head is linear: moving each of the four positions along the CAV
    weights = model.module.head.weight[1].detach().double().numpy()  # type: ignore[union-attr]
    expected = 4 * float((result.cavs["norm"][0] @ weights).mean())
    assert result.row("red").mean_sensitivity == pytest.approx(expected, rel=1e-4)


def test_wilsons_interval_keeps_agreeing_images_from_looking_certain() -> None:
    low, high = interval(np.ones((20, 20), bool), 0)
    assert low == pytest.approx(0.8389, abs=1e-3)  # Wilson, 20 of 20
    assert high == 1.0


@pytest.mark.parametrize(
    ("correction", "others"),
    [("none", "not significant"), ("benjamini_hochberg", "not significant"), ("holm", "undecided")],
)
def test_what_no_picture_could_decide_is_undecided(correction: str, others: str) -> None:
    redness = torch.zeros(3, SIZE, SIZE)
    redness[0] = 1.0
    concepts = {"red": RED} | {f"noise {i}": pictures(15, 70 + i) for i in range(5)}
    result = ask(linear_model(redness), layers="0", concepts=concepts, correction=correction, random=RANDOM[:19])
    red = result.row("red")
    assert red.p == pytest.approx(1 / 20)  # the smallest that there is with 19 random sets
    assert red.verdict == ("significant" if correction == "none" else "undecided")
    assert {result.row(f"noise {i}").verdict for i in range(5) if result.row(f"noise {i}").p > 0.1} == {others}
