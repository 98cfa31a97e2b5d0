"""Grad-CAM++, and its mean over noisy images."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torchcam_suite.cam.bounds import require_between, require_count
from torchcam_suite.cam.gradient import widened
from torchcam_suite.cam.method import method
from torchcam_suite.cam.requests import Record
from torchcam_suite.cam.saliency_map import at_least_float32

Variant = Literal["paper", "official"]


@method(
    "gradcam++",
    "Grad-CAM++",
    "channels weighted by their positive gradients, positions by higher derivatives",
    source="Chattopadhay et al. 2018, arXiv:1710.11063",
    cost="one backward",
)
def grad_cam_plus_plus(activations: Tensor, gradients: Tensor, *, variant: Variant = "paper") -> Tensor:
    r"""Grad-CAM++ before its ReLU: channels weighted by a weighted sum of their positive gradients.

    .. math::

        \alpha_{kij} = \frac{g_{kij}^2}{2 g_{kij}^2 + g_{kij}^3 \sum_{ab} A_{kab}}
        = \frac{1}{2 + g_{kij} \sum_{ab} A_{kab}}, \\
        w_k = \sum_{ij} \alpha_{kij} \mathrm{ReLU}(g_{kij}), \qquad M_{ij} = \sum_k w_k A_{kij}

    with g = dy/dA of the logit y. The derivation is for exp(y), whose factor is common to all weights and is left out.
    Alpha is 0 where g = 0, and where its denominator is 0. The shorter form is the one that is computed: squares and
    cubes of small gradients underflow.

    ``paper``
        As above.
    ``official``
        The authors' code also divides the alphas of each channel by their sum over the positions with a positive
        gradient, so that channels with few such positions weigh more.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w), meant to be those behind a ReLU.
    gradients : Tensor
        dy/dA, of the same shape.
    variant : {"paper", "official"}
        See above.

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
    Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, equation 19; the authors' code at
    https://github.com/adityac94/Grad_CAM_plus_plus.

    Examples
    --------
    >>> activations = torch.tensor([[[[1.0, 3.0]]]])
    >>> grad_cam_plus_plus(activations, torch.tensor([[[[0.5, -0.25]]]]))
    tensor([[[0.1250, 0.3750]]])
    >>> grad_cam_plus_plus(activations, torch.tensor([[[[0.5, -0.25]]]]), variant="official")
    tensor([[[0.5000, 1.5000]]])
    """
    activations, gradients = widened(activations, gradients)
    denominator = 2 + gradients * activations.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where((gradients != 0) & (denominator != 0), 1 / denominator, 0)
    if variant == "official":
        total = torch.where(gradients > 0, alpha, 0).sum(dim=(2, 3), keepdim=True)
        alpha = alpha / torch.where(total != 0, total, 1)
    return _weighted(activations, alpha, gradients)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise that is the same whenever it is asked for, and the same for each image of a batch.

    Attributes
    ----------
    seed, number : int
        Which noise.
    sigma : float
        Its standard deviation, as a share of the range (maximum - minimum) of the image.
    """

    seed: int
    number: int
    sigma: float

    def __call__(self, images: Tensor) -> Tensor:
        """(N, c, H, W) -> noisy images, of the same shape and dtype."""
        # Drawn on the CPU: devices draw different numbers.
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.number)
        noise = torch.randn(images.shape[1:], generator=generator, dtype=torch.float32, device="cpu").to(images)
        spread = images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True)
        return images + self.sigma * spread * noise


@method(
    "smoothgradcam++",
    "Smooth Grad-CAM++",
    "Grad-CAM++ with derivatives averaged over noisy images",
    source="Omeiza et al. 2019, arXiv:1908.01224",
    cost="several backwards",
)
def smooth_grad_cam_plus_plus(
    activations: Tensor, *, samples: int = 10, sigma: float = 0.15, seed: int = 0
) -> Generator[Record, tuple[Tensor, Tensor], Tensor]:
    r"""Smooth Grad-CAM++ before its ReLU: Grad-CAM++ of mean derivatives.

    .. math::

        D^p = \frac{1}{n} \sum_{m=1}^{n} g(X + \epsilon_m)^p, \qquad
        \alpha_{kij} = \frac{D^2_{kij}}{2 D^2_{kij} + D^3_{kij} \sum_{ab} A_{kab}}, \\
        w_k = \sum_{ij} \alpha_{kij} \mathrm{ReLU}(D^1_{kij}), \qquad M_{ij} = \sum_k w_k A_{kij}

    with g = dy/dA of the noisy image, and A of the image without noise. Without noise it is `grad_cam_plus_plus`. The
    paper's text has the first derivative in the numerator of alpha; the second is what Grad-CAM++, which it extends,
    and other implementations have.

    All images get the same noise, so that a map does not depend on the batch; a mirrored image does not get mirrored
    noise.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w), meant to be those behind a ReLU.
    samples : int
        n, how many noisy images; one forward and one backward pass each.
    sigma : float
        Standard deviation of the noise as a share of each image's range, 0 to 1 (as in SmoothGrad, which advises 0.1
        to 0.2).
    seed : int
        Of the noise.

    Yields
    ------
    Record
        The gradients of one noisy batch after the other.

    Returns
    -------
    Tensor
        M, (N, h, w), signed, float32 or wider.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        An option out of its range.

    References
    ----------
    Omeiza et al., Smooth Grad-CAM++, 2019, arXiv:1908.01224; Smilkov et al., SmoothGrad, 2017, arXiv:1706.03825.
    """
    require_count("samples", samples)
    require_between("sigma", sigma, 0, 1)
    powers = _no_powers(at_least_float32(activations))
    for number in range(samples):
        _, gradients = yield Record(Noise(seed, number, sigma))
        activations, gradients = widened(activations, gradients)
        powers = _with_gradients(powers, gradients, 1 / samples)
    denominator = 2 * powers.second + powers.size * powers.third * activations.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(denominator != 0, powers.second / denominator, 0)
    return _weighted(activations, alpha, powers.size * powers.first)


class _Powers(NamedTuple):
    """Mean powers of gradients, as multiples of the powers of the largest one: plain squares would underflow.

    Attributes
    ----------
    size : Tensor
        (N, C, h, w), the largest magnitude so far at each position.
    first, second, third : Tensor
        Means of g / size, and of its square and cube.
    """

    size: Tensor
    first: Tensor
    second: Tensor
    third: Tensor


def _no_powers(like: Tensor) -> _Powers:
    return _Powers(*[torch.zeros_like(like)] * 4)


def _with_gradients(powers: _Powers, gradients: Tensor, share: float) -> _Powers:
    """Add gradients (N, C, h, w) that count for a share of the mean."""
    size = torch.maximum(powers.size, gradients.abs())
    divisor = torch.where(size > 0, size, 1)
    shrunk, unit = powers.size / divisor, gradients / divisor
    return _Powers(
        size,
        powers.first * shrunk + unit * share,
        powers.second * shrunk**2 + unit**2 * share,
        powers.third * shrunk**3 + unit**3 * share,
    )


def _weighted(activations: Tensor, alpha: Tensor, gradients: Tensor) -> Tensor:
    weights = (alpha * gradients.relu()).sum(dim=(2, 3))
    return torch.einsum("nk,nkij->nij", weights, activations)
