"""Keras checkpoints to torch modules, by way of ONNX, each with a proof that it computes the same.

    bundle = converters.convert("model.h5")      # once; the result is kept
    module = bundle.module()                     # a torch module, no TensorFlow needed from here on

What is imported here is imported on first use: `converters.tracing` must be able to start without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.bundle import Bundle as Bundle
    from converters.bundle import is_bundle as is_bundle
    from converters.bundle import open_bundle as open_bundle
    from converters.certificate import Certificate as Certificate
    from converters.conversion import convert as convert

_HOME = {
    "Bundle": "bundle",
    "Certificate": "certificate",
    "convert": "conversion",
    "is_bundle": "bundle",
    "open_bundle": "bundle",
}

__all__ = ["Bundle", "Certificate", "convert", "is_bundle", "open_bundle"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'converters' has no attribute {name!r}")
    return getattr(import_module(f"converters.{_HOME[name]}"), name)
