"""Run a Keras checkpoint natively on pictures: `python -m converters.tracing.native FOLDER`, with a `job.json`.

Nothing of the conversion takes part: Keras computes the forward pass, TensorFlow's GradientTape the gradients. The
folder also holds `images.safetensors` (`images`, (N, H, W, C)). For each image, `NUMBER.safetensors` is written:

    prediction (1, K), logits (1, K), class (1,)
    activation/TAP            what the layer call gives, in Keras' own order: channels last
    gradient/OF/TAP           gradient there of the class's score, OF "logit" or "probability"

and then `facts.json` and `outcome.json`, as the trace does.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.errors import TracingError
from converters.tracing.process import carry_out, prepare_tensorflow


def main() -> int:
    """Run the job whose folder is the argument; 0 if all went well."""
    return carry_out(Path(sys.argv[1]), _run)


def _run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    # as for the trace, so that the numbers are the ones that conversions are proved against
    prepare_tensorflow(job["flavour"])
    try:
        from safetensors.numpy import load_file, save_file

        from converters.tracing import keras_model
        from converters.tracing.checkpoint import open_model
    except ImportError as error:
        raise TracingError(
            f"running a checkpoint natively needs TensorFlow, which is not installed here ({error}); "
            "pip install 'torchcam-suite[keras]', or compare imported models alone"
        ) from error
    model = keras_model.with_one_output(open_model(job, folder), job["output"], job["input"])
    native = NativeRun(model, keras_model.find_head(model), job["native"]["taps"], job["native"]["of"])
    images = load_file(folder / "images.safetensors")["images"]
    wanted = job["native"]["classes"] or [None] * len(images)
    for number, target in enumerate(wanted):
        save_file(native(images[number : number + 1], target), folder / f"{number}.safetensors")
    return {"keras_package": type(model).__module__.split(".")[0], "versions": keras_model.versions()}


class NativeRun:
    """A Keras model, run on one picture after the other.

    Parameters
    ----------
    model : Keras model
        With one input and one output.
    head : Head or None
        The layer that makes probabilities of logits.
    taps : sequence of str
        The layer calls to watch, as `conv2d_1#0`.
    of : sequence of str
        What is differentiated: `"logit"`, `"probability"`.
    """

    def __init__(self, model: Any, head: Any, taps: Sequence[str], of: Sequence[str]) -> None:
        self._model, self._head, self._taps, self._of = model, head, set(taps), tuple(of)
        self._traced: Any = None

    def __call__(self, picture: Any, target: int | None) -> dict[str, Any]:
        """Give what is stored of a picture (1, H, W, C); without a target, of its top class."""
        import numpy as np
        import tensorflow as tf

        if self._traced is None:
            self._traced = self._trace(picture.shape)
        found = self._traced(tf.constant(picture), tf.constant(-1 if target is None else target, tf.int64))
        return {name: np.ascontiguousarray(value.numpy()) for name, value in found.items()}

    def _trace(self, shape: tuple[int, ...]) -> Any:
        """In a graph: eager TensorFlow computes the gradients of all kernels too, which nobody asks for."""
        import tensorflow as tf

        from converters.tracing.reference import without_activation
        from converters.tracing.taps import tapped

        signature = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec((), tf.int64)]

        def compute(picture: Any, target: Any) -> dict[str, Any]:
            # which shows a model of channels first as one of channels last
            with tapped(self._model, lambda _, __, output: output):
                prediction = tf.cast(self._model(picture, training=False), tf.float32)
            with without_activation(self._head) as cut:
                return {"prediction": prediction, **self._differentiated(picture, target, cut)}

        return tf.function(compute, signature, autograph=False)

    def _differentiated(self, picture: Any, target: Any, cut: Any) -> dict[str, Any]:
        import tensorflow as tf

        from converters.tracing.reference import last_activation
        from converters.tracing.taps import tapped

        outputs: dict[str, Any] = {}

        def watch(layer_call: Any, _: Any, output: Any) -> Any:
            if cut.reached or layer_call.tap not in self._taps:
                return output
            # a layer that hands its input through (Dropout) returns the same tensor: give each tap its own
            output = tf.identity(output)
            tape.watch(output)
            outputs[layer_call.tap] = output
            return output

        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape, tapped(self._model, watch):
            logits = tf.cast(self._model(picture, training=False), tf.float32)
            activation = None if self._head is None else self._head.activation
            if activation is None:
                activation, logits = last_activation(logits)
            chosen = _class_of(logits, target)
            scores = {of: self._score(logits, chosen, of, activation) for of in self._of}
        found = {"logits": logits, "class": chosen[None]} | {f"activation/{tap}": a for tap, a in outputs.items()}
        for of, score in scores.items():
            gradients = tape.gradient(score, outputs)
            found |= {f"gradient/{of}/{tap}": g for tap, g in gradients.items() if g is not None}
        return found

    @staticmethod
    def _score(logits: Any, chosen: Any, of: str, activation: str | None) -> Any:
        """The score of a class; of a single output z, class 1 has z and class 0 its negative."""
        import tensorflow as tf

        if logits.shape[1] == 1:
            signed = tf.where(chosen == 1, logits[0, 0], -logits[0, 0])
            return tf.sigmoid(signed) if of == "probability" else signed
        if of == "probability":
            logits = tf.nn.softmax(logits) if activation == "softmax" else tf.sigmoid(logits)
        return tf.reduce_sum(logits * tf.one_hot(chosen, logits.shape[1]))


def _class_of(logits: Any, target: Any) -> Any:
    """The class that was asked for, or the top one where that is negative."""
    import tensorflow as tf

    top = tf.cast(logits[0, 0] > 0, tf.int64) if logits.shape[1] == 1 else tf.argmax(logits[0])
    return tf.where(target < 0, top, target)


if __name__ == "__main__":
    sys.exit(main())
