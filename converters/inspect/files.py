"""Tell a checkpoint's format by its content, and read its architecture within bounds."""

import json
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from converters.errors import CheckpointError, UnsafeCheckpointError
from converters.inspect import hdf5

JsonObject = dict[str, Any]

WEIGHTS_MEMBER = "model.weights.h5"
MAX_JSON = 16 << 20  # bytes; the largest architecture of keras.applications has 1.5 million
MAX_DEPTH = 200  # of nested lists and objects; three models inside each other have about 40
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_MEMBERS = 10_000
_MAX_UNPACKED, _MAX_RATIO = 256 << 20, 100  # bytes, and bytes for each byte of the archive


@dataclass(frozen=True)
class Contents:
    """What one file says about a model.

    Attributes
    ----------
    format : str
        `"hdf5"`, `"json"` or `"keras"`.
    keras_version : str
        `"2"` where an old file says nothing.
    architecture : dict
        As in the file.
    weights : Hdf5Facts or None
        What its weights are; None where it holds none.
    """

    format: str
    keras_version: str
    architecture: JsonObject
    weights: hdf5.Hdf5Facts | None


def existing(path: str | Path) -> Path:
    """The path of a plain file, or an error."""
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder; expected a Keras .h5, .hdf5, .keras or .json file, a frozen .pb graph, or the folder "
            f"of a SavedModel, with a saved_model.pb in it"
        )
    if not path.is_file():
        raise CheckpointError(f"no such file: {path}")
    return path


def weights_file(path: str | Path) -> Path:
    """The path of an HDF5 file, which may hold weights, or an error."""
    path = Path(path)
    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path.name)
    if path.with_name(f"{prefix}.index").is_file() and (prefix != path.name or not path.is_file()):
        raise CheckpointError(
            f"{path.name} is a checkpoint of TensorFlow's, whose weights are not stored by layer; in the Keras that "
            f"wrote it, call model.load_weights({prefix!r}) and model.save_weights('weights.h5')"
        )
    head = first_bytes(existing(path))
    if head.startswith(b"PK\x03\x04"):
        raise CheckpointError(
            f"{path.name} is an archive and no weights file; if it is a .keras model, give it alone: "
            f"convert({path.name!r})"
        )
    if not head.startswith(_HDF5):
        raise CheckpointError(
            f"{path.name} is no file of weights: expected HDF5 (.h5, .hdf5), found {_beginning(head)}"
        )
    return path


def read(source: Path) -> Contents:
    """Read a model's file; its format is told by the content rather than by the suffix.

    Raises
    ------
    CheckpointError
        Not a Keras checkpoint, or damaged.
    UnsafeCheckpointError
        Pickled objects, a zip bomb, or HDF5 that refers to other files.
    """
    head = first_bytes(source)
    if head.startswith(_HDF5):
        return _read_hdf5(source)
    if head.startswith(b"PK\x03\x04"):
        return _read_keras_zip(source)
    if head.lstrip()[:1] == b"{":
        return _read_json(source)
    raise _other_format(source, head)


def first_bytes(path: Path) -> bytes:
    """Enough of a file to know it by."""
    with path.open("rb") as file:
        return file.read(256)


def _other_format(source: Path, head: bytes) -> CheckpointError:
    if source.suffix.lower() in {".yaml", ".yml"}:
        return CheckpointError(
            f"{source.name} is a YAML architecture, which is unsafe to read and which Keras dropped; "
            f"in the Keras that wrote it, save model.to_json() instead"
        )
    if re.match(rb"\x80[\x02-\x05]", head):
        return _pickled(source)
    if head.startswith(b"\x93NUMPY") and re.search(rb"'descr':\s*'\|O|'O'", head):
        return UnsafeCheckpointError(f"{source.name} is a NumPy file of pickled objects, which is never read")
    return CheckpointError(
        f"{source.name} is not a Keras checkpoint: expected HDF5 (.h5, .hdf5), a .keras archive or "
        f"a JSON architecture, found {_beginning(head)}"
    )


def _beginning(head: bytes) -> str:
    return f"a file that starts with {head[:8]!r}" if head else "an empty file"


def _pickled(source: Path) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{source.name} holds pickled Python objects, as torch.save writes them; reading them would run code that the "
        f"file chooses. Build the module yourself, load its weights with torch.load(..., weights_only=True) and pass "
        f"the module"
    )


# ---------------------------------------------------------------- the three formats


