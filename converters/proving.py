"""What surrounds a proof that is made again: the arithmetic of the device, and what to do when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Let CUDA compute float32 as float32: neither convolutions nor products in TF32, which keeps three digits."""
    products = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = products


def what_to_do(made: str, device: str) -> str:
    """Advice for a proof that failed on a device, of a bundle that passed with torch `made` on the CPU."""
    elsewhere = "" if device == "cpu" else " See whether it passes on the CPU (--device cpu)."
    return (
        f"The bundle passed with torch {made} on the CPU when it was made, and fails here with torch "
        f"{torch.__version__} on {device}.{elsewhere} Convert the checkpoint again: if that passes, the bundle's "
        f"files were changed; if it fails too, use torch {made} and report it"
    )
