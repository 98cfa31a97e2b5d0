"""Small classifiers with what makes other libraries stumble: in-place operations, shared modules, kept results."""

from typing import Any

import torch
from torch import Tensor, nn

from torchcam_suite import Model, load
from torchcam_suite.crosscheck import CrossCheck


class Residual(nn.Module):
    """One in-place ReLU that is called three times, behind the layers that are explained."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, classes)
        self.kept: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(images)))
        x = self.relu(x + self.conv(x))
        self.kept = self.relu(self.last(x))
        return self.fc(self.pool(self.kept).flatten(1))


def residual(classes: int = 5, **options: Any) -> Model:
    torch.manual_seed(1)
    net = Residual(classes)
    with torch.no_grad():
        net.fc.weight.mul_(4)
    return load(net, input_size=(3, 16, 16), device="cpu", **options)


def some_images(model: Model, count: int = 2) -> Tensor:
    return torch.rand(count, *model.input, generator=torch.Generator().manual_seed(7), dtype=model._example.dtype)


def results(found: CrossCheck, library: str) -> dict[tuple[str, str], str]:
    """Our method and theirs to the result."""
    return {(row.method, row.theirs): row.result for row in found.rows if row.library == library}
