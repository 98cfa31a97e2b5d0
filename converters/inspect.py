"""What is this checkpoint, and is it safe? Answered by reading alone.

Only h5py, zipfile and json are used: nothing is built, nothing is unpickled, TensorFlow is not imported.
"""

import hashlib
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from converters import keras_names
from converters.errors import CheckpointError, UnsafeCheckpointError, UnsupportedModelError

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A Keras checkpoint that was read and found harmless.

    Attributes
    ----------
    source : Path
        The whole model (`.h5`, `.hdf5`, `.keras`) or its architecture (`.json`).
    weights : Path or None
        The weights, where `source` is an architecture.
    format : str
        `"hdf5"`, `"json"` or `"keras"`.
    keras_version : str
        As the file says, e.g. `"2.2.4"`; `"2"` where it says nothing.
    architecture : dict
        The model's configuration.
    input_shape : tuple of int or None
        (height, width, channels) without the batch; None where the size is free.
    """

    source: Path
    weights: Path | None
    format: str
    keras_version: str
    architecture: JsonObject
    input_shape: tuple[int | None, ...]

    @property
    def flavour(self) -> str:
        """The package that reads it as it was meant: `keras` (3) or `tf_keras` (2)."""
        return "keras" if self.keras_version.split(".")[0] == "3" else "tf_keras"

    @property
    def files(self) -> list[Path]:
        """The files that it consists of."""
        return [self.source] + ([self.weights] if self.weights else [])

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of all its files, in hexadecimal."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def takes_raw_pixels(self) -> bool:
        """Whether the model scales pixels 0 to 255 itself: a Rescaling near the input, as by 1/255."""
        first = list(itertools.islice(_layer_configs(self.architecture), 4))
        scales = [config.get("scale") for class_name, config in first if class_name == "Rescaling"]
        return any(isinstance(scale, float) and 0 < scale < 0.02 for scale in scales)


def inspect(source: str | Path, weights: str | Path | None = None) -> Checkpoint:
    """Read a checkpoint's architecture and refuse what could run code or cannot be an image classifier.

    Parameters
    ----------
    source : path
        `.h5`/`.hdf5` or `.keras` (whole model), or `.json` (architecture).
    weights : path, optional
        The weights file of a `.json` architecture.

    Raises
    ------
    CheckpointError
        A file is missing, damaged, of an unknown format, or the weights are of another model.
    UnsafeCheckpointError
        The architecture names Lambda layers, custom classes or functions.
    UnsupportedModelError
        Not one image input, or channels first.
    """
    source = _existing(source)
    weights = None if weights is None else _existing(weights)
    format_, version, architecture = _read(source)
    if format_ == "json" and weights is None:
        raise CheckpointError(
            f"{source.name} holds an architecture without weights; give the weights file too "
            f"(weights='weights.h5', on the command line --weights weights.h5)"
        )
    if format_ != "json" and weights is not None:
        raise CheckpointError(
            f"{source.name} is a whole model and brings its own weights; drop weights={weights.name!r}, "
            f"or give the architecture as .json"
        )
    _refuse_foreign_code(architecture, source.name)
    checkpoint = Checkpoint(source, weights, format_, version, architecture, _input_shape(architecture))
    if weights is not None:
        _check_weights_belong(checkpoint)
    return checkpoint


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a Keras .h5, .hdf5, .keras or .json file")
    if not path.is_file():
        raise CheckpointError(f"no such file: {path}")
    return path


def _read(source: Path) -> tuple[str, str, JsonObject]:
    """Format, Keras version and architecture, told by the content rather than by the suffix."""
    with source.open("rb") as file:
        head = file.read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        return "hdf5", *_read_hdf5(source)
    if head[:4] == b"PK\x03\x04":
        return "keras", *_read_keras_zip(source)
    if head.lstrip()[:1] == b"{":
        return "json", *_read_json(source)
    if source.suffix.lower() in {".yaml", ".yml"}:
        raise CheckpointError(
            f"{source.name} is a YAML architecture, which is unsafe to read and which Keras dropped; "
            f"in the Keras that wrote it, save model.to_json() instead"
        )
    raise CheckpointError(
        f"{source.name} is not a Keras checkpoint: expected HDF5 (.h5, .hdf5), a .keras archive or "
        f"a JSON architecture, found {f'a file that starts with {head!r}' if head else 'an empty file'}"
    )


def _read_hdf5(source: Path) -> tuple[str, JsonObject]:
    with _open_hdf5(source) as file:
        config = _text(file.attrs.get("model_config", ""))
        version = _text(file.attrs.get("keras_version", "2"))
    if not config:
        raise CheckpointError(
            f"{source.name} holds weights without an architecture; give the architecture as source "
            f"and this file as weights: convert('model.json', weights={source.name!r})"
        )
    return version, _parse(config, f"model_config of {source.name}")


def _read_keras_zip(source: Path) -> tuple[str, JsonObject]:
    try:
        with zipfile.ZipFile(source) as archive:
            if "config.json" not in archive.namelist():
                raise CheckpointError(f"{source.name} is a zip archive without config.json: no Keras model")
            config = archive.read("config.json").decode("utf-8")
            metadata = archive.read("metadata.json").decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{source.name} is a damaged .keras archive ({error}); get it again") from error
    version = _parse(metadata, f"metadata.json of {source.name}").get("keras_version", "3")
    return str(version), _parse(config, f"config.json of {source.name}")


def _read_json(source: Path) -> tuple[str, JsonObject]:
    try:
        architecture = _parse(source.read_text(encoding="utf-8"), source.name)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{source.name} is not UTF-8 text ({error})") from error
    written_by_keras_3 = "module" in architecture and "keras_version" not in architecture
    return str(architecture.get("keras_version", "3" if written_by_keras_3 else "2")), architecture


def _parse(text: str, where: str) -> JsonObject:
    try:
        parsed = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{where} should be a JSON object, found {type(parsed).__name__}")
    return parsed


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    """A file to read; what h5py finds damaged inside the block becomes a clear error."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path.name} is a damaged or truncated HDF5 file ({error})") from error


