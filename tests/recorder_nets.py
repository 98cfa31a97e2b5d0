"""A net with all that makes recording hard, and the same written out with plain autograd."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from torchcam_suite.recorder import Site


class Net(nn.Module):
    """In-place ReLU after every convolution, one module called three times, a branch, an unused module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(6, 8, 3)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)
        self.unused = nn.Linear(8, 4)

    def logits(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for _ in range(2):
            x = torch.relu_(self.shared(x))
        x = self.shared(x)
        x += self.branch(images)
        x = torch.relu_(self.last(torch.relu_(x)))
        return self.fc(self.dropout(x).mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images)


SITES = [Site("stem.0"), Site("shared", 0), Site("shared", 2), Site("branch.0"), Site("last")]


def make_net(dtype: torch.dtype = torch.float64) -> Net:
    torch.manual_seed(0)
    net = Net().to(dtype)
    net.stem[1].running_mean.normal_()
    return net.eval()


def make_images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def full_autograd(net: Net, images: Tensor, target: int) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Activations and gradients of the model written out without in-place operations or hooks."""
    seen = {SITES[0]: net.stem[0](images)}
    x = net.stem[1](seen[SITES[0]]).relu()
    for call in range(2):
        seen[Site("shared", call)] = net.shared(x)
        x = seen[Site("shared", call)].relu()
    seen[Site("shared", 2)] = net.shared(x)
    seen[Site("branch.0")] = net.branch[0](images)
    seen[Site("last")] = net.last((seen[Site("shared", 2)] + seen[Site("branch.0")].relu()).relu())
    logits = net.fc(seen[Site("last")].relu().mean(dim=(2, 3)))
    gradients = torch.autograd.grad(logits[:, target].sum(), list(seen.values()))
    return seen, dict(zip(seen, gradients, strict=True))


def state_of(net: nn.Module) -> dict[str, Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": sum(len(getattr(module, name)) for module in net.modules() for name in hooks),
        "training": [module.training for module in net.modules()],
        "requires_grad": [parameter.requires_grad for parameter in net.parameters()],
        "grad": [parameter.grad for parameter in net.parameters()],
        "values": [tensor.sum().item() for tensor in chain(net.parameters(), net.buffers())],
        "autograd": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }
