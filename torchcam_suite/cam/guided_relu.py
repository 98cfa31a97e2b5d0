"""The guided rule: a ReLU lets only positive gradients through."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RELU = (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu, F.relu6)
_CLAMP = (torch.clamp, torch.clamp_, torch.clip, torch.clip_, Tensor.clamp, Tensor.clamp_, Tensor.clip, Tensor.clip_)
_CLAMP_MIN = (torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_)


class GuidedReLU(TorchFunctionMode):
    """Let ReLUs pass only positive gradients, in the forward passes that run inside the ``with`` block.

    ReLUs are those of `torch.nn`, `torch.nn.functional`, `torch` and tensors, in place or not; ReLU6, a hard tanh from
    0 on, and clamping at 0 from below alone. Forward values stay as they are. The rule belongs to the graph of the
    pass: the module is not touched, other threads see nothing of it, and nothing remains after the block. What runs
    inside a scripted module is not seen.

    Attributes
    ----------
    count : int
        How many ReLUs were called.
    guided : int
        How many of them are on the way of a gradient.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
    >>> with GuidedReLU() as guided:
    ...     y = torch.relu(x) @ torch.tensor([5.0, -5.0, 5.0])
    >>> torch.autograd.grad(y, x)[0], guided.count
    (tensor([5., 0., 0.]), 1)
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = self.guided = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, and mend the gradient of a ReLU's result."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if _is_relu(func, args, kwargs):
            self.count += 1
            if result.requires_grad:
                self.guided += 1
                # a hook stays with this version of the tensor, whatever is done to it in place later
                result.register_hook(_positive)
        return result


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def _is_relu(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if func in _RELU:
        return True
    if func in _CLAMP:
        low, high = _argument(args, kwargs, 1, "min"), _argument(args, kwargs, 2, "max")
        return _is_zero(low) and high is None
    if func in _CLAMP_MIN:
        return _is_zero(_argument(args, kwargs, 1, "min"))
    return func is F.hardtanh and _is_zero(_argument(args, kwargs, 1, "min_val"))


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value == 0
