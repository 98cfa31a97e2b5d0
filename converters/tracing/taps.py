"""See every layer call of a Keras model while it runs, and let something be done to its output.

Arithmetic between layers (`x + shortcut`) is a layer in Keras 2, and an operation in Keras 3, which has a name as well.
It is seen like a layer.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, partialmethod
from typing import Any

import tensorflow as tf

from converters.tracing.channels_first import is_channels_first, run_channels_last, to_first, to_last
from converters.tracing.traceable import replaced

# operations of Keras 3 and functions of TensorFlow's, by the last part of their names
_REARRANGING = frozenset(
    "dot dotproductattention einsum inner matmul matrix_transpose moveaxis outer ravel rot90 swapaxes tensordot"
    " transpose".split()
)


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer, or operation between layers, during one forward pass.

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
    but for what a layer calls step by step (the cell of an LSTM). Operations that rearrange axes are left out as well,
    and those on what they give: nobody knows whether that is a map. A model of channels first is called and seen as if
    it were one of channels last.
    """
    watch = _Watch(model, change)
    with ExitStack() as patches:
        # of the Keras that built the model; importing both would cost a second and 50 MB
        for base in (watch.layer, _parent(model, "Operation")):
            if base is not None:
                call = partialmethod(partial(watch.call, base, base.__call__))
                patches.enter_context(replaced(base, "__call__", call))
        if watch.first:
            patches.enter_context(run_channels_last())
        yield


class _Watch:
    """What is known in the middle of a forward pass."""

    def __init__(self, model: Any, change: Callable[[LayerCall, Any, tf.Tensor], tf.Tensor]) -> None:
        self.layer: Any = _parent(model, "Layer")
        self.first = is_channels_first(model)
        self._model, self._change = model, change
        self._begin()

    def _begin(self) -> None:
        self._calls: Counter[str] = Counter()
        self._stack: list[Any] = []  # the layers that are being called, from the outermost
        self._rearranged: dict[int, Any] = {}  # tensors by id; kept, so that no other gets the same

    def call(self, base: Any, plain: Callable[..., Any], called: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a layer or operation, by the `__call__` of its parent `base`, and let its output be changed."""
        if called is self._model and base is self.layer:
            self._begin()
            return plain(called, *(to_first(images) if self.first else images for images in args), **kwargs)
        # a layer's call goes on to that of Operation; what a layer makes for a call of its own is no node of the model
        if base is not self.layer and (isinstance(called, self.layer) or not called._inbound_nodes):
            return plain(called, *args, **kwargs)
        self._stack.append(called)
        try:
            output = plain(called, *args, **kwargs)
            return output if self._hides(called, (args, kwargs), output) else self._changed(called, output)
        finally:
            self._stack.pop()

    def _hides(self, called: Any, given: Any, output: Any) -> bool:
        """Whether an output is none to show."""
        if _is_operation(called, self.layer):
            inputs = [value for value in tf.nest.flatten(given) if tf.is_tensor(value)]
            if _rearranges(called, inputs, output) or self._is_of_rearranged(inputs, output):
                self._rearranged |= {id(value): value for value in tf.nest.flatten(output)}
                return True
        shown = tf.is_tensor(output) and output.dtype.is_floating
        return not shown or any(map(_repeats, self._stack[:-1]))

    def _is_of_rearranged(self, inputs: list[tf.Tensor], output: Any) -> bool:
        """Whether no input tells what the axes of an operation's output are, as the other side of a sum may."""
        known = [value for value in inputs if id(value) not in self._rearranged]
        alike = tf.is_tensor(output) and any(value.shape[1:] == output.shape[1:] for value in known)
        return len(known) < len(inputs) and not alike

    def _changed(self, called: Any, output: tf.Tensor) -> tf.Tensor:
        path = "/".join(layer.name for layer in self._stack)
        layer_call = LayerCall(path, self._calls[path], type(called).__name__)
        self._calls[path] += 1
        if self.first and output.shape.rank == 4:
            changed = to_first(self._change(layer_call, called, to_last(output)))
        else:
            changed = self._change(layer_call, called, output)
        if changed is not output and getattr(output, "_keras_mask", None) is not None:
            changed._keras_mask = output._keras_mask
        return changed


def _parent(model: Any, name: str) -> Any:
    """The class of that name from which a model's is derived; None if there is none (Keras 2 has no `Operation`)."""
    return next((parent for parent in type(model).__mro__ if parent.__name__ == name), None)


def _is_operation(called: Any, layer: Any) -> bool:
    """Whether it is arithmetic between layers, which Keras 2 makes a layer of."""
    return not isinstance(called, layer) or type(called).__name__ in {"TFOpLambda", "SlicingOpLambda"}


def _rearranges(operation: Any, inputs: list[tf.Tensor], output: Any) -> bool:
    """Whether an operation may put values on other axes: (N, T, C) becomes the heads of an attention, or windows."""
    name = (getattr(operation, "symbol", None) or type(operation).__name__).rpartition(".")[2].lower()
    if name == "reshape" and tf.is_tensor(output):  # axes of one value may come and go
        return [size for size in inputs[0].shape[1:] if size != 1] != [size for size in output.shape[1:] if size != 1]
    return name in _REARRANGING


def _repeats(layer: Any) -> bool:
    """Whether the layer calls others once for each step of a sequence; a step has no output of its own to show."""
    return any(parent.__name__ in {"RNN", "TimeDistributed"} for parent in type(layer).__mro__)
