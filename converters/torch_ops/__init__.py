"""onnx2torch with converters for what it lacks or gets wrong.

Importing this package registers them; `convert` and `get_converter` are taken from here, so that nobody
converts without them.
"""

from onnx2torch import convert
from onnx2torch.node_converters import get_converter

from converters.torch_ops import convolution, elementwise, pooling, shape  # noqa: F401

__all__ = ["convert", "get_converter"]
