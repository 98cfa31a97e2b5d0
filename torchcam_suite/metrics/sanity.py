"""The sanity check: maps of a model must not survive the loss of its weights."""

from collections.abc import Mapping
from typing import Any

import torch

from torchcam_suite.cam.scoring import Progress
from torchcam_suite.metrics.agreement import rank_correlations
from torchcam_suite.metrics.explainer import explainer
from torchcam_suite.metrics.figure import Randomisation
from torchcam_suite.metrics.random_weights import How, randomised
from torchcam_suite.metrics.structural_similarity import structural_similarity
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.targets import Target


def randomisation(
    model: Model,
    images: Any,
    method: str = "gradcam",
    layer: str | None = None,
    target: Target = None,
    *,
    options: Mapping[str, Any] | None = None,
    how: How = "permute",
    stages: int = 8,
    seed: int = 0,
    progress: bool | Progress = False,
) -> Randomisation:
    """Compare the maps with those of the same model with random weights, from the head down.

    Maps that stay as they are do not show what the model has learnt. A copy of the model is changed.

    Parameters
    ----------
    model, images, method, layer, target
        As for `torchcam_suite.explain`; the target is that of the trained model.
    options : mapping, optional
        Of the method.
    how, stages, seed
        As for `torchcam_suite.metrics.random_weights.randomised`.
    progress : bool or function
        As for `torchcam_suite.explain`; counts the stages.

    Returns
    -------
    Randomisation
        A constant map, as one without evidence, has the rank correlation 0.

    Raises
    ------
    LayerError, TargetError, GradientError, ValueError
        As for `torchcam_suite.explain` and `randomised`.

    References
    ----------
    Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv:1810.03292, section 4.1.
    """
    prepared = model.prepare(images)
    layers, correlations, similarities = [], [], []
    with reporting("randomisation", progress) as report:
        maps_of = explainer(model, prepared, method, layer, target, options or {})
        trained = maps_of(model, prepared)
        for stage in randomised(model, how=how, stages=stages, seed=seed):
            maps = maps_of(stage.model, prepared)
            found = [correlation or 0.0 for correlation in rank_correlations(maps, trained)]
            layers.append(stage.layer)
            correlations.append(torch.tensor(found, dtype=torch.float64, device="cpu"))
            similarities.append(structural_similarity(maps, trained).cpu())
            if report is not None:
                report(len(layers), stages)
    return Randomisation(
        f"random weights,{how}", tuple(layers), torch.stack(correlations, 1), torch.stack(similarities, 1)
    )
