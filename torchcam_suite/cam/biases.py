"""The biases of a model's layers that give feature maps."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchcam_suite.cam.saliency_map import at_least_float32
from torchcam_suite.grids import channels_last
from torchcam_suite.recorder import Site, layer_calls


def spatial_biases(module: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor]) -> dict[Site, Tensor]:
    """What each call of a module with feature maps (C, h, w) adds to every position of them.

    Parameters
    ----------
    module : nn.Module
        What is taken apart.
    images : Tensor
        (N, c, H, W); one forward pass of the first tells which modules are called.
    forward : function
        The module itself, or a method of it.

    Returns
    -------
    dict of Site to Tensor
        (C, 1, 1) each, float32 or wider.
    """
    calls, _ = layer_calls(module, images[:1], forward)
    found: dict[Site, Tensor] = {}
    for call in calls:
        part = module.get_submodule(call.site.module)
        bias = bias_of(part)
        # channels last, where there are as many rows as channels, look the same
        first = len(call.shape) == 3 and channels_last(part) is not True
        within = [module.get_submodule(site.module) for site in found if site.module.startswith(f"{call.site.module}.")]
        if first and bias is not None and bias.shape == call.shape[:1] and not _is_of(part, within):
            found[call.site] = at_least_float32(bias)[:, None, None]
    return found


def _is_of(wrapper: nn.Module, parts: Sequence[nn.Module]) -> bool:
    """Whether a module shows the bias of a part of it as its own, as one does that adds a low-rank change."""
    shown = getattr(wrapper, "bias", None)
    return shown is not None and any(part.bias is shown for part in parts)


def bias_of(part: nn.Module) -> Tensor | None:
    """What a module adds to each channel in eval mode, (C,); None where it has no bias.

    Examples
    --------
    >>> norm = nn.BatchNorm2d(1, eps=0.0)
    >>> norm.running_mean[:], norm.running_var[:] = 3.0, 4.0
    >>> with torch.no_grad():
    ...     norm.weight[:], norm.bias[:] = 2.0, 1.0
    >>> bias_of(norm)
    tensor([-2.])
    """
    bias = getattr(part, "bias", None)
    bias = bias.detach() if isinstance(bias, Tensor) and bias.ndim == 1 else None
    # without running statistics it normalizes each batch by itself, which is not linear
    if isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None:
        shift = -part.running_mean * torch.rsqrt(part.running_var + part.eps)
        shift = shift if part.weight is None else shift * part.weight.detach()
        return shift if bias is None else shift + bias
    return None if isinstance(part, nn.Linear) else bias
