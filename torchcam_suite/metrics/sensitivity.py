"""Max-sensitivity: how far a map changes with a change of the image that nobody sees."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchcam_suite.cam.scoring import Progress
from torchcam_suite.metrics.changed_images import black_to_white
from torchcam_suite.metrics.explainer import explainer
from torchcam_suite.metrics.figure import Figure
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.targets import Target


def max_sensitivity(
    model: Model,
    images: Any,
    method: str = "gradcam",
    layer: str | None = None,
    target: Target = None,
    *,
    options: Mapping[str, Any] | None = None,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    progress: bool | Progress = False,
) -> Figure:
    """The largest relative change of the map among images with a little noise; lower is better.

    Parameters
    ----------
    model, images, method, layer, target
        As for `torchcam_suite.explain`; the target of an image is that of the image without noise.
    options : mapping, optional
        Of the method.
    radius : float
        Largest noise, as a share of the range from black to white.
    samples : int
        Number of noisy copies of each image, each of which is explained.
    seed : int
        Of the noise, which is the same for all images.
    progress : bool or function
        As for `torchcam_suite.explain`; counts the copies.

    Returns
    -------
    Figure

    Raises
    ------
    LayerError, TargetError, GradientError, ValueError
        As for `torchcam_suite.explain`.

    References
    ----------
    See `largest_change`.
    """
    name = f"max_sensitivity[radius={radius:g},samples={samples}]"
    prepared = model.prepare(images)
    with reporting(name.partition("[")[0], progress) as report:
        maps_of = explainer(model, prepared, method, layer, target, options or {})
        counted = _counted(partial(maps_of, model), samples + 1, report)
        values = largest_change(counted, prepared, radius * black_to_white(model), samples=samples, seed=seed)
    return Figure(name, "lower", values.cpu())


def largest_change(
    maps_of: Callable[[Tensor], Tensor], images: Tensor, radius: Tensor | float, *, samples: int = 10, seed: int = 0
) -> Tensor:
    r"""The largest relative change of a map among images with noise.

    .. math::

        \max_{s} \frac{\lVert M(X + e_s) - M(X) \rVert_2}{\lVert M(X) \rVert_2}, \qquad e_s \sim U(-r, r)

    Parameters
    ----------
    maps_of : function
        Images (N, C, H, W) to maps (N, h, w), of the same target whatever the noise.
    images : Tensor
        X, (N, C, H, W), ready for the model.
    radius : Tensor or float
        r, that can be broadcast to the images.
    samples : int
        Number of noisy copies of each image.
    seed : int
        Of the noise, which is the same for all images, so that a batch gives what single images give.

    Returns
    -------
    Tensor
        (N,) float64, from 0. Where the map of the image itself is zero, the change is not divided, as in Captum.

    References
    ----------
    Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, arXiv:1901.09392, definition 2,
    divided by the norm of the map as in the authors' code and in Captum's `sensitivity_max`.
    """
    if samples < 1:
        raise ValueError(f"samples={samples}; expected at least 1")
    generator = torch.Generator().manual_seed(seed)
    plain = maps_of(images).double()
    largest = torch.zeros(len(images), dtype=torch.float64, device=plain.device)
    for _ in range(samples):
        noise = 2 * torch.rand(images.shape[1:], generator=generator, dtype=torch.float32, device="cpu") - 1
        change = maps_of(images + noise.to(images) * radius).double() - plain
        largest = torch.maximum(largest, change.flatten(1).norm(dim=1))
    size = plain.flatten(1).norm(dim=1)
    return largest / torch.where(size > 0, size, 1)


def _counted(maps_of: Callable[[Tensor], Tensor], total: int, report: Progress | None) -> Callable[[Tensor], Tensor]:
    """The same function, each call of which is reported."""
    done = 0

    def counted(images: Tensor) -> Tensor:
        nonlocal done
        maps = maps_of(images)
        done += 1
        if report is not None:
            report(done, total)
        return maps

    return counted
