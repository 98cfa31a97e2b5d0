"""What the trace has to know about a Keras model: its input, its output and its head."""

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from converters.errors import UnsupportedModelError
from converters.tracing.channels_first import is_channels_first


@dataclass(frozen=True)
class Head:
    """The last layer, where it ends in softmax or sigmoid.

    Attributes
    ----------
    layer : Keras layer or operation
        Also one of a nested model.
    activation : str
        `"softmax"` or `"sigmoid"`.
    call : int
        Which call of a layer that is called several times.
    """

    layer: Any
    activation: str
    call: int = 0

    @property
    def name(self) -> str:
        """The layer's own name."""
        return self.layer.name

    @property
    def attribute(self) -> str:
        """Where the layer keeps the function that makes probabilities of logits."""
        return "call" if type(self.layer).__name__ in _FUNCTIONS else "activation"


def with_one_output(model: Any, output: str | None, image: str | None) -> Any:
    """The part of a model that leads from one image input to one output.

    Parameters
    ----------
    model : keras or tf_keras model
        Any number of inputs and outputs.
    output, image : str or None
        Names of the output and of the input, as Keras has them; None if there is only one.

    Raises
    ------
    UnsupportedModelError
        There are several and none was named, the name is unknown, or the output needs other inputs as well.
    """
    if len(model.outputs) == len(model.inputs) == 1 and output is None and image is None:
        return model
    end, inputs = _named(model, "output", output), _names(model, "input")
    starts = model.inputs if image is None else [_named(model, "input", image)]
    package = importlib.import_module(type(model).__module__.split(".")[0])
    for start in starts:
        try:
            return package.Model(start, end, name=model.name)
        except (ValueError, KeyError):  # the end is not reached from this start alone
            continue
    wanted = output or _names(model, "output")[0]
    raise UnsupportedModelError(
        f"output {wanted!r} cannot be computed from {image or 'any one input'} alone; the "
        f"model's inputs are {', '.join(map(repr, inputs))}: fix the others in Keras and save it again"
    )


def _names(model: Any, kind: str) -> list[str]:
    # Keras 3 names its inputs only by their tensors
    return list(getattr(model, f"{kind}_names", None) or [tensor.name for tensor in getattr(model, f"{kind}s")])


def _named(model: Any, kind: str, name: str | None) -> Any:
    """The symbolic input or output of that name; the only one if there is one."""
    names, tensors = _names(model, kind), getattr(model, f"{kind}s")
    if name is None and len(tensors) == 1:
        return tensors[0]
    if name is None:
        raise UnsupportedModelError(
            f"the model has {len(tensors)} {kind}s ({', '.join(map(repr, names))}); choose one: {kind}={names[0]!r}, "
            f"on the command line --{kind} {names[0]}"
        )
    if name not in names:
        raise UnsupportedModelError(f"the model has no {kind} {name!r}; it has {', '.join(map(repr, names))}")
    return tensors[names.index(name)]


def image_shape(model: Any, input_size: list[int] | None) -> tuple[int, int, int]:
    """(height, width, channels) of the one image input, its free sizes taken from `input_size`."""
    height, width, channels = model.inputs[0].shape[1:]
    if is_channels_first(model):
        channels, height, width = height, width, channels
    height, width = picture_size(height, width, input_size)
    if len(model.outputs[0].shape) != 2 or model.outputs[0].shape[1] is None:
        raise UnsupportedModelError(
            f"the model's output has shape {tuple(model.outputs[0].shape)}; expected (images, classes)"
        )
    return height, width, int(channels)


def picture_size(height: int | None, width: int | None, input_size: list[int] | None) -> tuple[int, int]:
    """The size of the pictures, what the model leaves free taken from `input_size`.

    Raises
    ------
    UnsupportedModelError
        The model leaves a size free and nobody chose it, or fixes another.
    """
    if input_size is not None:
        if any(known not in (None, asked) for known, asked in zip((height, width), input_size, strict=True)):
            raise UnsupportedModelError(
                f"the model's input is {height}x{width}, which input_size={tuple(input_size)} cannot change"
            )
        height, width = input_size
    if height is None or width is None:
        raise UnsupportedModelError(
            f"the model takes pictures of any size ({height}x{width}); choose one: input_size=(224, 224), "
            f"on the command line --input-size 224"
        )
    return int(height), int(width)


# what computes a softmax or sigmoid in its call: layers, operations of Keras 3, functions in Keras 2
_FUNCTIONS = {"Softmax", "Sigmoid", "TFOpLambda"}


def find_head(model: Any) -> Head | None:
    """The layer that makes probabilities of logits, if the model ends in one."""
    tensor = model.outputs[0]
    layer = _made_by(tensor)
    while _passes_through(layer):
        tensor = layer.input
        layer = _made_by(tensor)
    if hasattr(layer, "layers") and hasattr(layer, "outputs"):
        return find_head(layer)
    activation = _activation(layer)
    if activation not in {"softmax", "sigmoid"} or not _one_row(tensor, model.outputs[0]):
        return None
    return Head(layer, activation, _calls(model, layer) - 1)


def last_layer(model: Any) -> str:
    """The name of the layer that gives the model's output."""
    return _made_by(model.outputs[0]).name


def _activation(layer: Any) -> str | None:
    """The name of the last function that a layer applies."""
    kind = type(layer).__name__
    if kind == "TFOpLambda":
        return str(layer.function.__name__).removesuffix("_v2")
    if kind in _FUNCTIONS:
        return kind.lower()
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _one_row(tensor: Any, output: Any) -> bool:
    """Whether a tensor holds one row of values for each picture, as the output does, perhaps as a map of one pixel."""
    return [size for size in tensor.shape[1:] if size != 1] == [size for size in output.shape[1:] if size != 1]


def _calls(model: Any, layer: Any) -> int:
    """How often the model calls one of its layers."""
    graph = getattr(model, "_functional", None) or model  # a Sequential of Keras 3 holds one
    nodes = [node for group in graph._nodes_by_depth.values() for node in group]
    return sum((getattr(node, "operation", None) or getattr(node, "layer", None)) is layer for node in nodes)


def _made_by(tensor: Any) -> Any:
    """The layer that gave a symbolic tensor, in both generations of Keras."""
    history = tensor._keras_history
    return getattr(history, "operation", None) or history[0]


def _passes_through(layer: Any) -> bool:
    """Whether the layer hands its values on unchanged, and is called only once, so that it has one input."""
    kind = type(layer).__name__
    linear = kind == "Activation" and layer.activation.__name__ == "linear"
    function = kind == "TFOpLambda" and _activation(layer) in {"identity", "reshape", "squeeze"}
    once = len(layer._inbound_nodes) == 1
    return once and (linear or function or kind in {"Dropout", "Identity", "Reshape", "Flatten", "Squeeze"})


def versions() -> dict[str, str]:
    """Versions of everything that takes part in the trace."""
    names = ("tensorflow", "keras", "tf_keras", "tf2onnx", "onnx", "numpy")
    return {name: importlib.metadata.version(name) for name in names} | {"tf_git": tf.version.GIT_VERSION}
