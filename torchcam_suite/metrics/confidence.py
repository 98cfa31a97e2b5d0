"""Average drop, average gain and increase in confidence: whether the part of the image that a map shows suffices."""

from typing import Any

import torch
from torch import Tensor

from torchcam_suite.metrics.changed_images import ChunkSize, confidences
from torchcam_suite.metrics.figure import Figure
from torchcam_suite.models import Model
from torchcam_suite.targets import Target


def confidence_change(
    model: Model, images: Any, maps: Tensor, target: Target = None, *, chunk_size: ChunkSize = "auto"
) -> tuple[Figure, Figure, Figure]:
    """Average drop, average gain and increase in confidence: what is left of the target in the image times its map.

    Parameters
    ----------
    model : Model
        What the maps explain.
    images : as for `Model.prepare`
        The images that they explain.
    maps : Tensor
        (N, H, W) in [0, 1], at the size of the model's input, as `Explanation.maps`.
    target : as for `torchcam_suite.explain`
        What they explain; None is the top class. A function has to give values in [0, 1].
    chunk_size : int or "auto"
        Images in one forward pass.

    Returns
    -------
    tuple of Figure
        `average_drop[image*map,%]` (lower is better), `average_gain[image*map,%]` and
        `increase_in_confidence[image*map]` (higher); see the functions of these names for formulas
        and papers.

    Raises
    ------
    HeadError
        The model has logits whose probabilities are not known.
    TargetError
        The target does not fit the model, or a function gives values outside [0, 1].
    ValueError
        The maps do not fit the images.
    """
    queue = confidences(model, images, maps, target, chunk_size)
    if not bool(((maps >= 0) & (maps <= 1)).all()):
        raise ValueError(
            f"maps with values from {float(maps.min()):.3g} to {float(maps.max()):.3g}; expected [0, 1], as "
            "Explanation.maps"
        )
    before, prepared = queue.before, queue.images
    maps = maps.to(prepared.device)

    def build(numbers: Tensor) -> Tensor:
        return masked(prepared[numbers], maps[numbers])

    after = queue.after(torch.arange(len(prepared), device=prepared.device), build, None)
    return (
        Figure("average_drop[image*map,%]", "lower", average_drop(before, after).cpu()),
        Figure("average_gain[image*map,%]", "higher", average_gain(before, after).cpu()),
        Figure("increase_in_confidence[image*map]", "higher", increase_in_confidence(before, after).cpu()),
    )


def masked(images: Tensor, maps: Tensor) -> Tensor:
    """Multiply images by their maps: where a map is 0, the model sees its zero.

    Which colour that is depends on the preprocessing: black for `unit` and `raw`, middle grey for `tf`, the mean of
    ImageNet for `caffe` and `torch`.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W), ready for the model.
    maps : Tensor
        (N, H, W) in [0, 1].
    """
    return images * maps[:, None].to(images)


def average_drop(before: Tensor, after: Tensor) -> Tensor:
    r"""Tell by how many percent the confidence falls when only what the map shows is left; lower is better.

    .. math::

        100 \, \frac{\max(0, Y - O)}{Y}

    Parameters
    ----------
    before, after : Tensor
        (N,), the probability of the target for the image, Y, and for the image times its map, O.

    Returns
    -------
    Tensor
        (N,) in percent; 0 where Y is 0, which nothing can fall from. Their mean is the paper's figure.

    References
    ----------
    Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, section 4.1. pytorch-grad-cam's `DropInConfidence` is
    max(0, Y - O), not divided by Y.

    Examples
    --------
    >>> average_drop(torch.tensor([0.8, 0.5]), torch.tensor([0.2, 0.9]))
    tensor([75.,  0.])
    """
    return 100 * torch.where(before > 0, (before - after).relu() / before, 0)


def average_gain(before: Tensor, after: Tensor) -> Tensor:
    r"""Tell by how many percent of what is missing to certainty the confidence rises; higher is better.

    .. math::

        100 \, \frac{\max(0, O - Y)}{1 - Y}

    Parameters
    ----------
    before, after : Tensor
        As for `average_drop`.

    Returns
    -------
    Tensor
        (N,) in percent; 0 where Y is 1, above which nothing can rise.

    References
    ----------
    Zhang et al., Opti-CAM, 2023, arXiv:2301.07002, section 4.

    Examples
    --------
    >>> average_gain(torch.tensor([0.8, 0.5]), torch.tensor([0.2, 0.9]))
    tensor([ 0.0000, 80.0000])
    """
    return 100 * torch.where(before < 1, (after - before).relu() / (1 - before), 0)


def increase_in_confidence(before: Tensor, after: Tensor) -> Tensor:
    """Tell for each image whether what the map shows alone is classified with more confidence; true is better.

    Parameters
    ----------
    before, after : Tensor
        As for `average_drop`.

    Returns
    -------
    Tensor
        (N,) bool. The paper's figure, also called average increase, is the share of true in percent.

    References
    ----------
    Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, section 4.1.

    Examples
    --------
    >>> increase_in_confidence(torch.tensor([0.8, 0.5]), torch.tensor([0.2, 0.9]))
    tensor([False,  True])
    """
    return after > before
