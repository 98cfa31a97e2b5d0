"""Gradients of a target's score at layers, and their products with activations: one pass an image for all layers."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from torchcam_suite.concepts.gram import products
from torchcam_suite.concepts.training import Trained
from torchcam_suite.errors import GradientError, TargetError
from torchcam_suite.features.pooling import Pool, pooled
from torchcam_suite.grids import Grid
from torchcam_suite.layers import Layer
from torchcam_suite.models import Model
from torchcam_suite.recorder import Recorder
from torchcam_suite.streaming import stream
from torchcam_suite.targets import Target, Targets, part_of, resolve

Of = Literal["logit", "loss"]


def cross_products(
    model: Model,
    images: Any,
    target: Target,
    trained: Trained,
    *,
    of: Of,
    batch_size: int,
    workers: int | None,
    memory: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Products of the gradients at m images with the activations of N pictures, by layer.

    Gradients are not kept: each group of images, as many as fit into `memory`, is multiplied and let go.

    Returns
    -------
    dict of str to Tensor (m, N)
        float64, on the model's device.
    """
    layers, count = trained.layers, len(images)
    room = max(1, memory // (4 * sum(probes.activations.shape[1] for probes in layers.values())))
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    held: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    done = waiting = 0
    for batch in stream(model, images, batch_size=min(batch_size, room), workers=workers):
        wanted = part_of(target, batch.positions)
        for layer, found in gradients(model, batch.images, wanted, list(layers), trained.training.pool, of).items():
            held[layer].append(found.cpu().numpy())
        done, waiting = done + len(batch.positions), waiting + len(batch.positions)
        if progress is not None:
            progress(done, count)
        if done == count or waiting + batch_size > room:
            for layer, probes in layers.items():
                rows = np.concatenate(held[layer])
                parts[layer].append(products(rows, probes.activations, model.device, centred=probes.centred))
                held[layer], waiting = [], 0
    return {layer: torch.cat(found) for layer, found in parts.items()}


def gradients(
    model: Model, images: Tensor, target: Target, layers: Sequence[str], pool: Pool = "flatten", of: Of = "logit"
) -> dict[str, Tensor]:
    """Gradient of the target's score at each layer, (n, d), of a batch (n, C, H, W) that is ready for the model.

    Parameters
    ----------
    pool : {"flatten", "mean"}
        The derivative by each value of the layer's output, or, by channel, for a change at all positions alike.
    of : {"logit", "loss"}
        What is differentiated: the target's logit, as the paper has it; or less the loss of the authors'
        implementation, a cross-entropy over the softmax of the probabilities, whose signs differ from the logit's.

    Raises
    ------
    GradientError
        No gradient arrives at a layer, or it holds NaN or infinity.
    """
    sites = {layer: model.layers.site(layer) for layer in layers}
    with torch.inference_mode(False), Recorder(model.module, list(sites.values()), gradients=True) as recorder:
        logits = recorder.run(model.logits, images)
        targets = resolve(target, logits.detach(), model.class_names)
        score = (
            targets.score(logits, model.to_probabilities, "logit") if of == "logit" else -_loss(model, targets, logits)
        )
        found = recorder.gradients(score.sum())
    for layer, site in sites.items():
        if not bool(torch.isfinite(found[site]).all()):
            raise GradientError(f"the gradient at layer {layer!r} holds NaN or infinity; use the model in float32")
    return {layer: _by_feature(found[site], model.layers[layer], pool) for layer, site in sites.items()}


def require_target(model: Model, target: Target, count: int, of: Of) -> None:
    """Raise `TargetError` for a target that the model has not, before hours are spent on its activations."""
    with torch.no_grad():
        classes = model.logits(model.prepare(torch.zeros(1, *model.input, device="cpu"))).shape[1]
    found = resolve(target, torch.zeros(count, classes, device="cpu"), model.class_names)
    if of == "loss" and found.classes is None:
        raise TargetError("gradient='loss' is the reference implementation's, of a class; the target is a function")


def _loss(model: Model, targets: Targets, logits: Tensor) -> Tensor:
    assert targets.classes is not None
    probabilities = model.to_probabilities(logits)
    if probabilities.shape[1] == 1:
        probabilities = torch.cat([1 - probabilities, probabilities], dim=1)
    return cross_entropy(probabilities, targets.classes, reduction="none")


def _by_feature(gradient: Tensor, layer: Layer, pool: Pool) -> Tensor:
    """In the order of `features`; where those are means over positions, the sum: all positions move together."""
    rows = pooled(gradient, layer, pool)
    if pool == "flatten" or layer.map_shape is None:
        return rows
    positions = layer.grid.positions if isinstance(layer.grid, Grid) else gradient.shape[2] * gradient.shape[3]
    return rows * positions
