"""What the original framework computes: the numbers that the torch module has to reproduce.

Written to `reference.safetensors`: the batch (NCHW), the model's output, the logits, and for each tap a
sample of its activations and of the gradients of one scalar of the logits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from converters.tracing.keras_model import Head
from converters.tracing.taps import LayerCall, tapped

SAMPLE = 4096  # values of each tap that are kept; a full ResNet50 batch would be hundreds of megabytes


class Sample(NamedTuple):
    """Positions in the flat array, in Keras' own order (channels last), and the values there."""

    positions: np.ndarray
    values: np.ndarray


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


def write(model: Any, shape: tuple[int, int, int], head: Head | None, *, raw_pixels: bool, folder: Path) -> None:
    """Run the untouched model natively, forward and backward, and write what it computes."""
    batch = reference_batch(shape, raw_pixels)
    prediction, samples = _activations(model, batch)
    logits, direction, gradients = _gradients(model, batch, head, samples)
    stored = {
        "batch": batch.transpose(0, 3, 1, 2),
        "prediction": prediction,
        "logits": logits,
        "direction": direction,
    }
    for tap, sample in samples.items():
        stored[f"positions/{tap}"] = sample.positions
        stored[f"activation/{tap}"] = sample.values
        if tap in gradients:
            stored[f"gradient/{tap}"] = gradients[tap]
    save_file(
        {name: np.ascontiguousarray(array) for name, array in stored.items()},
        folder / "reference.safetensors",
    )


def _activations(model: Any, batch: np.ndarray) -> tuple[np.ndarray, dict[str, Sample]]:
    """The prediction, and a sample of the activations of each tap."""
    samples = {}

    def keep(layer_call: LayerCall, _: Any, output: tf.Tensor) -> tf.Tensor:
        values = output.numpy().reshape(-1)
        positions = _sample_positions(values)
        samples[layer_call.tap] = Sample(positions, values[positions].astype("float32"))
        return output

    with tapped(model, keep):
        prediction = model(tf.constant(batch), training=False)
    return prediction.numpy().astype("float32"), samples


def _gradients(
    model: Any, batch: np.ndarray, head: Head | None, samples: dict[str, Sample]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logits, a fixed random direction, and d sum(logits * direction) / d output of every tap before the head.

    In a graph, not eagerly: there the gradients of the kernels, which nobody asks for, are pruned (eager
    TensorFlow 2.21 computes them all the same, and corrupts its heap doing so for some pointwise kernels).
    """
    direction = np.random.default_rng(1).standard_normal((len(batch), model.outputs[0].shape[1])).astype("float32")

    def logits_and_gradients(images: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        outputs: dict[str, tf.Tensor] = {}
        past_head = False

        def watch(layer_call: LayerCall, layer: Any, output: tf.Tensor) -> tf.Tensor:
            nonlocal past_head
            past_head = past_head or (head is not None and layer is head.layer)
            if past_head:
                return output
            # a layer that hands its input through (Dropout) returns the same tensor: give each tap its own
            output = tf.identity(output)
            tape.watch(output)
            outputs[layer_call.tap] = output
            return output

        with tf.GradientTape(watch_accessed_variables=False) as tape, tapped(model, watch):
            logits = tf.cast(model(images, training=False), tf.float32)
            score = tf.reduce_sum(logits * direction)
        gradients = tape.gradient(score, outputs)
        return logits, {
            tap: tf.gather(tf.reshape(tf.cast(gradient, tf.float32), [-1]), samples[tap].positions)
            for tap, gradient in gradients.items()
            if gradient is not None
        }

    signature = [tf.TensorSpec(batch.shape, tf.float32)]
    with _without_activation(head):
        logits, gradients = tf.function(logits_and_gradients, signature, autograph=False)(tf.constant(batch))
    return logits.numpy(), direction, {tap: gradient.numpy() for tap, gradient in gradients.items()}


@contextmanager
def _without_activation(head: Head | None) -> Iterator[None]:
    """Let the head give logits inside the block."""
    if head is None:
        yield
        return
    attribute = "call" if type(head.layer).__name__ == "Softmax" else "activation"
    plain = getattr(head.layer, attribute)
    setattr(head.layer, attribute, lambda inputs, *_, **__: inputs)
    try:
        yield
    finally:
        setattr(head.layer, attribute, plain)


def _sample_positions(values: np.ndarray) -> np.ndarray:
    """Seeded positions in the flat array, the largest value among them so that a sparse layer is not all zeros."""
    positions = np.arange(values.size)
    if values.size > SAMPLE:
        positions = np.random.default_rng(values.size).choice(values.size, SAMPLE, replace=False, shuffle=False)
        positions[0] = np.abs(values).argmax()
    return np.sort(positions).astype("int32")
