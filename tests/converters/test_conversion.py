"""What comes out of an import is what the checkpoint's own framework computes, layer by layer."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from stored import CHECKPOINTS, DATA, Stored, channels_first, family_images, in_keras_order, require_equal, taps

import converters
from converters import worker
from converters.bundle import LayerCallRow
from converters.errors import BundleError, CheckpointError, UnsupportedModelError
from converters.inspect import Checkpoint
from converters.module import ImportedModule


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Nets as small as these lose more by waiting for threads than they win."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=CHECKPOINTS)
def stored(request: pytest.FixtureRequest) -> Stored:
    return CHECKPOINTS[request.param]


def rows(bundle: converters.Bundle) -> list[tuple[str, int, str]]:
    return [(row.name, row.call, row.class_name) for row in bundle.layers]


@contextmanager
def watched(module: ImportedModule, name: str) -> Iterator[list[torch.Tensor]]:
    """A list that receives the output of one submodule."""
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, __, output: seen.append(output))
    yield seen
    handle.remove()


# ---------------------------------------------------------------- predictions


def test_the_predictions_are_those_of_the_original_framework(stored: Stored) -> None:
    ours = stored.convert().module()(stored.images()).numpy()
    require_equal(ours, stored.predictions(), stored.rtol, stored.atol)


def test_no_activation_is_transposed_at_run_time(stored: Stored) -> None:
    bundle = stored.convert()
    assert bundle.certificate.runtime_transposes == 0
    graph = onnx.load(bundle.path / "graph.onnx", load_external_data=False).graph
    transposed = [node.output[0] for node in graph.node if node.op_type == "Transpose"]
    readers = [node for node in graph.node if set(node.input) & set(transposed)]
    flattened = [row for row in bundle.layers if row.class_name == "Flatten"]
    assert [node.op_type for node in readers] == ["Reshape"] * len(flattened)
    assert len(transposed) == len(flattened)


def test_the_certificate_says_how_far_they_are_apart(stored: Stored) -> None:
    bundle = stored.convert()
    proof = bundle.certificate
    assert 0 < proof.prediction < 1e-5
    assert 0 < proof.logits < 1e-5
    assert 0 < proof.worst_activation < 1e-5
    assert 0.999999 < proof.worst_cosine <= 1 + 1e-9
    assert proof.taps == len(bundle.layers)
    assert proof.gradients == sum(row.module.startswith("trunk.") for row in bundle.layers)
    assert proof.worst_tap in {row.tap for row in bundle.layers}
    assert proof.torch == torch.__version__


def test_architecture_and_weights_apart_give_what_the_whole_file_gives() -> None:
    for name in ("func", "seq", "nest", "tcav_families"):
        whole, apart = CHECKPOINTS[f"{name}.h5"], CHECKPOINTS[f"{name}.json"]
        images = whole.images()
        assert torch.equal(whole.convert().module()(images), apart.convert().module()(images))


# ---------------------------------------------------------------- layers


def test_dogcat_activations_are_those_of_the_original_framework() -> None:
    stored = CHECKPOINTS["dogcat_a"]
    reference = np.load(DATA / "dogcat_a" / "activation.npz")
    ours = taps(stored.convert(), stored.images()[reference["rows"]])["conv2d_6#0"]
    require_equal(in_keras_order(ours), reference["activation"])


def test_family_activations_and_gradients_are_those_of_the_original_framework() -> None:
    bundle = CHECKPOINTS["tcav_families.h5"].convert()
    reference = np.load(DATA / "tcav_families" / "reference.npz")
    seen = taps(bundle, family_images(reference["names"]))
    require_equal(seen["dense_1#0"].numpy(), reference["dense_1"])
    require_equal(in_keras_order(seen["max_pooling2d_3#0"]), reference["max_pooling2d_3"])

    classes = (DATA / "tcav_families" / "labels.txt").read_text().split()
    own = torch.tensor([classes.index(name.split("_")[0]) for name in reference["names"]])
    module = bundle.module()
    with watched(module, "trunk.tap/max_pooling2d_3#0") as activation:
        logits = module.logits(family_images(reference["names"]).requires_grad_())
    (gradient,) = torch.autograd.grad(logits.gather(1, own[:, None]).sum(), activation)
    require_equal(in_keras_order(gradient), reference["logit_gradient"])


def test_a_layer_table_has_keras_names_classes_and_order() -> None:
    architecture = json.loads(CHECKPOINTS["tcav_families.json"].source.read_text())
    expected = [(layer["config"]["name"], 0, layer["class_name"]) for layer in architecture["config"]["layers"]]
    assert rows(CHECKPOINTS["tcav_families.json"].convert()) == expected


def test_layers_of_a_nested_model_are_found_behind_its_name() -> None:
    inner = json.loads(CHECKPOINTS["func.json"].source.read_text())["config"]["layers"]
    bundle = CHECKPOINTS["nest.json"].convert()
    (name,) = {row.name.split("/")[0] for row in bundle.layers if "/" in row.name}
    names = {f"{name}/{layer['name']}" for layer in inner if layer["class_name"] != "InputLayer"}
    assert {row.name for row in bundle.layers if "/" in row.name} == names
    assert [(row.class_name, row.shape) for row in bundle.layers[-2:]] == [("Functional", (5,)), ("Dense", (3,))]


@pytest.mark.parametrize("name", ["func.h5", "nest.h5", "dogcat_a"])
def test_shapes_in_the_layer_table_are_those_that_arrive(name: str) -> None:
    bundle, images = CHECKPOINTS[name].convert(), CHECKPOINTS[name].images()[:2]
    assert {tap: (2, *row_shape) for tap, row_shape in ((row.tap, row.shape) for row in bundle.layers)} == {
        tap: tuple(activation.shape) for tap, activation in taps(bundle, images).items()
    }


# ---------------------------------------------------------------- every layer is in the path


def disturbed(activation: torch.Tensor) -> torch.Tensor:
    """The activation with noise of its own size on it."""
    noise = torch.randn(activation.shape, generator=torch.Generator().manual_seed(0))
    return activation + activation.abs().mean() * noise


def change_from(module: ImportedModule, row: LayerCallRow, images: torch.Tensor) -> float:
    """How far the prediction moves, relatively, when the output of one layer call is replaced."""
    before = module(images)
    handle = module.get_submodule(row.module).register_forward_hook(lambda _, __, output: disturbed(output))
    after = module(images)
    handle.remove()
    return float((after - before).abs().max() / before.abs().max())


def gradient_at(module: ImportedModule, row: LayerCallRow, images: torch.Tensor) -> torch.Tensor:
    """Gradient of a fixed combination of the predictions at one layer call."""
    with watched(module, row.module) as activation:
        prediction = module(images.clone().requires_grad_())
    weights = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((prediction * weights).sum(), activation)
    return gradient


@pytest.mark.parametrize("name", ["nest.h5", "dogcat_a"])
def test_replacing_the_output_of_any_layer_changes_the_prediction(name: str) -> None:
    bundle, images = CHECKPOINTS[name].convert(), CHECKPOINTS[name].images()[:2]
    module = bundle.module()
    changes = {row.tap: change_from(module, row, images) for row in bundle.layers}
    assert len(changes) > 10
    assert not {tap: change for tap, change in changes.items() if not change > 1e-4}


@pytest.mark.parametrize("name", ["nest.h5", "dogcat_a"])
def test_a_gradient_arrives_at_every_layer(name: str) -> None:
    bundle, images = CHECKPOINTS[name].convert(), CHECKPOINTS[name].images()[:2]
    module = bundle.module()
    for row in bundle.layers:
        gradient = gradient_at(module, row, images)
        assert gradient.shape[1:] == row.shape
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0, row.tap


# ---------------------------------------------------------------- Keras 3 and Keras 2 of today


def converted(fresh: Path, name: str) -> tuple[converters.Bundle, np.lib.npyio.NpzFile]:
    return converters.convert(fresh / name), np.load(fresh / f"{name.split('.')[0]}.npz")


@pytest.mark.parametrize("name", ["keras3.keras", "keras2.h5"])
def test_predictions_and_activations_of_a_fresh_checkpoint(fresh: Path, name: str) -> None:
    bundle, reference = converted(fresh, name)
    images = channels_first(reference["x"])
    require_equal(bundle.module()(images).numpy(), reference["y"])
    seen = taps(bundle, images)
    stored_taps = [key for key in reference.files if "#" in key]
    assert len(stored_taps) >= 4
    for tap in stored_taps:
        require_equal(in_keras_order(seen[tap]), reference[tap])
    assert bundle.certificate.runtime_transposes == 0


def test_the_layer_table_of_nested_and_shared_layers_in_keras_3(fresh: Path) -> None:
    bundle, _ = converted(fresh, "keras3.keras")
    assert rows(bundle) == [
        ("scale", 0, "Rescaling"),
        ("stem/mix", 0, "Conv2D"),
        ("stem/body/conv", 0, "Conv2D"),
        ("stem/body/norm", 0, "BatchNormalization"),
        ("stem/body/gelu", 0, "Activation"),
        ("stem/body", 0, "Sequential"),
        ("stem", 0, "Functional"),
        ("shared", 0, "Conv2D"),
        ("shared", 1, "Conv2D"),
        ("sum", 0, "Add"),
        ("block.conv", 0, "Conv2D"),
        ("pool", 0, "GlobalAveragePooling2D"),
        ("logits", 0, "Dense"),
        ("softmax", 0, "Softmax"),
    ]
    assert bundle.layers[10].shape == (16, 9, 11)
    assert bundle.layers[10].module == "trunk.tap/block/conv#0"


def test_the_layer_table_of_nested_and_shared_layers_in_keras_2(fresh: Path) -> None:
    bundle, _ = converted(fresh, "keras2.h5")
    assert rows(bundle) == [
        ("stem", 0, "Conv2D"),
        ("outer/deep/shared", 0, "Conv2D"),
        ("outer/deep/shared", 1, "Conv2D"),
        ("outer/deep/sum", 0, "Add"),
        ("outer/deep", 0, "Functional"),
        ("outer/norm", 0, "BatchNormalization"),
        ("outer", 0, "Sequential"),
        ("flat", 0, "Flatten"),
        ("score", 0, "Dense"),
    ]


def test_both_calls_of_a_shared_layer_are_in_the_path(fresh: Path) -> None:
    bundle, reference = converted(fresh, "keras3.keras")
    module, images = bundle.module(), channels_first(reference["x"])
    first, second = (row for row in bundle.layers if row.name == "shared")
    assert change_from(module, first, images) > 1e-3
    assert change_from(module, second, images) > 1e-3
    assert gradient_at(module, first, images).abs().max() > 0
    assert not torch.equal(gradient_at(module, first, images), gradient_at(module, second, images))


@pytest.mark.parametrize(
    ("name", "head", "raw"),
    [
        ("keras3.keras", {"layer": "softmax", "activation": "softmax"}, True),
        ("keras2.h5", {"layer": "score", "activation": "sigmoid"}, False),
    ],
)
def test_the_manifest_tells_the_head_and_whether_pixels_go_in_unscaled(
    fresh: Path, name: str, head: dict, raw: bool
) -> None:
    bundle, reference = converted(fresh, name)
    assert bundle.manifest["head"] == head
    assert bundle.manifest["takes_raw_pixels"] is raw
    module, images = bundle.module(), channels_first(reference["x"])
    activation = torch.sigmoid if head["activation"] == "sigmoid" else lambda logits: logits.softmax(1)
    torch.testing.assert_close(activation(module.logits(images)), module(images))


def test_a_model_of_any_size_needs_a_size(fresh: Path) -> None:
    source, weights = fresh / "any_size.json", fresh / "any_size.weights.h5"
    with pytest.raises(UnsupportedModelError, match=r"pictures of any size \(NonexNone\); choose one: input_size="):
        converters.convert(source, weights=weights)
    bundle = converters.convert(source, weights=weights, input_size=(18, 22))
    reference = np.load(fresh / "any_size.npz")
    require_equal(bundle.module()(channels_first(reference["x"])).numpy(), reference["y"])
    assert bundle.manifest["input"] == {"channels": 1, "height": 18, "width": 22}
    assert bundle.manifest["head"] is None


def test_an_op_that_torch_lacks_is_named_with_its_node(fresh: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"1 ops cannot be converted to torch: Sinh in \S*[Ss]inh"):
        converters.convert(fresh / "unsupported.keras")


# ---------------------------------------------------------------- large and real models


def test_xception_computes_what_keras_224_computed(xception: tuple[Path, Path]) -> None:
    source, weights = xception
    bundle = converters.convert(source, weights=weights)
    images = np.stack([np.asarray(Image.open(DATA / "xception" / f"image_{i}.png"), np.float32) / 255 for i in (0, 1)])
    predictions = np.load(DATA / "xception" / "cams.npz")
    ours = bundle.module()(channels_first(images)).numpy()
    require_equal(ours, np.stack([predictions["prediction_0"], predictions["prediction_1"]]))

    seen = taps(bundle, channels_first(images[:1]))
    statistics = json.loads((DATA / "xception" / "info.json").read_text())["layer_statistics_image_0"]
    assert len(statistics) > 100
    for entry in statistics:
        activation = in_keras_order(seen[f"{entry['layer']}#0"])[0]
        assert list(activation.shape) == entry["shape"], entry["layer"]
        figures = [activation.max(), activation.mean(dtype=np.float64), activation.std(dtype=np.float64)]
        expected = [entry["max"], entry["mean"], entry["std"]]
        np.testing.assert_allclose(figures, expected, rtol=1e-3, atol=1e-4 * entry["std"], err_msg=entry["layer"])


def test_a_real_checkpoint_of_2017_is_proved_equal(real: Path) -> None:
    bundle = converters.convert(real / "fer2013_mini.hdf5")
    assert bundle.manifest["source"]["keras_version"] == "2.0.5"
    assert bundle.manifest["input"] == {"channels": 1, "height": 64, "width": 64}
    assert bundle.manifest["head"]["activation"] == "softmax"
    assert [row.class_name for row in bundle.layers[-3:]] == ["Conv2D", "GlobalAveragePooling2D", "Activation"]
    assert bundle.certificate.runtime_transposes == 0
    assert bundle.certificate.worst_activation < 1e-5
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = bundle.module()
    assert min(change_from(module, row, images) for row in bundle.layers) > 1e-5


# ---------------------------------------------------------------- where it is kept


def count_traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that receives the name of each checkpoint for which the TensorFlow process is started."""
    traced, plain = [], worker.trace

    def trace(checkpoint: Checkpoint, *args: Any, **options: Any) -> dict:
        traced.append(checkpoint.source.name)
        return plain(checkpoint, *args, **options)

    monkeypatch.setattr(worker, "trace", trace)
    return traced


