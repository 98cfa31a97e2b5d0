"""What Keras itself writes is let through, and what it says about its input is read."""

from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from converters.errors import CheckpointError, UnsupportedModelError
from converters.inspect import allowlist, files, inspect, scaling
from converters.inspect.architecture import image_input

GENERATIONS = {"keras": "keras", "tf_keras": "tf_keras"}
APPLICATIONS = ("ConvNeXtTiny", "MobileNetV3Small", "EfficientNetV2B0")


@pytest.fixture(scope="session")
def harmless(written_by: Callable[[str], Path]) -> Path:
    """A folder of checkpoints that do no harm."""
    return written_by("harmless_checkpoints.py")


@pytest.mark.parametrize("package", GENERATIONS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_whole_model_with_a_loss_of_its_own(harmless: Path, package: str, suffix: str) -> None:
    checkpoint = inspect(harmless / f"{package}_nested{suffix}")
    assert checkpoint.flavour == package
    assert checkpoint.keras_version.split(".")[0] == ("3" if package == "keras" else "2")
    assert checkpoint.format == suffix.removeprefix(".").replace("h5", "hdf5")
    assert (checkpoint.input_shape, checkpoint.channels_first) == ((8, 8, 3), False)
    assert checkpoint.values >= 3 * 3 * 3 * 4 + 4 + 6 * 6 * 4 * 2 + 2
    assert "own_loss" not in str(checkpoint.architecture)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("keras_apart.json", "keras_apart.weights.h5"),
        ("tf_keras_apart.json", "tf_keras_apart.weights.h5"),
        ("tf_keras_apart.json", "legacy_apart.h5"),
    ],
)
def test_architecture_and_weights_apart(harmless: Path, model: str, weights: str) -> None:
    assert inspect(harmless / model, harmless / weights).input_shape == (8, 8, 3)


@pytest.mark.parametrize("package", GENERATIONS)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application(harmless: Path, package: str, name: str) -> None:
    text = (harmless / f"{package}_{name}.json").read_text()
    model = allowlist.without_training(files.parse(text, name))
    allowlist.refuse_foreign_code(model, name)
    shape, channels_first = image_input(model, None)
    assert (shape[2], channels_first) == (3, False)


@pytest.mark.parametrize("package", GENERATIONS)
def test_a_model_that_scales_pixels_itself_is_known_by_its_first_steps(harmless: Path, package: str) -> None:
    raw = {}
    for file in sorted(harmless.glob(f"{package}_of_*.json")):
        model = allowlist.without_training(files.parse(file.read_text(), file.name))
        allowlist.refuse_foreign_code(model, file.name)
        raw[file.stem.removeprefix(f"{package}_of_")] = scaling.takes_raw_pixels(model)
    assert len(raw) == 14
    assert raw == {name: name.startswith("pixels") for name in raw}


@pytest.mark.parametrize("package", GENERATIONS)
def test_two_outputs_are_no_reason_to_refuse(harmless: Path, package: str) -> None:
    assert inspect(harmless / f"{package}_two_outputs.keras").input_shape == (8, 8, 3)


@pytest.mark.parametrize("package", GENERATIONS)
def test_of_two_inputs_the_images_are_named(harmless: Path, package: str) -> None:
    source = harmless / f"{package}_two_inputs.keras"
    assert inspect(source, input="images").input_shape == (8, 8, 3)
    with pytest.raises(UnsupportedModelError, match=r"has 2 inputs \(more, images\); .* name it: input='more'"):
        inspect(source)
    with pytest.raises(UnsupportedModelError, match="has no input 'other'; it has 'more', 'images'"):
        inspect(source, input="other")
    with pytest.raises(UnsupportedModelError, match=r"'more' has shape \[None, 5\]; expected images"):
        inspect(source, input="more")


@pytest.mark.parametrize("package", GENERATIONS)
def test_channels_first_is_told_and_the_shape_is_in_one_order(harmless: Path, package: str) -> None:
    checkpoint = inspect(harmless / f"{package}_channels_first.keras")
    assert (checkpoint.input_shape, checkpoint.channels_first) == ((8, 10, 3), True)


@pytest.mark.parametrize("layout", ["legacy_apart.h5", "keras_apart.weights.h5"])
def test_weights_of_another_model_inside_a_nested_one_are_refused(harmless: Path, tmp_path: Path, layout: str) -> None:
    weights = tmp_path / "w.h5"
    weights.write_bytes((harmless / layout).read_bytes())
    with h5py.File(weights, "r+") as file:
        assert rename_inner(file) == 1
    source = harmless / ("keras_apart.json" if layout.startswith("keras") else "tf_keras_apart.json")
    with pytest.raises(CheckpointError, match=r"does not belong to .*: it has weights for '(stranger|.*stranger/)"):
        inspect(source, weights)


def rename_inner(file: h5py.File) -> int:
    """Give the innermost convolution the name of a layer that the model does not have."""
    if "layer_names" in file.attrs:
        names = list(file["outer"].attrs["weight_names"])
        changed = [name.replace("inner", "stranger") for name in names]
        file["outer"].attrs["weight_names"] = changed
        return int(changed != names)
    found: list[h5py.Group] = []
    file.visititems(lambda _, item: found.append(item) if item.attrs.get("name") == "inner" else None)
    for group in found:
        group.attrs["name"] = "stranger"
    return len(found)
