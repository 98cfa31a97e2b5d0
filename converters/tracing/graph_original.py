"""What TensorFlow computes of a graph: the reference that the torch module has to reproduce."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from converters.errors import UnsupportedModelError
from converters.graph_def import TRAINING
from converters.tracing.graph_source import Source, import_graph
from converters.tracing.reference import Keep, sketched
from converters.tracing.scopes import Boundary

TOGETHER = 2**26  # values of activations that are fetched in one run: 256 MB


class Session:
    """Computes what a graph says, on the CPU, with nothing rewritten for speed."""

    def __init__(self, graph: Any) -> None:
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=graph, config=config)

    def run(self, wanted: Any, given: Mapping[Any, np.ndarray]) -> Any:
        """The values of tensors, in the form in which they were asked for."""
        try:
            return self._session.run(wanted, given)
        except (tf.errors.OpError, ValueError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UnsupportedModelError(
                f"TensorFlow cannot run this graph on the CPU: {type(error).__name__}: {' '.join(lines[:4]):.500}"
            ) from error


class Untouched:
    """The graph as its file has it, with its functions, its conditions and its own size of batch."""

    def __init__(self, source: Source) -> None:
        graph = import_graph(source.graph)
        self._images = graph.get_tensor_by_name(source.input)
        self._output = graph.get_tensor_by_name(source.output)
        self._session = Session(graph)
        self._given = {
            operation.outputs[0]: np.zeros((), operation.outputs[0].dtype.as_numpy_dtype)
            for operation in graph.get_operations()
            if operation.type.startswith("Placeholder") and TRAINING.search(operation.name)
        }
        self._set_variables(graph, source.variables)

    def _set_variables(self, graph: Any, values: Mapping[str, np.ndarray]) -> None:
        """One run for each, since two copies of all of them might not fit; the ops come first, in one go."""
        steps = []
        with graph.as_default():
            for name, value in values.items():
                variable = graph.get_operation_by_name(name).outputs[0]
                given = tf.compat.v1.placeholder(value.dtype, value.shape)
                if variable.dtype == tf.resource:
                    steps.append((name, given, tf.raw_ops.AssignVariableOp(resource=variable, value=given)))
                else:
                    steps.append((name, given, tf.raw_ops.Assign(ref=variable, value=given).op))
        for name, given, assign in steps:
            self._session.run(assign, {given: values[name]})

    def predict(self, picture: np.ndarray) -> np.ndarray:
        """(1, H, W, C) -> (1, classes) float32."""
        rows = self._images.shape[0] if self._images.shape.rank else None
        batch = np.repeat(picture, rows or 1, axis=0).astype(self._images.dtype.as_numpy_dtype)
        prediction = self._session.run(self._output, self._given | {self._images: batch})
        return prediction[:1].astype("float32")


class GraphOriginal:
    """A flat graph, as `converters.tracing.reference` wants it.

    Parameters
    ----------
    untouched : Untouched
        Gives the predictions.
    graph : tf.Graph
        The same, flat: reads `images:0` and the weights.
    weights : mapping
        By the names of their tensors.
    taps : mapping
        Where activations and gradients are taken, with the number of values for one picture.
    logits : str
        The tensor before the softmax or sigmoid, if the graph ends in one.
    """

    def __init__(
        self,
        untouched: Untouched,
        graph: Any,
        weights: Mapping[str, np.ndarray],
        taps: Mapping[Boundary, int],
        logits: str,
    ) -> None:
        self._untouched = untouched
        self._graph = graph
        self._session = Session(graph)
        self._weights = dict(weights)
        self._taps = {boundary.tap: graph.get_tensor_by_name(boundary.tensor) for boundary in taps}
        self._sizes = {boundary.tap: size for boundary, size in taps.items()}
        with graph.as_default():
            found = graph.get_tensor_by_name(logits)
            classes = int(np.prod(found.shape[1:]))  # perhaps a map of one pixel
            self._logits = tf.cast(tf.reshape(found, [-1, classes]), tf.float32)
        self._sketches: dict[str, Any] | None = None
        self._direction: Any = None

    def forward(self, picture: np.ndarray, keep: Keep) -> np.ndarray:
        """The prediction of the untouched graph, the activations of the flat one."""
        for group in self._groups():
            for tap, activation in self._session.run(group, self._weights | {"images:0": picture}).items():
                keep(tap, activation)
        return self._untouched.predict(picture)

    def _groups(self) -> Iterator[dict[str, Any]]:
        """The taps, as many at a time as fit in the memory that we take; each group is a run of its own."""
        group: dict[str, Any] = {}
        total = 0
        for tap, tensor in self._taps.items():
            if group and total + self._sizes[tap] > TOGETHER:
                yield group
                group, total = {}, 0
            group[tap] = tensor
            total += self._sizes[tap]
        yield group

    def backward(
        self, picture: np.ndarray, direction: np.ndarray, taps: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits, and sketches of the gradients at the taps before the head."""
        if self._sketches is None:
            self._sketches = self._differentiate(direction.shape, taps)
        given = self._weights | {"images:0": picture, self._direction: direction}
        return self._session.run((self._logits, self._sketches), given)

    def _differentiate(self, shape: tuple[int, ...], taps: Sequence[str]) -> dict[str, Any]:
        with self._graph.as_default():
            self._direction = tf.compat.v1.placeholder(tf.float32, shape)
            score = tf.reduce_sum(self._logits * self._direction)
            try:
                gradients = tf.gradients(score, [self._taps[tap] for tap in taps])
            except (LookupError, ValueError, TypeError) as error:
                raise UnsupportedModelError(
                    f"TensorFlow cannot differentiate this graph: {str(error).splitlines()[0]:.300}"
                ) from error
            found = {tap: gradient for tap, gradient in zip(taps, gradients, strict=True) if gradient is not None}
            return {tap: sketched(tf.convert_to_tensor(gradient)) for tap, gradient in found.items()}
