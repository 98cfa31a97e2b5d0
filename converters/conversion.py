"""Convert a checkpoint: inspect, trace in a process of its own, bind, prove, write the bundle."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import platformdirs
import torch
from safetensors.numpy import load_file, save_file

from converters import certificate, worker
from converters.bundle import (
    GRAPH,
    MANIFEST,
    PROOF,
    SCHEMA,
    WEIGHTS,
    Bundle,
    _structure,
    _tensors,
    new_folder,
    open_bundle,
)
from converters.errors import BundleError
from converters.inspect import Checkpoint, inspect


def convert(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    input_size: tuple[int, int] | None = None,
    preprocessing: str | None = None,
    class_names: Sequence[str] | None = None,
    cache: bool = True,
    timeout: float = worker.TIMEOUT,
) -> Bundle:
    """Turn a Keras checkpoint into a bundle and prove that it computes the same.

    The same content is converted once: the bundle is kept in the user's cache folder
    (`TORCHCAM_SUITE_CACHE` moves it) under the hash of the checkpoint.

    Parameters
    ----------
    source : path
        Whole model (`.h5`, `.hdf5`, `.keras`) or architecture (`.json`).
    weights : path, optional
        The weights of a `.json` architecture.
    out : path, optional
        Folder of the bundle; must not exist. Without it the bundle stays in the cache.
    input_size : (height, width), optional
        For a model that takes pictures of any size.
    preprocessing, class_names : optional
        Stored in the bundle at `out`, for whoever opens it.
    cache : bool
        False converts anew and leaves the cache alone; needs `out`.
    timeout : float
        Seconds that the trace may take.

    Raises
    ------
    CheckpointError, UnsafeCheckpointError, UnsupportedModelError
        The checkpoint cannot or must not be converted.
    TracingError
        The TensorFlow process failed, crashed, was killed or took too long.
    ParityError
        The result does not compute what the original computes; no bundle is written.
    BundleError
        `out` exists, or is missing with `cache=False`.
    """
    target = None if out is None else Path(out)
    if target is not None and target.exists():
        raise BundleError(f"{target} exists already; choose another folder or remove it first")
    if target is None and not cache:
        raise BundleError("cache=False needs a folder for the bundle: out='model.bundle' (-o)")
    stored = {"preprocessing": preprocessing, "class_names": None if class_names is None else list(class_names)}
    stored = {key: value for key, value in stored.items() if value is not None}
    if target is None and stored:
        raise BundleError(f"{' and '.join(stored)} are stored in a bundle of your own: say out='model.bundle' (-o)")
    checkpoint = inspect(source, weights)
    with tempfile.TemporaryDirectory(prefix="torchcam-suite-") as scratch:
        place = cache_folder() / _key(checkpoint, input_size) if cache else Path(scratch) / "bundle"
        bundle = _kept(place)
        if bundle is None:
            _write_bundle(checkpoint, place, input_size, timeout)
            bundle = open_bundle(place)
        if target is None:
            return bundle
        if class_names is not None:
            _require_a_name_each(bundle, class_names)
        return _copy(bundle, target, stored)


def _require_a_name_each(bundle: Bundle, class_names: Sequence[str]) -> None:
    # a single output is a binary head, with two classes
    classes = max(2, _tensors(bundle.path / PROOF)["prediction"].shape[1])
    if len(class_names) != classes:
        raise BundleError(f"{len(class_names)} class names were given for a model with {classes} classes")


def cache_folder() -> Path:
    """Where converted checkpoints are kept."""
    chosen = os.environ.get("TORCHCAM_SUITE_CACHE")
    return (Path(chosen) if chosen else platformdirs.user_cache_path("torchcam-suite")) / "bundles"


def _kept(place: Path) -> Bundle | None:
    """The bundle that was put there before; a damaged one is removed, to be made again."""
    if not place.exists():
        return None
    try:
        bundle = open_bundle(place)
        _structure(place)
        for name in (WEIGHTS, PROOF):
            _tensors(place / name)
        return bundle
    except BundleError:
        shutil.rmtree(place, ignore_errors=True)
        return None


def _key(checkpoint: Checkpoint, input_size: tuple[int, int] | None) -> str:
    """Hash of all that the bundle depends on, this converter's own code included."""
    digest = hashlib.sha256(f"{checkpoint.sha256} {checkpoint.flavour} {input_size} {SCHEMA}".encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _import_onnx2torch() -> None:
    import converters.module  # noqa: F401


def _write_bundle(checkpoint: Checkpoint, place: Path, input_size: tuple[int, int] | None, timeout: float) -> None:
    """Trace, bind, prove and write; `place` exists only if all of it went well."""
    with tempfile.TemporaryDirectory(prefix="torchcam-suite-trace-") as name, new_folder(place) as folder:
        traced = Path(name)
        facts = worker.trace(checkpoint, traced, input_size=input_size, timeout=timeout, meanwhile=_import_onnx2torch)
        from converters import graph

        structure = onnx.load(traced / "structure.onnx")
        arrays = graph.bind_weights(structure, load_file(traced / "weights.safetensors"))
        graph.settle_reshapes(structure)
        # TensorFlow drops what does not lead to the prediction, as an output of a nested model that is not used
        taps = {node.name for node in structure.graph.node}
        facts["layers"] = [layer for layer in facts["layers"] if f"tap/{_tap(layer)}" in taps]
        graph.check_ops(structure)
        _save_weights(arrays, folder / WEIGHTS)
        graph.refer_to_weights(structure, WEIGHTS, _places(folder / WEIGHTS))
        del arrays
        shutil.copyfile(traced / "reference.safetensors", folder / PROOF)
        proof = _prove(structure, facts["layers"], folder)
        onnx.save(structure, folder / GRAPH)
        manifest = _manifest(checkpoint, facts, proof)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _prove(structure: onnx.ModelProto, layers: list[dict], folder: Path) -> certificate.Certificate:
    """Build the module, see to it that every map is channels first, and compare it with the reference."""
    from converters import graph
    from converters.module import build

    weights, reference = _tensors(folder / WEIGHTS), _tensors(folder / PROOF)
    modules = {_tap(layer): _module_name(layer) for layer in layers}
    run = certificate.run_taps(build(structure, weights), reference)
    last = certificate.channels_last_taps(run, reference, modules)
    if last:
        graph.force_channels_first(structure, last)
        run = certificate.run_taps(build(structure, weights), reference)
    for layer in layers:
        name = _module_name(layer)
        layer["module"] = f"{'trunk' if name in run.gradients else 'head'}.tap/{name}"
    return certificate.certify(run, reference, modules, graph.runtime_transposes(structure))


def _tap(layer: dict[str, Any]) -> str:
    return f"{layer['name']}#{layer['call']}"


def _module_name(layer: dict[str, Any]) -> str:
    """As onnx2torch spells it: torch allows no dot in the name of a submodule."""
    return _tap(layer).replace(".", "/")


def _save_weights(arrays: dict[str, np.ndarray], file: Path) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file)


