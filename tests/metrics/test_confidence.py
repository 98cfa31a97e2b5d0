"""Average drop, gain and increase: by hand, by the loops of the papers, and beside pytorch-grad-cam."""

import pytest
import torch
from linear import convolutional, seeded, weighted_mean
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

from torchcam_suite.errors import HeadError, TargetError
from torchcam_suite.metrics.confidence import average_drop, average_gain, confidence_change, increase_in_confidence


def test_a_drop_by_hand() -> None:
    model = weighted_mean([[0.1, 0.2], [0.3, 0.4]])
    images, maps = torch.ones(1, 1, 2, 2) * 0.8, torch.tensor([[[0.0, 0.5], [0.5, 1.0]]])
    drop, gain, increase = confidence_change(model, images, maps, target=1)
    # before 0.8; after 0.8 (0.1 + 0.15 + 0.4) = 0.52
    assert drop.values.tolist() == pytest.approx([100 * (0.8 - 0.52) / 0.8])
    assert gain.values.tolist() == [0]
    assert increase.values.tolist() == [False]


def test_a_gain_by_hand() -> None:
    model = weighted_mean([[0.3, 0.3], [0.3, -0.4]])
    drop, gain, increase = confidence_change(model, torch.ones(1, 1, 2, 2), torch.tensor([[[1.0, 1.0], [1.0, 0.0]]]), 1)
    # before 0.5, after 0.9
    assert drop.values.tolist() == [0]
    assert gain.values.tolist() == pytest.approx([80])
    assert increase.values.tolist() == [True]


def test_class_0_of_a_single_logit_is_the_other_side() -> None:
    model = weighted_mean([[0.3, 0.3], [0.3, -0.4]])
    maps = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    drop, gain, increase = confidence_change(model, torch.ones(1, 1, 2, 2), maps, target=0)
    # before 0.5, after 0.1
    assert drop.values.tolist() == pytest.approx([80])
    assert gain.values.tolist() == [0]
    assert increase.values.tolist() == [False]


def test_nothing_falls_from_0_and_nothing_rises_from_1() -> None:
    before, after = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.0, 1.0])
    assert average_drop(before, after).tolist() == [0, 50, 0, 0]
    assert average_gain(before, after).tolist() == [50, 0, 0, 0]
    assert increase_in_confidence(before, after).tolist() == [True, False, False, False]


def test_many_images_are_those_of_pytorch_grad_cam() -> None:
    model, images, maps = convolutional(), seeded(12, 3, 12, 12), seeded(12, 12, 12, seed=1)
    targets = [i % 4 for i in range(12)]
    drop, gain, increase = confidence_change(model, images, maps, targets, chunk_size=5)
    asked = [ClassifierOutputSoftmaxTarget(target) for target in targets]
    theirs = DropInConfidence()(images, maps.numpy(), asked, model.module)
    rises = IncreaseInConfidence()(images, maps.numpy(), asked, model.module)
    before = model.probabilities(images).detach().gather(1, torch.tensor(targets)[:, None])[:, 0]
    assert 0 < increase.mean < 1
    assert float(drop.values.std()) > 1
    # their drop is not divided by the confidence before
    torch.testing.assert_close(drop.values * before / 100, torch.from_numpy(theirs).double(), atol=1e-6, rtol=0)
    assert increase.values.tolist() == (rises > 0).tolist()
    after = model.probabilities(images * maps[:, None]).detach().gather(1, torch.tensor(targets)[:, None])[:, 0]
    by_hand = [100 * max(0.0, float(a - b)) / (1 - float(b)) for a, b in zip(after, before, strict=True)]
    assert gain.values.tolist() == pytest.approx(by_hand)
    assert max(by_hand) > 0


def test_the_target_is_that_of_the_image_not_of_what_is_left_of_it() -> None:
    model, images = convolutional(), seeded(6, 3, 12, 12)
    maps = torch.zeros(6, 12, 12)
    top = model.logits(images).argmax(dim=1)
    assert (model.logits(images * 0).argmax(dim=1) != top).any()
    found, expected = confidence_change(model, images, maps), confidence_change(model, images, maps, top)
    assert found[0].values.equal(expected[0].values)


def test_a_function_is_taken_as_confidence_if_its_values_are() -> None:
    model, images, maps = convolutional(), seeded(3, 3, 12, 12), seeded(3, 12, 12, seed=1)
    found = confidence_change(model, images, maps, lambda logits: logits.softmax(dim=1)[:, 2])
    expected = confidence_change(model, images, maps, 2)
    assert expected[0].values.std() > 0
    torch.testing.assert_close(found[0].values, expected[0].values)
    for values in (lambda logits: logits.sigmoid()[:, 2] + 0.9, lambda logits: logits.sigmoid()[:, 2] - 0.9):
        with pytest.raises(TargetError, match=r"the target function gave values from .* needs values in \[0, 1\]"):
            confidence_change(model, images, maps, values)


def test_a_head_without_probabilities_is_refused() -> None:
    model = convolutional()
    model.head = "none"
    with pytest.raises(HeadError, match="softmax or sigmoid"):
        confidence_change(model, seeded(1, 3, 12, 12), seeded(1, 12, 12))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.zeros(1, 12, 12), r"maps of shape \(1, 12, 12\); expected \(2, 12, 12\)"),
        (torch.zeros(2, 6, 6), r"maps of shape \(2, 6, 6\); expected \(2, 12, 12\)"),
        (torch.full((2, 12, 12), 1.5), r"from 1.5 to 1.5; expected \[0, 1\]"),
        (torch.full((2, 12, 12), -0.1), r"from -0.1 to -0.1; expected \[0, 1\]"),
        (torch.full((2, 12, 12), float("nan")), "maps with NaN or infinity"),
    ],
)
def test_maps_that_do_not_fit_are_refused(maps: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confidence_change(convolutional(), seeded(2, 3, 12, 12), maps)


def test_the_names_say_the_protocol_and_the_spread_is_that_of_the_images() -> None:
    model, images, maps = convolutional(), seeded(4, 3, 12, 12), seeded(4, 12, 12, seed=1)
    drop, gain, increase = confidence_change(model, images, maps)
    assert [figure.name for figure in (drop, gain, increase)] == [
        "average_drop[image*map,%]",
        "average_gain[image*map,%]",
        "increase_in_confidence[image*map]",
    ]
    assert [figure.better for figure in (drop, gain, increase)] == ["lower", "higher", "higher"]
    assert drop.spread == pytest.approx(float(drop.values.numpy().std(ddof=1)))
    assert drop.mean == pytest.approx(float(drop.values.numpy().mean()))
    assert increase.spread is None
    assert confidence_change(model, images[:1], maps[:1])[0].spread is None


def test_the_model_is_left_as_it_was() -> None:
    model, images = convolutional(), seeded(2, 3, 12, 12)
    model.module.train()
    expected = confidence_change(convolutional(), images, seeded(2, 12, 12))[0].values
    assert confidence_change(model, images, seeded(2, 12, 12))[0].values.equal(expected)
    assert all(part.training for part in model.module.modules())
    assert all(parameter.requires_grad for parameter in model.module.parameters())
