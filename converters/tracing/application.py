"""Build a model of `keras.applications`."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from converters.errors import CheckpointError
from converters.tracing.reference import reference_batch

RANDOM = {"gamma": (0.8, 1.2), "beta": (-0.2, 0.2), "moving_mean": (-0.2, 0.2), "moving_variance": (0.5, 2.0)}
# With statistics that do not fit, the activations of these grow or die until nothing is left to compare; in Xception
# the rounding of float32 then decides which ReLUs let a gradient through
CALIBRATED = {"EfficientNetV2M", "EfficientNetV2L", "MobileNet", "Xception"}


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
        _randomise(model, name in CALIBRATED, job["raw_pixels"])
    return model


def _randomise(model: Any, calibrated: bool, raw_pixels: bool) -> None:
    """Give each BatchNormalization weights of its own; the fresh ones, 0 and 1, would hide one that is misplaced."""
    random = np.random.default_rng(0)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        for variable in layer.weights:
            variable.assign(random.uniform(*RANDOM[variable.name], variable.shape))
    if layers and calibrated:
        _calibrate(model, layers, reference_batch(model.inputs[0].shape[1:], raw_pixels))


def _calibrate(model: Any, layers: list[Any], pictures: np.ndarray) -> None:
    """Set the statistics to those of some pictures."""
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    # in a graph, which lets go of each activation when it was used
    tf.function(lambda: model(tf.constant(pictures), training=True), autograph=False)()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
