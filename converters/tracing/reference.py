"""What the original framework computes: the numbers that the torch module has to reproduce.

Written to `reference.safetensors`:

    batch (N, C, H, W), prediction (N, K), logits (N, K)
    direction (N, K)         the gradients are those of sum(logits * direction)
    positions/TAP (S,)       in one picture's flat tensor, in Keras' own order (channels last)
    activation/TAP (N, S)    values there
    gradient/TAP (M, B)      sketches of the whole gradient at the tap (see `converters.samples`), of the first M
                             pictures: all, or one for a large model

Pictures run one at a time, so that a large model needs the memory of one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from converters.samples import BUCKETS, positions, sketch
from converters.tracing.keras_model import Head
from converters.tracing.taps import LayerCall, tapped

# Differentiating keeps the activations of the layers that are differentiated. From which layer on follows from
# this bound, in values of one picture: a ResNet50 needs 3e7 for all of its layers, an EfficientNetV2-L 8e8.
DIFFERENTIATED = 2**27
# From this many weights on, one picture is differentiated instead of three: for a ConvNeXtXLarge TensorFlow takes 20 s.
LARGE = 2**28
# Grappler's passes over a function that runs three times, which cost more than they save: 5 s of an EfficientNetV2-L.
# Pruning and the ordering for memory stay; without them it takes 0.4 GB more.
NOT_WORTH_IT = (
    "arithmetic_optimization",
    "common_subgraph_elimination",
    "constant_folding",
    "function_optimization",
    "layout_optimizer",
    "loop_optimization",
    "remapping",
    "shape_optimization",
)

Keep = Callable[[str, np.ndarray], None]


class Original(Protocol):
    """A model in its own framework."""

    def forward(self, picture: np.ndarray, keep: Keep) -> np.ndarray:
        """Prediction (1, K) of a picture (1, H, W, C); `keep(tap, activation)` is called at each tap, in order."""

    def backward(
        self, picture: np.ndarray, direction: np.ndarray, taps: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Logits (1, K), and the sketch of d sum(logits * direction) / d tap where there is such a gradient."""


def run_as_written() -> None:
    """Let TensorFlow run the functions of this process as they were traced, hardly optimized."""
    tf.config.optimizer.set_experimental_options(dict.fromkeys(NOT_WORTH_IT, False))


def write(original: Original, shape: tuple[int, int, int], *, raw_pixels: bool, folder: Path, weights: int = 0) -> None:
    """Run the untouched model natively, forward and backward, and write what it computes.

    `weights`, their number, tells whether the model is large.
    """
    batch = reference_batch(shape, raw_pixels)
    sizes: dict[str, int] = {}
    stored: dict[str, Any] = {}

    def keep(tap: str, activation: np.ndarray) -> None:
        flat = activation.reshape(-1)
        sizes[tap] = flat.size
        if f"positions/{tap}" not in stored:
            stored[f"positions/{tap}"] = positions(flat)
        values = flat[stored[f"positions/{tap}"]].astype("float32")
        stored.setdefault(f"activation/{tap}", []).append(values)

    pictures = [batch[i : i + 1] for i in range(len(batch))]
    prediction = np.concatenate([original.forward(picture, keep) for picture in pictures])
    direction = np.random.default_rng(1).standard_normal(prediction.shape).astype("float32")
    watched = last_within(sizes, DIFFERENTIATED)
    logits = []
    for i, picture in enumerate(pictures):
        differentiated = i == 0 or weights < LARGE
        one, gradients = original.backward(picture, direction[i : i + 1], watched if differentiated else [])
        logits.append(one)
        for tap, gradient in gradients.items():
            stored.setdefault(f"gradient/{tap}", []).append(gradient.astype("float32"))
    stored = {name: np.stack(arrays) if isinstance(arrays, list) else arrays for name, arrays in stored.items()}
    stored |= {
        "batch": np.ascontiguousarray(batch.transpose(0, 3, 1, 2)),
        "prediction": prediction,
        "logits": np.concatenate(logits),
        "direction": direction,
    }
    save_file(stored, folder / "reference.safetensors")


def reference_batch(shape: tuple[int, int, int], raw_pixels: bool) -> np.ndarray:
    """Three pictures (3, H, W, C) float32 in [0, 1], or [0, 255] for a model that scales its own input.

    Smooth blobs, blobs with noise, and pure noise: unlike enough that no layer is constant over them.
    """
    random = np.random.default_rng(0)
    height, width, channels = shape
    coarse = random.uniform(0, 1, (1, 5, 5, channels)).astype("float32")
    blobs = tf.image.resize(coarse, (height, width), method="bicubic").numpy()[0]
    noise = random.uniform(0, 1, shape)
    batch = np.stack([blobs, 0.6 * blobs[::-1] + 0.4 * random.uniform(0, 1, shape), noise])
    return np.clip(batch, 0, 1).astype("float32") * (255 if raw_pixels else 1)


def last_within(sizes: dict[str, int], bound: int) -> list[str]:
    """The last taps, as many as hold `bound` values together; at least one."""
    total, kept = 0, list[str]()
    for tap, size in reversed(sizes.items()):
        total += size
        if kept and total > bound:
            break
        kept.append(tap)
    return kept[::-1]


