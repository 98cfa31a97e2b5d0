"""The bundle: an imported model on disk, a folder that needs neither TensorFlow nor pickle.

    graph.onnx            structure; its large initializers point into weights.safetensors
    weights.safetensors   the large weights, by the names of their ONNX tensors
    proof.safetensors     the reference batch and what the original framework computed from it
    manifest.json         everything else; written last

A bundle is written to a temporary folder, flushed and renamed, so that a half-written one is never seen.
"""

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from safetensors import SafetensorError, safe_open

from converters.certificate import Certificate, certify, run_taps
from converters.errors import BundleError

if TYPE_CHECKING:
    from converters.module import ImportedModule

# onnx2torch, which takes seconds to import, is imported where a module is built

SCHEMA = 1
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
    """

    name: str
    call: int
    class_name: str
    shape: tuple[int | None, ...]
    module: str

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
        return [LayerCallRow(r["name"], r["call"], r["class"], tuple(r["shape"]), r["module"]) for r in rows]

    @property
    def certificate(self) -> Certificate:
        """The proof of parity, as it was computed when the bundle was made."""
        return Certificate(**self.manifest["certificate"])

    def module(self) -> "ImportedModule":
        """Build the torch module, in eval mode, on the CPU, its weights mapped from the file."""
        from converters.module import build

        return build(*_structure_and_weights(self.path))

    def verify(self) -> Certificate:
        """Prove the bundle again, on the machine at hand.

        Raises
        ------
        ParityError
            The torch module does not reproduce the stored reference.
        """
        from converters import graph
        from converters.module import build

        structure, weights = _structure_and_weights(self.path)
        reference = _tensors(self.path / PROOF)
        taps = {row.tap: row.module.split("tap/", 1)[1] for row in self.layers}
        needed = {"batch", "direction", "logits", "prediction"}
        needed |= {f"{kind}/{tap}" for kind in ("positions", "activation") for tap in taps}
        _require_all(self.path / PROOF, needed, reference)
        run = run_taps(build(structure, weights), reference)
        return certify(run, reference, taps, graph.runtime_transposes(structure))


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
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged ({error!r}); convert the checkpoint again") from error
    if schema != SCHEMA:
        raise BundleError(f"{path} has schema version {schema}, this version reads {SCHEMA}; convert it again")
    for name in (GRAPH, WEIGHTS, PROOF):
        _require_own_file(path / name)
    bundle = Bundle(path, manifest)
    try:
        _ = bundle.layers, bundle.certificate, manifest["input"]["channels"], manifest["head"]
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path / MANIFEST} lacks an entry ({error!r}); convert the checkpoint again") from error
    return bundle


def is_bundle(path: str | Path) -> bool:
    """Whether a path looks like a bundle."""
    return (Path(path) / MANIFEST).is_file()


def _require_own_file(file: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except OSError:
        raise BundleError(f"{file.parent} is incomplete: {file.name} is missing; convert it again") from None
    if not stat.S_ISREG(mode):
        raise BundleError(f"{file} is a link or not a plain file; a bundle holds its own files")


def _structure(path: Path) -> onnx.ModelProto:
    """The ONNX graph; its external tensors are checked, and never read by path."""
    try:
        proto = onnx.load(path / GRAPH, load_external_data=False)
    except Exception as error:
        raise BundleError(f"{path / GRAPH} is damaged ({error}); convert the checkpoint again") from error
    if not proto.graph.node:
        raise BundleError(f"{path / GRAPH} is damaged (it is empty); convert the checkpoint again")
    for node in proto.graph.node:
        # torch writes the names of submodules into Python source, and does not escape them
        if not node.name.isprintable() or {'"', "'", "\\"} & set(node.name):
            raise BundleError(f"{path / GRAPH} holds a node named {node.name!r:.60}, with characters of no Keras name")
    for tensor in proto.graph.initializer:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", WEIGHTS)
        if location != WEIGHTS:
            raise BundleError(f"{path / GRAPH}: tensor {tensor.name!r} points to {location!r}, outside {WEIGHTS}")
    return proto


def _structure_and_weights(path: Path) -> tuple[onnx.ModelProto, dict[str, torch.Tensor]]:
    structure, weights = _structure(path), _tensors(path / WEIGHTS)
    _require_all(
        path / WEIGHTS, {tensor.name for tensor in structure.graph.initializer if tensor.external_data}, weights
    )
    return structure, weights


def _require_all(file: Path, names: Set[str], tensors: Mapping[str, torch.Tensor]) -> None:
    missing = sorted(names - tensors.keys())
    if missing:
        raise BundleError(f"{file} lacks {len(missing)} tensors, {missing[0]!r} first; convert the checkpoint again")


def _tensors(file: Path) -> dict[str, torch.Tensor]:
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
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
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
