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

from converters.tracing.axes import Axes
from converters.tracing.channels_first import is_channels_first, run_channels_last, to_first, to_last
from converters.tracing.traceable import replaced


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
    is_operation : bool
        Whether it is arithmetic between layers.
    is_map : bool
        False if it gives channels before tokens, (N, C, T), or the positions of windows, (N, windows, positions, C).
    """

    path: str
    call: int
    class_name: str
    is_operation: bool = False
    is_map: bool = True

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

    def _begin(self, size: tuple[int | None, int | None] = (None, None)) -> None:
        self._calls: Counter[str] = Counter()
        self._stack: list[Any] = []  # the layers that are being called, from the outermost
        self._axes = Axes(self.first, size)

    def call(self, base: Any, plain: Callable[..., Any], called: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a layer or operation, by the `__call__` of its parent `base`, and let its output be changed."""
        if called is self._model and base is self.layer:
            height, width = args[0].shape[1:3]
            self._begin((height, width))
            return plain(called, *(to_first(images) if self.first else images for images in args), **kwargs)
        # a layer's call goes on to that of Operation; what a layer makes for a call of its own is no node of the model
        if base is not self.layer and (isinstance(called, self.layer) or not called._inbound_nodes):
            return plain(called, *args, **kwargs)
        self._stack.append(called)
        try:
            return self._seen(called, (args, kwargs), plain(called, *args, **kwargs))
        finally:
            self._stack.pop()

    def _seen(self, called: Any, given: tuple[Any, ...], output: Any) -> Any:
        """What takes the place of an output: itself, if it is none to show."""
        inputs = [value for value in tf.nest.flatten(given) if tf.is_tensor(value) and value.dtype.is_floating]
        operation = _is_operation(called, self.layer)
        is_map = not self._axes.swapped(called, given, inputs, output)
        if operation and self._axes.rearranged(called, inputs, output):
            return output
        is_map &= not self._axes.folded(called, inputs, output)
        if not (tf.is_tensor(output) and output.dtype.is_floating) or any(map(_repeats, self._stack[:-1])):
            return output
        path = "/".join(layer.name for layer in self._stack)
        layer_call = LayerCall(path, self._calls[path], type(called).__name__, operation, is_map)
        self._calls[path] += 1
        changed = self._changed(layer_call, called, output)
        self._axes.same(output, changed)
        return changed

    def _changed(self, layer_call: LayerCall, called: Any, output: tf.Tensor) -> tf.Tensor:
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


def _repeats(layer: Any) -> bool:
    """Whether the layer calls others once for each step of a sequence; a step has no output of its own to show."""
    return any(parent.__name__ in {"RNN", "TimeDistributed"} for parent in type(layer).__mro__)
