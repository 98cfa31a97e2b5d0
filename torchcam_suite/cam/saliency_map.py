"""From the raw map of a layer to the map of the picture's size that people look at."""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcam_suite.errors import GradientError, LayerError

Rectification = Literal["before", "after", "none"]
Normalization = Literal["max", "minmax", "none"]
Interpolation = Literal["bilinear", "nearest"]


class Finished(NamedTuple):
    """Saliency maps of a batch.

    Attributes
    ----------
    raw : Tensor
        (N, h, w), at the layer's resolution; rectified if ReLU came before the upsampling.
    maps : Tensor
        (N, H, W) float32, at the picture's resolution.
    zero : Tensor
        (N,) bool, whether the map is zero everywhere: the layer holds no positive evidence.
    """

    raw: Tensor
    maps: Tensor
    zero: Tensor


def finish(
    raw: Tensor,
    size: tuple[int, int],
    *,
    relu: Rectification = "before",
    normalize: Normalization = "max",
    interpolation: Interpolation = "bilinear",
) -> Finished:
    """Rectify, upsample and normalize the raw maps of a batch.

    Bilinear upsampling takes half-pixel centres (``align_corners=False``), the rule of OpenCV's
    ``INTER_LINEAR``; downscaling does not smooth, as there.

    Parameters
    ----------
    raw : Tensor
        (N, h, w), signed, any floating dtype.
    size : tuple of int
        Height and width of the picture.
    relu : {"before", "after", "none"}
        Where negative evidence is dropped: at the layer's resolution (the papers), after upsampling (the
        Score-CAM authors' code, many Keras articles; the two differ where the sign changes), or nowhere.
    normalize : {"max", "minmax", "none"}
        ``max`` divides by the largest magnitude: values in [0, 1], or [-1, 1] with ``relu="none"``.
        ``minmax`` takes off the minimum and divides by the range: [0, 1]. ``none`` keeps the values.
    interpolation : {"bilinear", "nearest"}
        How the map is upsampled.

    Returns
    -------
    Finished
        A map without any positive evidence, and with ``minmax`` a constant map, becomes zeros and is
        flagged in ``zero``; it is never NaN.

    Raises
    ------
    GradientError
        The raw map holds NaN or infinite values.
    ValueError
        An option that does not exist.

    Examples
    --------
    >>> finish(torch.tensor([[[-1.0, 2.0], [0.0, 4.0]]]), (2, 2)).maps
    tensor([[[0.0000, 0.5000],
             [0.0000, 1.0000]]])
    """
    _require_option("relu", relu, get_args(Rectification))
    _require_option("normalize", normalize, get_args(Normalization))
    _require_option("interpolation", interpolation, get_args(Interpolation))
    raw = at_least_float32(raw.detach())
    _require_finite(raw)
    if relu == "before":
        raw = raw.relu()
    maps = upsample(raw[:, None], size, interpolation)[:, 0]
    if relu == "after":
        maps = maps.relu()
    if normalize == "max":
        maps = _divide(maps, _largest(maps.abs()))
    elif normalize == "minmax":
        maps = _minmax(maps, constant=_largest(raw) == _smallest(raw))
    return Finished(raw, maps.float(), (maps == 0).flatten(1).all(dim=1))


def upsample(maps: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> Tensor:
    """Resize (N, C, h, w) maps to ``size`` = (H, W), with half-pixel centres.

    Examples
    --------
    >>> upsample(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """
    if interpolation == "nearest":
        return F.interpolate(maps, size, mode="nearest")
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half-precision values to float32: sums over channels and positions need the digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def require_feature_maps(activations: Tensor) -> None:
    """Raise `LayerError` unless the activations are feature maps, (N, C, h, w)."""
    if activations.ndim != 4:
        raise LayerError(
            f"the layer gives activations of shape {tuple(activations.shape)}; a class activation map needs "
            "feature maps (N, C, h, w): choose a convolution, pooling or normalization layer"
        )


def _minmax(maps: Tensor, constant: Tensor) -> Tensor:
    # Interpolation rounds a constant map to not quite constant, and the division would blow that up to [0, 1].
    low = _smallest(maps)
    return _divide(maps - low, torch.where(constant, 0, _largest(maps) - low))


def _divide(maps: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale > 0, maps / scale, 0)


def _largest(maps: Tensor) -> Tensor:
    return maps.amax(dim=(1, 2), keepdim=True)


def _smallest(maps: Tensor) -> Tensor:
    return maps.amin(dim=(1, 2), keepdim=True)


def _require_finite(raw: Tensor) -> None:
    bad = int((~raw.isfinite()).sum())
    if bad:
        raise GradientError(
            f"the raw map holds {bad} NaN or infinite values out of {raw.numel()}; expected finite values: "
            "check the activations and gradients of the layer, or use a wider dtype"
        )


def _require_option(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{name}={given!r} does not exist; expected one of {', '.join(map(repr, known))}")