def test_the_same_content_is_converted_once(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = count_traces(monkeypatch)
    source = CHECKPOINTS["seq.h5"].source
    bundle = converters.convert(source)
    assert bundle.path.parent.parent == own_cache
    assert converters.convert(shutil.copy(source, tmp_path / "renamed.hdf5")) == bundle
    assert traced == [source.name]

    other = Path(shutil.copy(source, tmp_path / "other.h5"))
    with h5py.File(other, "r+") as file:
        file.attrs["note"] = "another content"
    monkeypatch.setattr(worker, "trace", lambda *_, **__: pytest.fail("traced again"))
    with pytest.raises(pytest.fail.Exception, match="traced again"):
        converters.convert(other)

    (bundle.path / "weights.safetensors").unlink()
    with pytest.raises(pytest.fail.Exception, match="traced again"):
        converters.convert(source)
    assert list(own_cache.rglob("*")) == [own_cache / "bundles"]


def test_a_bundle_at_out_carries_preprocessing_and_class_names(tmp_path: Path) -> None:
    stored = CHECKPOINTS["tcav_families.h5"]
    out = tmp_path / "deep" / "families.bundle"
    bundle = converters.convert(stored.source, out=out, preprocessing="unit", class_names=("fire", "grass", "water"))
    assert bundle.path == out
    assert (bundle.manifest["preprocessing"], bundle.manifest["class_names"]) == ("unit", ["fire", "grass", "water"])
    assert converters.open_bundle(out) == bundle
    kept = stored.convert().manifest
    assert (kept["preprocessing"], kept["class_names"]) == (None, None)
    assert {**bundle.manifest, "preprocessing": None, "class_names": None} == kept
    assert bundle.verify().taps == stored.convert().certificate.taps == 17
    assert [path.name for path in out.parent.iterdir()] == ["families.bundle"]


def test_without_the_cache_nothing_is_read_from_it_or_put_there(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # whatever lies in the current folder is not imported, not even as tensorflow
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "tensorflow.py").write_text("raise SystemExit('a module of the current folder was run')")
    (tmp_path / "here" / "h5py.py").write_text("raise SystemExit('a module of the current folder was run')")
    monkeypatch.chdir(tmp_path / "here")
    bundle = converters.convert(CHECKPOINTS["seq.h5"].source, out="fresh.bundle", cache=False)
    assert bundle.verify().prediction < 1e-5
    assert not own_cache.exists()


@pytest.mark.usefixtures("no_tensorflow")
def test_out_must_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(BundleError, match=f"{out} exists already; choose another folder or remove it first"):
            converters.convert(CHECKPOINTS["seq.h5"].source, out=out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("no_tensorflow")
def test_without_a_cache_a_folder_has_to_be_named() -> None:
    with pytest.raises(BundleError, match=r"cache=False needs a folder for the bundle: out='model\.bundle'"):
        converters.convert(CHECKPOINTS["seq.h5"].source, cache=False)


def test_weights_of_other_shapes_are_refused_and_the_layer_is_named(tmp_path: Path, own_cache: Path) -> None:
    stored = CHECKPOINTS["seq.json"]
    architecture = json.loads(stored.source.read_text())
    first = architecture["config"]["layers"][0]["config"]
    first["filters"] += 1
    (tmp_path / "wider.json").write_text(json.dumps(architecture))
    with pytest.raises(CheckpointError, match=f"layer '{first['name']}' has weights of shapes .* in the architecture"):
        converters.convert(tmp_path / "wider.json", weights=stored.weights)
    assert list(own_cache.rglob("*")) == [own_cache / "bundles"]


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    stored = CHECKPOINTS["seq.json"]
    assert stored.weights is not None
    lacking = tmp_path / "lacking.h5"
    shutil.copy(stored.weights, lacking)
    with h5py.File(lacking, "r+") as file:
        file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != b"d"]
    with pytest.raises(CheckpointError, match=r"lacking\.h5 does not fit .* it holds no weights for 'd'; give the"):
        converters.convert(stored.source, weights=lacking)


def test_as_many_class_names_as_classes(tmp_path: Path) -> None:
    source = CHECKPOINTS["tcav_families.h5"].source
    with pytest.raises(BundleError, match="2 class names were given for a model with 3 classes"):
        converters.convert(source, out=tmp_path / "b", class_names=("fire", "water"))
    assert list(tmp_path.iterdir()) == []
