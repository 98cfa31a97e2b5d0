"""Every layer kind that an image classifier may hold, made by both Keras generations, imports and is proved.

The table is in `layer_table`. A kind passes if output, taps and gradients agree with the original (the certificate),
if a batch of another size gives what Keras itself predicts, and if each layer has a tap with its output, channels
first.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layer_kind import BOTH, STEM
from layer_kinds import folder_of, read_checkpoint
from layer_table import KINDS

from converters import errors
from converters.assembly import assemble
from converters.bundle import Bundle, open_bundle
from converters.native import run_natively
from torchcam_suite import explain, load
from torchcam_suite.errors import LayerError

CASES = [
    pytest.param(number, package, id=f"{package}-{kind.name}")
    for number, kind in enumerate(KINDS)
    for package in kind.packages
]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of each kind, traced by one process for each Keras package."""
    folder = tmp_path_factory.mktemp("kinds")
    script = Path(__file__).with_name("layer_kinds.py")
    started = {}
    for package in BOTH:
        command = [sys.executable, str(script), package, str(folder)]
        with (folder / f"{package}.log").open("wb") as log:
            started[package] = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for package, process in started.items():
            assert process.wait(timeout=1200) == 0, (folder / f"{package}.log").read_text(errors="replace")[-3000:]
        yield folder
    finally:
        torch.set_num_threads(threads)
        for process in started.values():
            process.kill()
            process.wait()
        shutil.rmtree(folder)


def assembled(folder: Path) -> Bundle:
    """What a conversion makes of a traced kind; raises what it raises."""
    outcome = json.loads((folder / "outcome.json").read_text())
    if outcome["error"] is not None:
        raise getattr(errors, outcome["error"])(outcome["message"])
    bundle = folder / "bundle"
    bundle.mkdir()
    assemble(read_checkpoint(folder), json.loads((folder / "facts.json").read_text()), folder, bundle)
    return open_bundle(bundle)


def channels_first(shape: list[int]) -> tuple[int, ...]:
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else tuple(shape)


@pytest.mark.parametrize(("number", "package"), CASES)
def test_a_layer_kind_imports_and_is_proved(traced: Path, number: int, package: str) -> None:
    kind, folder = KINDS[number], folder_of(traced, package, number)
    if kind.refused is not None:
        name, _, pattern = kind.refused.partition(":")
        with pytest.raises(getattr(errors, name)) as caught:
            assembled(folder)
        assert type(caught.value).__name__ == name
        assert re.search(pattern.strip(), str(caught.value))
        return
    bundle = assembled(folder)  # raises ParityError if output, a tap or a gradient differs
    module = bundle.module()
    outputs: dict[str, Any] = {}
    for row in bundle.layers:
        module.get_submodule(row.module).register_forward_hook(
            lambda _, __, output, tap=row.tap: outputs.__setitem__(tap, tuple(output.shape[1:]))
        )
    expected = np.load(folder / "expected.npz")
    images = expected["x"] if kind.twin else expected["x"].transpose(0, 3, 1, 2)
    with torch.inference_mode():
        ours = module(torch.from_numpy(np.ascontiguousarray(images))).numpy()
    assert np.ptp(expected["y"], axis=0).max() > 1e-3, "Keras predicts the same of all images"
    np.testing.assert_allclose(ours, expected["y"], rtol=kind.tolerance, atol=kind.tolerance)
    assert {row.tap: row.shape for row in bundle.layers if len(row.shape) == 3} == {
        row.tap: outputs[row.tap] for row in bundle.layers if len(row.shape) == 3
    }
    for layer, shape in json.loads((folder / "shapes.json").read_text()).items():
        assert outputs[f"{layer}#0"] == (tuple(shape) if kind.twin else channels_first(shape))


@pytest.mark.parametrize("package", BOTH)
def test_arithmetic_between_layers_has_names(traced: Path, package: str) -> None:
    rows = bundle_of(traced, package, "arithmetic").layers
    names = {
        "keras": ["multiply", "subtract", "true_divide", "add"],
        "tf_keras": [f"tf.{function}" for function in ("math.multiply", "math.subtract", "math.truediv")]
        + ["tf.__operators__.add"],
    }
    assert [re.sub(r"_\d+$", "", row.name) for row in rows] == ["stem", *names[package], "flat", "head"]
    assert {row.shape for row in rows[:-2]} == {(STEM, 9, 10)}


