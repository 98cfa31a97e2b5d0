"""See every layer call of a Keras model while it runs, and let something be done to its output."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
import tf_keras


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer during one forward pass.

    Attributes
    ----------
    path : str
        The layer's name, behind the names of the nested models that hold it: `resnet50/conv5_block3_out`.
    call : int
        Which call of that layer, from 0.
    class_name : str
        Keras' name of the layer's class.
    """

    path: str
    call: int
    class_name: str

    @property
    def tap(self) -> str:
        """The name under which the call's output is found in ONNX and in torch."""
        return f"{self.path}#{self.call}"


@contextmanager
def tapped(model: Any, change: Callable[[LayerCall, Any, tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """Pass each layer's float output through `change(layer_call, layer, output)` inside the block.

    `model` itself is no layer of its own and is left out; nested models and layers inside layers are in.
    """
    base = keras.layers.Layer if isinstance(model, keras.layers.Layer) else tf_keras.layers.Layer
    plain_call = base.__call__
    calls: Counter[str] = Counter()
    stack: list[str] = []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is model:
            calls.clear()
            stack.clear()
            return plain_call(self, *args, **kwargs)
        stack.append(self.name)
        try:
            output = plain_call(self, *args, **kwargs)
        finally:
            path = "/".join(stack)
            stack.pop()
        if not (tf.is_tensor(output) and output.dtype.is_floating):
            return output
        layer_call = LayerCall(path, calls[path], type(self).__name__)
        calls[path] += 1
        return change(layer_call, self, output)

    base.__call__ = call
    try:
        yield
    finally:
        base.__call__ = plain_call
