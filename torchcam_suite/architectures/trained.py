"""A trained network in one safetensors file: its weights, and in the header what is needed to build and use it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchcam_suite import images as pictures
from torchcam_suite.architectures.catalogue import build, require_fitting
from torchcam_suite.architectures.net import ArticleNet
from torchcam_suite.errors import CheckpointError, ImageError, SourceError
from torchcam_suite.explanation import write_atomically

# safetensors is imported where it is used

TRAINED_SUFFIX = ".safetensors"
METADATA, FORMAT = "torchcam_suite", 1  # the entry of the header, and the number of its form
MAX_METADATA = 1 << 20  # characters
_MAX_NAME = 255  # characters of a class name: as many as a folder may have


@dataclass(frozen=True)
class TrainedModel:
    """What a file says of the network in it, beside the weights.

    Attributes
    ----------
    architecture : str
        Of `ARCHITECTURES`.
    classes : int
        Number of them.
    class_names : list of str
        One a class, in the order of the outputs; two for a single logit.
    input_size : (height, width)
        For which the network was built.
    width : float
        By which the article's numbers of channels are multiplied.
    preprocessing : str
        Name of it, as for `torchcam_suite.load`.
    training : dict
        How it was trained, as anything that JSON holds: recipe, loss, epochs, metrics, seeds, versions.
    """

    architecture: str
    classes: int
    class_names: list[str]
    input_size: tuple[int, int]
    width: float = 1.0
    preprocessing: str = "unit"
    training: dict[str, Any] = field(default_factory=dict)


def save_trained(file: str | Path, module: ArticleNet, about: TrainedModel) -> None:
    """Write a network and what is known of it; `torchcam_suite.load` opens the file.

    The file is complete or not there: it is written beside and renamed. Weights are stored as float32.

    Parameters
    ----------
    file : path
        Ending in `.safetensors`; its folder is made.
    module : ArticleNet
        From `build`, on any device.
    about : TrainedModel
        Of the same architecture, classes, size and width.

    Raises
    ------
    SourceError
        The module is another one than `about` says, a value is not valid, or the file's name ends otherwise.
    """
    from safetensors.torch import save

    file = Path(file)
    if file.suffix != TRAINED_SUFFIX:
        raise SourceError(f"{file.name} should end in {TRAINED_SUFFIX}, by which load knows a trained model")
    _require_same_network(module, about)
    text = _text_of(about)
    weights = {name: _stored(tensor) for name, tensor in module.state_dict().items()}
    content = save(weights, metadata={"format": "pt", METADATA: text})
    write_atomically(file, lambda opened: opened.write(content))


def open_trained(file: str | Path) -> tuple[ArticleNet, TrainedModel]:
    """Read a file of `save_trained`: the network on the CPU, in training mode, and what is known of it.

    Nothing of the size that the header speaks of is allocated before the file was seen to hold it.

    Raises
    ------
    CheckpointError
        No such file, damaged, without the description that `save_trained` writes, or weights of other shapes than the
        architecture has.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(file)
    if not file.is_file():
        raise CheckpointError(f"no such file: {file}")
    try:
        with safe_open(file, framework="pt") as opened:
            about = _described(file.name, opened.metadata() or {})
            stored = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
            shapes = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in stored.items()}
            net = _built_for(about, shapes, file.name)
            net.load_state_dict({name: opened.get_tensor(name) for name in shapes})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file.name} is a damaged or truncated safetensors file ({error}); get it again"
        ) from error
    return net, about


# ---------------------------------------------------------------- the weights


def _require_same_network(module: ArticleNet, about: TrainedModel) -> None:
    if not isinstance(module, ArticleNet):
        raise SourceError(
            f"save_trained writes the networks of torchcam_suite.architectures.build, found {type(module).__name__}; "
            f"of a compiled or distributed one, give the module inside"
        )
    for name in ("architecture", "classes", "input_size", "width"):
        ours, said = getattr(module, name), getattr(about, name)
        if (tuple(said) if name == "input_size" else said) != ours:
            raise SourceError(f"the network has {name} {ours!r}, and its description says {said!r}")


