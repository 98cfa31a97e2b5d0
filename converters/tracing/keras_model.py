"""Open a checkpoint as a Keras model, and learn what the trace has to know about it."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf

from converters.errors import CheckpointError, UnsupportedModelError


@dataclass(frozen=True)
class Head:
    """The last layer, where it ends in softmax or sigmoid."""

    layer: Any
    activation: str

    @property
    def name(self) -> str:
        """The layer's own name."""
        return self.layer.name


def open_model(job: dict) -> Any:
    """Build the model and set its weights; `compile=False`, since optimizers and losses are not wanted.

    Raises
    ------
    CheckpointError
        The Keras that belongs to the file cannot build it, or the weights do not fit the architecture.
    """
    keras = importlib.import_module(job["flavour"])
    try:
        if job["format"] != "json":
            return keras.models.load_model(job["source"], compile=False)
        model = keras.models.model_from_json(Path(job["source"]).read_text(encoding="utf-8"))
    except Exception as error:
        name, package = Path(job["source"]).name, f"{job['flavour']} {keras.__version__}"
        raise CheckpointError(f"{package} cannot build the model of {name}: {_first_line(error)}") from error
    if not model.built:
        model.build((None, *job["input_shape"]))
    _load_weights(model, Path(job["weights"]))
    return model


def _load_weights(model: Any, weights: Path) -> None:
    _check_shapes(model, weights)
    try:
        model.load_weights(str(weights))
    except Exception as error:
        raise CheckpointError(f"{weights.name} does not fit the architecture: {_first_line(error)}") from error


def _check_shapes(model: Any, weights: Path) -> None:
    """Compare shapes layer by layer, to name the layer that does not fit (Keras only names positions)."""
    with h5py.File(weights, "r") as file:
        group = file.get("model_weights", file)
        for layer in model.layers:
            if layer.name not in group or "weight_names" not in group[layer.name].attrs:
                continue
            stored = [group[layer.name][name].shape for name in group[layer.name].attrs["weight_names"]]
            wanted = [tuple(variable.shape) for variable in layer.weights]
            if sorted(stored) != sorted(wanted):
                raise CheckpointError(
                    f"{weights.name} does not fit the architecture: layer {layer.name!r} has weights of shapes "
                    f"{wanted} in the architecture and {stored} in the file"
                )


def image_shape(model: Any, input_size: list[int] | None) -> tuple[int, int, int]:
    """(height, width, channels) of the one image input, its free sizes taken from `input_size`."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedModelError(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of each"
        )
    height, width, channels = model.inputs[0].shape[1:]
    if input_size is not None:
        if (height, width) not in {(None, None), tuple(input_size)}:
            raise UnsupportedModelError(
                f"the model's input is {height}x{width}, which input_size={tuple(input_size)} cannot change"
            )
        height, width = input_size
    if height is None or width is None:
        raise UnsupportedModelError(
            f"the model takes pictures of any size ({height}x{width}); choose one: input_size=(224, 224), "
            f"on the command line --input-size 224"
        )
    if len(model.outputs[0].shape) != 2 or model.outputs[0].shape[1] is None:
        raise UnsupportedModelError(
            f"the model's output has shape {tuple(model.outputs[0].shape)}; expected (images, classes)"
        )
    return int(height), int(width), int(channels)


def find_head(model: Any) -> Head | None:
    """The layer that makes probabilities of logits, if the model ends in one."""
    layer = _made_by(model.outputs[0])
    while _passes_through(layer):
        layer = _made_by(layer.input)
    if hasattr(layer, "layers") and hasattr(layer, "outputs"):
        return find_head(layer)
    if type(layer).__name__ == "Softmax":
        return Head(layer, "softmax")
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    return Head(layer, activation) if activation in {"softmax", "sigmoid"} else None


def _made_by(tensor: Any) -> Any:
    """The layer that gave a symbolic tensor, in both generations of Keras."""
    history = tensor._keras_history
    return getattr(history, "operation", None) or history[0]


def _passes_through(layer: Any) -> bool:
    """Whether the layer hands its input on unchanged, and is called only once, so that it has one input."""
    linear = type(layer).__name__ == "Activation" and layer.activation.__name__ == "linear"
    once = len(layer._inbound_nodes) == 1
    return once and (linear or type(layer).__name__ in {"Dropout", "Identity"})


def versions() -> dict[str, str]:
    """Versions of everything that takes part in the trace."""
    names = ("tensorflow", "keras", "tf_keras", "tf2onnx", "onnx", "numpy")
    return {name: str(importlib.import_module(name).__version__) for name in names} | {"tf_git": tf.version.GIT_VERSION}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]
