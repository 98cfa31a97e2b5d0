"""The checkpoints of tests/data, each with what its own framework computed of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import converters

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Stored:
    """A checkpoint, the array file of its images and predictions, and how close ours have to come."""

    source: Path
    weights: Path | None
    arrays: Path
    rtol: float
    atol: float
    names: tuple[str, str] = ("x", "y")

    def convert(self) -> converters.Bundle:
        """Free from the second time on: the session has one cache."""
        return converters.convert(self.source, weights=self.weights)

    def images(self) -> torch.Tensor:
        """(N, C, H, W) float32."""
        if self.arrays.name == "reference.npz":
            return family_images(np.load(self.arrays)["names"])
        return channels_first(np.load(self.arrays)[self.names[0]])

    def predictions(self) -> np.ndarray:
        """(N, classes) float32, as the original framework gave them."""
        folder = self.arrays.parent
        file = folder / "cams.npz" if folder.name == "dogcat_a" else self.arrays
        return np.load(file)[self.names[1]]


def channels_first(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) to a tensor (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def family_images(names: Iterable[str]) -> torch.Tensor:
    """The pictures of tcav_families, in [0, 1]."""
    pictures = [np.asarray(Image.open(DATA / "tcav_families" / "images" / name), np.float32) / 255 for name in names]
    return channels_first(np.stack(pictures))


def taps(bundle: converters.Bundle, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output of each layer call, by plain torch hooks; maps as (N, C, H, W)."""
    module = bundle.module()
    seen: dict[str, torch.Tensor] = {}
    for row in bundle.layers:
        module.get_submodule(row.module).register_forward_hook(
            lambda _, __, output, tap=row.tap: seen.__setitem__(tap, output)
        )
    module(images)
    return seen


def in_keras_order(activation: torch.Tensor) -> np.ndarray:
    """A map as Keras has it, (N, H, W, C)."""
    return (activation.permute(0, 2, 3, 1) if activation.dim() == 4 else activation).numpy()


def require_equal(ours: np.ndarray, theirs: np.ndarray, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Within rtol of the value plus atol of the largest one, and not because there is nothing to compare."""
    assert theirs.std() > 1e-3 * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * np.abs(theirs).max())


def _keras224(name: str, whole: bool) -> Stored:
    stem = DATA / "keras224" / f"keras224_{name}"
    source, weights = (".h5", None) if whole else (".json", Path(f"{stem}_w.h5"))
    return Stored(Path(f"{stem}{source}"), weights, Path(f"{stem}.npz"), rtol=0, atol=2e-5)


_FAMILIES = DATA / "tcav_families"

CHECKPOINTS: Mapping[str, Stored] = {
    "func.h5": _keras224("func", whole=True),
    "func.json": _keras224("func", whole=False),
    "seq.h5": _keras224("seq", whole=True),
    "seq.json": _keras224("seq", whole=False),
    "nest.h5": _keras224("nest", whole=True),
    "nest.json": _keras224("nest", whole=False),
    "dogcat_a": Stored(
        DATA / "dogcat_a" / "model.json",
        DATA / "dogcat_a" / "weights.h5",
        DATA / "dogcat_a" / "inputs.npz",
        rtol=1e-4,
        atol=0,
        names=("x", "prediction"),
    ),
    "tcav_families.h5": Stored(
        _FAMILIES / "model.h5", None, _FAMILIES / "reference.npz", 1e-4, 0, names=("", "prediction")
    ),
    "tcav_families.json": Stored(
        _FAMILIES / "model.json",
        _FAMILIES / "weights.h5",
        _FAMILIES / "reference.npz",
        1e-4,
        0,
        names=("", "prediction"),
    ),
}
