"""A bundle needs no TensorFlow, holds all that it uses, and is there whole or not at all."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save_file
from stored import CHECKPOINTS, require_equal

import converters
from converters.bundle import SCHEMA, new_folder
from converters.errors import BundleError, UnsupportedModelError
from torchcam_suite import explain, load
from torchcam_suite.errors import LayerError
from torchcam_suite.grids import Ambiguity

FILES = ["graph.onnx", "manifest.json", "proof.safetensors", "weights.safetensors"]


@pytest.fixture
def bundle(tmp_path: Path) -> converters.Bundle:
    """A bundle of one's own, to damage."""
    return converters.open_bundle(shutil.copytree(CHECKPOINTS["tcav_families.h5"].convert().path, tmp_path / "copy"))


# ---------------------------------------------------------------- what it holds


def test_a_bundle_is_four_plain_files_that_all_may_read() -> None:
    folder = CHECKPOINTS["tcav_families.h5"].convert().path
    assert sorted(path.name for path in folder.iterdir()) == FILES
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o644}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_the_manifest_says_where_the_model_comes_from(bundle: converters.Bundle) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    assert manifest["schema"] == SCHEMA
    assert manifest["source"]["files"] == ["model.h5"]
    assert manifest["source"]["format"] == "hdf5"
    assert manifest["source"]["keras_version"] == "2.2.4"
    assert len(manifest["source"]["sha256"]) == 64
    assert manifest["input"] == {"channels": 3, "height": 64, "width": 64}
    assert manifest["head"] == {"layer": "activation_6", "activation": "softmax"}
    assert {"tensorflow", "keras", "tf_keras", "tf2onnx", "onnx", "numpy", "torch"} <= manifest["versions"].keys()


def test_a_bundle_is_used_without_tensorflow() -> None:
    code = (
        "import sys, torch, converters\n"
        "bundle = converters.open_bundle(sys.argv[1])\n"
        "print(tuple(bundle.module()(torch.zeros(2, 3, 64, 64)).shape), bundle.verify().taps)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'tensorflow', 'keras', 'tf_keras', 'tf2onnx'}))"
    )
    path = CHECKPOINTS["tcav_families.h5"].convert().path
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(2, 3) 17", "[]"]


def test_the_graph_alone_runs_elsewhere(bundle: converters.Bundle) -> None:
    stored = CHECKPOINTS["tcav_families.h5"]
    model = onnx.load(bundle.path / "graph.onnx")
    onnx.checker.check_model(model)
    (prediction,) = ReferenceEvaluator(model).run(None, {"images:0": stored.images()[:2].numpy()})
    require_equal(np.asarray(prediction), stored.predictions()[:2])


# ---------------------------------------------------------------- damaged


def edit_manifest(bundle: converters.Bundle, change: Callable[[dict], object]) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    change(manifest)
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["graph.onnx", "proof.safetensors", "weights.safetensors"])
def test_a_missing_file_is_named(bundle: converters.Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=f"copy is incomplete: {name} is missing; convert it again"):
        converters.open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["graph.onnx", "proof.safetensors", "weights.safetensors"])
