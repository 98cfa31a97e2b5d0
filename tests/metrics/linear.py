"""Models whose figures can be calculated by hand."""

import torch
from torch import Tensor, nn

from torchcam_suite import Model, load


class WeightedMean(nn.Module):
    """A single logit whose probability is the weighted sum of the pixels; it keeps what it was shown."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.same = nn.Identity()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.detach().clone())
        return (self.same(images) * self.weights).sum(dim=(1, 2, 3)).logit()[:, None]


def weighted_mean(weights: list[list[float]], preprocessing: str = "unit") -> Model:
    """A `WeightedMean` with a sigmoid."""
    size = (1, len(weights), len(weights[0]))
    module = WeightedMean(weights)
    model = load(module, input_size=size, preprocessing=preprocessing, head="sigmoid", device="cpu")
    module.shown.clear()
    return model


def convolutional(classes: int = 4, size: int = 12, channels: int = 3) -> Model:
    """A small seeded network in float64 with a softmax, sure enough of itself for changes to show."""
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * size * size, classes),
    ).double()
    with torch.no_grad():
        net[1].running_mean.uniform_(-0.5, 0.5)
        net[1].running_var.uniform_(0.5, 1.5)
        net[6].weight.mul_(20)
        # so that images differ in their top class
        net[6].bias.sub_(net.eval()(seeded(16, channels, size, size, seed=9)).mean(dim=0))
    head = "sigmoid" if classes == 1 else "softmax"
    return load(net, input_size=(channels, size, size), preprocessing="unit", head=head, device="cpu")


def seeded(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [0, 1), float64."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
