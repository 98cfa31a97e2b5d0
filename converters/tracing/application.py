"""Build a model of `keras.applications`."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from converters.errors import CheckpointError
from converters.tracing.reference import reference_batch


def build(job: dict[str, Any]) -> Any:
    """The model that the job names, at the size that it asks for.

    Raises
    ------
    CheckpointError
        Its weights cannot be downloaded, or it takes no pictures of that size.
    """
    name, weights = job["architecture"]["application"], job["architecture"]["weights"]
    size = job["input_size"] or job["architecture"]["size"]
    shape = {} if size is None else {"input_shape": (*size, 3)}
    keras.utils.set_random_seed(0)
    try:
        model = getattr(keras.applications, name)(weights=weights, **shape)
    except Exception as error:
        wanted = "" if weights is None else f" with its {weights} weights, which Keras downloads once,"
        raise CheckpointError(
            f"keras.applications cannot build {name}{wanted} here: {str(error).strip().splitlines()[0]:.300}"
        ) from error
    if weights is None:
        _randomise(model, job["raw_pixels"])
    return model


def _randomise(model: Any, raw_pixels: bool) -> None:
    """Give each BatchNormalization weights of its own, near to the statistics of some pictures.

    The fresh ones, 0 and 1, would hide a layer that is left out or misplaced; and statistics that do not fit let the
    activations of a deep network grow until rounding is all that is left of them.
    """
    random = np.random.default_rng(0)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        if layer.scale:
            layer.gamma.assign(random.uniform(0.8, 1.2, layer.gamma.shape))
        if layer.center:
            layer.beta.assign(random.uniform(-0.2, 0.2, layer.beta.shape))
    size = model.inputs[0].shape[1:]
    pictures = tf.constant(reference_batch(size, raw_pixels))
    # in a graph, which lets go of each activation when it was used
    tf.function(lambda: model(pictures, training=True), autograph=False)()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        spread = np.sqrt(np.asarray(layer.moving_variance))
        layer.moving_mean.assign_add(0.1 * spread * random.uniform(-1, 1, spread.shape))
        layer.moving_variance.assign(spread**2 * random.uniform(0.8, 1.25, spread.shape))
