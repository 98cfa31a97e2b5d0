"""What an architecture says about its layers and its image input."""

import math
from collections.abc import Iterator
from typing import Any

from converters import keras_names
from converters.errors import CheckpointError, UnsupportedModelError

JsonObject = dict[str, Any]

_LARGEST_SIDE = 65536  # pixels


def layer_entries(model: JsonObject) -> list[JsonObject]:
    """The layers of a model, each with a class name and a config, in the order of the file."""
    config = model.get("config")
    entries = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(entries, list):
        raise CheckpointError(f"the architecture lists no layers: its {model['class_name']} has none in its config")
    for entry in entries:
        layer = entry if isinstance(entry, dict) else {}
        if not (isinstance(layer.get("class_name"), str) and isinstance(layer.get("config"), dict | list)):
            raise CheckpointError(f"the architecture lists {entry!r:.60}; expected a layer with class_name and config")
    return entries


def layer_configs(model: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """(class name, config) of every layer in the order of the file, nested models opened."""
    for layer in layer_entries(model):
        if layer["class_name"] in keras_names.MODELS:
            yield from layer_configs(layer)
        elif isinstance(layer["config"], dict):
            yield layer["class_name"], layer["config"]


def layer_classes(architecture: JsonObject) -> list[str]:
    """The classes of the top-level layers, in the order of the file."""
    return [layer["class_name"] for layer in layer_entries(architecture)]


def layer_names(architecture: JsonObject) -> list[str]:
    """The names of the top-level layers, in the order of the file."""
    return [_name(layer) for layer in layer_entries(architecture)]


def nested_layers(architecture: JsonObject) -> dict[str, set[str]]:
    """For each nested model at the top level, the names of all layers inside it, however deep."""
    return {
        _name(layer): set(_names_inside(layer))
        for layer in layer_entries(architecture)
        if layer["class_name"] in keras_names.MODELS
    }


def _names_inside(model: JsonObject) -> Iterator[str]:
    for layer in layer_entries(model):
        yield _name(layer)
        if layer["class_name"] in keras_names.MODELS:
            yield from _names_inside(layer)


def _name(layer: JsonObject) -> str:
    config = layer["config"] if isinstance(layer["config"], dict) else {}
    return str(layer.get("name") or config.get("name"))


# ---------------------------------------------------------------- the input


def image_input(architecture: JsonObject, name: str | None) -> tuple[tuple[int | None, int | None, int], bool]:
    """Shape (height, width, channels) of the image input, and whether the model wants the channels first.

    Parameters
    ----------
    architecture : dict
        Of the whole model.
    name : str or None
        Of the input, where there are several.

    Raises
    ------
    UnsupportedModelError
        There are several inputs and none was named, the name is unknown, or it takes no images.
    """
    inputs = _input_names(architecture)
    if name is None and len(inputs) > 1:
        raise UnsupportedModelError(
            f"the model has {len(inputs)} inputs ({', '.join(inputs)}); expected one image input. If the output needs "
            f"only one of them, name it: input={inputs[0]!r}, on the command line --input {inputs[0]}"
        )
    if name is not None and inputs and name not in inputs:
        raise UnsupportedModelError(f"the model has no input {name!r}; it has {', '.join(map(repr, inputs))}")
    wanted = name if len(inputs) > 1 else None
    channels_first = _channels_first(architecture)
    for _, config in layer_configs(architecture):
        shape = config.get("batch_shape", config.get("batch_input_shape"))
        if shape is not None and (wanted is None or wanted == config.get("name")):
            return _image_shape(shape, config, channels_first), channels_first
    raise UnsupportedModelError(
        "the architecture does not say its input shape (a Sequential model that was saved before it was built); "
        "call model.build((None, height, width, channels)) in Keras and save it again"
    )


def _input_names(architecture: JsonObject) -> list[str]:
    """Names of the inputs of a functional model; Keras 3 writes a single one without a list around it."""
    config = architecture.get("config")
    inputs = config.get("input_layers") if isinstance(config, dict) else None
    if isinstance(inputs, dict):
        inputs = list(inputs.values())
    if not isinstance(inputs, list) or not all(isinstance(item, list) and item for item in inputs):
        return []
    return [str(item[0]) for item in inputs]


def _channels_first(architecture: JsonObject) -> bool:
    """As the first layer says that has to do with images."""
    formats = [config.get("data_format") for _, config in layer_configs(architecture)]
    known = [item for item in formats if isinstance(item, str) and item.startswith("channels_")]
    return known[:1] == ["channels_first"]


def _image_shape(shape: Any, config: JsonObject, channels_first: bool) -> tuple[int | None, int | None, int]:
    dims = shape[1:] if isinstance(shape, list) else []
    if len(dims) != 3 or not all(d is None or (_is_int(d) and 0 < d <= _LARGEST_SIDE) for d in dims):
        order = "channels, height, width" if channels_first else "height, width, channels"
        raise UnsupportedModelError(f"input {config.get('name')!r} has shape {shape}; expected images: [null, {order}]")
    height, width, channels = (dims[1], dims[2], dims[0]) if channels_first else dims
    if channels is None:
        raise UnsupportedModelError(f"input shape {shape}: the number of channels must be known")
    return height, width, channels


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> int:
    # Keras 2 takes 256.0 for 256
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 < value < math.inf else 0


def least_values(architecture: JsonObject) -> tuple[str, int]:
    """The layer that needs most weights, by a lower bound that its configuration alone gives, and that bound."""
    needs = [(str(config.get("name")), _least_values(kind, config)) for kind, config in layer_configs(architecture)]
    return max(needs, key=lambda need: need[1], default=("", 0))


def _least_values(class_name: str, config: JsonObject) -> int:
    kernel = config.get("kernel_size")
    size = math.prod(max(1, _count(side)) for side in (kernel if isinstance(kernel, list) else [kernel]))
    units, words, filters, multiplier = (
        _count(config.get(key)) for key in ("units", "input_dim", "filters", "depth_multiplier")
    )
    # a separable convolution goes on to its filters by a kernel of 1x1
    each = 1 if class_name.startswith("Separable") else size
    return max(units, words, filters * each, multiplier * size)
