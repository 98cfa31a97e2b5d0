"""Build a model of `keras.applications`."""

from typing import Any

import keras
import numpy as np

from converters.errors import CheckpointError

# A fresh BatchNormalization has the statistics 0 and 1, which would hide one that is left out or misplaced
RANDOM = {"gamma": (0.8, 1.2), "beta": (-0.2, 0.2), "moving_mean": (-0.2, 0.2), "moving_variance": (0.5, 2.0)}


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
        _randomise(model)
    return model


def _randomise(model: Any) -> None:
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                variable.assign(random.uniform(*RANDOM[variable.name], variable.shape))