# ---------------------------------------------------------------- safety


def _refuse_foreign_code(architecture: JsonObject, where: str) -> None:
    """Walk every serialised object of the architecture; anything that is not Keras' own is refused."""
    if not isinstance(architecture.get("class_name"), str):
        raise CheckpointError(f"{where} has no class_name at its top: not a Keras architecture")
    for path, node in _objects(architecture, where):
        _refuse_object(node, path)
        for key in ("activation", "recurrent_activation"):
            config = node.get("config")
            name = config.get(key) if isinstance(config, dict) else None
            if isinstance(name, str) and name not in keras_names.ACTIVATIONS:
                raise UnsafeCheckpointError(f"{path}: {key} {name!r} is no activation of Keras' own; refused")


def _objects(node: Any, path: str) -> Iterator[tuple[str, JsonObject]]:
    """Every dict with a `class_name`, with the names of the layers that lead to it."""
    pending = [(path, node)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, list):
            pending += [(path, child) for child in node]
        elif isinstance(node, dict):
            if "class_name" in node:
                config = node.get("config")
                name = config.get("name") if isinstance(config, dict) else None
                path = f"{path} > {name}" if isinstance(name, str) else path
                yield path, node
            pending += [(path, child) for child in node.values()]


def _refuse_object(node: JsonObject, path: str) -> None:
    class_name, module, config = node["class_name"], node.get("module"), node.get("config")
    if not (isinstance(class_name, str) and isinstance(module, str | None)):
        raise CheckpointError(f"{path}: class_name and module should be text, found {class_name!r} and {module!r}")
    if class_name in {"Lambda", "__lambda__"}:
        raise UnsafeCheckpointError(
            f"{path} is a Lambda layer: it carries compiled Python code, which is never run here. "
            f"Rebuild the model with a standard layer (Rescaling, Activation, ...) in its place and save it again"
        )
    if class_name == "TFOpLambda":
        function = config.get("function") if isinstance(config, dict) else None
        if not (isinstance(function, str) and function in keras_names.TENSOR_FUNCTIONS):
            raise UnsafeCheckpointError(f"{path} calls tf.{function}, which is not on the list of harmless functions")
        return
    if module in keras_names.OPERATION_MODULES and class_name[:1].isupper():
        return
    if module is not None and module.split(".")[0] not in {"keras", "tf_keras"}:
        raise UnsafeCheckpointError(f"{path}: {class_name} comes from module {module!r}, not from Keras; refused")
    known = keras_names.MODELS | keras_names.LAYERS | keras_names.CONFIGURATION
    if class_name not in known:
        raise UnsafeCheckpointError(
            f"{path}: {class_name!r} is no class of Keras' own; custom layers and functions are refused, "
            f"because building them would run code that the checkpoint chooses"
        )


# ---------------------------------------------------------------- the input


def _layer_entries(model: JsonObject) -> list[JsonObject]:
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


