"""Score-CAM: every variant is its formula by brute force, however the work is cut into chunks."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
import torch
from driving import drive
from torch import Tensor, nn

from torchcam_suite.cam.score import VARIANTS
from torchcam_suite.cam.score import score_cam as steps
from torchcam_suite.errors import LayerError

IMAGES, CHANNELS = 3, 7
# Image 0 has no constant channel, image 1 two zero ones, image 2 a zero one and two constant ones.
CONSTANT = {(1, 0): 0.0, (1, 4): 0.0, (2, 1): 0.3, (2, 2): 0.0, (2, 6): -1.7}
HEADS = ["softmax", "sigmoid"]
GAIN = 10.0


def classifier(head: str) -> nn.Module:
    torch.manual_seed(5)
    classes = 4 if head == "softmax" else 1
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes, bias=False)
    ).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(IMAGES, CHANNELS, 4, 5, generator=generator, dtype=torch.float64)
    for (image, channel), value in CONSTANT.items():
        activations[image, channel] = value
    images = 3 * torch.randn(IMAGES, 3, 9, 11, generator=generator, dtype=torch.float64)
    return activations, images


def score_of(head: str, of: str) -> Callable[[Tensor, Tensor], Tensor]:
    net, targets = classifier(head), torch.tensor([2, 0, 3])

    def score(masked: Tensor, owner: Tensor) -> Tensor:
        logits = GAIN * net(masked)
        if head == "sigmoid":
            return (logits if of == "logit" else logits.sigmoid())[:, 0]
        return (logits if of == "logit" else logits.softmax(dim=1)).gather(1, targets[owner, None])[:, 0]

    return score


def value_of(head: str, of: str) -> Callable[[np.ndarray, int], float]:
    score = score_of(head, of)

    def value(picture: np.ndarray, image: int) -> float:
        with torch.no_grad():
            return float(score(torch.from_numpy(picture)[None], torch.tensor([image])))

    return value


class Found(NamedTuple):
    raw: Tensor
    weights: Tensor
    skipped: Tensor
    chunk_size: int


def score_cam(
    activations: Tensor,
    images: Tensor,
    score: Callable[[Tensor, Tensor], Tensor],
    variant: Any = "official",
    **options: Any,
) -> Found:
    """Score-CAM of a score function in the place of a model."""
    found, chunk_size = drive(steps(activations, images, variant=variant), score, **options)
    return Found(found.raw, found.weights, found.skipped, chunk_size)


@cache
def by_brute_force(head: str, variant: str) -> tuple[np.ndarray, np.ndarray]:
    activations, images = batch()
    raw, weights = reference.score_cam(
        activations.numpy(), images.numpy(), value_of(head, "probability"), value_of(head, "logit"), variant
    )
    assert raw.std(axis=(1, 2)).min() > 0.2
    assert weights.std(axis=1).min() > 3e-3
    return raw, weights


@pytest.mark.parametrize("chunk_size", [1, 7, 1000, "auto"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_its_formula_in_chunks_of_any_size(variant: str, head: str, chunk_size: int) -> None:
    activations, images = batch()
    score = score_of(head, VARIANTS[variant].of)
    found = score_cam(activations, images, score, variant=variant, chunk_size=chunk_size)
    raw, weights = by_brute_force(head, variant)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.raw, raw, rtol=1e-10, atol=1e-12)


def test_no_two_variants_are_the_same() -> None:
    maps = [by_brute_force("softmax", variant)[0] for variant in VARIANTS]
    for first in range(len(maps)):
        for second in range(first):
            assert np.abs(maps[first] - maps[second]).max() > 0.05


@pytest.mark.parametrize(
    ("variant", "skipped"),
    [("official", [0, 2, 3]), ("paper", [0, 1, 2]), ("logit", [0, 1, 2]), ("keep-learning", [0, 1, 0])],
)
def test_channels_with_a_blank_mask_get_no_forward_pass_of_their_own(variant: str, skipped: list[int]) -> None:
    activations, images = batch()
    passes = []

    def score(masked: Tensor, owner: Tensor) -> Tensor:
        passes.extend(owner.tolist())
        return score_of("softmax", VARIANTS[variant].of)(masked, owner)

    found = score_cam(activations, images, score, variant=variant, chunk_size=4)
    assert found.skipped.tolist() == skipped
    assert [CHANNELS - passes.count(image) for image in range(IMAGES)] == skipped


def test_the_official_weight_of_a_constant_channel_is_zero() -> None:
    activations, images = batch()
    weights = score_cam(activations, images, score_of("softmax", "probability")).weights
    assert {tuple(pair) for pair in (weights == 0).nonzero().tolist()} == set(CONSTANT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_of_constant_channels_needs_at_most_one_pass(variant: str) -> None:
    _, images = batch()
    found = score_cam(
        torch.zeros(IMAGES, CHANNELS, 4, 5), images, score_of("softmax", VARIANTS[variant].of), variant=variant
    )
    assert found.skipped.tolist() == [CHANNELS if variant == "official" else CHANNELS - 1] * IMAGES
    assert found.raw.abs().max() == 0
    assert found.weights.isfinite().all()


def test_a_constant_channel_stays_constant_whatever_interpolation_rounds() -> None:
    images = torch.rand(1, 3, 60, 60)
    masks = []

    def score(masked: Tensor, owner: Tensor) -> Tensor:
        masks.append(masked.abs().amax(dim=(1, 2, 3)))
        return torch.ones(len(owner))

    score_cam(torch.full((1, 3, 8, 8), 0.7), images, score, variant="paper")
    assert torch.cat(masks).tolist() == [0.0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_equals_single_images(variant: str) -> None:
    activations, images = batch()
    score = score_of("softmax", VARIANTS[variant].of)
    together = score_cam(activations, images, score, variant=variant, chunk_size=5)
    for image in range(IMAGES):
        # `owner` counts within the batch that is given, so a single image is always image 0.
        alone = score_cam(
            activations[image : image + 1],
            images[image : image + 1],
            lambda masked, owner, image=image: score(masked, owner + image),
            variant=variant,
        )
        torch.testing.assert_close(together.raw[image], alone.raw[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.weights[image], alone.weights[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_channels_does_not_matter(variant: str) -> None:
    activations, images = batch()
    score = score_of("softmax", VARIANTS[variant].of)
    order = torch.tensor([3, 6, 0, 2, 5, 1, 4])
    raw = score_cam(activations, images, score, variant=variant).raw
    permuted = score_cam(activations[:, order], images, score, variant=variant)
    torch.testing.assert_close(permuted.raw, raw, rtol=1e-12, atol=1e-12)


def test_the_weights_of_the_paper_lie_within_a_factor_e() -> None:
    _, weights = by_brute_force("softmax", "paper")
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights.max(axis=1) / weights.min(axis=1) <= np.e).all()


class Memory:
    """A score function on a machine that has room for `capacity` inputs at once."""

    def __init__(self, capacity: int, error: RuntimeError) -> None:
        self.capacity, self.error = capacity, error
        self.chunks: list[int] = []
        self.score = score_of("softmax", "probability")

    def __call__(self, masked: Tensor, owner: Tensor) -> Tensor:
        self.chunks.append(len(owner))
        if len(owner) > self.capacity:
            raise self.error
        return self.score(masked, owner)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried ..."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "host", "host, Windows"])
def test_auto_halves_the_chunk_that_does_not_fit_and_goes_on(error: RuntimeError) -> None:
    activations, images = batch()
    memory = Memory(3, error)
    found = score_cam(activations, images, memory)
    np.testing.assert_allclose(found.raw, by_brute_force("softmax", "official")[0], rtol=1e-10, atol=1e-12)
    assert memory.chunks == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert found.chunk_size == 2


@pytest.mark.parametrize(
    ("capacity", "chunk_size", "error"),
    [(3, 4, OUT_OF_MEMORY[0]), (0, "auto", OUT_OF_MEMORY[0]), (0, "auto", RuntimeError("a bug in the model"))],
    ids=["a given size", "a single input", "another error"],
)
def test_what_halving_cannot_help_is_raised(capacity: int, chunk_size: int, error: RuntimeError) -> None:
    activations, images = batch()
    memory = Memory(capacity, error)
    with pytest.raises(type(error), match=str(error)):
        score_cam(activations, images, memory, chunk_size=chunk_size)
    expected = [8, 4, 2, 1] if "CUDA" in str(error) and capacity == 0 else [4 if capacity else 8]
    assert memory.chunks == expected


def test_chunks_are_even() -> None:
    activations, images = batch()
    memory = Memory(100, OUT_OF_MEMORY[0])
    assert score_cam(activations, images, memory, chunk_size=7).chunk_size == 7
    assert memory.chunks == [6, 5, 5]


def test_progress_counts_forward_passes() -> None:
    activations, images = batch()
    seen: list[tuple[int, int]] = []
    score = score_of("softmax", "probability")
    score_cam(activations, images, score, chunk_size=6, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 16), (11, 16), (16, 16)]


def test_half_precision_activations_are_summed_in_float32_and_images_keep_their_dtype() -> None:
    activations, images = batch()
    dtypes = set()

    def score(masked: Tensor, owner: Tensor) -> Tensor:
        dtypes.add(masked.dtype)
        return masked.float().mean(dim=(1, 2, 3)) + owner

    found = score_cam(activations.bfloat16(), images.bfloat16(), score)
    assert dtypes == {torch.bfloat16}
    assert found.raw.dtype == found.weights.dtype == torch.float32


def test_results_are_ordinary_tensors_though_scoring_runs_in_inference_mode() -> None:
    activations, images = batch()
    modes = []

    def score(masked: Tensor, owner: Tensor) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return masked.mean(dim=(1, 2, 3)) + owner

    found = score_cam(activations, images, score)
    assert all(modes)
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in found[:3])


def test_the_table_of_variants_is_complete() -> None:
    table = {name: (rules.of, rules.relu, rules.normalize) for name, rules in VARIANTS.items()}
    assert table == {
        "official": ("probability", "after", "minmax"),
        "paper": ("probability", "before", "max"),
        "logit": ("logit", "before", "minmax"),
        "keep-learning": ("probability", "after", "max"),
    }
    assert all(rules.name == name and rules.summary for name, rules in VARIANTS.items())


WRONG_CALLS: list[tuple[dict, type[Exception], str]] = [
    ({"chunk_size": 0}, ValueError, "chunk_size=0; expected a whole number of at least 1, or 'auto'"),
    ({"chunk_size": "big"}, ValueError, "chunk_size='big'; expected"),
    ({"activations": torch.zeros(3, 10)}, LayerError, r"shape \(3, 10\).*feature maps"),
    ({"activations": torch.zeros(2, 4, 5, 5)}, ValueError, r"images of shape \(3, 3, 9, 11\)"),
    ({"score": lambda masked, _: masked.sum(dim=(2, 3))}, ValueError, r"gave shape \(8, 3\) for 8 .*\(8,\)"),
]


@pytest.mark.parametrize(("changed", "error", "message"), WRONG_CALLS)
def test_a_wrong_call_says_what_was_expected(changed: dict, error: type[Exception], message: str) -> None:
    activations, images = batch()
    call = {"activations": activations, "images": images, "score": score_of("softmax", "probability")} | changed
    with pytest.raises(error, match=message):
        score_cam(**call)
