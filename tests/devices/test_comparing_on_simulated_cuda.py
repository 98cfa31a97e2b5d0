"""`evaluate`, `compare`, `crosscheck` and the command line on a simulated GPU: no operation mixes devices, and results
are those of the CPU.

Nothing is told of CUDA's kernels, numbers, memory or speed.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from simulated_cuda import NAME
from torch import nn
from twins import Twins, pictures, require_same_maps, twins

from torchcam_suite import compare, crosscheck, evaluate, load
from torchcam_suite.cli import main

pytestmark = [
    pytest.mark.usefixtures("one_thread", "cuda"),
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
]
CLASSES = ["ant", "bee", "cat", "dog"]


@pytest.fixture
def models() -> Twins:
    return twins(class_names=CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of three pictures each."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for name in CLASSES:
        (folder / name).mkdir()
        for number in range(3):
            pixels = random.integers(0, 255, (20, 15, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def saved(result: Any, folder: Path) -> dict[str, Any]:
    """JSON files and the arrays of what a result writes, by name."""
    found: dict[str, Any] = {}
    for path in result.save(folder, plots=False):
        if path.suffix == ".json":
            found[path.name] = json.loads(path.read_text())
            assert "cuda" not in path.read_text()
        elif path.suffix == ".npz":
            found |= {f"{path.name}/{name}": array for name, array in np.load(path).items()}
    return found


def require_same_files(there: dict[str, Any], here: dict[str, Any]) -> None:
    assert there.keys() == here.keys()
    arrays = [name for name, value in here.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    assert arrays
    for name in arrays:
        np.testing.assert_allclose(there[name], here[name], rtol=0, atol=1e-5 * max(1, np.abs(here[name]).max()))


def test_an_evaluation_is_that_of_the_cpu(models: Twins, folder: Path, tmp_path: Path) -> None:
    here, there = (evaluate(model, folder, batch_size=5, mistakes=4, layer="relu#1") for model in models.both)
    np.testing.assert_allclose(there.scores.logits, here.scores.logits, atol=1e-5)
    assert there.scores.confusion.tolist() == here.scores.confusion.tolist()
    assert len(there.mistakes) == 4
    for one, other in zip(there.mistakes, here.mistakes, strict=True):
        assert (one.path, one.label, one.prediction, one.flags) == (
            other.path,
            other.label,
            other.prediction,
            other.flags,
        )
        np.testing.assert_allclose(one.prediction_map, other.prediction_map, atol=1e-5)
        np.testing.assert_allclose(one.label_map, other.label_map, atol=1e-5)
    assert np.ptp(here.mistakes[0].prediction_map) > 0
    assert (there.versions["device"], here.versions["device"]) == (NAME, "cpu")
    there.save(tmp_path, plots=False)


def test_models_on_two_devices_are_compared(models: Twins, folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "layers": ["relu#0", "relu#1"],
        "methods": ["gradcam", "scorecam"],
        "target": "label",
        "method_options": {"scorecam": {"chunk_size": 8}},
    }
    here, there = (compare([model], folder, **options) for model in models.both)
    require_same_files(saved(there, tmp_path / "there"), saved(here, tmp_path / "here"))
    both = compare({"here": models.here, "there": models.there}, pictures(4), **{**options, "target": 1})
    half = len(both.columns) // 2
    for number in range(half):
        assert both.between(number, number + half).measures["pearson"].mean == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_labels_of_a_comparison_may_be_a_tensor(models: Twins, device: str) -> None:
    labels = torch.tensor([0, 1, 2, 3])
    asked: dict[str, Any] = {"layers": ["relu#0", "relu#1"], "target": "label"}
    expected = compare([models.here], pictures(4), labels=labels.tolist(), **asked)
    found = compare([models.there], pictures(4).to(device), labels=labels.to(device), **asked)
    for one, other in zip(found.columns, expected.columns, strict=True):
        require_same_maps(one.explanation, other.explanation, on="cpu")


@pytest.mark.parametrize("library", ["captum", "pytorch-grad-cam", "torch-cam"])
def test_other_libraries_are_asked_on_the_device(models: Twins, library: str) -> None:
    here, there = (
        crosscheck(model, pictures(2), layer="relu#1", target=[1, 2], libraries=[library]) for model in models.both
    )
    assert not any("Error" in reason for _, reason in there.left_out)
    told = [[(row.method, row.theirs, row.result) for row in found.rows] for found in (here, there)]
    assert told[0] == told[1]
    assert {row.result for row in there.rows} >= {"same"}
    assert there.left_out == here.left_out
    there.figure()


# ---------------------------------------------------------------- imported models and recipes


def test_weights_of_keras_are_put_on_the_device(data: Path) -> None:
    source, images = data / "dogcat_a", pictures(2, size=(3, 128, 128))
    models = [load("recipe:dogs-and-cats?input_size=128", device=device) for device in ("cpu", "cuda")]
    for model in models:
        model.load_keras_weights(source / "model.json", source / "weights.h5")
    here, there = (model.logits(model.prepare(images)) for model in models)
    assert there.is_cuda
    assert torch.equal(there.cpu(), here)
    assert models[0].fingerprint == models[1].fingerprint


# ---------------------------------------------------------------- the command line

MODEL = ["recipe:families?input_size=32&classes=4", "--classes", ",".join(CLASSES), "--preprocess", "unit"]
COMMANDS: dict[str, Callable[[Path, list[Path]], list[Any]]] = {
    "explain": lambda out, files: ["explain", *MODEL, *files, "--method", "gradcam", "-o", out],
    "score-maps": lambda out, files: ["score-maps", *MODEL, *files, "--method", "gradcam", "-o", out / "scores.csv"],
    "features": lambda out, files: ["features", *MODEL, *files, "-o", out / "features.npz"],
    "evaluate": lambda out, files: ["evaluate", *MODEL, files[0].parents[1], "-o", out],
    "compare": lambda out, files: [
        "compare", MODEL[0], "--images", files[0].parents[1], "--layer", "shallow", "--layer", "deep", "-o", out
    ],
    "crosscheck": lambda out, files: ["crosscheck", *MODEL, *files[:2], "--with", "captum", "-o", out],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.AssumptionWarning")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_each_command_takes_the_gpu_by_itself(
    command: Callable[[Path, list[Path]], list[Any]],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    arguments = command(tmp_path / "out", sorted(folder.rglob("*.png")))
    moved: list[str] = []
    to = nn.Module.to
    monkeypatch.setattr(
        nn.Module, "to", lambda self, *args, **more: (moved.append(str(args[0])), to(self, *args, **more))[1]
    )
    monkeypatch.setattr(sys, "argv", ["torchcam-suite", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    assert "cuda" in " ".join(moved)
