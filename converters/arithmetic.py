"""How CUDA computes float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Switch = tuple[Any, str, Any]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let CUDA compute float32 in TF32, which keeps three digits, or as float32, whatever the caller's settings are."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    # torch 2.9 and later have a second set of switches
    newer = [part for part in (products, *map(_part, ("conv", "rnn"))) if hasattr(part, "fp32_precision")]
    before = [(part, "fp32_precision", part.fp32_precision) for part in newer]
    switches: list[Switch] = [(part, "fp32_precision", "tf32" if allowed else "ieee") for part in newer]
    try:
        older = [(part, "allow_tf32", part.allow_tf32) for part in (products, convolutions)]
    except RuntimeError:
        pass  # whoever has set the newer ones may not read the older ones
    else:
        before = older + before
        switches = [(part, name, allowed) for part, name, _ in older] + switches
    try:
        _set(switches)
        yield
    finally:
        _set(before)


def _part(name: str) -> Any:
    return getattr(torch.backends.cudnn, name, None)


def _set(switches: list[Switch]) -> None:
    for part, name, value in switches:
        setattr(part, name, value)
