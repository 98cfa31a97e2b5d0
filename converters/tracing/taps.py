"""See every layer call of a Keras model while it runs, and let something be done to its output."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from converters.tracing.channels_first import is_channels_first, run_channels_last, to_first, to_last


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

    `model` itself is no layer of its own and is left out; nested models and layers inside layers are in,
    but for what a layer calls step by step (the cell of an LSTM). A model of channels first is called and seen
    as if it were one of channels last.
    """
    # of the Keras that built the model; importing both would cost a second and 50 MB
    base: Any = next(parent for parent in type(model).__mro__ if parent.__name__ == "Layer")
    plain_call = base.__call__
    first = is_channels_first(model)
    calls: Counter[str] = Counter()
    stack: list[str] = []
    inside: list[bool] = []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is model:
            calls.clear()
            stack.clear()
            inside.clear()
            return plain_call(self, *(to_first(images) if first else images for images in args), **kwargs)
        stack.append(self.name)
        inside.append(_repeats(self))
        try:
            output = plain_call(self, *args, **kwargs)
        finally:
            path = "/".join(stack)
            stack.pop()
            inside.pop()
        if any(inside) or not (tf.is_tensor(output) and output.dtype.is_floating):
            return output
        layer_call = LayerCall(path, calls[path], type(self).__name__)
        calls[path] += 1
        if first and output.shape.rank == 4:
            changed = to_first(change(layer_call, self, to_last(output)))
        else:
            changed = change(layer_call, self, output)
        if changed is not output and getattr(output, "_keras_mask", None) is not None:
            changed._keras_mask = output._keras_mask
        return changed

    base.__call__ = call
    try:
        with run_channels_last() if first else nullcontext():
            yield
    finally:
        base.__call__ = plain_call


def _repeats(layer: Any) -> bool:
    """Whether the layer calls others once for each step of a sequence; a step has no output of its own to show."""
    return any(parent.__name__ in {"RNN", "TimeDistributed"} for parent in type(layer).__mro__)