def _stored(tensor: Tensor) -> Tensor:
    """On the CPU, with memory of its own, floats as float32."""
    plain = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype)
    return plain.clone(memory_format=torch.contiguous_format)


def _built_for(about: TrainedModel, shapes: Mapping[str, tuple[tuple[int, ...], str]], file: str) -> ArticleNet:
    """The network that the description means, with memory for weights only if the file holds all of them."""
    with torch.device("meta"):
        net = build(about.architecture, classes=about.classes, input_size=about.input_size, width=about.width)
    expected = {name: (tuple(tensor.shape), _DTYPES[tensor.dtype]) for name, tensor in net.state_dict().items()}
    for names, what in (
        (expected.keys() - shapes.keys(), "lacks"),
        (shapes.keys() - expected.keys(), "holds besides"),
    ):
        if names:
            raise CheckpointError(
                f"{file} {what} {min(names)!r}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: its weights "
                f"are not those of the {about.architecture} that its header describes"
            )
    for name, (shape, dtype) in expected.items():
        if shapes[name] != (shape, dtype):
            raise CheckpointError(
                f"{file}: {name!r} is {shapes[name][1]} of shape {shapes[name][0]}; the {about.architecture} that its "
                f"header describes has {dtype} of shape {shape}"
            )
    net.to_empty(device="cpu")
    return net


_DTYPES = {torch.float32: "F32", torch.int64: "I64"}


# ---------------------------------------------------------------- the description


def _text_of(about: TrainedModel) -> str:
    try:
        text = json.dumps({"format": FORMAT, **asdict(about)}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SourceError(
            f"training={about.training!r:.80}: expected what JSON holds, without NaN ({error})"
        ) from error
    try:
        _described("the description", {METADATA: text})
    except CheckpointError as error:
        raise SourceError(str(error)) from error
    return text


def _described(file: str, metadata: Mapping[str, str]) -> TrainedModel:
    """The description in a header, each entry checked.

    Raises
    ------
    CheckpointError
        There is none, or an entry is not what it should be.
    """
    from converters.inspect import files

    text = metadata.get(METADATA)
    if text is None:
        raise CheckpointError(
            f"{file} does not say which network its weights are of: it was not written by torchcam-suite train. Build "
            f"the module yourself, load the weights with safetensors.torch.load_model, and pass the module"
        )
    if len(text) > MAX_METADATA:
        raise CheckpointError(
            f"{file}: its description has {len(text):,} characters; at most {MAX_METADATA:,} are read"
        )
    found = files.parse(text, f"the description in {file}")
    if found.pop("format", None) != FORMAT:
        raise CheckpointError(f"{file} was written in another form than {FORMAT}; a newer torchcam-suite may read it")
    unknown, missing = found.keys() - _ENTRIES.keys(), _ENTRIES.keys() - found.keys()
    if unknown or missing:
        raise CheckpointError(
            f"{file}: its description should have {', '.join(_ENTRIES)}; found {', '.join(sorted(found)):.200}"
        )
    for name, (is_valid, expected) in _ENTRIES.items():
        if not is_valid(found[name]):
            raise CheckpointError(f"{file}: {name} is {found[name]!r:.80}; expected {expected}")
    about = TrainedModel(**found | {"input_size": tuple(found["input_size"]), "width": float(found["width"])})
    _require_consistent(file, about)
    return about


def _require_consistent(file: str, about: TrainedModel) -> None:
    if len(about.class_names) != about.classes:
        raise CheckpointError(f"{file}: {len(about.class_names)} class names for {about.classes} classes")
    try:
        pictures.find_preprocessing(about.preprocessing)
        require_fitting(about.architecture, about.classes, about.input_size, about.width)
    except (ImageError, SourceError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))


# what each entry may be; what it means is checked afterwards
_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "architecture": (_is_text, "a name"),
    "classes": (_is_whole, "a whole number"),
    "class_names": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names"),
    "input_size": (_is_size, "[height, width]"),
    "width": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
    "preprocessing": (_is_text, "a name"),
    "training": (lambda value: isinstance(value, dict), "an object"),
}
