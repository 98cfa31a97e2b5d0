"""Convert a checkpoint: inspect, trace in a process of its own, bind, prove, write the bundle."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import platformdirs

from converters import vouched, worker
from converters.applications import Application, find_application, is_application
from converters.bundle import GRAPH, MANIFEST, PROOF, SCHEMA, WEIGHTS, Bundle, new_folder, open_bundle, read_tensors
from converters.errors import BundleError
from converters.inspect import Checkpoint, inspect


def convert(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    input_size: tuple[int, int] | None = None,
    input: str | None = None,
    output: str | None = None,
    custom: Sequence[str] = (),
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
        Whole model (`.h5`, `.hdf5`, `.keras`), architecture (`.json`), SavedModel folder, frozen graph (`.pb`), or
        `"keras.applications:ResNet50"`, which Keras downloads (`?weights=none`: random weights).
    weights : path, optional
        The weights of a `.json` architecture.
    out : path, optional
        Folder of the bundle; must not exist. Without it the bundle stays in the cache.
    input_size : (height, width), optional
        For a model that takes pictures of any size.
    input, output : str, optional
        Name of the image input and of the output to explain, where the model has several.
    custom : sequence of str, optional
        Code that the user vouches for, so that a checkpoint may name it: `"module:attribute"` for a custom
        layer, activation or function; `"name=module:attribute"` where the checkpoint has another name for it;
        `"Lambda:layer=module:function"` for a Lambda layer, whose own code is never run. Such a conversion is
        not cached, since the code may change.
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
    cache = cache and not custom
    if target is None and not cache:
        reason = "custom= is not cached, and" if custom else "cache=False"
        raise BundleError(f"{reason} needs a folder for the bundle: out='model.bundle' (-o)")
    stored = {"preprocessing": preprocessing, "class_names": None if class_names is None else list(class_names)}
    stored = {key: value for key, value in stored.items() if value is not None}
    if target is None and stored:
        raise BundleError(f"only a bundle of your own keeps {' and '.join(stored)}: say out='model.bundle' (-o)")
    options = worker.TraceOptions(input_size, input, output, tuple(custom))
    allowed = {vouched.parse(entry).name for entry in custom}
    checkpoint = (
        find_application(str(source)) if is_application(source) else inspect(source, weights, allowed, input=input)
    )
    with tempfile.TemporaryDirectory(prefix="torchcam-suite-") as scratch:
        place = cache_folder() / _key(checkpoint, options) if cache else Path(scratch) / "bundle"
        bundle = _kept(place)
        if bundle is None:
            _write_bundle(checkpoint, place, options, timeout)
            bundle = open_bundle(place)
        if target is None:
            return bundle
        if class_names is not None:
            _require_a_name_each(bundle, class_names)
        return _copy(bundle, target, stored)


def _require_a_name_each(bundle: Bundle, class_names: Sequence[str]) -> None:
    # a single output is a binary head, with two classes
    classes = max(2, read_tensors(bundle.path / PROOF)["prediction"].shape[1])
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
        bundle.require_unchanged()
        return bundle
    except BundleError:
        shutil.rmtree(place, ignore_errors=True)
        return None


def _key(checkpoint: Checkpoint | Application, options: worker.TraceOptions) -> str:
    """Hash of all that the bundle depends on, this converter's own code included."""
    digest = hashlib.sha256(f"{checkpoint.sha256} {checkpoint.flavour} {options} {SCHEMA}".encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _write_bundle(
    checkpoint: Checkpoint | Application, place: Path, options: worker.TraceOptions, timeout: float
) -> None:
    """Trace, bind, prove and write; `place` exists only if all of it went well."""
    with tempfile.TemporaryDirectory(prefix="torchcam-suite-trace-") as name, new_folder(place) as folder:
        traced = Path(name)
        facts = worker.trace(checkpoint, traced, options, timeout=timeout)
        # torch and onnx2torch are imported now and not before: the two processes need not share the memory
        from converters.assembly import assemble

        assemble(checkpoint, facts, traced, folder)


def _copy(bundle: Bundle, target: Path, changes: dict[str, Any]) -> Bundle:
    with new_folder(target) as folder:
        for name in (GRAPH, WEIGHTS, PROOF):
            shutil.copyfile(bundle.path / name, folder / name)
        manifest = json.dumps(bundle.manifest | changes, indent=1)
        (folder / MANIFEST).write_text(manifest, encoding="utf-8")
    return open_bundle(target)