def _read_hdf5(source: Path) -> Contents:
    facts = hdf5.read(source)
    if not facts.model_config:
        raise CheckpointError(
            f"{source.name} holds weights without an architecture; give the architecture as source "
            f"and this file as weights: convert('model.json', weights={source.name!r})"
        )
    architecture = parse(facts.model_config, f"model_config of {source.name}")
    return Contents("hdf5", facts.keras_version or "2", architecture, facts)


def _read_json(source: Path) -> Contents:
    if source.stat().st_size > MAX_JSON:
        raise CheckpointError(
            f"{source.name} is larger than any architecture ({MAX_JSON >> 20} MB); give a Keras model"
        )
    try:
        architecture = parse(source.read_text(encoding="utf-8"), source.name)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{source.name} is not UTF-8 text ({error})") from error
    written_by_keras_3 = "module" in architecture and "keras_version" not in architecture
    version = str(architecture.get("keras_version", "3" if written_by_keras_3 else "2"))
    return Contents("json", version, architecture, None)


def _read_keras_zip(source: Path) -> Contents:
    try:
        with zipfile.ZipFile(source) as archive:
            if any(PurePosixPath(name).name == "data.pkl" for name in archive.namelist()):
                raise _pickled(source)
            if "config.json" not in archive.namelist():
                raise CheckpointError(f"{source.name} is a zip archive without config.json: no Keras model")
            _check_members(archive, source)
            config, metadata = _text_member(archive, "config.json"), _text_member(archive, "metadata.json")
            has_weights = WEIGHTS_MEMBER in archive.namelist()
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{source.name} is a damaged .keras archive ({error}); get it again") from error
    version = parse(metadata, f"metadata.json of {source.name}").get("keras_version", "3")
    architecture = parse(config, f"config.json of {source.name}")
    weights = hdf5.read(source, WEIGHTS_MEMBER) if has_weights else None
    return Contents("keras", str(version), architecture, weights)


def _check_members(archive: zipfile.ZipFile, source: Path) -> None:
    """Refuse an archive whose members would not stay in their folder, or would fill the disk."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(members) > _MAX_MEMBERS or len(set(names)) != len(names):
        raise UnsafeCheckpointError(
            f"{source.name} holds {len(members)} members, {len(members) - len(set(names))} of them twice; "
            f"expected at most {_MAX_MEMBERS:,}, each once"
        )
    for member in members:
        place = f"{source.name} > {member.filename!r:.100}"
        # orig_filename: zipfile itself cuts the name at a NUL
        name = member.orig_filename
        if name.startswith("/") or ".." in name.split("/") or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", name):
            raise UnsafeCheckpointError(f"{place} is a path that leads out of the archive's folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UnsafeCheckpointError(f"{place} is a symbolic link; a checkpoint holds its own files")
        if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise CheckpointError(f"{place} is encrypted or compressed in a way that Keras does not write")
        if member.file_size > _MAX_UNPACKED + _MAX_RATIO * member.compress_size:
            raise UnsafeCheckpointError(
                f"{place} has {member.compress_size:,} bytes and claims to unpack to {member.file_size:,}: a zip bomb"
            )
    if sum(member.compress_size for member in members) > source.stat().st_size:
        raise UnsafeCheckpointError(f"{source.name}: its members overlap, as in a zip bomb")


def _text_member(archive: zipfile.ZipFile, name: str) -> str:
    # not file_size: what a member says about itself may be wrong
    with archive.open(name) as member:
        content = member.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise UnsafeCheckpointError(
            f"{name} of {archive.filename} is larger than {MAX_JSON >> 20} MB; no Keras model's is"
        )
    return content.decode("utf-8")


# ---------------------------------------------------------------- JSON


def parse(text: str, where: str) -> JsonObject:
    """Parse a JSON object: plain JSON, neither endless nor bottomless.

    Raises
    ------
    CheckpointError
        With the reason.
    """
    if len(text) > MAX_JSON:
        raise CheckpointError(f"{where} has {len(text):,} characters; expected at most {MAX_JSON:,}")
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not valid JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{where} should be a JSON object, found {type(parsed).__name__}")
    if _deeper_than(parsed, MAX_DEPTH):
        raise CheckpointError(f"{where} is not valid JSON of a model (nested more than {MAX_DEPTH} deep)")
    return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number of JSON's")


def _deeper_than(node: Any, most: int) -> bool:
    level = [node]
    for _ in range(most):
        children = [child.values() if isinstance(child, dict) else child for child in level]
        level = [item for child in children for item in child if isinstance(item, dict | list)]
        if not level:
            return False
    return True