def _places(file: Path) -> dict[str, tuple[np.dtype, tuple[int, ...], int, int]]:
    """Dtype, shape, offset and length of each array in a safetensors file, from its header."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    dtypes = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64, "I32": np.int32}
    return {
        name: (
            np.dtype(dtypes[entry["dtype"]]),
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _manifest(checkpoint: Checkpoint, facts: dict[str, Any], proof: certificate.Certificate) -> dict[str, Any]:
    height, width, channels = facts["input_shape"]
    return {
        "schema": SCHEMA,
        "source": {
            "files": [path.name for path in checkpoint.files],
            "sha256": checkpoint.sha256,
            "format": checkpoint.format,
            "keras_version": checkpoint.keras_version,
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": facts["versions"]
        | {"torch": torch.__version__, "onnx2torch": importlib.metadata.version("onnx2torch")},
        "model_name": facts["model_name"],
        "input": {"channels": channels, "height": height, "width": width},
        "takes_raw_pixels": checkpoint.takes_raw_pixels,
        "preprocessing": None,
        "class_names": None,
        "head": facts["head"],
        "layers": [_layer_row(layer) for layer in facts["layers"]],
        "certificate": proof.to_json(),
    }


def _layer_row(layer: dict[str, Any]) -> dict[str, Any]:
    shape = layer["shape"][1:]
    channels_first = [shape[2], shape[0], shape[1]] if len(shape) == 3 else shape
    return {key: layer[key] for key in ("name", "call", "class", "module")} | {"shape": channels_first}


def _copy(bundle: Bundle, target: Path, changes: dict[str, Any]) -> Bundle:
    with new_folder(target) as folder:
        for name in (GRAPH, WEIGHTS, PROOF):
            shutil.copyfile(bundle.path / name, folder / name)
        manifest = json.dumps(bundle.manifest | changes, indent=1)
        (folder / MANIFEST).write_text(manifest, encoding="utf-8")
    return open_bundle(target)
