"""Whether weights and architecture are of the same model.

Keras pairs them by position alone, so that the weights of another model with the same shapes load without a word.
"""

import re
from collections.abc import Iterable

from converters import keras_names
from converters.errors import CheckpointError
from converters.inspect.architecture import JsonObject, layer_classes, layer_names, least_values, nested_layers
from converters.inspect.hdf5 import Hdf5Facts


def check_names(architecture: JsonObject, model: str, weights: Hdf5Facts, file: str) -> None:
    """The weights file must name the layers of the architecture, and inside nested models theirs.

    A file that holds more layers, or in another order, fits if it holds them all: its weights are then paired by name.

    Parameters
    ----------
    architecture, weights : dict, Hdf5Facts
        What the files hold.
    model, file : str
        Names of both files, for messages.

    Raises
    ------
    CheckpointError
        They do not belong together.
    """
    top = layer_names(architecture)
    if weights.layers_of_keras_3 is not None:
        inside = [name for names in nested_layers(architecture).values() for name in names]
        _refuse_foreign(weights.layers_of_keras_3, [*top, *inside], model, file)
        return
    if not weights.layers:
        raise CheckpointError(f"{file} has no layer_names: not a Keras weights file")
    missing = [name for name, names in weights.layers if names is None]
    if missing:
        raise CheckpointError(f"{file} lists {_some(missing)} but does not hold their weights")
    in_file = [name for name, names in weights.layers if names]
    nested = nested_layers(architecture)
    if not _surely_weighted(architecture) <= set(in_file):
        _refuse_foreign(in_file, top, model, file)
        if [name for name in top if name in in_file] != in_file:
            raise CheckpointError(f"{file} lists its layers in another order than {model}")
    for name, names in weights.layers:
        if name in nested:
            foreign = [weight for weight in names or () if not _is_of(weight, nested[name] | {name})]
            _refuse_foreign(foreign, sorted(nested[name]), model, file)


def _surely_weighted(architecture: JsonObject) -> set[str]:
    """The top-level layers of classes that have weights."""
    names, classes = layer_names(architecture), layer_classes(architecture)
    kinds = ("Conv", "Dense", "Normalization", "Embedding", "LSTM", "GRU", "RNN", "PReLU", *keras_names.MODELS)
    return {name for name, kind in zip(names, classes, strict=True) if any(word in kind for word in kinds)}


def _is_of(weight: str, layers: set[str]) -> bool:
    """Whether a weight, as in `vgg16/block1_conv1_1/kernel:0`, is of one of these layers.

    TensorFlow 1 made names unique with a number at their end.
    """
    parts = weight.split("/")[:-1]
    # a name may itself hold slashes
    starts = {"/".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)}
    return any(part in layers or re.sub(r"_\d+$", "", part) in layers for part in starts)


def _refuse_foreign(in_file: Iterable[str], in_model: list[str], model: str, file: str) -> None:
    known = set(in_model)
    foreign = [name for name in in_file if name not in known]
    if foreign:
        raise CheckpointError(
            f"{file} does not belong to {model}: it has weights for "
            f"{_some(foreign)}, which the architecture does not have (its layers: {_some(in_model)}). If the files do "
            f"belong together and only the names differ, load both in Keras and save the whole model"
        )


def check_size(architecture: JsonObject, weights: Hdf5Facts, file: str) -> None:
    """Refuse an architecture that is far larger than its weights, before anything of that size is allocated."""
    layer, least = least_values(architecture)
    if least > weights.values:
        raise CheckpointError(
            f"layer {layer!r} of the architecture needs at least {least:,} weights, {file} holds {weights.values:,} in "
            f"all; they are not of the same model"
        )


def _some(names: list[str], most: int = 4) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
