"""Eigen-CAM: the first principal component of the feature maps."""

import torch
from torch import Tensor

from torchcam_suite.cam.gradient import widened
from torchcam_suite.cam.method import method
from torchcam_suite.cam.saliency_map import at_least_float32, require_feature_maps
from torchcam_suite.errors import GradientError


@method(
    "eigencam",
    "Eigen-CAM",
    "first principal component of the feature maps; the same for every class",
    source="Muhammad and Yeasin 2020, arXiv:2008.00299",
    cost="one forward",
)
def eigen_cam(activations: Tensor, *, center: bool = False) -> Tensor:
    r"""Eigen-CAM: the feature maps projected on their first right singular vector.

    .. math::

        A = U \Sigma V^T \in \mathbb{R}^{hw \times C}, \qquad M = A v_1 = \sigma_1 u_1

    It shows what dominates the layer, whatever class is asked for.

    The sign of a singular vector is arbitrary. Here M has a non-negative inner product with the length of the feature
    vector at each position: it is bright where the layer is active, whatever its sign. Feature maps that are not
    negative, as behind a ReLU, then give a map that is not negative.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    center : bool
        Take the mean of each channel off first, as pytorch-grad-cam does and as principal components are usually
        defined; the paper does not.

    Returns
    -------
    Tensor
        M, (N, h, w), signed, float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    GradientError
        The feature maps hold NaN or infinite values.

    References
    ----------
    Muhammad and Yeasin, Eigen-CAM: Class activation map using principal components, IJCNN 2020, arXiv:2008.00299.

    Examples
    --------
    >>> eigen_cam(torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]]))
    tensor([[[5., 0.]]])
    """
    require_feature_maps(activations)
    activations = at_least_float32(activations)
    return _first_component(activations, activations.norm(dim=1), center)


@method(
    "eigengradcam",
    "Eigen-Grad-CAM",
    "first principal component of gradient times activation",
    source="pytorch-grad-cam, after arXiv:2008.00299",
    cost="one backward",
)
def eigen_grad_cam(activations: Tensor, gradients: Tensor, *, center: bool = True) -> Tensor:
    r"""Eigen-Grad-CAM: the first principal component of gradient times activation.

    .. math::

        B_{kij} = \frac{\partial y}{\partial A_{kij}} A_{kij} = U \Sigma V^T \in \mathbb{R}^{hw \times C}, \qquad
        M = B v_1

    The sign is chosen such that M has a non-negative inner product with the sum of B over its channels, which is the
    map of HiResCAM: what is bright speaks for the class. pytorch-grad-cam, which defined the method, leaves the sign
    open.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    gradients : Tensor
        dy/dA, of the same shape.
    center : bool
        Take the mean of each channel off first, as pytorch-grad-cam does.

    Returns
    -------
    Tensor
        M, (N, h, w), signed, float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    GradientError
        The activations or gradients hold NaN or infinite values.
    ValueError
        The shapes differ.

    References
    ----------
    GradCAM and EigenCAM of https://github.com/jacobgil/pytorch-grad-cam; Muhammad and Yeasin 2020, arXiv:2008.00299.
    """
    activations, gradients = widened(activations, gradients)
    products = gradients * activations
    return _first_component(products, products.sum(dim=1), center)


def _first_component(features: Tensor, likeness: Tensor, center: bool) -> Tensor:
    """(N, C, h, w) to (N, h, w), of the sign that agrees with another map (N, h, w)."""
    bad = int((~features.isfinite()).sum())
    if bad:
        raise GradientError(
            f"the layer holds {bad} NaN or infinite values out of {features.numel()}, so it has no principal "
            "component; check its activations and gradients, or use a wider dtype"
        )
    rows = features.flatten(2).transpose(1, 2)
    if center:
        rows = rows - rows.mean(dim=1, keepdim=True)
    left, strength, _ = torch.linalg.svd(rows, full_matrices=False)
    first = left[:, :, 0].unflatten(1, features.shape[2:])
    component = first * strength[:, 0, None, None]
    # of the unit vector: the product of two small maps would underflow, and leave the sign to chance
    agreement = (first * likeness).sum(dim=(1, 2), keepdim=True)
    return torch.where(agreement < 0, -component, component)
