"""`score_maps` gives the figures of the single metrics, in batches, of every kind of model and target."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from linear import convolutional, seeded
from torch import Tensor

from torchcam_suite import Explanation, explain
from torchcam_suite.errors import HeadError, ImageError, TargetError
from torchcam_suite.metrics import faithfulness
from torchcam_suite.metrics.faithfulness import METRICS, choose_metrics, score_maps

pytestmark = pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")

MASKS = seeded(3, 12, 12, seed=7) > 0.6


def values(figures: Any) -> dict[str, list[float]]:
    return {figure.name: figure.values.tolist() for figure in figures}


def test_all_figures_are_those_of_the_single_metrics() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)
    made = explain(model, images, layer="4", method="gradcam", of="probability", target=[0, 1, 2])
    again: dict[str, Any] = {"layer": "4", "target": [0, 1, 2], "options": {"of": "probability"}}
    expected = [
        *faithfulness.confidence_change(model, images, made.maps, [0, 1, 2]),
        faithfulness.insertion_auc(model, images, made.maps, [0, 1, 2]),
        faithfulness.deletion_auc(model, images, made.maps, [0, 1, 2]),
        faithfulness.road(model, images, made.maps, [0, 1, 2]),
        faithfulness.max_sensitivity(model, images, "gradcam", **again),
        *faithfulness.randomisation(model, images, "gradcam", stages=1, **again).figures,
    ]
    found = score_maps(model, images, made, metrics=["all"], masks=MASKS)
    assert values(found[: len(expected)]) == values(expected)
    pointing, energy = found[len(expected) :]
    assert pointing.name == "pointing_game[no tolerance]"
    assert pointing.values.equal(faithfulness.pointing_game(made.maps, MASKS))
    assert energy.name == "energy_in_mask[share]"
    assert energy.values.equal(faithfulness.energy_in_mask(made.maps, MASKS))
    assert len(values(found)) == len(found)


def test_batches_do_not_matter() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)
    made = explain(model, images, layer="0")
    assert not any(made.flags)
    whole = score_maps(model, images, made, metrics=["all"], masks=MASKS)
    parts = score_maps(model, images, made, metrics=["all"], masks=MASKS, batch_size=2)
    for one, other in zip(whole, parts, strict=True):
        assert one.name == other.name
        torch.testing.assert_close(one.values, other.values)


def test_a_better_map_scores_better() -> None:
    """The map is the evidence itself: a pixel's weight times its value, in a model that adds them up."""
    model, images = convolutional(classes=1, channels=1), seeded(4, 1, 12, 12)
    made = explain(model, images, layer="0", target=1)
    evidence = torch.autograd.functional.jacobian(lambda x: model.logits(x).sum(), images)[:, 0] * images[:, 0]
    low, high = evidence.amin(dim=(1, 2), keepdim=True), evidence.amax(dim=(1, 2), keepdim=True)
    good = replace(made, maps=((evidence - low) / (high - low)).float(), targets=(1,) * 4)
    chance = replace(good, maps=seeded(4, 12, 12, seed=3).float())
    for figure, baseline in zip(score_maps(model, images, good), score_maps(model, images, chance), strict=True):
        if figure.name.startswith(("insertion", "deletion")):
            sign = 1 if figure.better == "higher" else -1
            assert sign * figure.mean > sign * baseline.mean + 0.1


@pytest.mark.parametrize("target", [0, 1])
def test_a_single_logit_has_two_sides(target: int) -> None:
    model, images = convolutional(classes=1), seeded(3, 3, 12, 12)
    made = explain(model, images, layer="4", target=target)
    found = values(score_maps(model, images, made, metrics=["all"], masks=MASKS))

    def side(logits: Tensor) -> Tensor:
        return logits.sigmoid()[:, 0] if target else 1 - logits.sigmoid()[:, 0]

    curve = faithfulness.deletion_auc(model, images, made.maps, side)
    assert float(curve.values.std()) > 0
    assert found[curve.name] == pytest.approx(curve.values.tolist())


def test_a_function_is_scored_where_it_is_given() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)

    def second(logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)[:, 1]

    made = explain(model, images, layer="4", target=second)
    with pytest.raises(TargetError, match="explain a function of the logits; give it"):
        score_maps(model, images, made)
    found = score_maps(model, images, made, metrics=["all"], target=second)
    by_class = explain(model, images, layer="4", target=1, of="probability")
    expected = score_maps(model, images, by_class, metrics=["all"])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.values, other.values)


def test_maps_of_a_function_of_logits_are_scored_where_no_confidence_is_needed() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)

    def margin(logits: Tensor) -> Tensor:
        return 100 * (logits[:, 1] - logits[:, 0])

    made = explain(model, images, layer="4", target=margin)
    found = score_maps(
        model, images, made, metrics=["sensitivity", "randomisation", "energy"], masks=MASKS, target=margin
    )
    assert len(found) == 4
    with pytest.raises(TargetError, match=r"needs values in \[0, 1\]"):
        score_maps(model, images, made, metrics=["insertion"], target=margin)


