"""Checkpoints that need a choice: of an output or input, of code that the user vouches for, of a precision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stored import channels_first, require_equal

import converters
from converters.applications import PREPROCESSING, find_application
from converters.errors import CheckpointError, UnsafeCheckpointError, UnsupportedModelError
from torchcam_suite.images import InputSpec, find_preprocessing, to_tensor

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(written_by: Callable[[str], Path]) -> Path:
    """What option_checkpoints.py writes."""
    return written_by("option_checkpoints.py")


def require_same(bundle: converters.Bundle, arrays: Path, output: str = "y") -> None:
    stored = np.load(arrays)
    require_equal(bundle.module()(channels_first(stored["x"])).numpy(), stored[output])


# ---------------------------------------------------------------- inputs and outputs


@pytest.mark.parametrize(("suffix", "output", "head"), [("keras", "animal", "softmax"), ("h5", "colour", "sigmoid")])
def test_one_output_of_several_is_chosen_by_name(folder: Path, suffix: str, output: str, head: str) -> None:
    source = folder / f"two_outputs.{suffix}"
    bundle = converters.convert(source, output=output)
    require_same(bundle, source.with_suffix(f".{suffix}.npz"), output)
    assert bundle.manifest["head"]["activation"] == head
    assert ("flat" in {row.name for row in bundle.layers}) == (output == "colour")


def test_each_output_is_kept_apart_in_the_cache(folder: Path) -> None:
    source = folder / "two_outputs.keras"
    animal, colour = (converters.convert(source, output=output) for output in ("animal", "colour"))
    assert animal.path != colour.path
    require_same(colour, source.with_suffix(".keras.npz"), "colour")


def test_without_a_choice_the_outputs_are_listed(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"2 outputs \('animal', 'colour'\); choose one: output='animal'"):
        converters.convert(folder / "two_outputs.keras")


def test_an_output_of_another_name_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="no output 'plant'; it has 'animal', 'colour'"):
        converters.convert(folder / "two_outputs.keras", output="plant")


def test_an_output_that_needs_the_image_alone_is_found_among_several_inputs(folder: Path) -> None:
    bundle = converters.convert(folder / "two_inputs.keras", input="images", output="animal")
    require_same(bundle, folder / "two_inputs.keras.npz", "animal")


def test_an_output_that_needs_more_than_the_image_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"output 'place' cannot be computed from images alone; .*'size'"):
        converters.convert(folder / "two_inputs.keras", input="images", output="place")


# ---------------------------------------------------------------- code that the user vouches for


def custom(generation: int) -> list[str]:
    place = "vouched_layers"
    return [f"Scale={place}:Scale{generation}", f"{place}:bend", f"Lambda:double={place}:twice"]


@pytest.mark.parametrize(("suffix", "generation"), [("keras", 3), ("h5", 2)])
def test_code_that_the_user_names_is_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, generation: int
) -> None:
    monkeypatch.chdir(HERE)
    source = folder / f"custom.{suffix}"
    bundle = converters.convert(source, custom=custom(generation), out=tmp_path / "bundle")
    require_same(bundle, source.with_suffix(f".{suffix}.npz"))
    assert {"scale", "double", "bend"} <= {row.name for row in bundle.layers}


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_code_that_nobody_vouches_for_is_refused_without_tensorflow(
    folder: Path, tmp_path: Path, left_out: int
) -> None:
    entries = custom(3)
    name = entries.pop(left_out).rpartition("=")[0].removeprefix("Lambda:") or "bend"
    with pytest.raises(UnsafeCheckpointError, match=name):
        converters.convert(folder / "custom.keras", custom=entries, out=tmp_path / "bundle")


def test_a_module_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    entries = ["Scale=no_such_module:Scale", *custom(3)[1:]]
    with pytest.raises(CheckpointError, match="custom='no_such_module:Scale' cannot be imported: ModuleNotFoundError"):
        converters.convert(folder / "custom.keras", custom=entries, out=tmp_path / "bundle")


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize("entry", ["Scale", "mylayers:", ":Scale", "Scale=mylayers", "Lambda:=a:b"])
def test_an_entry_of_another_form_is_refused(folder: Path, tmp_path: Path, entry: str) -> None:
    with pytest.raises(CheckpointError, match="expected module:attribute as in mylayers:Scale"):
        converters.convert(folder / "custom.keras", custom=[entry], out=tmp_path / "bundle")


def test_custom_code_is_not_cached(folder: Path) -> None:
    with pytest.raises(converters.errors.BundleError, match="custom= is not cached, and needs a folder"):
        converters.convert(folder / "custom.keras", custom=custom(3))


# ---------------------------------------------------------------- precision, layouts of the file


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_trained_in_half_precision_computes_in_float32(folder: Path, suffix: str) -> None:
    bundle = converters.convert(folder / f"half.{suffix}")
    stored = np.load(folder / f"half.{suffix}.npz")
    require_same(bundle, folder / f"half.{suffix}.npz")
    assert bundle.manifest["precision"] == "mixed_float16"
    ours = bundle.module()(channels_first(stored["x"])).numpy()
    assert np.abs(ours - stored["half"]).max() > 1e-5


def test_a_whole_model_of_keras_3_in_hdf5(folder: Path) -> None:
    bundle = converters.convert(folder / "keras3.h5")
    require_same(bundle, folder / "keras3.h5.npz")
    assert bundle.manifest["versions"]["keras"].startswith("3")


def test_a_keras_archive_of_keras_2(folder: Path) -> None:
    bundle = converters.convert(folder / "keras2.keras")
    require_same(bundle, folder / "keras2.keras.npz")
    assert bundle.manifest["source"]["keras_version"].startswith("2")


def test_weights_in_another_order_are_paired_by_name(folder: Path) -> None:
    bundle = converters.convert(folder / "by_name.json", weights=folder / "by_name.h5")
    require_same(bundle, folder / "by_name.npz")


# ---------------------------------------------------------------- keras.applications


def test_an_application_brings_its_preprocessing() -> None:
    bundle = converters.convert("keras.applications:MobileNetV2?weights=none", input_size=(64, 64))
    assert (bundle.manifest["preprocessing"], bundle.manifest["class_names"]) == ("tf", None)
    assert bundle.manifest["input"] == {"channels": 3, "height": 64, "width": 64}
    assert bundle.certificate.taps > 150
    assert bundle.certificate.runtime_transposes == 0


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("keras.applications:ResNet5", "no model 'ResNet5'; did you mean ResNet50"),
        ("keras.applications:ResNet50?weights=mine", "expected keras.applications:ResNet50 .ImageNet weights"),
        ("keras.applications:ResNet50?size=3", "expected keras.applications:ResNet50"),
    ],
)
def test_an_application_that_does_not_exist(source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        converters.convert(source)


def test_the_preprocessing_of_an_application_is_that_of_keras(folder: Path) -> None:
    stored = np.load(folder / "preprocessed.npz")
    names = [name for name in stored if name != "pixels"]
    assert {PREPROCESSING[name] for name in names} == {"raw", "tf", "torch", "caffe"}
    for name in names:
        picture = Image.fromarray(stored["pixels"][0].astype(np.uint8))
        spec = InputSpec(3, *stored["pixels"].shape[1:3])
        ours = to_tensor([picture], spec, find_preprocessing(PREPROCESSING[name])).numpy()
        np.testing.assert_allclose(ours.transpose(0, 2, 3, 1), stored[name], rtol=1e-5, atol=1e-4)


def test_imagenet_weights_come_with_the_names_of_the_classes() -> None:
    names = find_application("keras.applications:ResNet50").class_names
    assert names is not None
    assert (len(names), names[0], names[207], names[999]) == (1000, "tench", "golden retriever", "toilet tissue")


def test_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(
        CheckpointError, match="cannot build MobileNetV2 with its imagenet weights, which Keras downloads"
    ):
        converters.convert("keras.applications:MobileNetV2", out=tmp_path / "bundle", cache=False)
    assert not (tmp_path / "bundle").exists()
