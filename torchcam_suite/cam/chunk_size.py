"""How many inputs go through the model at once."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# ResNet-18 and MobileNetV2 on one core take the least time an input with 4 to 8 pictures of 224 x 224, 32 of 96 x 96
# and 64 of 32 x 32 (8 of these: 1.5 and 2.4 times as much): larger chunks leave the caches, smaller ones are all calls.
_PIXELS_ON_CPU = 8 * 224 * 224
_LEAST_ON_CPU, _MOST_ON_CPU = 8, 64
# A GPU needs a few hundred pictures to be busy.
_MOST_ON_ACCELERATOR = 256
# What a forward pass holds, in multiples of the input: about 65 in the first block of VGG16, where it is the largest
# of the usual nets; twice that with the scratch space of the convolutions. Where it is more, "auto" halves.
_INPUTS_HELD = 128

_found: WeakKeyDictionary[nn.Module, dict[Any, int]] = WeakKeyDictionary()


def for_cpu(images: Tensor) -> int:
    """How many inputs like these a CPU takes at once.

    Examples
    --------
    >>> [for_cpu(torch.empty(1, 3, size, size)) for size in (448, 224, 96, 32)]
    [8, 8, 32, 64]
    """
    fit = _PIXELS_ON_CPU // (images.shape[-2] * images.shape[-1])
    return min(_MOST_ON_CPU, max(_LEAST_ON_CPU, _power_of_two(fit)))


def first_guess(images: Tensor, on_cpu: int) -> int:
    """The chunk size to begin with, for inputs like these: `on_cpu` on a CPU, by free memory on a GPU."""
    if images.device.type == "cpu":
        return on_cpu
    if images.device.type != "cuda":
        return _MOST_ON_ACCELERATOR
    free, _ = torch.cuda.mem_get_info(images.device)
    free += torch.cuda.memory_reserved(images.device) - torch.cuda.memory_allocated(images.device)
    return fitting(free, images[0].numel() * images.element_size())


def fitting(free: int, bytes_of_an_input: int) -> int:
    """The largest power of two of inputs, up to 256, whose forward pass should fit into half of the free memory.

    Examples
    --------
    >>> fitting(8 * 2**30, 3 * 224 * 224 * 4)
    32
    >>> fitting(140 * 2**30, 3 * 224 * 224 * 4)
    256
    """
    fit = max(1, free // (2 * _INPUTS_HELD * bytes_of_an_input))
    return min(_MOST_ON_ACCELERATOR, _power_of_two(fit))


def _power_of_two(number: int) -> int:
    """The largest one that is not above a number."""
    return 1 << (max(1, number).bit_length() - 1)


def remembered(module: nn.Module, key: Any) -> int | None:
    """The chunk size that "auto" came to the last time, where it had to halve."""
    return _found.get(module, {}).get(key)


def remember(module: nn.Module, key: Any, size: int) -> None:
    """Begin with this chunk size the next time; it is forgotten together with the module."""
    _found.setdefault(module, {})[key] = size
