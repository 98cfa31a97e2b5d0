"""FullGrad: the gradients of the input and of all biases together."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from torchcam_suite.cam.method import Rules, method
from torchcam_suite.cam.saliency_map import at_least_float32, upsample

Variant = Literal["official", "paper"]


@method(
    "fullgrad",
    "FullGrad",
    "gradients of the input and of the biases of all layers, at the input's resolution",
    source="Srinivas and Fleuret 2019, arXiv:1905.00780",
    cost="one backward",
    rules=Rules(normalize="minmax"),
)
def full_grad(
    images: Tensor, input_gradient: Tensor, bias_gradients: Sequence[Tensor], *, variant: Variant = "official"
) -> Tensor:
    r"""FullGrad: what the input and each bias add to the logit, without sign.

    .. math::

        y = \sum \frac{\partial y}{\partial X} \circ X + \sum_l \sum \frac{\partial y}{\partial b_l} b_l, \qquad
        M = \sum_c \psi\Big(\frac{\partial y}{\partial X} \circ X\Big)_c + \sum_l \sum_{k} \psi\Big(\frac{\partial
        y}{\partial b_l} b_l\Big)_k

    with psi the magnitude, rescaled to [0, 1] and upsampled to the input's size. The first equation holds where the
    model is piecewise linear with the ReLU's kind of pieces, through the origin: ReLU, max and average pooling, but not
    ReLU6, tanh or sigmoid, whose own biases are not counted.

    Counted are the biases of all modules that give feature maps (N, C, h, w) and have a `bias` of C values, as
    convolutions; and of a BatchNormalization what it adds in eval mode, beta - mean * gamma / sqrt(var + eps). Those of
    dense layers have no place in the image. An imported model's layers are such modules. A constant that a model adds
    on its own, as the offset of a Keras Rescaling layer, is no module's bias and is left out. In a model that `fuse`
    made, the biases of a convolution and its BatchNormalization are one, so that the map is not the whole model's.

    ``official``
        The authors' code rescales all channels of a layer together, so that weak channels stay weak.
    ``paper``
        The paper's formula applies psi to each channel alone, and pytorch-grad-cam does so.

    Upsampling is bilinear with half-pixel centres; the authors' code aligns corners.

    Parameters
    ----------
    images : Tensor
        X, (N, c, H, W).
    input_gradient : Tensor
        dy/dX, of the same shape.
    bias_gradients : sequence of Tensor
        (N, C, h, w) each: the gradient at every position of a layer's output, times the bias.
    variant : {"official", "paper"}
        See above.

    Returns
    -------
    Tensor
        M, (N, H, W), not negative, float32 or wider.

    References
    ----------
    Srinivas and Fleuret, Full-gradient representation for neural network visualization, NeurIPS 2019,
    arXiv:1905.00780; the authors' code at https://github.com/idiap/fullgrad-saliency.

    Examples
    --------
    >>> images, gradient = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[-1.0, 2.0]]]])
    >>> full_grad(images, gradient, [torch.tensor([[[[-3.0, 0.0]], [[1.0, 2.0]]]])])
    tensor([[[1.3333, 1.6667]]])
    """
    dims = (2, 3) if variant == "paper" else (1, 2, 3)
    size = images.shape[2], images.shape[3]
    parts = [at_least_float32(images) * at_least_float32(input_gradient), *map(at_least_float32, bias_gradients)]
    # summed first: upsampling is linear, and one map is less work than all channels
    shares = [_to_unit_range(part.abs(), dims).sum(dim=1, keepdim=True) for part in parts]
    return torch.stack([upsample(share, size)[:, 0] for share in shares]).sum(dim=0)


def _to_unit_range(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    low = values.amin(dim=dims, keepdim=True)
    span = values.amax(dim=dims, keepdim=True) - low
    return torch.where(span > 0, (values - low) / span, 0)
