"""Slow float64 references of the methods of many forward passes, one masked image or feature map after the other."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import reference
import torch
from cases import Array, Case


def weighted_sum(weights: list[float], activations: Array) -> Array:
    """Weights times channels, summed."""
    total = np.zeros(activations.shape[1:])
    for weight, channel in zip(weights, activations, strict=True):
        total += weight * channel
    return total


def probability(case: Case, image: int, picture: Array) -> float:
    """Of the image's class, for another picture."""
    return case.score(case.logits(picture), image, "probability")


def score_weights(case: Case, image: int, score: Callable[[Array], float]) -> list[float]:
    """A score of the mask of each channel, and 0 for a constant channel."""
    weights = []
    for channel in case.activations(case.picture(image)):
        mask = reference.score_mask(channel, *case.picture(image).shape[1:], "official")
        weights.append(0.0 if channel.max() == channel.min() else score(mask))
    return weights


def faster_score_cam(case: Case, image: int, channels: int) -> Array:
    picture = case.picture(image)
    activations = case.activations(picture)
    weights = score_weights(case, image, lambda mask: probability(case, image, picture * mask))
    spread = [math.sqrt(((one - one.mean()) ** 2).mean()) for one in activations]
    kept = sorted(range(len(spread)), key=lambda k: -spread[k])[:channels]
    return weighted_sum([weights[k] if k in kept else 0.0 for k in range(len(weights))], activations)


def ss_cam(case: Case, image: int, noise: str, samples: int, sigma: float, seed: int = 0) -> Array:
    picture = case.picture(image)
    colours, height, width = picture.shape
    shape = (samples, 1 if noise == "activation" else colours, height, width)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double().numpy()

    def score(mask: Array) -> float:
        total = 0.0
        for one in drawn:
            noisy = picture * (mask + sigma * one) if noise == "activation" else picture * mask + sigma * one
            total += probability(case, image, noisy) / samples
        return total

    return weighted_sum(score_weights(case, image, score), case.activations(picture))


def is_cam(case: Case, image: int, samples: int, path: str = "linear") -> Array:
    picture = case.picture(image)

    def score(mask: Array) -> float:
        total, factor = 0.0, 0.0
        for step in range(1, samples + 1):
            factor = step / samples if path == "linear" else factor + step / samples
            total += probability(case, image, factor * picture * mask) / samples
        return total

    return weighted_sum(score_weights(case, image, score), case.activations(picture))


def group_cam(case: Case, image: int, groups: int = 32, percentile: float = 70.0) -> Array:
    return group_cam_at_both(case, image, groups, percentile)[0]


def group_cam_at_both(case: Case, image: int, groups: int, percentile: float) -> tuple[Array, Array]:
    """At the layer's resolution, and at the picture's as the authors' code adds it up."""
    picture = case.picture(image)
    activations = case.activations(picture)
    gradient = case.gradient(picture, lambda logits: logits[case.classes[image]])
    size = math.ceil(len(activations) / groups)
    background = blurred(picture)
    coarse, fine = np.zeros(activations.shape[1:]), np.zeros(picture.shape[1:])
    for first in range(0, len(activations), size):
        map_ = np.zeros(activations.shape[1:])
        for k in range(first, min(first + size, len(activations))):
            map_ += gradient[k].mean() * activations[k]
        map_ = np.maximum(map_, 0)
        map_ = np.where(map_ > np.percentile(map_, percentile), map_, 0)
        up = reference.upsample(map_, *picture.shape[1:])
        if up.max() == up.min():
            continue
        mask = (up - up.min()) / (up.max() - up.min())
        gain = probability(case, image, picture * mask + background * (1 - mask)) - probability(case, image, background)
        coarse += gain * (map_ - up.min()) / (up.max() - up.min())
        fine += gain * mask
    return coarse, fine


def blurred(picture: Array) -> Array:
    """By a two-dimensional Gaussian of sigma 50 in a window of 51 x 51, edges mirrored."""
    radius = [min(25, side - 1) for side in picture.shape[1:]]
    padded = np.pad(picture, [(0, 0), (radius[0], radius[0]), (radius[1], radius[1])], mode="reflect")
    total, weights = np.zeros_like(picture), 0.0
    for i in range(-radius[0], radius[0] + 1):
        for j in range(-radius[1], radius[1] + 1):
            weight = math.exp(-(i * i + j * j) / (2 * 50.0**2))
            top, left = i + radius[0], j + radius[1]
            total += weight * padded[:, top : top + picture.shape[1], left : left + picture.shape[2]]
            weights += weight
    return total / weights


def ablation_cam(case: Case, image: int) -> Array:
    picture = case.picture(image)
    activations = case.activations(picture)
    score = case.score(case.logits(picture), image)
    weights = []
    for k in range(len(activations)):
        without = activations.copy()
        without[k] = 0
        weights.append((score - case.score(case.logits_from(picture, without), image)) / abs(score))
    return weighted_sum(weights, activations)


GAUSSIAN = [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]]


def recipro_cam(case: Case, image: int, mask: str = "gaussian") -> Array:
    picture = case.picture(image)
    activations = case.activations(picture)
    _, height, width = activations.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            masked = np.zeros_like(activations)
            if mask == "single":
                masked[:, i, j] = activations[:, i, j]
            else:
                for y in range(max(i - 1, 0), min(i + 2, height)):
                    for x in range(max(j - 1, 0), min(j + 2, width)):
                        source = activations[:, y, x] if mask == "gaussian" else activations[:, i, j]
                        masked[:, y, x] = GAUSSIAN[y - i + 1][x - j + 1] * source
            result[i, j] = case.score(case.logits_from(picture, masked), image, "probability")
    return result


def rise_masks(height: int, width: int, masks: int, grid: int, p: float, seed: int) -> list[Array]:
    """Each mask upsampled as a whole, and cut out."""
    generator = torch.Generator().manual_seed(seed)
    cells = (torch.rand(masks, grid, grid, generator=generator) < p).double().numpy()
    down = torch.randint(math.ceil(height / grid), (masks,), generator=generator).tolist()
    along = torch.randint(math.ceil(width / grid), (masks,), generator=generator).tolist()
    found = []
    for one, y, x in zip(cells, down, along, strict=True):
        larger = reference.upsample(one, (grid + 1) * math.ceil(height / grid), (grid + 1) * math.ceil(width / grid))
        found.append(larger[y : y + height, x : x + width])
    return found


def rise(case: Case, image: int, masks: int, grid: int, p: float = 0.5, seed: int = 0) -> Array:
    picture = case.picture(image)
    total = np.zeros(picture.shape[1:])
    for mask in rise_masks(*picture.shape[1:], masks, grid, p, seed):
        total += probability(case, image, picture * mask) * mask
    return total / (masks * p)


def random_map(case: Case, image: int, resolution: str = "layer", seed: int = 0) -> Array:
    values = case.images[image].numpy().tobytes() + str(seed).encode()
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(values, digest_size=7).digest(), "big"))
    picture = case.picture(image)
    size = (case.activations(picture) if resolution == "layer" else picture).shape[1:]
    return torch.rand(*size, generator=generator).double().numpy()
