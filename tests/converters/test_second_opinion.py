"""Another program is asked what a bundle's model computes, and disagreement is an error."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stored import CHECKPOINTS

import converters
from converters import second_opinion
from converters.errors import (
    BundleError,
    CheckpointError,
    ParityError,
    TorchcamError,
    TracingError,
    UnsupportedModelError,
)
from converters.second_opinion import by_keras_torch, by_onnxruntime


@pytest.fixture
def families() -> converters.Bundle:
    return CHECKPOINTS["tcav_families.h5"].convert()


KERAS_3 = """
import keras, numpy, sys
layers = keras.layers
keras.utils.set_random_seed(0)
images = keras.Input((12, 14, 3))
maps = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", strides=2)(images)))
scores = layers.Dense(4, activation="softmax", bias_initializer="normal")(layers.GlobalAveragePooling2D()(maps))
model = keras.Model(images, scores)
for variable in model.layers[2].weights:
    variable.assign(numpy.random.default_rng(1).uniform(0.5, 2, variable.shape))
model.save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keras 3 on its torch backend writes it, so that no TensorFlow is started for it."""
    file = tmp_path_factory.mktemp("keras") / "small.keras"
    subprocess.run([sys.executable, "-c", KERAS_3, str(file)], check=True, env=os.environ | {"KERAS_BACKEND": "torch"})
    return file


@pytest.fixture(scope="module")
def keras_3(checkpoint: Path) -> converters.Bundle:
    return converters.convert(checkpoint)


def altered(bundle: converters.Bundle, folder: Path, name: str, change: Callable[[Any], Any]) -> converters.Bundle:
    """A bundle with another file, which its manifest vouches for."""
    path = shutil.copytree(bundle.path, folder / "altered")
    save_file(change(load_file(path / name)), path / name)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    return converters.open_bundle(path)


def other_predictions(proof: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return proof | {"prediction": proof["prediction"].flip(1).contiguous()}


# ---------------------------------------------------------------- ONNX Runtime


def test_onnx_runtime_agrees(families: converters.Bundle) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    found = by_onnxruntime(families)
    assert found.by == f"ONNX Runtime {onnxruntime.__version__}"
    assert found.images == 3
    assert 0 <= found.from_original < 1e-5
    assert 0 <= found.from_torch < 1e-5
    assert json.loads(json.dumps(found.to_json()))["images"] == 3


def test_the_errors_are_those_of_the_predictions(families: converters.Bundle) -> None:
    known = load_file(families.path / "proof.safetensors")["prediction"]
    off = known.clone()
    off[1, 2] += 1e-5 * known.max()
    found = second_opinion._compared(families, "Someone 1.0", off)
    assert found.from_original == pytest.approx(1e-5, rel=0.02)
    assert found.from_torch == pytest.approx(1e-5, rel=0.2)


def test_onnx_runtime_that_disagrees_with_the_original_is_an_error(families: converters.Bundle, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = altered(families, tmp_path, "proof.safetensors", other_predictions)
    with pytest.raises(ParityError, match=r"ONNX Runtime .* and the original framework, .* differ by .* report both"):
        by_onnxruntime(bundle)


def test_disagreement_with_the_torch_module_is_an_error(
    families: converters.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load_file(families.path / "proof.safetensors")["prediction"]
    monkeypatch.setattr(converters.Bundle, "module", lambda _: lambda picture: 1 / 3 + 0 * picture[:, :, 0, 0])
    with pytest.raises(ParityError, match=r"Someone and the torch module here \(torch .*\), differ by"):
        second_opinion._compared(families, "Someone", known)


def test_a_prediction_of_another_shape_is_an_error(families: converters.Bundle) -> None:
    with pytest.raises(ParityError, match=r"Someone gives a prediction \(3, 2\), the original framework, .*, \(3, 3\)"):
        second_opinion._compared(families, "Someone", torch.zeros(3, 2))


def test_a_changed_bundle_is_not_run(families: converters.Bundle, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = shutil.copytree(families.path, tmp_path / "changed")
    weights = load_file(path / "weights.safetensors")
    save_file({name: tensor * 1.1 for name, tensor in weights.items()}, path / "weights.safetensors")
    with pytest.raises(BundleError, match=r"weights\.safetensors is not the file that was proved"):
        by_onnxruntime(converters.open_bundle(path))


def test_without_onnx_runtime_the_extra_is_named(families: converters.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TorchcamError, match=r"needs ONNX Runtime, .*; pip install 'torchcam-suite\[onnxruntime\]'"):
        by_onnxruntime(families)


def test_a_graph_that_onnx_runtime_refuses_is_a_clear_error(
    families: converters.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for Erf")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(UnsupportedModelError, match=r"ONNX Runtime .* cannot run .*graph\.onnx \(no kernel for Erf\)"):
        by_onnxruntime(families)


# ---------------------------------------------------------------- Keras on torch


def test_keras_on_torch_agrees(keras_3: converters.Bundle, checkpoint: Path) -> None:
    found = by_keras_torch(keras_3, checkpoint)
    assert found.by.startswith("Keras 3.")
    assert f"on torch {torch.__version__}" in found.by
    assert found.images == 3
    assert 0 <= found.from_original < 1e-5
    assert 0 <= found.from_torch < 1e-5


def test_keras_on_torch_reads_architecture_and_weights(fresh: Path) -> None:
    source, weights = fresh / "any_size.json", fresh / "any_size.weights.h5"
    bundle = converters.convert(source, weights=weights, input_size=(18, 22))
    assert by_keras_torch(bundle, source, weights).from_original < 1e-5


def test_a_dot_in_a_name_is_more_than_keras_on_torch_takes(fresh: Path) -> None:
    bundle = converters.convert(fresh / "keras3.keras")
    with pytest.raises(UnsupportedModelError, match=r"keras3\.keras has a layer with a dot in its name, .*onnxruntime"):
        by_keras_torch(bundle, fresh / "keras3.keras")


def test_keras_on_torch_needs_no_tensorflow() -> None:
    code = (
        "import os, sys; os.environ['KERAS_BACKEND'] = 'torch'; import converters.opinions.keras_torch;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'tensorflow', 'tf_keras', 'keras', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['keras', 'torch']"


def test_another_checkpoint_is_refused(families: converters.Bundle, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"small\.keras is not the checkpoint that .* was made of \(SHA-256"):
        by_keras_torch(families, checkpoint)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.h5", r"model\.h5 was written by Keras 2\.2\.4, and only Keras 2 .* Ask onnxruntime"),
        ("model.pb", r"model\.pb is a TensorFlow graph, which Keras on torch cannot run; ask onnxruntime"),
    ],
)
def test_what_keras_on_torch_does_not_read_is_refused(
    families: converters.Bundle, data: Path, name: str, message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        by_keras_torch(families, data / "tcav_families" / name)


def test_a_process_that_takes_too_long_is_stopped(keras_3: converters.Bundle, checkpoint: Path) -> None:
    with pytest.raises(TracingError, match=r"took longer than 0\.1 s for small\.keras and was stopped"):
        by_keras_torch(keras_3, checkpoint, timeout=0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights_sha256": "0" * 64}, CheckpointError, r"small\.keras was changed while it was read; try again"),
        ({"batch": "/nowhere"}, TracingError, r"Keras on torch failed on small\.keras with exit status 1\. .*nowhere"),
    ],
)
def test_what_goes_wrong_in_the_process_is_told(
    keras_3: converters.Bundle,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    plain = second_opinion._job
    monkeypatch.setattr(second_opinion, "_job", lambda *given: plain(*given) | change)
    with pytest.raises(error, match=f"(?s){message}"):
        by_keras_torch(keras_3, checkpoint)
