"""One row a method: its float64 reference, written with loops from the paper."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
import reference_forward as forward
import reference_gradient as backward
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
    zero_without_evidence : bool
        Whether the map at a layer of zeros is zero everywhere.
    pooled : bool
        Whether the method needs a net that ends in global average pooling.
    """

    reference: Callable[..., Array]
    options: Mapping[str, Any] = field(default_factory=dict)
    layer: str | None = None
    imported_layer: str | None = "relu6"
    permutes: bool = True
    mirrors: bool = True
    zero_without_evidence: bool = True
    pooled: bool = False


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
    "cam": [Row(backward.class_activation_map, imported_layer=None, pooled=True)],
    "gradcam++": [Row(backward.grad_cam_plus_plus, {"variant": variant}) for variant in ("paper", "official")],
    "smoothgradcam++": [
        Row(backward.smooth_grad_cam_plus_plus, {"samples": 3, "sigma": 0.2, "seed": seed}, mirrors=False)
        for seed in (0, 7)
    ],
    "hirescam": [Row(backward.hi_res_cam)],
    "elementwisegradcam": [Row(backward.element_wise_grad_cam)],
    "xgradcam": [Row(backward.x_grad_cam)],
    "layercam": [Row(backward.layer_cam)],
    "eigencam": [Row(backward.eigen_cam, {"center": center}) for center in (False, True)],
    "eigengradcam": [Row(backward.eigen_grad_cam, {"center": center}) for center in (False, True)],
    "finercam": [
        Row(backward.finer_cam, {"similar": similar, "gamma": gamma, "variant": variant})
        for similar, gamma, variant in ((1, 0.6, "paper"), (2, 0.6, "paper"), (9, 1.0, "paper"), (2, 0.8, "official"))
    ],
    "fullgrad": [Row(backward.full_grad, {"variant": variant}) for variant in ("official", "paper")],
    "guidedbackprop": [Row(backward.guided_backprop)],
    "guidedgradcam": [Row(backward.guided_grad_cam)],
    "scorecam": [Row(score_cam, {"variant": variant}) for variant in ("official", "paper", "logit", "keep-learning")],
    "fasterscorecam": [Row(forward.faster_score_cam, {"channels": channels}) for channels in (2, 4)],
    "sscam": [
        Row(forward.ss_cam, {"noise": noise, "samples": 3, "sigma": 0.5}, mirrors=False)
        for noise in ("activation", "input")
    ],
    "iscam": [Row(forward.is_cam, {"samples": 3, "path": path}) for path in ("linear", "cumulative")],
    "groupcam": [
        Row(forward.group_cam, {"groups": 2}, permutes=False),
        Row(forward.group_cam, {"groups": 32, "percentile": 0.0}),
    ],
    "ablationcam": [Row(forward.ablation_cam)],
    "reciprocam": [Row(forward.recipro_cam, {"mask": mask}) for mask in ("gaussian", "spread", "single")],
    "rise": [Row(forward.rise, {"masks": 40, "grid": 4}, mirrors=False)],
    "randommap": [
        Row(forward.random_map, {"resolution": resolution}, mirrors=False, zero_without_evidence=False)
        for resolution in ("layer", "input")
    ],
}
