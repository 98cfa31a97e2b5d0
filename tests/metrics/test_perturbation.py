"""Insertion and deletion: by hand, and by the loop of the paper."""

import numpy as np
import pytest
import torch
from linear import convolutional, seeded, weighted_mean
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from torchcam_suite import Model
from torchcam_suite.metrics.perturbation import area_under, baseline_images, deletion_auc, insertion_auc, ranks


def by_loop(model: Model, start: Tensor, end: Tensor, values: Tensor, target: int, steps: int) -> list[float]:
    """Change the pixels of one image one share after the other, as the authors do, in order of falling relevance."""
    order = np.argsort(-values.flatten().numpy(), kind="stable")
    found = []
    for step in range(steps + 1):
        image = start.clone().numpy()
        for pixel in order[: int(step / steps * len(order) + 0.5)]:
            row, column = divmod(int(pixel), image.shape[2])
            image[:, row, column] = end[:, row, column].numpy()
        found.append(float(model.probabilities(torch.from_numpy(image)[None])[0, target].detach()))
    return found


def trapezoids(values: list[float]) -> float:
    return sum((a + b) / 2 for a, b in zip(values[1:], values[:-1], strict=True)) / (len(values) - 1)


def test_insertion_and_deletion_by_hand() -> None:
    model = weighted_mean([[0.1, 0.2], [0.3, 0.4]])
    images, maps = torch.ones(1, 1, 2, 2), torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    insertion = insertion_auc(model, images, maps, 1, baseline="zero", steps=4)
    assert insertion.confidences.tolist()[0] == pytest.approx([0, 0.4, 0.7, 0.9, 1])
    assert insertion.values.tolist() == pytest.approx([0.625])
    deletion = deletion_auc(model, images, maps, 1, steps=4)
    assert deletion.confidences.tolist()[0] == pytest.approx([1, 0.6, 0.3, 0.1, 0])
    assert deletion.values.tolist() == pytest.approx([0.375])
    assert insertion.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    # the worst order
    worst = insertion_auc(model, images, 1 - maps, 1, baseline="zero", steps=4)
    assert worst.values.tolist() == pytest.approx([(0.1 + 0.3 + 0.6 + 0.5) / 4])


def test_a_step_changes_the_same_number_of_pixels_to_one() -> None:
    model = weighted_mean([[0.1, 0.2], [0.3, 0.4]])
    curve = deletion_auc(model, torch.ones(1, 1, 2, 2), torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), 1, steps=3)
    # after 0, 4/3, 8/3 and 4 pixels, to the nearest whole number
    assert curve.confidences.tolist()[0] == pytest.approx([1, 0.6, 0.1, 0])


@pytest.mark.parametrize("baseline", ["blur", "zero"])
def test_the_curves_are_those_of_the_loop(baseline: str) -> None:
    model, images, maps = convolutional(), seeded(3, 3, 12, 12), seeded(3, 12, 12, seed=1)
    other = torch.zeros_like(images) if baseline == "zero" else gaussian_blur(images, [11, 11], [5.0, 5.0])
    targets = [2, 0, 1]
    insertion = insertion_auc(model, images, maps, targets, baseline=baseline, steps=7, chunk_size=5)
    deletion = deletion_auc(model, images, maps, targets, baseline=baseline, steps=7, chunk_size=5)
    assert insertion.name == f"insertion_auc[{baseline},steps=7]"
    assert deletion.name == f"deletion_auc[{baseline},steps=7]"
    for i, target in enumerate(targets):
        expected = by_loop(model, other[i], images[i], maps[i], target, 7)
        assert np.std(expected) > 1e-3
        assert insertion.confidences[i].tolist() == pytest.approx(expected, abs=1e-7)
        assert float(insertion.values[i]) == pytest.approx(trapezoids(expected), abs=1e-7)
        expected = by_loop(model, images[i], other[i], maps[i], target, 7)
        assert deletion.confidences[i].tolist() == pytest.approx(expected, abs=1e-7)
        assert float(deletion.values[i]) == pytest.approx(trapezoids(expected), abs=1e-7)


def test_only_the_order_of_a_map_counts() -> None:
    model, images, maps = convolutional(), seeded(2, 3, 12, 12), seeded(2, 12, 12, seed=1)
    assert deletion_auc(model, images, maps).values.equal(deletion_auc(model, images, maps**3 / 2).values)
    assert not deletion_auc(model, images, maps).values.equal(deletion_auc(model, images, 1 - maps).values)


def test_a_batch_is_its_images() -> None:
    model, images, maps = convolutional(), seeded(3, 3, 12, 12), seeded(3, 12, 12, seed=1).round(decimals=1)
    together = insertion_auc(model, images, maps, steps=9).values
    alone = torch.cat([insertion_auc(model, images[i : i + 1], maps[i : i + 1], steps=9).values for i in range(3)])
    assert together.std() > 0
    torch.testing.assert_close(together, alone)


def test_equal_pixels_come_in_an_order_of_chance_that_the_seed_fixes() -> None:
    zeros = torch.zeros(2, 8, 8)
    found = ranks(zeros)
    assert found[0].flatten().sort().values.tolist() == list(range(64))
    assert found[0].equal(found[1])
    assert found.equal(ranks(zeros))
    assert not found.equal(ranks(zeros, seed=1))
    top, bottom = found[0, :4].double().mean(), found[0, 4:].double().mean()
    assert abs(float(top - bottom)) < 12  # in reading order 32
    half = torch.cat([torch.zeros(1, 4, 8), torch.ones(1, 4, 8)], dim=1)
    assert ranks(half)[0, 4:].max() == 31


def test_the_blur_is_a_gaussian_of_the_paper_s_size() -> None:
    images = seeded(2, 3, 20, 16)
    found = baseline_images(images, "blur")
    torch.testing.assert_close(found, gaussian_blur(images, [11, 11], [5.0, 5.0]))
    assert float(found.std()) < float(images.std()) / 2
    small = baseline_images(torch.ones(1, 1, 3, 4, dtype=torch.float64), "blur")
    torch.testing.assert_close(small, torch.ones(1, 1, 3, 4, dtype=torch.float64))


def test_the_area_of_a_straight_line_is_a_half() -> None:
    assert area_under(torch.linspace(0, 1, 7, dtype=torch.float64)[None]).tolist() == pytest.approx([0.5])


def test_what_does_not_exist_is_refused() -> None:
    model, images, maps = convolutional(), seeded(1, 3, 12, 12), seeded(1, 12, 12)
    with pytest.raises(ValueError, match="baseline='grey'; expected 'blur' or 'zero'"):
        insertion_auc(model, images, maps, baseline="grey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps=0; expected at least 1"):
        deletion_auc(model, images, maps, steps=0)


def test_progress_counts_images_with_changed_pixels() -> None:
    seen: list[tuple[int, int]] = []
    model = convolutional()
    insertion_auc(
        model,
        seeded(2, 3, 12, 12),
        seeded(2, 12, 12),
        steps=4,
        chunk_size=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (10, 10)
    assert [total for _, total in seen] == [10] * len(seen)
