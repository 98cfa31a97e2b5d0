"""Make a Keras model give a graph of plain ops while it is traced: no functions, no branches, no loops.

ONNX has no converter of ours for control flow, and a torch module runs better without. All of it is decided by the
model and the shape of its input, which are known when it is traced.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.smart_cond import smart_cond


@contextmanager
def plain_ops(model: Any) -> Iterator[None]:
    """Inside the block, calls of the model give ops that a converter understands one by one."""
    with ExitStack() as stack:
        stack.enter_context(_functions_inlined())
        for module in (tf, tf.compat.v2):
            stack.enter_context(replaced(module, "cond", _decided))
            stack.enter_context(replaced(module, "tensordot", partial(_product, tf.tensordot)))
        for backend in _backends(model):
            stack.enter_context(replaced(backend, "rnn", partial(_unrolled, backend.rnn)))
        for layer in _all_layers(model):
            if getattr(layer, "_could_use_gpu_kernel", False):
                # Keras 2 wraps LSTM and GRU in a function that is chosen by device at run time
                stack.enter_context(replaced(layer, "_could_use_gpu_kernel", False))
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an attribute have another value inside the block."""
    plain = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, plain)


@contextmanager
def _functions_inlined() -> Iterator[None]:
    """Keras wraps a grouped convolution in a compiled function of its own; let it run as the Python that it is."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _decided(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any], name: str | None = None) -> Any:
    """`tf.cond`, the branch chosen now if that can be told from the shapes (CenterCrop)."""
    return smart_cond(pred, true_fn, false_fn, name)


def _product(tensordot: Callable[..., Any], a: Any, b: Any, axes: Any, name: str | None = None) -> Any:
    """`tf.tensordot`; a matrix that acts on the channels of maps (Dense on a map) as the 1 x 1 convolution that it is.

    It would flatten the maps, for which they would have to be transposed at run time.
    """
    last = axes == 1 or (not isinstance(axes, int) and [list(side) for side in axes] in ([[-1], [0]], [[3], [0]]))
    if last and a.shape.rank == 4 and b.shape.rank == 2:
        return tf.nn.conv2d(a, tf.reshape(b, (1, 1, *b.shape)), 1, "VALID", name=name)
    return tensordot(a, b, axes, name=name)


def _unrolled(rnn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Keras' loop over the steps of a sequence, step behind step."""
    return rnn(*args, **(options | {"unroll": True}))


def _backends(model: Any) -> list[Any]:
    """The module of the Keras that built the model in which its recurrent layers look up `rnn`."""
    base = next(parent for parent in type(model).__mro__ if parent.__name__ == "Layer")
    return [import_module(f"{base.__module__.split('.')[0]}.src.backend")]


def _all_layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())
