"""A checkpoint that was read and found harmless."""

import hashlib
from collections.abc import Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from converters.errors import CheckpointError, UnsupportedModelError
from converters.inspect import allowlist, architecture, belonging, files, hdf5, scaling
from converters.inspect.files import JsonObject

_GENERATIONS = "2", "3"  # of Keras


@dataclass(frozen=True)
class Checkpoint:
    """A Keras checkpoint that was read and found harmless.

    Attributes
    ----------
    source : Path
        The whole model (`.h5`, `.hdf5`, `.keras`, `.pb` or a SavedModel folder) or its architecture (`.json`).
    weights : Path or None
        The weights, where `source` is an architecture.
    format : str
        `"hdf5"`, `"json"` or `"keras"`; of a TensorFlow graph `"frozen"` or `"savedmodel"`.
    keras_version : str
        As the file says, e.g. `"2.2.4"`; `"2"` where it says nothing.
    architecture : dict
        The model's configuration, without that of its training.
    input_shape : tuple of int or None
        (height, width, channels) without the batch; None where the size is free.
    channels_first : bool
        Whether the model itself wants its images as (channels, height, width).
    values : int
        Number of values in the file of the weights, a saved optimizer's included; 0 where it is not known.
    """

    source: Path
    weights: Path | None
    format: str
    keras_version: str
    architecture: JsonObject
    input_shape: tuple[int | None, ...]
    channels_first: bool = field(default=False, kw_only=True)
    values: int = field(default=0, kw_only=True)

    @property
    def flavour(self) -> str:
        """The package that reads it as it was meant: `keras` (3) or `tf_keras` (2)."""
        return "keras" if self.keras_version.split(".")[0] == "3" else "tf_keras"

    @property
    def files(self) -> list[Path]:
        """The files that it consists of."""
        return [self.source] + ([self.weights] if self.weights else [])

    @cached_property
    def file_hashes(self) -> tuple[str, ...]:
        """SHA-256 of each of `files`, in hexadecimal."""
        hashes = []
        for path in self.files:
            with path.open("rb") as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
        return tuple(hashes)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of all its files, in hexadecimal."""
        return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in self.file_hashes)).hexdigest()

    @property
    def takes_raw_pixels(self) -> bool:
        """Whether the model scales pixels 0 to 255 itself, as by a Rescaling of 1/255 near the input."""
        return scaling.takes_raw_pixels(self.architecture)


def inspect(
    source: str | Path,
    weights: str | Path | None = None,
    allow: Set[str] = frozenset(),
    *,
    input: str | None = None,
) -> Checkpoint:
    """Read a checkpoint's architecture and refuse what could run code or cannot be an image classifier.

    Parameters
    ----------
    source : path
        `.h5`/`.hdf5` or `.keras` (whole model), `.json` (architecture), `.pb` (frozen graph) or a SavedModel folder.
    weights : path, optional
        The weights file of a `.json` architecture.
    allow : set of str
        Names of custom classes and functions that the user vouches for, and `Lambda:<layer>` for each Lambda layer
        whose code the user replaces.
    input : str, optional
        Name of the image input, where the model has several.

    Raises
    ------
    CheckpointError
        A file is missing, damaged, of an unknown format, or the weights are of another model.
    UnsafeCheckpointError
        It names Lambda layers, custom classes or functions, other files, or sizes that would fill the memory.
    UnsupportedModelError
        Not one image input, or written by another generation of Keras than 2 and 3.
    """
    from converters import graph_def  # which has a Checkpoint of its own kind

    if graph_def.looks_like_graph(Path(source)):
        return graph_def.inspect_graph(Path(source), weights, input)
    source = files.existing(source)
    weights = None if weights is None else files.weights_file(weights)
    contents = files.read(source)
    _require_known_keras(contents.keras_version, source)
    _require_weights_where_needed(contents.format, source, weights)
    model = allowlist.without_training(contents.architecture)
    allowlist.refuse_foreign_code(model, source.name, allow)
    shape, channels_first = architecture.image_input(model, input)
    facts = contents.weights if weights is None else hdf5.read(weights)
    if facts is None:
        raise CheckpointError(f"{source.name} holds no {files.WEIGHTS_MEMBER}; save it again as .keras")
    file = (source if weights is None else weights).name
    belonging.check_size(model, facts, file)
    if weights is not None:
        belonging.check_names(model, source.name, facts, file)
    return Checkpoint(
        source,
        weights,
        contents.format,
        contents.keras_version,
        model,
        shape,
        channels_first=channels_first,
        values=facts.values,
    )


def _require_known_keras(version: str, source: Path) -> None:
    """Refuse the files of a generation of Keras that nobody here reads; what names no number is taken for Keras 2."""
    generation = version.split(".")[0].strip()[:9]
    if not generation.isdecimal() or generation in _GENERATIONS:
        return
    advice = (
        "open it in Keras 2.0 to 2.3 and save it again"
        if int(generation) < int(_GENERATIONS[0])
        else "see whether a newer torchcam-suite reads it, or save the model in Keras 3"
    )
    raise UnsupportedModelError(
        f"{source.name} was written by Keras {version[:40]!r}; expected Keras {' or '.join(_GENERATIONS)}: {advice}"
    )


def _require_weights_where_needed(format_: str, source: Path, weights: Path | None) -> None:
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
