"""How CUDA computes float32."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Switch = tuple[Any, str, Any]


# The switches are those of the process: what stood before the first of the open blocks comes back behind the last one.
_lock = threading.Lock()
_open: list[list[Switch]] = []
_before: list[Switch] = []


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let CUDA compute float32 in TF32, which keeps three digits, or as float32, whatever the caller's settings are.

    Threads may do so side by side, as long as all of them allow it or none does: torch has one setting for all.
    """
    with _lock:
        before, switches = _switches(allowed)
        if not _open:
            _before[:] = before
        _open.append(switches)
        _set(switches)
    try:
        yield
    finally:
        with _lock:
            del _open[next(place for place, each in enumerate(_open) if each is switches)]
            _set(_open[-1] if _open else _before)


def _switches(allowed: bool) -> tuple[list[Switch], list[Switch]]:
    """How the switches stand, and how they are to stand."""
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
    return before, switches


def _part(name: str) -> Any:
    return getattr(torch.backends.cudnn, name, None)


def _set(switches: list[Switch]) -> None:
    for part, name, value in switches:
        setattr(part, name, value)
