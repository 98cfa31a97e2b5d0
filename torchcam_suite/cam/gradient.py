"""Class activation maps of one backward pass: feature maps weighted by their gradients."""

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
    activations, gradients = widened(activations, gradients)
    return torch.einsum("nk,nkij->nij", gradients.mean(dim=(2, 3)), activations)


@method(
    "hirescam",
    "HiResCAM",
    "gradient times activation at every position, summed over channels",
    source="Draelos and Carin 2020, arXiv:2011.08891",
    cost="one backward",
)
def hi_res_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""HiResCAM before its ReLU: each position weighted by its own gradient.

    .. math::

        M_{ij} = \sum_k \frac{\partial y}{\partial A_{kij}} A_{kij}

    Where only one dense layer follows the feature maps, M adds up to the logit without its bias: it shows the positions
    that the model used. Behind global average pooling it is Grad-CAM.

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
    Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks,
    2020, arXiv:2011.08891.

    Examples
    --------
    >>> activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    >>> hi_res_cam(activations, torch.tensor([[[[2.0, 4.0]], [[-1.0, -1.0]]]]))
    tensor([[[-1.,  8.]]])
    """
    activations, gradients = widened(activations, gradients)
    return (gradients * activations).sum(dim=1)


@method(
    "elementwisegradcam",
    "Element-wise Grad-CAM",
    "positive products of gradient and activation, summed over channels",
    source="Pillai and Pirsiavash 2021, AAAI",
    cost="one backward",
)
def element_wise_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Element-wise Grad-CAM: what speaks for the class at a position, not set off against what speaks against it.

    .. math::

        M_{ij} = \sum_k \mathrm{ReLU}\Big(\frac{\partial y}{\partial A_{kij}} A_{kij}\Big)

    Without the ReLU it is `hi_res_cam`; with the ReLU on the gradient alone it is LayerCAM.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    gradients : Tensor
        dy/dA, of the same shape.

    Returns
    -------
    Tensor
        M, (N, h, w), not negative, float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        The shapes differ.

    References
    ----------
    Pillai and Pirsiavash, Explainable models with consistent interpretations, AAAI 2021; the definition is that of
    pytorch-grad-cam's GradCAMElementWise.

    Examples
    --------
    >>> activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    >>> element_wise_grad_cam(activations, torch.tensor([[[[2.0, 4.0]], [[-1.0, -1.0]]]]))
    tensor([[[2., 8.]]])
    """
    activations, gradients = widened(activations, gradients)
    return (gradients * activations).relu().sum(dim=1)


@method(
    "xgradcam",
    "XGrad-CAM",
    "channels weighted by their gradient where they are active",
    source="Fu et al. 2020, arXiv:2008.02312",
    cost="one backward",
)
def x_grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""XGrad-CAM before its ReLU: channels weighted by the mean of their gradient, weighted by the activation.

    .. math::

        w_k = \frac{\sum_{ij} A_{kij} \, \partial y / \partial A_{kij}}{\sum_{ij} A_{kij}}, \qquad
        M_{ij} = \sum_k w_k A_{kij}

    M adds up to what HiResCAM adds up to. It is meant for feature maps that are not negative, as behind a ReLU: where a
    signed channel adds up to nearly nothing, its weight explodes. A channel whose sum is zero, up to rounding, has
    weight zero; other libraries add a small number to every sum instead.

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
    Fu et al., Axiom-based Grad-CAM, BMVC 2020, arXiv:2008.02312.

    Examples
    --------
    >>> activations = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]])
    >>> x_grad_cam(activations, torch.tensor([[[[2.0, 4.0]], [[-1.0, -1.0]]]]))
    tensor([[[ 3.5000, 10.5000]]])
    """
    activations, gradients = widened(activations, gradients)
    total = activations.sum(dim=(2, 3))
    rounding = torch.finfo(total.dtype).eps * activations.abs().sum(dim=(2, 3))
    weights = torch.where(total.abs() > rounding, (gradients * activations).sum(dim=(2, 3)) / total, 0)
    return torch.einsum("nk,nkij->nij", weights, activations)


def widened(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps and their gradients in float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        The shapes differ.
    """
    require_feature_maps(activations)
    if activations.shape != gradients.shape:
        raise ValueError(
            f"activations of shape {tuple(activations.shape)} and gradients of shape {tuple(gradients.shape)}; "
            "expected the same shape: take both from one Recorder run"
        )
    return at_least_float32(activations), at_least_float32(gradients)
