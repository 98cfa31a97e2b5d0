"""Nothing is made on the caller's default device: tensors of the device "meta" have no values."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from torchcam_suite import Model, activations, compare, crosscheck, embed, evaluate, explain, features, load, tcav

pytestmark = pytest.mark.usefixtures("one_thread")
COLOURS = {"red": (150, 0, 0), "random_0": (60, 60, 60), "random_1": (70, 50, 50), "random_2": (50, 70, 50)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in colours, a folder each."""
    root, random = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(20):
            pixels = random.random((16, 16, 3)) * 80 + np.array(colour)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def opened() -> Model:
    torch.manual_seed(0)
    with torch.device("cpu"):
        net = nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)),
        )
    return load(net, input_size=16, preprocessing="unit", device="cpu", class_names=list(COLOURS))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def _fused(folder: Path) -> npt.ArrayLike:
    model = opened().fuse()
    return model.logits(model.prepare(_files(folder)[:4])).detach()


def _features(folder: Path) -> npt.ArrayLike:
    return features(opened(), _files(folder), layers=["3"], progress=False)["3"]


def _scores(folder: Path) -> npt.ArrayLike:
    red = {"red": _files(folder / "red")}
    asked = {"layers": ["3"], "concepts": ["red"], "target": red, "data": folder, "progress": False}
    rows = tcav(opened(), **asked).rows  # type: ignore[arg-type]
    return np.array([[row.score, row.p, row.accuracy] for row in rows], float)


def _agreement(folder: Path) -> npt.ArrayLike:
    found = compare(
        opened(), _files(folder)[:4], layers=["shallow", "deep"], methods="hirescam", target=0, progress=False
    )
    return np.stack([explanation.maps for explanation in found.explanations.values()])


def _peers(folder: Path) -> npt.ArrayLike:
    rows = crosscheck(opened(), _files(folder)[:2], methods=["gradcam"], libraries=["captum"], progress=False).rows
    return np.array([row.rank_correlation for row in rows], float)


DONE: dict[str, Callable[[Path], npt.ArrayLike]] = {
    "activations": lambda folder: activations(opened(), _files(folder)[:3], "3")["3"],
    "fuse": _fused,
    "features": _features,
    "embed": lambda folder: embed(_features(folder), engine="pca", perplexity=5, k=5).points,
    "tcav": _scores,
    "evaluate": lambda folder: evaluate(opened(), folder, progress=False).scores.logits,
    "explain": lambda folder: explain(opened(), _files(folder)[:8], method="scorecam", progress=False).maps,
    "compare": _agreement,
    "crosscheck": _peers,
}


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ConceptWarning")
@pytest.mark.parametrize("name", DONE)
def test_the_default_device_changes_nothing_of(name: str, folder: Path) -> None:
    expected = np.asarray(DONE[name](folder))
    with torch.device("meta"):
        found = np.asarray(DONE[name](folder))
    assert expected.size > 0
    np.testing.assert_array_equal(found, expected)