def _layer_configs(model: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """(class name, config) of every layer in the order of the file, nested models opened."""
    for layer in _layer_entries(model):
        if layer["class_name"] in keras_names.MODELS:
            yield from _layer_configs(layer)
        elif isinstance(layer["config"], dict):
            yield layer["class_name"], layer["config"]


def layer_names(architecture: JsonObject) -> list[str]:
    """The names of the top-level layers, in the order of the file."""
    entries = _layer_entries(architecture)
    configs = [layer["config"] if isinstance(layer["config"], dict) else {} for layer in entries]
    return [str(layer.get("name") or config.get("name")) for layer, config in zip(entries, configs, strict=True)]


def _input_shape(architecture: JsonObject) -> tuple[int | None, ...]:
    config = architecture.get("config")
    inputs = config.get("input_layers") if isinstance(config, dict) else None
    if isinstance(inputs, list) and len(inputs) > 1 and all(isinstance(item, list) and item for item in inputs):
        names = ", ".join(str(item[0]) for item in inputs)
        raise UnsupportedModelError(f"the model has {len(inputs)} inputs ({names}); expected one image input")
    for _, config in _layer_configs(architecture):
        shape = config.get("batch_shape", config.get("batch_input_shape"))
        if shape is not None:
            return _image_shape(shape, config)
    raise UnsupportedModelError(
        "the architecture does not say its input shape (a Sequential model that was saved before it was built); "
        "call model.build((None, height, width, channels)) in Keras and save it again"
    )


def _image_shape(shape: Any, config: JsonObject) -> tuple[int | None, ...]:
    dims = shape[1:] if isinstance(shape, list) else []
    if len(dims) != 3 or not all(d is None or (isinstance(d, int) and 0 < d <= 65536) for d in dims):
        raise UnsupportedModelError(
            f"input {config.get('name')!r} has shape {shape}; expected images: [null, height, width, channels]"
        )
    if config.get("data_format") == "channels_first" or dims[2] is None:
        raise UnsupportedModelError(f"input shape {shape}: the channels must come last and be known")
    return tuple(dims)


# ---------------------------------------------------------------- architecture and weights apart


def _check_weights_belong(checkpoint: Checkpoint) -> None:
    """The weights file must name layers of the architecture, in its order.

    Keras itself pairs them by position alone, so that the weights of another model with the same shapes
    load without a word.
    """
    assert checkpoint.weights is not None
    in_file, ordered = _weighted_layers(checkpoint.weights)
    in_model = layer_names(checkpoint.architecture)
    foreign = [name for name in in_file if name not in in_model]
    if foreign:
        raise CheckpointError(
            f"{checkpoint.weights.name} does not belong to {checkpoint.source.name}: it has weights for "
            f"{_some(foreign)}, which the architecture does not have (its layers: {_some(in_model)}). If the files do "
            f"belong together and only the names differ, load both in Keras and save the whole model"
        )
    if ordered and [name for name in in_model if name in in_file] != in_file:
        raise CheckpointError(
            f"{checkpoint.weights.name} lists its layers in another order than {checkpoint.source.name}"
        )


def _weighted_layers(weights: Path) -> tuple[list[str], bool]:
    """Names of the layers that have weights, and whether their order is that of the model."""
    with _open_hdf5(weights) as file:
        group = file.get("model_weights", file)
        names = _listed(group, "layer_names")
        if not names and "layers" in file:
            return _weighted_layers_of_keras_3(file["layers"]), False
        if not names:
            raise CheckpointError(f"{weights.name} has no layer_names: not a Keras weights file")
        missing = [name for name in names if name not in group]
        if missing:
            raise CheckpointError(f"{weights.name} lists {_some(missing)} but does not hold their weights")
        return [name for name in names if _listed(group[name], "weight_names")], True


def _weighted_layers_of_keras_3(layers: h5py.Group) -> list[str]:
    """Keras 3 names its groups by class and number, and keeps each layer's own name beside its variables."""
    variables = [layer["vars"] for layer in layers.values() if "vars" in layer]
    return [_text(group.attrs["name"]) for group in variables if len(group) and "name" in group.attrs]


def _listed(group: h5py.Group, name: str) -> list[str]:
    """A list of names that Keras keeps in an attribute, or in numbered pieces of one if it is long."""
    pieces = [name] if name in group.attrs else []
    while f"{name}{len(pieces)}" in group.attrs and name not in group.attrs:
        pieces.append(f"{name}{len(pieces)}")
    return [_text(item) for piece in pieces for item in group.attrs[piece]]


def _some(names: list[str], most: int = 4) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
