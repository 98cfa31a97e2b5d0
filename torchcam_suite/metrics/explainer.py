"""A method whose maps are computed again, of other images or another model."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from torchcam_suite.cam import make_method
from torchcam_suite.errors import ZeroMapWarning
from torchcam_suite.explain import explain
from torchcam_suite.metrics.changed_images import targets_of
from torchcam_suite.models import Model
from torchcam_suite.targets import Target


def explainer(
    model: Model, images: Tensor, method: str, layer: str | None, target: Target, options: Mapping[str, Any]
) -> Callable[[Model, Tensor], Tensor]:
    """A method as a function of a model and images (N, C, H, W) that gives maps (N, H, W).

    Target and layer are those of the given model and images, whatever the function is called with.
    """
    if layer is None and make_method(method, {}).method.takes_layer:
        layer = model.default_layer
    if target is None:
        target = targets_of(model, images, None)[1].classes

    def maps_of(other: Model, changed: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # a model of random weights often has no evidence for the target
            warnings.simplefilter("ignore", ZeroMapWarning)
            return explain(other, changed, method=method, layer=layer, target=target, **options).maps

    return maps_of