@pytest.mark.parametrize("package", BOTH)
def test_what_has_other_axes_than_maps_is_not_shown_as_one(traced: Path, package: str) -> None:
    bundle = bundle_of(traced, package, "attention written out")
    assert [row.shape for row in bundle.layers if len(row.shape) == 3] == [(STEM, 9, 10)]
    assert re.search(r"\badd(_\d+)?$", bundle.layers[-3].name), "x + attention is tokens, as its second side says"
    assert bundle.certificate.runtime_transposes == 0
    # but a Reshape that only adds axes gives a map of one pixel, and maps times that are maps
    gated = [row.shape for row in bundle_of(traced, package, "gate written out").layers if len(row.shape) == 3]
    assert gated == [(STEM, 9, 10), (STEM, 1, 1), (STEM, 9, 10)]


@pytest.mark.parametrize("package", BOTH)
def test_channels_before_tokens_are_no_tokens(traced: Path, package: str) -> None:
    model = load(bundle_of(traced, package, "mixer"), preprocessing="unit", device="cpu")
    tokens = {layer.name for layer in model.layers if layer.is_spatial and len(layer.output_shape) == 2}
    assert {"tokens", "norm", "back", "sum", "narrow", "last"} <= tokens
    assert {layer.name for layer in model.layers if layer.output_shape == (90, 90)} - tokens == {
        "swapped",
        "mixing",
        "written",
    }
    assert model.default_layer == "last"


@pytest.mark.parametrize("package", BOTH)
def test_windows_and_what_is_rolled_are_no_maps(traced: Path, package: str) -> None:
    model = load(bundle_of(traced, package, "windows"), preprocessing="unit", device="cpu")
    maps = [layer.name for layer in model.layers if layer.is_spatial and len(layer.output_shape) == 3]
    assert re.sub(r"_\d+$", "", maps[-1].rpartition(".")[2]) == "add"
    assert maps[:-1] == ["stem", "even"]
    assert model.default_layer == maps[-1]
    with pytest.raises(LayerError, match="layer 'attention' gives 16 x 6 values an image"):
        explain(model, torch.rand(2, *model.input), layer="attention")


@pytest.mark.parametrize("package", BOTH)
def test_positions_in_windows_are_no_maps(traced: Path, package: str) -> None:
    model = load(bundle_of(traced, package, "folded"), preprocessing="unit", device="cpu")
    maps = {layer.name: layer.is_spatial for layer in model.layers if len(layer.output_shape) == 3}
    assert maps == {"stem": True, "fold": False, "norm": False, "inside": False, "unfold": True, "after": True}
    with pytest.raises(LayerError, match="layer 'inside' gives values of the positions in windows, or of heads"):
        explain(model, torch.rand(1, *model.input), layer="inside")


@pytest.mark.parametrize("package", BOTH)
def test_means_of_rows_and_constants_are_no_tokens(traced: Path, package: str) -> None:
    bundle = bundle_of(traced, package, "rows and a class token")
    names = [re.sub(r".*\.|_\d+$", "", row.name) for row in bundle.layers]
    sliced, joined = ("get_item", "concatenate") if package == "keras" else ("getitem", "concat")
    assert names == ["stem", "tokens", sliced, joined, "norm", "flatten", "flatten", "concatenate", "head"]


@pytest.mark.parametrize("package", BOTH)
def test_a_split_transposes_nothing_at_run_time(traced: Path, package: str) -> None:
    bundle = bundle_of(traced, package, "split branches")
    assert {row.shape for row in bundle.layers[1:3]} == {(3, 9, 10), (STEM, 9, 10)}
    assert bundle.certificate.runtime_transposes == 0


@pytest.mark.parametrize("package", BOTH)
def test_a_function_behind_a_softmax_may_reshape(traced: Path, package: str) -> None:
    bundle = bundle_of(traced, package, "softmax as a function, then a reshape")
    assert bundle.manifest["head"]["activation"] == "softmax"


def test_a_model_of_channels_first_runs_natively(traced: Path) -> None:
    folder = folder_of(traced, "tf_keras", next(i for i, kind in enumerate(KINDS) if kind.name == "channels first"))
    expected = np.load(folder / "expected.npz")
    pictures = np.ascontiguousarray(expected["x"][:1])  # (N, C, H, W), as for any model
    tap = bundle_of(traced, "tf_keras", "channels first").layers[0].tap
    with run_natively(read_checkpoint(folder), pictures, [tap]) as run:
        one = next(run.images)
    np.testing.assert_allclose(one.prediction, expected["y"][:1], rtol=1e-4, atol=1e-5)


def bundle_of(traced: Path, package: str, name: str) -> Bundle:
    """The bundle of a kind, made if it is not there."""
    folder = folder_of(traced, package, next(i for i, kind in enumerate(KINDS) if kind.name == name))
    return open_bundle(folder / "bundle") if (folder / "bundle").exists() else assembled(folder)
