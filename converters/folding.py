"""The algebra of fusing: a constant `x * scale + shift` a channel goes into the layer before it.

Every function leaves its arguments as they are and gives a new module; sums and products are taken in float64.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d
TRANSPOSED = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
LINEAR = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
# beside a variance of 1; batch_norm of torch 2.11 refuses an eps of 0
_NO_EPS = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Affine:
    """What happens to each channel: `x * scale + shift`.

    Attributes
    ----------
    scale, shift : Tensor (C,) float64
        One value a channel.
    """

    scale: Tensor
    shift: Tensor

    def then(self, after: "Affine") -> "Affine":
        """Both in one, `after` being the second."""
        return Affine(self.scale * after.scale, self.shift * after.scale + after.shift)


class ChannelAffine(nn.Module):
    """`x * scale + shift` of each channel (axis 1) in one pass over the tensor."""

    scale: Tensor
    shift: Tensor
    zero: Tensor
    one: Tensor

    def __init__(self, affine: Affine, dtype: torch.dtype) -> None:
        super().__init__()
        zero = torch.zeros_like(affine.scale)
        for name, value in {"scale": affine.scale, "shift": affine.shift, "zero": zero, "one": zero + 1}.items():
            self.register_buffer(name, value.to(dtype))

    @property
    def bias(self) -> Tensor:
        """What is added to each channel, under the name that other layers have for it."""
        return self.shift

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return nn.functional.batch_norm(images, self.zero, self.one, self.scale, self.shift, eps=_NO_EPS)


def of_norm(norm: Any) -> Affine | None:
    """What a BatchNormalization does with its running statistics; None if it takes those of the batch."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    mean, scale = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean * scale
    return Affine(scale, shift if norm.bias is None else shift + norm.bias.double())


def of_own(module: ChannelAffine) -> Affine:
    """What a layer of this kind does."""
    return Affine(module.scale.double(), module.shift.double())


def of_constant(operation: str, constant: Tensor, *, comes_first: bool) -> Affine | None:
    """What `x operation constant` does, the constant (C,) given; None for `constant / x`."""
    value = constant.double()
    zero, one = torch.zeros_like(value), torch.ones_like(value)
    if operation == "add":
        return Affine(one, value)
    if operation == "sub":
        return Affine(-one, value) if comes_first else Affine(one, -value)
    if operation == "mul":
        return Affine(value, zero)
    return None if comes_first else Affine(1 / value, zero)


def a_channel(constant: Tensor, shape: tuple[int, ...], axis: int) -> Tensor | None:
    """A constant (C,), if beside a tensor of this shape it is one value a channel; None if it is anything else."""
    rank = len(shape)
    if constant.ndim > rank or not constant.is_floating_point():
        return None
    sizes = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    varied = [place for place, size in enumerate(sizes) if size != 1]
    if varied not in ([], [axis]) or sizes[axis] not in (1, shape[axis]):
        return None
    return constant.reshape(-1).expand(shape[axis])


def after(linear: Any, affine: Affine) -> nn.Module:
    """The layer that computes `linear` followed by `affine`; its weight is shared where it stays the same."""
    weight, bias, scale = linear.weight, linear.bias, affine.scale
    new_bias = affine.shift if bias is None else bias.double() * scale + affine.shift
    tensors = {"bias": new_bias.to(weight.dtype)}
    if not bool((scale == 1).all()):
        tensors["weight"] = _scaled(linear, scale).to(weight.dtype)
    return altered(linear, tensors)


def _scaled(linear: Any, scale: Tensor) -> Tensor:
    weight = linear.weight.double()
    if type(linear) in TRANSPOSED:
        # (in, out / groups, ...): the channels of a group share the second axis with those of the others
        grouped = weight.unflatten(0, (linear.groups, -1))
        shape = (linear.groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
        return (grouped * scale.reshape(shape)).flatten(0, 1)
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def altered(module: Any, tensors: Mapping[str, Tensor], **attributes: Any) -> Any:
    """A copy of a layer with other parameters or settings; the parameters that stay are shared."""
    new = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        setattr(new, name, getattr(module, name).copy())
    for name, tensor in tensors.items():
        new._parameters[name] = nn.Parameter(tensor.detach(), requires_grad=module.weight.requires_grad)
    for name, value in attributes.items():
        setattr(new, name, value)
    return new


def padding_more(convolution: Any, pads: tuple[int, ...]) -> nn.Module:
    """The convolution that pads by so much more with zeros, on both sides of each axis."""
    padding = tuple(own + more for own, more in zip(convolution.padding, pads, strict=True))
    # a convolution keeps its padding a second time, for the modes in which it calls torch's pad
    doubled = [size for size in reversed(padding) for _ in range(2)]
    return altered(convolution, {}, padding=padding, _reversed_padding_repeated_twice=doubled)


def from_matrix(matrix: Tensor) -> nn.Linear:
    """The layer `x @ matrix` of a matrix (in, out), whose memory it uses."""
    linear = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False, device="meta")
    linear.weight = nn.Parameter(matrix.detach().T, requires_grad=matrix.requires_grad)
    return linear


def sharing_tensors(module: nn.Module) -> nn.Module:
    """A copy of a module whose parameters and buffers are others, but use the same memory.

    So either may be moved or cast without the other.
    """
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad) for weight in module.parameters()
    }
    memo |= {id(buffer): buffer.detach() for buffer in module.buffers()}
    # what a module keeps of its last pass, with the graph that it came from, cannot be copied
    held = (value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor))
    memo |= {id(value): value.detach() for value in held if value.grad_fn is not None}
    return copy.deepcopy(module, memo)


def evaluating(module: nn.Module) -> nn.Module:
    """Give the module with its train flags off: `eval()` is overridden by models that merge weights, shared here."""
    for part in module.modules():
        part.training = False
    return module
