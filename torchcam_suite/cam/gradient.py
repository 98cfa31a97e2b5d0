"""Class activation maps weighted by gradients."""

import torch
from torch import Tensor

from torchcam_suite.cam.method import method
from torchcam_suite.cam.saliency_map import at_least_float32, require_feature_maps


@method(
    "gradcam",
    "Grad-CAM",
    "channels weighted by their mean gradient",
    source="Selvaraju et al. 2017, arXiv:1610.02391",
    cost="one backward",
)
def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Grad-CAM before its ReLU: channels weighted by the mean of their gradient.

    .. math::

        w_k = \frac{1}{hw} \sum_{ij} \frac{\partial y}{\partial A_{kij}}, \qquad
        M_{ij} = \sum_k w_k A_{kij}

    The published map is ReLU(M); `torchcam_suite.cam.saliency_map.finish` applies it. The score y is the
    class logit: the gradient of a probability vanishes where the model is sure.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    gradients : Tensor
        dy/dA, of the same shape.

    Returns
    -------
    Tensor
        M, (N, h, w), signed, float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        The shapes differ.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391, equations 1 and 2.

    Examples
    --------
    >>> activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    >>> grad_cam(activations, torch.tensor([[[[2.0, 4.0]], [[-1.0, -1.0]]]]))
    tensor([[[0., 6.]]])
    """
    require_feature_maps(activations)
    if activations.shape != gradients.shape:
        raise ValueError(
            f"activations of shape {tuple(activations.shape)} and gradients of shape {tuple(gradients.shape)}; "
            "expected the same shape: take both from one Recorder run"
        )
    weights = at_least_float32(gradients).mean(dim=(2, 3))
    return torch.einsum("nk,nkij->nij", weights, at_least_float32(activations))
