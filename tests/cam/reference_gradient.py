"""Slow float64 references of the gradient family, written from the papers with loops."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import exp

import numpy as np
import reference
import torch
from cases import Array, Case, array
from torch import Tensor, nn

# ---------------------------------------------------------------- one backward pass


def recorded(case: Case, image: int) -> tuple[Array, Array]:
    """A and the gradient of the class's logit, (C, h, w) each."""
    picture = case.picture(image)
    return case.activations(picture), case.gradient(picture, lambda logits: logits[case.classes[image]])


def at_each_position(values: Array, gradients: Array, term: Callable[[float, float], float]) -> Array:
    """Sum over channels of a function of activation and gradient."""
    channels, height, width = values.shape
    found = np.zeros((height, width))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                found[i, j] += term(values[k, i, j], gradients[k, i, j])
    return found


def weighted(values: Array, weights: list[float]) -> Array:
    found = np.zeros(values.shape[1:])
    for k, weight in enumerate(weights):
        found += weight * values[k]
    return found


def hi_res_cam(case: Case, image: int) -> Array:
    return at_each_position(*recorded(case, image), lambda a, g: g * a)


def element_wise_grad_cam(case: Case, image: int) -> Array:
    return at_each_position(*recorded(case, image), lambda a, g: max(g * a, 0.0))


def layer_cam(case: Case, image: int) -> Array:
    return at_each_position(*recorded(case, image), lambda a, g: max(g, 0.0) * a)


def x_grad_cam(case: Case, image: int) -> Array:
    values, gradients = recorded(case, image)
    weights = []
    for k in range(len(values)):
        total = products = 0.0
        for a, g in zip(values[k].flat, gradients[k].flat, strict=True):
            total += a
            products += g * a
        weights.append(products / total if total != 0 else 0.0)
    return weighted(values, weights)


def class_activation_map(case: Case, image: int) -> Array:
    """By the dense layer's own weights; the pooled toy net ends in it."""
    weights = array(case.model.module.get_parameter("7.weight"))[case.classes[image]]
    return weighted(case.activations(case.picture(image)), list(weights))


def grad_cam_plus_plus(case: Case, image: int, variant: str = "paper") -> Array:
    values, gradients = recorded(case, image)
    weights = []
    for k in range(len(values)):
        total = sum(values[k].flat)
        alphas = []
        for g in gradients[k].flat:
            denominator = 2 * g**2 + g**3 * total
            alphas.append(g**2 / denominator if denominator != 0 else 0.0)
        if variant == "official":
            normal = sum(alpha for alpha, g in zip(alphas, gradients[k].flat, strict=True) if g > 0)
            alphas = [alpha / normal if normal != 0 else alpha for alpha in alphas]
        weights.append(sum(alpha * max(g, 0.0) for alpha, g in zip(alphas, gradients[k].flat, strict=True)))
    return weighted(values, weights)


def smooth_grad_cam_plus_plus(case: Case, image: int, samples: int, sigma: float, seed: int) -> Array:
    picture = case.picture(image)
    spread = picture.max() - picture.min()
    found = []
    for number in range(samples):
        generator = torch.Generator().manual_seed(1_000_003 * seed + number)
        noise = torch.randn(picture.shape, generator=generator).double().numpy()
        noisy = picture + sigma * spread * noise
        found.append(case.gradient(noisy, lambda logits: logits[case.classes[image]]))
    values = case.activations(picture)
    weights = []
    for k in range(len(values)):
        total, weight = sum(values[k].flat), 0.0
        for i in range(values.shape[1]):
            for j in range(values.shape[2]):
                first, second, third = (sum(g[k, i, j] ** p for g in found) / samples for p in (1, 2, 3))
                denominator = 2 * second + third * total
                weight += (second / denominator if denominator != 0 else 0.0) * max(first, 0.0)
        weights.append(weight)
    return weighted(values, weights)


def finer_cam(case: Case, image: int, similar: int, gamma: float, variant: str) -> Array:
    """By the gradients of single logits and the product rule."""
    picture, target = case.picture(image), case.classes[image]
    logits = case.logits(picture)
    gradients = [case.gradient(picture, lambda y, c=c: y[c]) for c in range(len(logits))]
    others = sorted((c for c in range(len(logits)) if c != target), key=lambda c: abs(logits[c] - logits[target]))
    others = others[:similar]
    shares = {c: 1 / len(others) for c in others}
    changes = {c: np.zeros_like(gradients[0]) for c in others}
    if variant == "official":
        total = sum(exp(logits[c]) for c in others)
        shares = {c: exp(logits[c]) / total for c in others}
        mean = sum(shares[c] * gradients[c] for c in others)
        changes = {c: shares[c] * (gradients[c] - mean) for c in others}
    gradient = np.zeros_like(gradients[0])
    for c in others:
        gradient += shares[c] * (gradients[target] - gamma * gradients[c])
        gradient += changes[c] * (logits[target] - gamma * logits[c])
    return reference.grad_cam(case.activations(picture)[None], gradient[None])[0]


