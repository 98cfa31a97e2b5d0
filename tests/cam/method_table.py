"""One row a method: its float64 reference, written with loops from the paper."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
from cases import Array, Case


@dataclass(frozen=True)
class Row:
    """How a method is tested.

    Attributes
    ----------
    reference : function
        A case and the number of an image, and the method's options as keywords, to the raw map (h, w) before ReLU.
    options : dict
        Passed to the method, and to the reference.
    layer : str, optional
        Of the toy net, where the method does not suit the usual one.
    imported_layer : str or None
        Of the imported model `keras224_func` (feature maps 8 x 8 x 8 at `relu6`); None where no layer suits.
    permutes : bool
        Whether the map stays as it is if the layer's channels change places.
    mirrors : bool
        Whether a symmetric net gives the mirrored map for a mirrored image.
    """

    reference: Callable[..., Array]
    options: Mapping[str, Any] = field(default_factory=dict)
    layer: str | None = None
    imported_layer: str | None = "relu6"
    permutes: bool = True
    mirrors: bool = True


def grad_cam(case: Case, image: int) -> Array:
    picture = case.picture(image)
    gradient = case.gradient(picture, lambda logits: logits[case.classes[image]])
    return reference.grad_cam(case.activations(picture)[None], gradient[None])[0]


def score_cam(case: Case, image: int, variant: str = "official") -> Array:
    picture = case.picture(image)
    activations = case.activations(picture)

    def value(of: str) -> reference.Value:
        return lambda masked, _: case.score(case.logits(masked), image, of)

    weights = reference.score_weights(activations, picture, image, value("probability"), value("logit"), variant)
    return np.einsum("k,kij->ij", weights, activations)


ROWS: dict[str, list[Row]] = {
    "gradcam": [Row(grad_cam)],
    "scorecam": [Row(score_cam, {"variant": variant}) for variant in ("official", "paper", "logit", "keep-learning")],
}
