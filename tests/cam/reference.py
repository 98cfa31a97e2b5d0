"""Slow float64 references, written from the formulas with loops; they share no code with the package."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Value = Callable[[Array, int], float]


def grad_cam(activations: Array, gradients: Array) -> Array:
    """Selvaraju 2017, equations 1 and 2 before ReLU."""
    n, channels, height, width = activations.shape
    maps = np.zeros((n, height, width))
    for image in range(n):
        for k in range(channels):
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    weight += gradients[image, k, i, j] / (height * width)
            for i in range(height):
                for j in range(width):
                    maps[image, i, j] += weight * activations[image, k, i, j]
    return maps


def upsample(values: Array, height: int, width: int) -> Array:
    """Bilinear interpolation of one (h, w) map, half-pixel centres, edges repeated."""
    out = np.zeros((height, width))
    for i in range(height):
        top, bottom, down = neighbours(i, height, values.shape[0])
        for j in range(width):
            left, right, along = neighbours(j, width, values.shape[1])
            upper = values[top, left] * (1 - along) + values[top, right] * along
            lower = values[bottom, left] * (1 - along) + values[bottom, right] * along
            out[i, j] = upper * (1 - down) + lower * down
    return out


def neighbours(position: int, target: int, source: int) -> tuple[int, int, float]:
    """The two source cells around a target cell's centre, and the share of the second."""
    centre = max((position + 0.5) * source / target - 0.5, 0.0)
    low = min(int(centre), source - 1)
    return low, min(low + 1, source - 1), centre - low


def score_cam(activations: Array, images: Array, probability: Value, logit: Value, variant: str) -> tuple[Array, Array]:
    """Score-CAM by brute force: every channel masked and scored by itself; raw maps and weights."""
    n, channels, height, width = activations.shape
    weights, maps = np.zeros((n, channels)), np.zeros((n, height, width))
    for image in range(n):
        weights[image] = score_weights(activations[image], images[image], image, probability, logit, variant)
        for k in range(channels):
            maps[image] += weights[image, k] * activations[image, k]
    return maps, weights


def score_weights(
    activations: Array, picture: Array, image: int, probability: Value, logit: Value, variant: str
) -> list[float]:
    """The channel weights of one image."""
    value = logit if variant == "logit" else probability
    scores = []
    for channel in activations:
        mask = score_mask(channel, picture.shape[1], picture.shape[2], variant)
        left_out = variant == "official" and channel.max() == channel.min()
        scores.append(0.0 if left_out else value(picture * mask, image))
    if variant in ("official", "keep-learning"):
        return scores
    baseline = value(np.zeros_like(picture), image)
    return softmax([score - baseline for score in scores])


def score_mask(channel: Array, height: int, width: int, variant: str) -> Array:
    """One channel as a mask of the picture's size."""
    up = upsample(channel, height, width)
    if variant == "keep-learning":
        return np.asarray(up / (up.max() - up.min() + 1e-5))
    if channel.max() == channel.min():
        return np.zeros_like(up)
    return np.asarray((up - up.min()) / (up.max() - up.min()))


def softmax(values: Sequence[float]) -> list[float]:
    """Exponentials over their sum."""
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]