def test_a_head_without_probabilities_is_refused_where_they_are_needed() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)
    model.head = "none"
    made = explain(model, images, layer="4")
    assert len(score_maps(model, images, made, metrics=["energy", "sensitivity", "randomisation"], masks=MASKS)) == 4
    with pytest.raises(HeadError, match="softmax or sigmoid"):
        score_maps(model, images, made, metrics=["insertion"])


def test_half_precision_gives_nearly_the_same_figures() -> None:
    images, found = seeded(3, 3, 12, 12), []
    for dtype in (torch.float32, torch.bfloat16):
        model = convolutional()
        made = explain(model, images, layer="4")
        model.module.to(dtype)
        found.append(score_maps(model, images, made, metrics=["confidence", "insertion", "deletion", "road"]))
    for wide, narrow in zip(*found, strict=True):
        assert narrow.values.isfinite().all()
        assert narrow.mean == pytest.approx(wide.mean, rel=0.1, abs=0.02)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "setting",
    # tensors of the device "meta" have no values
    [lambda: default_dtype(torch.float64), lambda: torch.device("meta"), torch.inference_mode],
    ids=["default dtype", "default device", "inference mode"],
)
def test_settings_of_the_caller_change_no_figure(setting: Callable[[], AbstractContextManager[Any]]) -> None:
    model, images = convolutional(), seeded(2, 3, 12, 12)
    made = explain(model, images, layer="4")
    expected = score_maps(model, images, made, metrics=["all"], masks=MASKS[:2])
    with setting():
        found = score_maps(model, images, made, metrics=["all"], masks=MASKS[:2])
    assert values(found) == values(expected)
    assert {figure.values.device.type for figure in found} == {"cpu"}
    assert sum(bool(figure.values.double().std() > 0) for figure in found) > 5


def test_a_method_without_a_layer_and_one_with_a_seed_of_its_own() -> None:
    model, images = convolutional(), seeded(2, 3, 12, 12)
    made = explain(model, images, method="rise", masks=20, seed=3)
    assert made.layer == "input"
    assert len(score_maps(model, images, made, metrics=["sensitivity", "randomisation"])) == 3


def test_maps_of_a_method_that_is_not_known_here_are_scored() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)
    made = explain(model, images, layer="4")
    elsewhere = replace(made, method="theirs", options={})
    expected = score_maps(model, images, made, masks=MASKS)
    assert values(score_maps(model, images, elsewhere, masks=MASKS)) == values(expected)
    with pytest.raises(ValueError, match="method 'theirs' does not exist"):
        score_maps(model, images, elsewhere, metrics=["sensitivity"])


def test_maps_that_were_stored_are_scored_alike(tmp_path: Any) -> None:
    model, images = convolutional(), seeded(2, 3, 12, 12)
    made = explain(model, images, layer="4")
    stored = Explanation.load(made.save(tmp_path / "maps"))
    assert values(score_maps(model, images, stored)) == values(score_maps(model, images, made))


@pytest.mark.parametrize(
    ("names", "masks", "expected"),
    [
        (None, False, ["confidence", "insertion", "deletion"]),
        (None, True, ["confidence", "insertion", "deletion", "pointing", "energy"]),
        (["all"], False, ["confidence", "insertion", "deletion", "road", "sensitivity", "randomisation"]),
        (["all"], True, list(METRICS)),
        (["road", "deletion", "road"], False, ["road", "deletion"]),
    ],
)
def test_metrics_are_chosen_by_name(names: list[str] | None, masks: bool, expected: list[str]) -> None:
    assert choose_metrics(names, masks=masks) == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"metrics": ["inserton"]}, ValueError, "metric 'inserton' does not exist; did you mean 'insertion'"),
        ({"metrics": ["pointing"]}, ValueError, "metric 'pointing' asks where the object is; give the masks"),
        ({"masks": MASKS[:, :6]}, ValueError, r"expected \(N, H, W\) of one shape"),
        ({"batch_size": 0}, ValueError, "batch_size=0; expected at least 1"),
        ({"images": seeded(2, 3, 12, 12)}, ImageError, "2 images with maps of 3"),
    ],
    ids=["unknown", "masks", "size", "batch", "images"],
)
def test_what_does_not_fit_is_told(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)
    arguments: dict[str, Any] = {"images": images, "explanation": explain(model, images, layer="4")} | change
    with pytest.raises(error, match=message):
        score_maps(model, **arguments)


def test_progress_is_told_of_each_metric() -> None:
    model, images = convolutional(), seeded(1, 3, 12, 12)
    totals: list[int] = []
    report: Callable[[int, int], None] = lambda _done, total: totals.append(total)  # noqa: E731
    score_maps(model, images, explain(model, images, layer="4"), metrics=["all"], progress=report)
    assert list(dict.fromkeys(totals)) == [51, 18, 11, 1]