class KerasOriginal:
    """A Keras model of either generation, with one image input.

    Attributes
    ----------
    activation : str or None
        `"softmax"` or `"sigmoid"`, in which the model ends: as its head says, or, where that is a layer of the user's
        own, as the first forward pass shows.
    """

    def __init__(self, model: Any, head: Head | None) -> None:
        self.activation = None if head is None else head.activation
        self._model = model
        self._head = head
        self._forward: Any = None
        self._backward: dict[int, Any] = {}

    def forward(self, picture: np.ndarray, keep: Keep) -> np.ndarray:
        """In a graph, which lets go of each activation when it was used; eager Keras keeps them all to the end."""
        if self._forward is None:
            signature = [tf.TensorSpec(picture.shape, tf.float32)]
            self._forward = tf.function(self._prediction_showing(keep), signature, autograph=False)
        return self._forward(tf.constant(picture)).numpy()

    def _prediction_showing(self, keep: Keep) -> Callable[[tf.Tensor], tf.Tensor]:
        def compute(picture: tf.Tensor) -> tf.Tensor:
            def see(layer_call: LayerCall, _: Any, output: tf.Tensor) -> tf.Tensor:
                tf.numpy_function(lambda activation: keep(layer_call.tap, activation), [output], [])
                return output

            with tapped(self._model, see):
                prediction = tf.cast(self._model(picture, training=False), tf.float32)
            if self._head is None:
                self.activation, _ = last_activation(prediction)
            return prediction

        return compute

    def backward(
        self, picture: np.ndarray, direction: np.ndarray, taps: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """In a graph, not eagerly: there the gradients of the kernels, which nobody asks for, are pruned.

        (Eager TensorFlow 2.21 computes them all the same, and corrupts its heap doing so for some pointwise kernels.)
        """
        if len(taps) not in self._backward:
            signature = [tf.TensorSpec(picture.shape, tf.float32), tf.TensorSpec(direction.shape, tf.float32)]
            with without_activation(self._head) as cut:
                function = tf.function(self._logits_and_gradients(set(taps), cut), signature, autograph=False)
                self._backward[len(taps)] = function.get_concrete_function()
        logits, gradients = self._backward[len(taps)](tf.constant(picture), tf.constant(direction))
        return logits.numpy(), {tap: gradient.numpy() for tap, gradient in gradients.items()}

    def _logits_and_gradients(self, watched: set[str], cut: "Cut") -> Callable[[tf.Tensor, tf.Tensor], Any]:
        def compute(picture: tf.Tensor, direction: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            outputs: dict[str, tf.Tensor] = {}
            cut.calls = 0

            def watch(layer_call: LayerCall, _: Any, output: tf.Tensor) -> tf.Tensor:
                if cut.reached or layer_call.tap not in watched:
                    return output
                # a layer that hands its input through (Dropout) returns the same tensor: give each tap its own
                output = tf.identity(output)
                tape.watch(output)
                outputs[layer_call.tap] = output
                return output

            with tf.GradientTape(watch_accessed_variables=False) as tape, tapped(self._model, watch):
                logits = tf.cast(self._model(picture, training=False), tf.float32)
                if self._head is None:
                    _, logits = last_activation(logits)
                score = tf.reduce_sum(logits * direction)
            gradients = tape.gradient(score, outputs)
            found = {tap: gradient for tap, gradient in gradients.items() if gradient is not None}
            return logits, {tap: sketched(gradient) for tap, gradient in found.items()}

        return compute


def last_activation(output: tf.Tensor) -> tuple[str | None, tf.Tensor]:
    """The softmax or sigmoid that rows (N, K) of a graph come out of, and what goes into it; or None and the rows."""
    tensor = output
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    if tensor.op.type not in {"Softmax", "Sigmoid"} or tensor.op.inputs[0].shape.rank != 2:
        return None, output
    return tensor.op.type.lower(), tensor.op.inputs[0]


def sketched(gradient: tf.Tensor) -> tf.Tensor:
    """The sketch of a tensor inside a graph, which then need not keep the tensor."""
    flat = tf.reshape(tf.cast(gradient, tf.float32), [-1])
    return tf.ensure_shape(tf.numpy_function(sketch, [flat], tf.float64, stateful=False), [BUCKETS])


@dataclass
class Cut:
    """Where the head's activation is left out: at one call of its layer, which may be called before as well."""

    at: int
    calls: int = 0

    @property
    def reached(self) -> bool:
        """Whether the forward pass has come to the head."""
        return self.calls > self.at >= 0


@contextmanager
def without_activation(head: Head | None) -> Iterator[Cut]:
    """Let the head give logits inside the block."""
    if head is None:
        yield Cut(-1)
        return
    plain, cut = getattr(head.layer, head.attribute), Cut(head.call)

    def logits(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
        cut.calls += 1
        return inputs if cut.reached else plain(inputs, *args, **kwargs)

    setattr(head.layer, head.attribute, logits)
    try:
        yield cut
    finally:
        setattr(head.layer, head.attribute, plain)
