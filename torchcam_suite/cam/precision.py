"""The arithmetic of many forward passes: float32 as it is, or an approximation that was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from converters.arithmetic import tf32
from torchcam_suite.cam.method import Precision

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def require_precision(precision: Precision, example: Tensor) -> None:
    """Raise `ValueError` unless the device and the model can compute so.

    Parameters
    ----------
    precision : {"float32", "tf32", "bf16", "fp16"}
        What was asked for.
    example : Tensor
        On the model's device, of the dtype in which it computes.
    """
    if precision == "float32":
        return
    if example.dtype != torch.float32:
        raise ValueError(
            f"precision={precision!r} approximates float32, but this model computes in {_name(example.dtype)}; leave "
            "precision out, which keeps the model's own dtype"
        )
    if precision != "tf32":
        return
    device = example.device
    if device.type != "cuda":
        raise ValueError(
            f"precision='tf32' is an arithmetic of NVIDIA GPUs, but this model is on {device.type}; use 'float32', "
            "or 'bf16' if an approximation will do"
        )
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError(
            f"precision='tf32': {torch.cuda.get_device_name(device)} does not have it (Ampere and later do); use "
            "'float32' or 'fp16'"
        )


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute so inside the block, whatever the caller's settings are.

    "float32" leaves the model's dtype as it is, and neither convolutions nor products use TF32, which keeps three
    digits; torch allows it for convolutions unless told otherwise. "bf16" and "fp16" are autocast: convolutions and
    products in half precision, sums and normalisations in float32 where torch finds that wise.
    """
    half = _HALF.get(precision)
    with tf32(precision == "tf32"), torch.autocast(device.type, dtype=half, enabled=half is not None):
        yield


def require_finite(scores: Tensor, precision: Precision) -> None:
    """Raise `ValueError` if half precision has overflowed; other scores are not looked at."""
    if precision in _HALF and not bool(scores.isfinite().all()):
        hint = "use 'bf16', which has the range of float32, or 'float32'" if precision == "fp16" else "use 'float32'"
        raise ValueError(f"precision={precision!r}: some scores are not finite, its range is too small here; {hint}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
