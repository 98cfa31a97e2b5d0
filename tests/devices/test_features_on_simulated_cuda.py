"""`features` and `embed` on a simulated GPU: rows have arrived before they are read, and are those of the CPU.

Nothing is told of CUDA's kernels, numbers, memory or speed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from simulated_cuda import NAME
from torch import Tensor
from twins import Twins, pictures, twins

from torchcam_suite import Features, embed, explain, features
from torchcam_suite.present.map_page import map_page

pytestmark = pytest.mark.usefixtures("one_thread", "cuda")
LAYERS = ["relu#0", "relu#1", "head"]


@pytest.fixture
def models() -> Twins:
    return twins()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Seven pictures, one of which is none."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path in paths:
        Image.fromarray(random.integers(0, 255, (20, 15, 3), np.uint8)).save(path)
    paths[4].write_bytes(b"no picture")
    return paths


def require_same_features(there: Features, here: Features) -> None:
    assert there.layers.keys() == here.layers.keys()
    for name, expected in [*here.layers.items(), ("logits", here.logits)]:
        found = there.logits if name == "logits" else there.layers[name]
        assert isinstance(found, np.ndarray)
        assert np.ptp(np.asarray(expected)) > 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * float(np.abs(expected).max()))
    assert (there.ids, there.paths, there.shapes, there.pool) == (here.ids, here.paths, here.shapes, here.pool)
    assert there.unreadable == here.unreadable
    assert (there.versions["device"], here.versions["device"]) == (NAME, "cpu")


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("pool", ["flatten", "mean", "max"])
def test_features_of_a_tensor_are_those_of_the_cpu(models: Twins, pool: Any, batch_size: int) -> None:
    here, there = (features(model, pictures(7), LAYERS, pool=pool, batch_size=batch_size) for model in models.both)
    require_same_features(there, here)


@pytest.mark.parametrize("options", [{}, {"memory": 100}, {"folder": "kept"}], ids=["memory", "files", "kept"])
def test_features_of_files_are_those_of_the_cpu(
    models: Twins, files: list[Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    if "folder" in options:
        options = {"folder": tmp_path / "kept"}
    asked = {"batch_size": 2, "on_error": "skip"} | options
    here = features(models.here, files, LAYERS, batch_size=2, on_error="skip")
    require_same_features(features(models.there, files, LAYERS, **asked), here)
    require_same_features(features(models.there, files, LAYERS, **asked), here)  # a second time, perhaps from disk


def test_pictures_come_through_pinned_memory(models: Twins, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, ...]] = []

    def pin(tensor: Tensor, *_: Any) -> Tensor:
        pinned.append(tuple(tensor.shape))
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    features(models.here, files, "head", batch_size=3, on_error="skip")
    assert pinned == []
    features(models.there, files, "head", batch_size=3, on_error="skip")
    assert pinned == [(3, 3, 16, 12), (2, 3, 16, 12), (1, 3, 16, 12)]


def test_files_may_be_decoded_in_other_processes(models: Twins, files: list[Path]) -> None:
    here, there = (features(model, files, LAYERS, batch_size=2, workers=1, on_error="skip") for model in models.both)
    require_same_features(there, here)


def test_batches_wait_for_what_was_sent(models: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the event, rows would be read before they are there: the simulation shows it."""
    monkeypatch.setattr(torch.cuda.Event, "synchronize", lambda _: None)
    found = features(models.there, pictures(3), "head", batch_size=3)
    assert np.isnan(found.layers["head"]).all()


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_saved_features_are_those_of_the_cpu(models: Twins, tmp_path: Path, ending: str) -> None:
    here, there = (
        Features.load(features(model, pictures(4), LAYERS).save(tmp_path / f"{model.device.type}{ending}"))
        for model in models.both
    )
    require_same_features(there, here)


@pytest.mark.filterwarnings("ignore:perplexity")
def test_a_map_is_made_of_a_tensor_of_the_device(models: Twins) -> None:
    rows = [
        torch.from_numpy(features(model, pictures(20), "relu#1", pool="mean").layers["relu#1"]) for model in models.both
    ]
    here, there = embed(rows[0], engine="pca", k=3), embed(rows[1].to("cuda"), engine="pca", k=3)
    assert np.ptp(here.points) > 0
    np.testing.assert_allclose(there.points, here.points, atol=1e-4)


@pytest.mark.filterwarnings("ignore:perplexity")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_labels_may_be_a_tensor_of_either_device(device: str) -> None:
    numbers, shares = torch.arange(8) % 3, torch.linspace(0, 1, 8)
    known = {"labels": numbers.to(device), "predictions": numbers.flip(0).to(device), "confidences": shares.to(device)}
    found = embed(pictures(8).flatten(1), engine="pca", k=2, **known)
    assert found.labels == tuple("01201201")
    assert found.predictions == tuple("10210210")
    np.testing.assert_array_equal(found.confidences, shares.double().numpy())


@pytest.mark.filterwarnings("ignore:perplexity")
def test_heat_maps_of_the_device_are_laid_over_a_page(models: Twins, files: list[Path]) -> None:
    good = [path for path in files if path.name != "4.png"]
    embedding = embed(features(models.there, good, "head"), engine="pca", k=2)
    here, there = (explain(model, good, layer="relu#0").maps for model in models.both)
    expected = map_page(embedding, heat_maps=list(here.numpy()))
    assert map_page(embedding, heat_maps=here) == expected
    assert map_page(embedding, heat_maps=there.requires_grad_()) == expected
    assert map_page(embedding) != expected