def test_a_link_in_place_of_a_file_is_refused(bundle: converters.Bundle, tmp_path: Path, name: str) -> None:
    (bundle.path / name).rename(tmp_path / name)
    (bundle.path / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=f"{name} is a link or not a plain file; a bundle holds its own files"):
        converters.open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["graph.onnx", "proof.safetensors", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not what it should be"], ids=["empty", "text"])
def test_a_damaged_file_is_named(bundle: converters.Bundle, name: str, content: bytes) -> None:
    (bundle.path / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        bundle.verify()


@pytest.mark.parametrize("name", ["proof.safetensors", "weights.safetensors"])
def test_a_truncated_file_is_damaged(bundle: converters.Bundle, name: str) -> None:
    content = (bundle.path / name).read_bytes()
    (bundle.path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=rf"{name} is damaged \(.*\); convert the checkpoint again"):
        bundle.verify()


@pytest.mark.parametrize(
    ("name", "start"), [("weights.safetensors", "sequential_1/conv2d_4"), ("proof.safetensors", "activation/dense_1#0")]
)
def test_a_missing_tensor_is_named(bundle: converters.Bundle, name: str, start: str) -> None:
    kept = {key: tensor for key, tensor in load_file(bundle.path / name).items() if not key.startswith(start)}
    save_file(kept, bundle.path / name)
    with pytest.raises(BundleError, match=f"{name} lacks 1 tensors, '{start}.*' first; convert the checkpoint again"):
        bundle.verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(schema=99), "has schema version 99, this version reads 2; convert it again"),
        (lambda manifest: manifest.pop("schema"), r"manifest\.json is damaged \(KeyError\('schema'\)\)"),
        (lambda manifest: manifest.pop("layers"), r"manifest\.json lacks an entry \(KeyError\('layers'\)\)"),
        (lambda manifest: manifest["layers"][3].pop("shape"), r"lacks an entry \(KeyError\('shape'\)\)"),
        (lambda manifest: manifest["certificate"].pop("taps"), r"lacks an entry \(TypeError"),
        (lambda manifest: manifest.update(input=None), "lacks an entry"),
        (lambda manifest: manifest.update(layers=7), "lacks an entry"),
    ],
    ids=["newer", "no schema", "no layers", "no shape", "certificate", "input", "layers"],
)
def test_a_damaged_manifest(bundle: converters.Bundle, change: Callable[[dict], object], message: str) -> None:
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        converters.open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("source.files", [], r"source\.files is \[\]"),
        ("source.sha256", None, r"source\.sha256 is None"),
        ("input.height", 0, r"input\.height is 0"),
        ("input.channels", True, r"input\.channels is True"),
        ("takes_raw_pixels", "no", "takes_raw_pixels is 'no'"),
        ("preprocessing", ["unit"], r"preprocessing is \['unit'\]"),
        ("class_names", 7, "class_names is 7"),
        ("head", {"activation": "relu"}, "head is {'activation': 'relu'}"),
        ("layers.2.name", "\x1b[2Jconv", r"layers\.2\.name is '\\x1b\[2Jconv'"),
        ("layers.2.shape", [4, "x"], r"layers\.2\.shape is \[4, 'x'\]"),
        ("layers.2.module", "trunk", r"layers\.2\.module is 'trunk'"),
        ("layers.2.map", "no", r"layers\.2\.map is 'no'"),
        ("certificate.prediction", float("nan"), r"certificate\.prediction is nan"),
        ("sha256", [], r"sha256 is \[\]"),
    ],
)
def test_an_entry_of_another_kind_is_named(bundle: converters.Bundle, path: str, value: object, message: str) -> None:
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]

    def change(manifest: Any) -> None:
        for key in parents:
            manifest = manifest[key]
        manifest[last] = value

    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=f"manifest\\.json is damaged: {message}; convert the checkpoint again"):
        converters.open_bundle(bundle.path)


@pytest.mark.parametrize("entry", ["source", "input", "takes_raw_pixels", "preprocessing", "class_names", "sha256"])
def test_an_entry_that_is_missing_is_named(bundle: converters.Bundle, entry: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest.pop(entry))
    with pytest.raises(BundleError, match=f"(lacks an entry|is damaged).*{entry}"):
        converters.open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest["input"].update(height=48), r"of images of \(3, 48, 64\), and the graph takes"),
        (
            lambda manifest: manifest["layers"][1].update(module="trunk.tap/other#0"),
            "lists 1 layer calls that are not in the graph, 'activation_1#0' first",
        ),
    ],
    ids=["input", "layer"],
)
def test_a_manifest_of_another_graph(bundle: converters.Bundle, change: Callable[[dict], object], message: str) -> None:
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        converters.open_bundle(bundle.path).module()


@pytest.mark.parametrize(
    "change",
    [
        lambda proto: proto.ClearField("opset_import"),
        lambda proto: proto.graph.ClearField("output"),
        lambda proto: proto.graph.node[1].input.__setitem__(0, "nowhere"),
        lambda proto: setattr(proto.graph.node[0], "domain", "elsewhere"),
    ],
    ids=["no opset", "no output", "no such tensor", "unknown domain"],
)
def test_a_graph_that_cannot_be_built_is_refused(
    bundle: converters.Bundle, change: Callable[[onnx.ModelProto], object]
) -> None:
    proto = onnx.load(bundle.path / "graph.onnx", load_external_data=False)
    change(proto)
    content = proto.SerializeToString()
    (bundle.path / "graph.onnx").write_bytes(content)
    edit_manifest(
        bundle, lambda manifest: manifest["sha256"].update({"graph.onnx": hashlib.sha256(content).hexdigest()})
    )
    changed = converters.open_bundle(bundle.path)
    for use in (changed.module, changed.verify):
        with pytest.raises((BundleError, UnsupportedModelError)):
            use()


