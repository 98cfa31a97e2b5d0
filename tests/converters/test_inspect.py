"""A checkpoint is judged by reading alone: what it is, whether it is harmless, whether its parts belong together."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from stored import CHECKPOINTS, DATA

import converters
from converters.errors import CheckpointError, TorchcamError, UnsafeCheckpointError, UnsupportedModelError
from converters.inspect import inspect

KERAS224 = DATA / "keras224"
SEQ, SEQ_JSON, SEQ_WEIGHTS = (KERAS224 / f"keras224_seq{end}" for end in (".h5", ".json", "_w.h5"))

pytestmark = pytest.mark.usefixtures("no_tensorflow")


def layer(class_name: str, name: str, **config: Any) -> dict:
    return {"class_name": class_name, "config": {"name": name, **config}}


IMAGES = layer("InputLayer", "images", batch_shape=[None, 8, 8, 3])


def model(*layers: dict, **config: Any) -> dict:
    return {"class_name": "Functional", "config": {"name": "net", "layers": [IMAGES, *layers], **config}}


def written(folder: Path, architecture: object) -> Path:
    file = folder / "model.json"
    file.write_text(json.dumps(architecture))
    return file


def refused(folder: Path, architecture: object, error: type[TorchcamError], message: str) -> None:
    # any weights will do: the architecture is judged first
    with pytest.raises(error, match=message):
        converters.convert(written(folder, architecture), weights=SEQ_WEIGHTS)


# ---------------------------------------------------------------- what it is


@pytest.mark.parametrize(
    ("name", "format_", "version", "shape"),
    [
        ("seq.h5", "hdf5", "2.2.4", (16, 16, 3)),
        ("nest.json", "json", "2.2.4", (32, 32, 3)),
        ("dogcat_a", "json", "2.2.4-tf", (150, 150, 3)),
    ],
)
def test_format_version_and_input_are_read(name: str, format_: str, version: str, shape: tuple) -> None:
    stored = CHECKPOINTS[name]
    checkpoint = inspect(stored.source, stored.weights)
    assert (checkpoint.format, checkpoint.keras_version, checkpoint.input_shape) == (format_, version, shape)
    assert checkpoint.flavour == "tf_keras"


@pytest.mark.parametrize(
    ("version", "module", "flavour"),
    [("2.0.5", None, "tf_keras"), ("3.15.0", None, "keras"), (None, None, "tf_keras"), (None, "keras", "keras")],
)
def test_each_file_goes_to_the_keras_that_wrote_its_kind(
    tmp_path: Path, version: str | None, module: str | None, flavour: str
) -> None:
    architecture = model(layer("Flatten", "flatten_1"), layer("Dense", "dense_1")) | {
        key: value for key, value in {"keras_version": version, "module": module}.items() if value is not None
    }
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("layers")
    assert inspect(written(tmp_path, architecture), tmp_path / "w.h5").flavour == flavour


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("4.0.1", "see whether a newer torchcam-suite reads it, or save the model in Keras 3"),
        ("9" * 5000, "see whether a newer torchcam-suite reads it"),
        ("1.2.2", r"open it in Keras 2\.0 to 2\.3 and save it again"),
    ],
    ids=["4", "a long one", "1"],
)
def test_a_generation_of_keras_that_nobody_reads_is_refused(tmp_path: Path, version: str, advice: str) -> None:
    architecture = model(layer("Flatten", "flatten_1")) | {"keras_version": version}
    with pytest.raises(
        UnsupportedModelError, match=rf"was written by Keras '{version[:40]}'; expected Keras 2 or 3: {advice}"
    ):
        inspect(written(tmp_path, architecture), SEQ_WEIGHTS)


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    copied = shutil.copy(SEQ, tmp_path / "model.bin")
    assert inspect(copied).format == "hdf5"
    assert inspect(copied).sha256 == inspect(SEQ).sha256
    assert inspect(copied).sha256 != inspect(SEQ_JSON, SEQ_WEIGHTS).sha256


@pytest.mark.parametrize(
    ("position", "scale", "raw"),
    [(0, 1 / 255, True), (1, 1 / 127.5, True), (5, 1 / 255, False), (0, 2.0, False), (0, None, False)],
    ids=["first", "after an activation", "deep inside", "not of pixels", "no scale"],
)
def test_a_model_that_scales_pixels_itself_is_known_by_its_first_layers(
    tmp_path: Path, position: int, scale: float | None, raw: bool
) -> None:
    layers = [layer("Activation", f"linear_{i}") for i in range(6)]
    layers.insert(position, layer("Rescaling", "scale", scale=scale))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("layers")
    assert inspect(written(tmp_path, model(*layers)), tmp_path / "w.h5").takes_raw_pixels is raw


def test_inspection_imports_no_tensorflow_and_no_torch() -> None:
    code = (
        "import sys, converters.inspect as i; i.inspect(sys.argv[1]); print({'tensorflow', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(SEQ)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------- harmful


@pytest.mark.parametrize("weights", [None, KERAS224 / "keras224_lam_w.h5"], ids=["whole", "apart"])
def test_a_genuine_lambda_layer_is_refused_by_name(weights: Path | None) -> None:
    source = KERAS224 / ("keras224_lam.h5" if weights is None else "keras224_lam.json")
    with pytest.raises(UnsafeCheckpointError, match=rf"{source.name} .*> lam is a Lambda layer: it carries comp"):
        converters.convert(source, weights=weights)


@pytest.mark.parametrize(
    ("harmful", "message"),
    [
        (layer("Lambda", "double"), "net > double is a Lambda layer"),
        (layer("Dense", "a", activation={"class_name": "__lambda__", "config": {}}), "net > a is a Lambda layer"),
        (layer("TimeDistributed", "each", layer=layer("Lambda", "inner")), "net > each > inner is a Lambda layer"),
        (model(layer("Lambda", "deep")), "net > net > deep is a Lambda layer"),
        (layer("MyAttention", "att"), "net > att: 'MyAttention' is no class of Keras' own; custom layers"),
        (layer("Dense", "a", activation="steep"), "net > a: activation 'steep' is no activation of Keras' own"),
        (layer("LSTM", "a", recurrent_activation="os.system"), "recurrent_activation 'os.system' is no activation"),
        (
            {**layer("Dense", "a"), "module": "subprocess", "registered_name": None},
            "net > a: Dense comes from module 'subprocess', not from Keras",
        ),
        ({**layer("Dense", "a"), "module": "keras_evil.layers"}, "Dense comes from module 'keras_evil.layers'"),
        (
            layer("Dense", "a", activation={"module": "builtins", "class_name": "function", "config": "eval"}),
            "function 'eval' .* is no activation of Keras' own",
        ),
        (
            {**layer("Popen", "a"), "module": "keras.layers", "registered_name": "subprocess>Popen"},
            "Popen is registered as 'subprocess>Popen', under which Keras may find something else",
        ),
        (layer("TFSMLayer", "a", filepath="/elsewhere"), "a is a TFSMLayer: it loads and runs a TensorFlow SavedModel"),
        (
            layer("TFOpLambda", "a", function="io.write_file"),
            "net > a calls tf.io.write_file, which is not on the list",
        ),
        (layer("TFOpLambda", "a", function=["nn.relu"]), r"calls tf.\['nn.relu'\], which is not on the list"),
    ],
    ids=lambda value: value.split(" ")[-1] if isinstance(value, str) else "",
)
def test_code_of_others_is_refused_before_anything_is_built(tmp_path: Path, harmful: dict, message: str) -> None:
    refused(tmp_path, model(harmful), UnsafeCheckpointError, message)


def test_a_lambda_in_a_keras_3_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        archive.writestr("config.json", json.dumps(model(layer("Lambda", "double"))))
    with pytest.raises(UnsafeCheckpointError, match=r"config\.json|model\.keras > net > double is a Lambda layer"):
        converters.convert(tmp_path / "model.keras")


@pytest.mark.parametrize(
    "harmless",
    [
        layer("TFOpLambda", "a", function="math.multiply"),
        {**layer("Add", "a"), "module": "keras.src.ops.numpy"},
        {**layer("Functional", "a", layers=[]), "module": "tf_keras.src.engine.functional"},
        layer("Dense", "a", activation="gelu", kernel_initializer=layer("GlorotUniform", "init")),
    ],
    ids=["listed function", "operation of Keras 3", "module of tf_keras", "configuration"],
)
def test_what_keras_itself_writes_is_let_through(tmp_path: Path, harmless: dict) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("layers")
    assert inspect(written(tmp_path, model(harmless)), tmp_path / "w.h5").input_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("name", "given"), [("Relu", ["x"]), ("Add", ["x", "y"]), ("Multiply", ["x", 2.0])], ids=lambda value: str(value)
)
def test_an_operation_that_keras_3_wrote_to_h5_is_told_from_a_class_of_others(
    tmp_path: Path, name: str, given: list
) -> None:
    operation = layer(name, "a") | {"inbound_nodes": [{"args": given, "kwargs": {}}]}
    refused(tmp_path, model(operation), UnsupportedModelError, "net > a is an operation between layers, .* as .keras")


def test_a_layer_that_adds_is_no_operation(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("layers")
    adding = layer("Add", "a") | {"inbound_nodes": [{"args": [["x", "y"]], "kwargs": {}}]}
    assert inspect(written(tmp_path, model(adding)), tmp_path / "w.h5").input_shape == (8, 8, 3)


# ---------------------------------------------------------------- not an image classifier


@pytest.mark.parametrize("weights", [None, KERAS224 / "keras224_rnn_w.h5"], ids=["whole", "apart"])
def test_a_model_of_sequences_is_refused_by_its_input(weights: Path | None) -> None:
    source = KERAS224 / ("keras224_rnn.h5" if weights is None else "keras224_rnn.json")
    with pytest.raises(UnsupportedModelError, match=r"has shape \[None, 10, 4\]; expected images: \[null, height,"):
        converters.convert(source, weights=weights)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"batch_shape": [None, 784]}, r"input 'images' has shape \[None, 784\]; expected images"),
        ({"batch_shape": [None, 8, 8, None]}, r"the number of channels must be known"),
        ({"batch_shape": [None, 8, 10**6, 3]}, "expected images"),
        ({"batch_shape": [None, 8, -8, 3]}, "expected images"),
        ({"batch_shape": "8x8"}, "has shape 8x8; expected images"),
        ({"batch_shape": [None, None, 8, 8], "data_format": "channels_first"}, "the number of channels must be known"),
        ({}, r"does not say its input shape .* call model\.build"),
    ],
    ids=["flat", "free channels", "too large", "negative", "text", "free channels first", "not built"],
)
def test_an_input_that_is_no_image_is_refused(tmp_path: Path, config: dict, message: str) -> None:
    architecture = {
        "class_name": "Sequential",
        "config": {"name": "net", "layers": [layer("Conv2D", "images", **config)]},
    }
    refused(tmp_path, architecture, UnsupportedModelError, message)


def test_two_inputs_are_refused_by_name(tmp_path: Path) -> None:
    architecture = model(input_layers=[["left", 0, 0], ["right", 0, 0]])
    refused(tmp_path, architecture, UnsupportedModelError, r"has 2 inputs \(left, right\); expected one image input")


# ---------------------------------------------------------------- architecture and weights apart


def test_an_architecture_asks_for_its_weights() -> None:
    with pytest.raises(CheckpointError, match=r"holds an architecture without weights; give the weights file too"):
        converters.convert(SEQ_JSON)


def test_weights_ask_for_their_architecture() -> None:
    with pytest.raises(CheckpointError, match=r"holds weights without an architecture; .*convert\('model.json', weigh"):
        converters.convert(SEQ_WEIGHTS)


@pytest.mark.parametrize("given", ["cp", "cp.index", "cp.data-00000-of-00001"])
def test_weights_in_a_checkpoint_of_tensorflow_are_told_apart(tmp_path: Path, given: str) -> None:
    for name in ("cp.index", "cp.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"\0\0\6\10")
    message = rf"{given} is a checkpoint of TensorFlow's.* model\.load_weights\('cp'\) and model\.save_weights"
    with pytest.raises(CheckpointError, match=message):
        inspect(SEQ_JSON, tmp_path / given)


def test_what_is_no_hdf5_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"seq\.json is no file of weights: expected HDF5 .* starts with b'\{"):
        inspect(SEQ_JSON, SEQ_JSON)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as opened:
        opened.writestr("config.json", "{}")
    with pytest.raises(CheckpointError, match=r"is an archive and no weights file; .* give it alone: convert\('model"):
        inspect(SEQ_JSON, tmp_path / "model.keras")


def test_a_whole_model_takes_no_weights() -> None:
    with pytest.raises(CheckpointError, match=r"is a whole model and brings its own weights; drop weights='keras224_s"):
        converters.convert(SEQ, weights=SEQ_WEIGHTS)


def renamed(file: h5py.File) -> None:
    names = [name.decode() for name in file.attrs["layer_names"]]
    file.attrs["layer_names"] = [name.replace("c1", "other").encode() for name in names]
    for name in names:
        if name == "c1":
            file.move(name, name.replace("c1", "other"))


def without_a_layer(file: h5py.File) -> None:
    del file[file.attrs["layer_names"][0].decode()]


def without_names(file: h5py.File) -> None:
    del file.attrs["layer_names"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"does not belong to .*json: it has weights for 'other', which the architecture does not have"),
        (without_a_layer, r"lists 'c1' but does not hold their weights"),
        (without_names, r"has no layer_names: not a Keras weights file"),
    ],
    ids=["other names", "layer missing", "no names"],
)
def test_weights_that_do_not_belong_to_the_architecture(
    tmp_path: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    weights = Path(shutil.copy(SEQ_WEIGHTS, tmp_path / "w.h5"))
    with h5py.File(weights, "r+") as file:
        change(file)
    with pytest.raises(CheckpointError, match=message):
        converters.convert(SEQ_JSON, weights=weights)


def test_weights_of_another_model_are_refused_by_its_layers() -> None:
    with pytest.raises(CheckpointError, match=r"does not belong to keras224_seq\.json: it has weights for "):
        converters.convert(SEQ_JSON, weights=CHECKPOINTS["tcav_families.json"].weights)


def test_weights_of_other_layers_in_the_layout_of_keras_3_are_refused(tmp_path: Path) -> None:
    layer = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "alpha"}}
    image = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "name": "image"}}
    architecture = {"module": "keras", "class_name": "Sequential", "config": {"layers": [image, layer]}}
    (tmp_path / "model.json").write_text(json.dumps(architecture))
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables.attrs["name"] = "omega"
        variables["0"] = np.zeros((3, 2), np.float32)
    with pytest.raises(CheckpointError, match=r"it has weights for 'omega', which the architecture does not have"):
        inspect(tmp_path / "model.json", tmp_path / "m.weights.h5")