# ---------------------------------------------------------------- principal components


def eigen_cam(case: Case, image: int, center: bool) -> Array:
    values = case.activations(case.picture(image))
    return first_component(values, np.sqrt((values**2).sum(axis=0)), center)


def eigen_grad_cam(case: Case, image: int, center: bool) -> Array:
    values, gradients = recorded(case, image)
    return first_component(values * gradients, (values * gradients).sum(axis=0), center)


def first_component(features: Array, likeness: Array, center: bool) -> Array:
    """By the eigenvectors of the channels' products."""
    channels = len(features)
    rows = [channel - channel.mean() if center else channel for channel in features]
    products = np.zeros((channels, channels))
    for k in range(channels):
        for m in range(channels):
            products[k, m] = (rows[k] * rows[m]).sum()
    _, vectors = np.linalg.eigh(products)
    found = weighted(np.stack(rows), list(vectors[:, -1]))
    return found if (found * likeness).sum() >= 0 else -found


# ---------------------------------------------------------------- the input and the biases


def full_grad(case: Case, image: int, variant: str) -> Array:
    picture = case.picture(image)
    gradient, biases, _ = full_gradients(case, picture, case.classes[image])
    found = np.zeros(picture.shape[1:])
    for part in [picture * gradient, *biases]:
        magnitude = np.abs(part)
        for channel in magnitude:
            whole = channel if variant == "paper" else magnitude
            span = whole.max() - whole.min()
            found += reference.upsample((channel - whole.min()) / (span if span else 1.0), *found.shape)
    return found


def full_gradients(case: Case, picture: Array, target: int) -> tuple[Array, list[Array], float]:
    """Gradient at the input (c, H, W), gradient times bias (C, h, w) of each layer, and the logit."""
    kept: list[tuple[nn.Module, Tensor]] = []
    parts = [part for part in case.model.module.modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)]
    handles = [part.register_forward_hook(lambda part, _, output: kept.append((part, output))) for part in parts]
    try:
        with torch.enable_grad():
            images = torch.from_numpy(picture)[None].to(case.images.dtype).requires_grad_()
            logit = case.model.logits(images)[0, target]
            found = torch.autograd.grad(logit, [images, *(output for _, output in kept)])
    finally:
        for handle in handles:
            handle.remove()
    biases = []
    for (part, _), gradient in zip(kept, found[1:], strict=True):
        bias = effective_bias(part)
        if bias is not None:
            biases.append(np.stack([b * channel for b, channel in zip(bias, array(gradient), strict=True)]))
    return array(found[0]), biases, float(logit.detach())


def effective_bias(part: nn.Module) -> Array | None:
    """What a layer gives for an input of zeros, in the middle of the picture."""
    if part.bias is None and isinstance(part, nn.Conv2d):
        return None
    channels = part.in_channels if isinstance(part, nn.Conv2d) else part.num_features
    example = next(iter(part.state_dict().values()))
    with torch.no_grad():
        return array(part(example.new_zeros(1, channels, 9, 9)))[:, 4, 4]


# ---------------------------------------------------------------- guided


@contextmanager
def guided(module: nn.Module) -> Iterator[None]:
    """Clamp what leaves each ReLU module backwards: the rule from below instead of from above."""

    def clamp(_module: nn.Module, given: tuple[Tensor, ...], _above: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0].clamp(min=0),)

    parts = [part for part in module.modules() if isinstance(part, nn.ReLU | nn.ReLU6)]
    handles = [part.register_full_backward_hook(clamp) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def guided_gradient(case: Case, image: int) -> Array:
    with guided(case.model.module), torch.enable_grad():
        images = torch.from_numpy(case.picture(image))[None].to(case.images.dtype).requires_grad_()
        (found,) = torch.autograd.grad(case.model.logits(images)[0, case.classes[image]], images)
    return array(found)


def guided_backprop(case: Case, image: int) -> Array:
    gradient = guided_gradient(case, image)
    found = np.zeros(gradient.shape[1:])
    for channel in gradient:
        for i in range(found.shape[0]):
            for j in range(found.shape[1]):
                found[i, j] = max(found[i, j], abs(channel[i, j]))
    return found


def guided_grad_cam(case: Case, image: int) -> Array:
    values, gradients = recorded(case, image)
    coarse = np.maximum(reference.grad_cam(values[None], gradients[None])[0], 0)
    fine = guided_backprop(case, image)
    return reference.upsample(coarse, *fine.shape) * fine
