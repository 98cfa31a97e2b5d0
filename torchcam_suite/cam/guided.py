"""Guided backpropagation, and Grad-CAM refined by it."""

from torch import Tensor

from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.cam.method import method
from torchcam_suite.cam.saliency_map import at_least_float32, upsample


@method(
    "guidedbackprop",
    "Guided backpropagation",
    "gradient at the input, where ReLUs let only positive gradients through",
    source="Springenberg et al. 2015, arXiv:1412.6806",
    cost="several backwards",
)
def guided_backprop(guided_gradient: Tensor) -> Tensor:
    r"""Guided backpropagation: the largest guided gradient of each pixel's channels.

    .. math::

        M_{ij} = \max_c |G_{cij}|

    with G the gradient of the logit at the input in which every ReLU lets through what is positive of the gradient from
    above where its input is positive. G is an image of its own, with three channels and both signs; as a map it gets
    one value a pixel, the largest magnitude over the channels, as saliency maps do (Simonyan et al. 2014, section 3.1).
    A sum would let channels of opposite signs cancel, as at every edge between colours. Captum gives G itself, and
    guides the modules of class `nn.ReLU` alone.

    The map is sharp, but depends little on the class: a random last layer hardly changes it (Adebayo et al. 2018).

    Parameters
    ----------
    guided_gradient : Tensor
        G, (N, c, H, W).

    Returns
    -------
    Tensor
        M, (N, H, W), not negative, float32 or wider.

    Raises
    ------
    LayerError
        By `torchcam_suite.explain`: the model calls no ReLU, so that there is nothing to guide.

    References
    ----------
    Springenberg et al., Striving for simplicity: The all convolutional net, ICLR Workshop 2015, arXiv:1412.6806.
    """
    return at_least_float32(guided_gradient).abs().amax(dim=1)


@method(
    "guidedgradcam",
    "Guided Grad-CAM",
    "guided backpropagation times upsampled Grad-CAM",
    source="Selvaraju et al. 2017, arXiv:1610.02391",
    cost="several backwards",
)
def guided_grad_cam(activations: Tensor, gradients: Tensor, guided_gradient: Tensor) -> Tensor:
    r"""Guided Grad-CAM: the details of guided backpropagation where Grad-CAM sees the class.

    .. math::

        M = \max_c |G_c \circ \mathrm{Up}(\mathrm{ReLU}(L))| = \mathrm{Up}(\mathrm{ReLU}(L)) \circ \max_c |G_c|

    with L the map of `torchcam_suite.cam.gradient.grad_cam`, and G and the maximum over the input's channels as for
    `guided_backprop`. Upsampling is bilinear; Captum's is `nearest` unless another one is asked for.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    gradients : Tensor
        dy/dA, of the same shape; not guided.
    guided_gradient : Tensor
        G, (N, c, H, W).

    Returns
    -------
    Tensor
        M, (N, H, W), not negative, float32 or wider: at the input's resolution.

    Raises
    ------
    LayerError
        The activations are not feature maps; by `torchcam_suite.explain`: the model calls no ReLU.
    ValueError
        The shapes of activations and gradients differ.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391, section 3.2.
    """
    fine = guided_backprop(guided_gradient)
    coarse = grad_cam(activations, gradients).relu()
    return upsample(coarse[:, None], (fine.shape[1], fine.shape[2]))[:, 0] * fine
