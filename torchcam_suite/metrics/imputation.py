"""Noisy linear imputation: removed pixels become the weighted mean of their neighbours."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def impute_linearly(images: Tensor, known: Tensor, *, tolerance: float = 1e-6) -> Tensor:
    r"""Fill in removed pixels so that each is the weighted mean of its eight neighbours.

    .. math::

        x_i \sum_{j \in N(i)} w_{ij} = \sum_{j \in N(i)} w_{ij} x_j \quad \text{for each removed } i

    with w = 1/6 for direct and 1/12 for diagonal neighbours; neighbours outside the image do not count. The matrix of
    this system is symmetric and positive definite, so conjugate gradients solve it, for all images and channels
    together. They start from the solution for the picture of half the size, which makes large holes cheap.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W); the values of removed pixels are not read.
    known : Tensor
        (N, H, W) bool, false where a pixel is removed; true at least once an image.
    tolerance : float
        Where the iteration ends: norm of the residual by norm of the right-hand side.

    Returns
    -------
    Tensor
        (N, C, H, W) of the dtype of `images`; known pixels keep their values.

    Raises
    ------
    ValueError
        Shapes that do not fit, or an image of which nothing is known.

    References
    ----------
    Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022, arXiv:2202.00449,
    section 4.2; the authors solve the system with SciPy.

    Examples
    --------
    >>> image = torch.tensor([[[[0.0, 99.0, 6.0]]]])
    >>> impute_linearly(image, torch.tensor([[[True, False, True]]]))
    tensor([[[[0., 3., 6.]]]])
    """
    if known.shape != (len(images), *images.shape[2:]) or known.dtype != torch.bool:
        raise ValueError(
            f"images {tuple(images.shape)} with known {tuple(known.shape)} of {known.dtype}; expected (N, C, H, W) and "
            "(N, H, W) bool"
        )
    if not bool(known.flatten(1).any(dim=1).all()):
        raise ValueError("nothing is known of an image, so there is nothing to fill it with; remove fewer pixels")
    # float64, because a large hole is ill-conditioned
    filled = _fill(images.double(), known[:, None], tolerance)
    return torch.where(known[:, None], images, filled.to(images.dtype))


def _fill(images: Tensor, known: Tensor, tolerance: float) -> Tensor:
    values = torch.where(known, images, 0)
    degree = _neighbours(torch.ones_like(values[:, :1]))
    right = torch.where(known, 0, _neighbours(values))

    def left(unknown: Tensor) -> Tensor:
        return torch.where(known, 0, degree * unknown - _neighbours(unknown))

    start = torch.where(known, 0, _guess(values, known, tolerance))
    return values + _conjugate_gradients(left, right, start, tolerance)


def _guess(values: Tensor, known: Tensor, tolerance: float) -> Tensor:
    """The solution for the picture of half the size; the mean of what is known, where there is no such picture."""
    share = known.to(values)
    if max(values.shape[2:]) < 4:
        return (values.sum(dim=(2, 3), keepdim=True) / share.sum(dim=(2, 3), keepdim=True)).expand_as(values)
    halved, weight = (F.avg_pool2d(part, 2, ceil_mode=True) for part in (values, share))
    there = weight > 0
    coarse = _fill(torch.where(there, halved / weight, 0), there, tolerance)
    return F.interpolate(coarse, values.shape[2:], mode="bilinear", align_corners=False)


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sum of the neighbours of each pixel; there is nothing outside.

    The weights are those of (1, 2, 1) down and across, by 12, without the pixel itself: 4 times as fast as a
    convolution in float64.
    """
    down = 2 * values
    down[:, :, 1:] += values[:, :, :-1]
    down[:, :, :-1] += values[:, :, 1:]
    across = 2 * down
    across[..., 1:] += down[..., :-1]
    across[..., :-1] += down[..., 1:]
    return across.div_(12).sub_(values, alpha=1 / 3)


def _conjugate_gradients(left: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, tolerance: float) -> Tensor:
    """Solve left(x) = right for each image and channel."""
    solution, residual = start, right - left(start)
    direction, square = residual, _dot(residual, residual)
    goal = tolerance**2 * _dot(right, right)
    for _ in range(right[0, 0].numel()):
        # what is solved stays as it is: going on would divide by zero
        active = square > goal
        if not bool(active.any()):
            break
        image = left(direction)
        step = torch.where(active, square / _dot(direction, image), 0)
        solution = solution + step * direction
        residual = residual - step * image
        before, square = square, _dot(residual, residual)
        direction = residual + torch.where(active, square / before, 0) * direction
    return solution


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(dim=(2, 3), keepdim=True)
