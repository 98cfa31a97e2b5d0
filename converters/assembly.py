"""Make a bundle of what the tracing process left: bind the weights, prove the module, describe it."""

import datetime
import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from converters import graph, parity, weights_file
from converters.applications import Application
from converters.bundle import GRAPH, MANIFEST, PROOF, SCHEMA, WEIGHTS, file_hash, read_tensors
from converters.certificate import Certificate
from converters.inspect import Checkpoint
from converters.module import build


def assemble(checkpoint: Checkpoint | Application, facts: dict[str, Any], traced: Path, folder: Path) -> None:
    """Make a bundle in `folder` of what the trace left in `traced`, and prove it; the manifest is written last."""
    structure = onnx.load(traced / "structure.onnx")
    arrays = graph.bind_weights(structure, weights_file.mapped(traced / "weights.safetensors"))
    graph.settle_shapes(structure, arrays)
    if facts["head"] is not None:
        graph.settle_head(structure)
    # TensorFlow drops what does not lead to the prediction, as an output of a nested model that is not used
    taps = {node.name for node in structure.graph.node}
    reference = read_tensors(traced / "reference.safetensors")
    facts["layers"] = [
        layer for layer in facts["layers"] if f"tap/{_tap(layer)}" in taps and not _is_constant(layer, reference)
    ]
    del reference
    graph.check_ops(structure)
    weights_file.write(arrays, folder / WEIGHTS)
    graph.refer_to_weights(structure, WEIGHTS, weights_file.places(folder / WEIGHTS))
    del arrays
    (traced / "weights.safetensors").unlink()
    shutil.copyfile(traced / "reference.safetensors", folder / PROOF)
    proof = _prove(structure, facts["layers"], folder)
    onnx.save(structure, folder / GRAPH)
    hashes = {name: file_hash(folder / name) for name in (GRAPH, WEIGHTS, PROOF)}
    manifest = _manifest(checkpoint, facts, proof) | {"sha256": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _prove(structure: onnx.ModelProto, layers: list[dict], folder: Path) -> Certificate:
    """Build the module, see to it that every map is channels first, and compare it with the reference.

    The shapes tell of a map of one pixel whether it is; of the others the values do, in a first run.
    """
    weights, reference = read_tensors(folder / WEIGHTS), read_tensors(folder / PROOF)
    modules = {_tap(layer): _module_name(layer) for layer in layers}
    one_pixel = graph.one_pixel_taps(structure, {_tap(layer): layer["shape"] for layer in layers})
    graph.force_channels_first(structure, one_pixel)
    module = build(structure, weights)
    run = parity.run_taps(module, reference, modules)
    last = parity.channels_last_taps(run, reference, modules)
    if last:
        graph.force_channels_first(structure, last)
        module = build(structure, weights)
        run = parity.run_taps(module, reference, modules)
    for layer in layers:
        name = _module_name(layer)
        layer["module"] = f"{'trunk' if name in run.before_head else 'head'}.tap/{name}"
    return parity.certify(
        run,
        reference,
        modules,
        graph.runtime_transposes(structure),
        exact=lambda picture: parity.run_exactly(module, reference, modules, picture),
    )


def _is_constant(layer: dict[str, Any], reference: Mapping[str, Tensor]) -> bool:
    """Whether it is an operation that gives the same of all pictures, as a class token made by `zeros_like`.

    Of a layer that would be a fault.
    """
    values = reference[f"activation/{_tap(layer)}"]
    return layer.get("operation", False) and torch.equal(values, values[:1].expand_as(values))


def _tap(layer: dict[str, Any]) -> str:
    return f"{layer['name']}#{layer['call']}"


def _module_name(layer: dict[str, Any]) -> str:
    """As onnx2torch spells it: torch allows no dot in the name of a submodule."""
    return _tap(layer).replace(".", "/")


def _manifest(checkpoint: Checkpoint | Application, facts: dict[str, Any], proof: Certificate) -> dict[str, Any]:
    height, width, channels = facts["input_shape"]
    return {
        "schema": SCHEMA,
        "source": {
            "files": _names(checkpoint),
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
        "preprocessing": checkpoint.preprocessing if isinstance(checkpoint, Application) else None,
        "class_names": checkpoint.class_names if isinstance(checkpoint, Application) else None,
        "head": facts["head"],
        "precision": facts.get("precision", "float32"),
        "layers": [_layer_row(layer) for layer in facts["layers"]],
        "certificate": proof.to_json(),
    }


def _names(checkpoint: Checkpoint | Application) -> list[str]:
    """What its user calls it: the names of its files, of a SavedModel that of the folder."""
    if checkpoint.source.is_dir():
        return [checkpoint.source.resolve().name]
    return [path.name for path in checkpoint.files] or [str(checkpoint.source)]


def _layer_row(layer: dict[str, Any]) -> dict[str, Any]:
    shape = layer["shape"][1:]
    channels_first = [shape[2], shape[0], shape[1]] if len(shape) == 3 else shape
    row = {key: layer[key] for key in ("name", "call", "class", "module")} | {"shape": channels_first}
    return row | ({} if layer.get("map", True) else {"map": False})
