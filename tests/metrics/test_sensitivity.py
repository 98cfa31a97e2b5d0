"""Max-sensitivity: by hand, and beside Captum's."""

import pytest
import torch
from captum.metrics import sensitivity_max
from linear import convolutional, seeded
from torch import Tensor

from torchcam_suite import explain
from torchcam_suite.metrics.sensitivity import largest_change, max_sensitivity


def test_the_largest_change_by_hand() -> None:
    seen: list[Tensor] = []

    def maps_of(images: Tensor) -> Tensor:
        seen.append(images[:, 0])
        return 3 * images[:, 0]

    images = seeded(2, 1, 4, 5)
    found = largest_change(maps_of, images, 0.1, samples=4)
    assert len(seen) == 5
    noise = [changed - seen[0] for changed in seen[1:]]
    assert max(float(part.abs().max()) for part in noise) <= 0.1
    assert max(float(part.abs().max()) for part in noise) > 0.08
    for i in range(2):
        sizes = [float(part[i].square().sum().sqrt()) for part in noise]
        assert max(sizes) > min(sizes)
        assert float(found[i]) == pytest.approx(max(sizes) / float(images[i].square().sum().sqrt()))


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")
def test_it_is_captum_s_with_the_same_noise() -> None:
    model, images = convolutional(), seeded(3, 3, 12, 12)
    targets, samples, radius = [1, 0, 2], 6, 0.05
    generator = torch.Generator().manual_seed(0)
    noise = torch.stack([2 * torch.rand(3, 12, 12, generator=generator) - 1 for _ in range(samples)])

    def maps_of(batch: Tensor | tuple[Tensor], target: Tensor) -> tuple[Tensor]:
        batch = batch[0] if isinstance(batch, tuple) else batch  # it calls with both
        return (explain(model, batch, layer="4", target=target).maps,)

    def perturb(batch: Tensor) -> Tensor:
        return batch + radius * noise.repeat(3, 1, 1, 1)

    theirs = sensitivity_max(maps_of, images, perturb, n_perturb_samples=samples, target=torch.tensor(targets))
    found = max_sensitivity(model, images, "gradcam", "4", targets, radius=radius, samples=samples)
    assert float(theirs.std()) > 1e-3
    torch.testing.assert_close(found.values, theirs.double(), atol=1e-5, rtol=1e-5)
    assert found.name == "max_sensitivity[radius=0.05,samples=6]"
    assert found.better == "lower"


def test_the_radius_is_a_share_of_black_to_white() -> None:
    unit, tf = convolutional(), convolutional()
    tf.preprocessing = type(tf.preprocessing)("tf", scale=1 / 127.5, mean=(1.0,))
    images = seeded(2, 3, 12, 12)
    wide = max_sensitivity(unit, images, layer="4", radius=0.04, samples=2).values
    torch.testing.assert_close(max_sensitivity(tf, images, layer="4", radius=0.02, samples=2).values, wide)
    assert not wide.equal(max_sensitivity(unit, images, layer="4", radius=0.02, samples=2).values)


def test_a_zero_map_is_not_divided_by() -> None:
    found = largest_change(lambda images: images[:, 0] * 0, seeded(1, 1, 3, 3), 0.1, samples=2)
    assert found.tolist() == [0]


def test_the_options_of_the_method_are_used() -> None:
    model, images = convolutional(), seeded(2, 3, 12, 12)
    of_probability = max_sensitivity(
        model, images, layer="0", options={"of": "probability", "relu": "after"}, samples=2
    )
    assert not of_probability.values.equal(max_sensitivity(model, images, layer="0", samples=2).values)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples=0; expected at least 1"):
        max_sensitivity(convolutional(), seeded(1, 3, 12, 12), layer="4", samples=0)


def test_progress_counts_the_explanations() -> None:
    seen: list[tuple[int, int]] = []
    images = seeded(1, 3, 12, 12)
    max_sensitivity(convolutional(), images, layer="4", samples=3, progress=lambda *both: seen.append(both))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
