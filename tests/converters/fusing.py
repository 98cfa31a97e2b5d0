"""What a module gives at its output and at layers inside it, gradients included, to be compared before and after."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def images(*shape: int) -> Tensor:
    return torch.from_numpy(random(*shape, seed=9))


def seen(forward: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, paths: list[str]) -> dict[str, Tensor]:
    """Output, activations, and their gradients of a random sum of the output."""
    kept: dict[str, Tensor] = {"input": x.clone().requires_grad_()}

    def keep(path: str, output: Tensor) -> Tensor:
        # a leaf of its own, whatever comes behind works in place
        kept[path] = output + 0 if output.requires_grad else output.detach().clone().requires_grad_()
        return kept[path] + 0

    hooks = [
        module.get_submodule(path).register_forward_hook(lambda _, __, output, path=path: keep(path, output))
        for path in paths
    ]
    output = forward(kept["input"])
    [hook.remove() for hook in hooks]
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad((output * direction).sum(), list(kept.values()))
    values = [kept["input"].detach(), *(kept[path].detach() for path in paths)]
    return {"output": output.detach()} | {
        f"{kind} {number}": tensor
        for kind, tensors in (("value", values), ("gradient", gradients))
        for number, tensor in enumerate(tensors)
    }


def require_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, reference in theirs.items():
        assert reference.std() > 0, name
        error = (ours[name] - reference).abs().max() / reference.abs().max()
        assert error < tolerance, f"{name}: {error:.1e}"
