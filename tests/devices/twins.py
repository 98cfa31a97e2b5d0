"""One net twice, on the CPU and on the device, and how their results are compared."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcam_suite import Explanation, Model, load

SIZE = (3, 16, 12)
ROUNDING = 2e-6  # of the largest value: chunks have other sizes on a GPU, and sums another order


@dataclass(frozen=True)
class Twins:
    """The same model on two devices."""

    here: Model
    there: Model

    @property
    def both(self) -> tuple[Model, Model]:
        return self.here, self.there


class Net(nn.Module):
    """Convolutions, a normalization, an in-place ReLU that is shared, a head behind pooling; and constants."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.pool, self.last = nn.MaxPool2d(2), nn.Conv2d(6, 5, 3, padding=1)
        self.squeeze, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(5, classes)
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.norm(self.stem(images - self.mean)))
        maps = self.relu(self.last(self.pool(maps)))
        return self.head(self.squeeze(maps).flatten(1))


def net(classes: int = 4) -> Net:
    torch.manual_seed(3)
    made = Net(classes)
    nn.init.uniform_(made.norm.running_mean, -0.3, 0.3)
    nn.init.uniform_(made.norm.running_var, 0.5, 2)
    nn.init.normal_(made.norm.bias)
    nn.init.normal_(made.last.weight, std=0.3)
    nn.init.normal_(made.head.weight)
    return made.eval()


def twins(module: nn.Module | None = None, **options: Any) -> Twins:
    """Open a net on both devices."""
    module = net() if module is None else module
    asked = {"input_size": SIZE, "preprocessing": "unit"} | options
    return Twins(load(copy.deepcopy(module), device="cpu", **asked), load(module, device="cuda", **asked))


def pictures(count: int = 3, seed: int = 0, size: tuple[int, int, int] = SIZE) -> Tensor:
    """On the CPU."""
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(seed))


def require_equal(found: Tensor, expected: Tensor, tolerance: float = ROUNDING, *, varied: bool = True) -> None:
    """What the device gave is what the CPU gave, and more than a constant."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    assert found.shape == expected.shape
    assert expected.unique().numel() > 1 or not varied
    largest = expected.nan_to_num().abs().max()
    torch.testing.assert_close(found, expected, rtol=0, atol=float(largest * tolerance), equal_nan=True)


def require_same_maps(
    found: Explanation, expected: Explanation, tolerance: float = ROUNDING, *, on: str = "cuda"
) -> None:
    """Maps are on one device, and the same."""
    assert found.maps.device.type == found.raw.device.type == found.scores.device.type == on
    require_equal(found.raw, expected.raw, tolerance)
    require_equal(found.maps, expected.maps, tolerance, varied=False)  # there may be no evidence for a class
    require_equal(found.scores, expected.scores, tolerance)
    assert (found.targets, found.target_names) == (expected.targets, expected.target_names)
    assert (found.flags, found.options, found.of) == (expected.flags, expected.options, expected.of)
    assert (found.probabilities is None) == (expected.probabilities is None)
    if found.probabilities is not None:
        require_equal(found.probabilities, expected.probabilities, tolerance)
