"""The bundle: an imported model on disk, a folder that needs neither TensorFlow nor pickle.

    graph.onnx            structure; its large initializers point into weights.safetensors
    weights.safetensors   the large weights, by the names of their ONNX tensors
    proof.safetensors     the reference batch and what the original framework computed from it
    manifest.json         everything else; written last

A bundle is written to a temporary folder, flushed and renamed, so that a half-written one is never seen.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from safetensors import SafetensorError, safe_open

from converters.certificate import Certificate
from converters.errors import BundleError, ParityError, TorchcamError
from converters.left_behind import ENDING, remove_left_behind
from converters.manifest import faults as manifest_faults

if TYPE_CHECKING:
    from torch import Tensor

    from converters.module import ImportedModule

# torch and onnx2torch, which take seconds and half a gigabyte, are imported where a module is built

SCHEMA = 2
GRAPH, WEIGHTS, PROOF, MANIFEST = "graph.onnx", "weights.safetensors", "proof.safetensors", "manifest.json"


@dataclass(frozen=True)
class LayerCallRow:
    """One layer call of the original model.

    Attributes
    ----------
    name : str
        Keras name, behind the names of the nested models that hold it.
    call : int
        Which call of the layer, from 0.
    class_name : str
        Keras class.
    shape : tuple
        Output shape in torch's order, without the batch: (C, H, W) for maps.
    module : str
        The submodule of `ImportedModule` through which the output passes.
    is_map : bool
        False for what only looks like a map or tokens: channels before tokens, as between the transpositions of an
        MLP-Mixer, or the positions of windows.
    """

    name: str
    call: int
    class_name: str
    shape: tuple[int | None, ...]
    module: str
    is_map: bool = True

    @property
    def tap(self) -> str:
        """Name and call in one, as in `conv2d_1#0`."""
        return f"{self.name}#{self.call}"


@dataclass(frozen=True)
class Bundle:
    """An imported model on disk; see the module's text for the files.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : dict
        The content of manifest.json.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def layers(self) -> list[LayerCallRow]:
        """Every layer call, in the order of the computation."""
        rows = self.manifest["layers"]
        return [
            LayerCallRow(r["name"], r["call"], r["class"], tuple(r["shape"]), r["module"], r.get("map", True))
            for r in rows
        ]

    @property
    def certificate(self) -> Certificate:
        """The proof of parity, as it was computed when the bundle was made."""
        return Certificate(**self.manifest["certificate"])

    def module(self) -> "ImportedModule":
        """Build the torch module, in eval mode, on the CPU, its weights mapped from the file.

        Raises
        ------
        BundleError
            A file is damaged or was changed, or the graph is not the one that the manifest describes.
        """
        structure, weights = read_structure_and_weights(self.path)
        self.require_unchanged()
        module = self._built(structure, weights)
        self._require_described(structure, module)
        return module

    def _built(self, structure: onnx.ModelProto, weights: Mapping[str, "Tensor"]) -> "ImportedModule":
        from converters.module import build

        try:
            return build(structure, weights)
        except TorchcamError:
            raise
        except Exception as error:  # onnx2torch trusts a graph, and stumbles over a damaged one in a dozen ways
            raise BundleError(
                f"{self.path / GRAPH} is damaged ({type(error).__name__}: {str(error)[:200]}); convert the checkpoint "
                f"again"
            ) from error

    def _require_described(self, structure: onnx.ModelProto, module: "ImportedModule") -> None:
        """Compare the manifest's input and layers with those of the graph."""
        told = tuple(self.manifest["input"][name] for name in ("channels", "height", "width"))
        constants = {tensor.name for tensor in structure.graph.initializer}
        inputs = [value for value in structure.graph.input if value.name not in constants]
        found = [tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[1:] for value in inputs]
        if found != [told]:
            raise BundleError(
                f"{self.path / MANIFEST} tells of images of {told}, and the graph takes {found}; convert the "
                f"checkpoint again"
            )
        parts = {name for name, _ in module.named_modules()}
        strange = [row.tap for row in self.layers if row.module not in parts]
        if strange:
            raise BundleError(
                f"{self.path / MANIFEST} lists {len(strange)} layer calls that are not in the graph, {strange[0]!r} "
                f"first; convert the checkpoint again"
            )

    def require_unchanged(self) -> None:
        """Compare the files with the hashes that were taken when they were proved.

        Raises
        ------
        BundleError
            A file was changed since.
        """
        for name in (GRAPH, WEIGHTS, PROOF):
            if file_hash(self.path / name) != self.manifest["sha256"].get(name):
                raise BundleError(
                    f"{self.path / name} is not the file that was proved, it was changed or damaged since; "
                    f"torchcam-suite verify {self.path} says what differs, or convert the checkpoint again"
                )

    def verify(self, device: str = "cpu") -> Certificate:
        """Prove the bundle again, on the machine at hand.

        Parameters
        ----------
        device : str
            Where the torch module runs, as torch names it; on CUDA without TF32, which keeps three digits only.

        Raises
        ------
        ParityError
            The torch module does not reproduce the stored reference; the message says what to do.
        BundleError
            A file is so damaged that the module cannot be built or run.
        """
        from converters import graph
        from converters.arithmetic import tf32
        from converters.parity import certify, run_exactly, run_taps
        from converters.proving import what_to_do

        structure, weights = read_structure_and_weights(self.path)
        reference = read_tensors(self.path / PROOF)
        taps = {row.tap: row.module.split("tap/", 1)[1] for row in self.layers}
        needed = {"batch", "direction", "logits", "prediction"}
        needed |= {f"{kind}/{tap}" for kind in ("positions", "activation") for tap in taps}
        _require_all(self.path / PROOF, needed, reference)
        images = {"batch": reference["batch"].to(device)}
        module = self._built(structure, weights).to(device)

        @cache
        def module_in_float64() -> "ImportedModule":
            return self._built(structure, weights).double()

        try:
            with tf32(False):
                run = run_taps(module, reference | images, taps)
            transposes = graph.runtime_transposes(structure)
            return certify(
                run,
                reference,
                taps,
                transposes,
                exact=lambda picture: run_exactly(module_in_float64(), reference, taps, picture),
            )
        except ParityError as error:
            raise ParityError(f"{error}. {what_to_do(self.certificate.torch, device)}") from error
        except Exception as error:  # the graph, the weights or the reference are not those that were proved
            raise BundleError(
                f"{self.path} cannot be compared on {device} ({type(error).__name__}: {str(error)[:300]}); if there "
                f"is memory enough, its files were changed: convert the checkpoint again"
            ) from error


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle; needs no TensorFlow and runs no code of the bundle's.

    Raises
    ------
    BundleError
        The folder is not a bundle, is incomplete, of another schema version, or points outside itself.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}; make one with torchcam-suite convert")
    _require_own_file(path / MANIFEST)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged ({error!r}); convert the checkpoint again") from error
    if schema != SCHEMA:
        raise BundleError(f"{path} has schema version {schema}, this version reads {SCHEMA}; convert it again")
    for name in (GRAPH, WEIGHTS, PROOF):
        _require_own_file(path / name)
    bundle = Bundle(path, manifest)
    try:
        _ = bundle.layers, bundle.certificate, manifest["input"]["channels"], manifest["head"], dict(manifest["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path / MANIFEST} lacks an entry ({error!r}); convert the checkpoint again") from error
    if faults := manifest_faults(manifest):
        raise BundleError(
            f"{path / MANIFEST} is damaged: {faults[0]}{f', and {len(faults) - 1} more' if faults[1:] else ''}; "
            f"convert the checkpoint again"
        )
    return bundle


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def is_bundle(path: str | Path) -> bool:
    """Whether a path looks like a bundle."""
    return (Path(path) / MANIFEST).is_file()


def _require_own_file(file: Path) -> None:
    try:
        found = file.lstat()
    except OSError:
        raise BundleError(f"{file.parent} is incomplete: {file.name} is missing; convert it again") from None
    # a hard link is another file under a name of the bundle's
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise BundleError(f"{file} is a link or not a plain file; a bundle holds its own files")


def read_structure(path: Path) -> onnx.ModelProto:
    """The ONNX graph; its external tensors are checked, and never read by path."""
    try:
        proto = onnx.load(path / GRAPH, load_external_data=False)
    except Exception as error:
        raise BundleError(f"{path / GRAPH} is damaged ({error}); convert the checkpoint again") from error
    if not proto.graph.node:
        raise BundleError(f"{path / GRAPH} is damaged (it is empty); convert the checkpoint again")
    parts = list(_messages(proto))
    if not all(_holds_text(part) for part in parts):
        raise BundleError(f"{path / GRAPH} is damaged (a name in it is no text); convert the checkpoint again")
    for node in (part for part in parts if isinstance(part, onnx.NodeProto)):
        # torch writes the names of submodules into Python source, and does not escape them
        if not node.name.isprintable() or {'"', "'", "\\"} & set(node.name):
            raise BundleError(f"{path / GRAPH} holds a node named {node.name!r:.60}, with characters of no Keras name")
    for tensor in (part for part in parts if isinstance(part, onnx.TensorProto)):
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", WEIGHTS)
        if location != WEIGHTS:
            raise BundleError(f"{path / GRAPH}: tensor {tensor.name!r} points to {location!r}, outside {WEIGHTS}")
    return proto


def _messages(message: Any) -> Iterator[Any]:
    """A message and all inside it: in the attributes of nodes, in functions, in graphs inside the graph."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(item)


def _holds_text(message: Any) -> bool:
    """Whether its texts are text; protobuf gives bytes where they are not UTF-8."""
    texts = (value for field, value in message.ListFields() if field.type == field.TYPE_STRING)
    return all(isinstance(item, str) for text in texts for item in ([text] if isinstance(text, str | bytes) else text))


def read_structure_and_weights(path: Path) -> tuple[onnx.ModelProto, dict[str, "Tensor"]]:
    """The graph of the bundle in a folder, and every weight to which it points; a `BundleError` if one is missing."""
    structure, weights = read_structure(path), read_tensors(path / WEIGHTS)
    _require_all(
        path / WEIGHTS, {tensor.name for tensor in structure.graph.initializer if tensor.external_data}, weights
    )
    return structure, weights


def _require_all(file: Path, names: Set[str], tensors: Mapping[str, "Tensor"]) -> None:
    missing = sorted(names - tensors.keys())
    if missing:
        raise BundleError(f"{file} lacks {len(missing)} tensors, {missing[0]!r} first; convert the checkpoint again")


def read_tensors(file: Path) -> dict[str, "Tensor"]:
    """The tensors of a safetensors file, mapped; a `BundleError` if it is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise BundleError(f"{file} is damaged ({error}); convert the checkpoint again") from error


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well, and vanishes otherwise."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=ENDING, dir=target.parent))
    except OSError as error:
        raise BundleError(f"cannot write to {target.parent}: {error}; choose another folder") from error
    try:
        yield folder
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        folder.chmod(0o755)
        _put_in_place(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        # another process may have put the same bundle there first
        if not is_bundle(target):
            raise