def test_inside_attention_three_axes_are_no_map_of_the_picture(bundle: converters.Bundle) -> None:
    plain = load(bundle, preprocessing="unit", device="cpu")
    last = plain.default_layer
    assert plain.layers[last].is_spatial

    def rename(manifest: dict) -> None:
        row = next(row for row in manifest["layers"] if row["name"] == last)
        row["name"] = f"outer/attend/{last}"
        row["class"] = "Softmax"
        manifest["layers"][-1] |= {"name": "outer/attend", "class": "MultiHeadAttention"}

    edit_manifest(bundle, rename)
    model = load(bundle.path, preprocessing="unit", device="cpu")
    assert isinstance(model.layers[f"outer/attend/{last}"].grid, Ambiguity)
    assert model.layers[model.default_layer].is_spatial
    assert model.default_layer == plain.layers[plain.layers.names.index(last) - 1].name
    with pytest.raises(
        LayerError, match="gives what heads of attention compute of each other's tokens, which is no map"
    ):
        explain(model, torch.rand(1, *model.input), layer=f"outer/attend/{last}")


def test_a_reference_of_other_shapes_is_refused(bundle: converters.Bundle) -> None:
    tensors = load_file(bundle.path / "proof.safetensors")
    for change in ({"batch": tensors["batch"][:, :2].clone()}, {"gradient/dense_1#0": torch.zeros(3, 7)}):
        save_file(tensors | change, bundle.path / "proof.safetensors")
        with pytest.raises(BundleError, match=r"(?s)cannot be compared on cpu \(.*; .*convert the checkpoint again"):
            bundle.verify()


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b'{"schema": 1', b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object(bundle: converters.Bundle, content: bytes) -> None:
    (bundle.path / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        converters.open_bundle(bundle.path)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    assert not converters.is_bundle(tmp_path)
    for path in (tmp_path, tmp_path / "none", Path(__file__)):
        with pytest.raises(
            BundleError, match=r"is not a bundle: it has no manifest\.json; make one with torchcam-suite"
        ):
            converters.open_bundle(path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "proof.safetensors"])
def test_a_tensor_outside_the_weights_is_refused(bundle: converters.Bundle, location: str) -> None:
    proto = onnx.load(bundle.path / "graph.onnx", load_external_data=False)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.external_data)
    next(entry for entry in tensor.external_data if entry.key == "location").value = location
    (bundle.path / "graph.onnx").write_bytes(proto.SerializeToString())
    for use in (bundle.module, bundle.verify):
        with pytest.raises(BundleError, match=rf"points to '{location}', outside weights\.safetensors"):
            use()


# ---------------------------------------------------------------- whole or not at all


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "there" / "model.bundle"
    with new_folder(target) as folder:
        (folder / "manifest.json").write_text("{}")
        assert not target.exists()
        assert folder.parent == target.parent
    assert [path.name for path in target.parent.iterdir()] == ["model.bundle"]
    assert [path.name for path in target.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_folder_never_appears(tmp_path: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with new_folder(tmp_path / "model.bundle") as folder:
            (folder / "weights.safetensors").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_that_write_the_same_bundle_the_first_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "model.bundle"
    with new_folder(target) as late:
        (late / "manifest.json").write_text("late")
        with new_folder(target) as early:
            (early / "manifest.json").write_text("early")
    assert (target / "manifest.json").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["model.bundle"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model.bundle"
    target.mkdir()
    (target / "thesis.tex").write_text("mine")

    def write() -> None:
        with new_folder(target) as folder:
            (folder / "manifest.json").write_text("{}")

    with pytest.raises(OSError, match="not empty"):
        write()
    assert [path.name for path in target.iterdir()] == ["thesis.tex"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.bundle"]


def test_a_node_name_never_becomes_python(bundle: converters.Bundle, tmp_path: Path) -> None:
    # torch writes the names of submodules into the source of the module that it generates
    canary = tmp_path / "canary"
    proto = onnx.load(bundle.path / "graph.onnx", load_external_data=False)
    proto.graph.node[0].name = f'x", open("{canary}", "w")) or getattr(self, "x'
    (bundle.path / "graph.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(BundleError, match=r"holds a node named .* with characters of no Keras name"):
        bundle.module()
    assert not canary.exists()


def test_a_damaged_bundle_in_the_cache_is_made_again(own_cache: Path) -> None:
    checkpoint = CHECKPOINTS["tcav_families.h5"]
    kept = checkpoint.convert()
    weights = kept.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    again = checkpoint.convert()
    assert again.path == kept.path
    assert again.path.is_relative_to(own_cache)
    again.verify()
