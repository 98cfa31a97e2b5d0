"""What is minimised besides the loss, and by which steps."""

import torch
from torch import Tensor, nn

from torchcam_suite.errors import SourceError
from torchcam_suite.training.recipes import Recipe

_EPSILON = 1e-7


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer with Keras' constants."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(net.parameters(), lr=recipe.learning_rate, alpha=0.9, eps=_EPSILON)
    adam = torch.optim.Adam(net.parameters(), lr=recipe.learning_rate, eps=_EPSILON)
    adam.register_step_pre_hook(lambda *_: _set_epsilon(adam))
    return adam


def _set_epsilon(adam: torch.optim.Optimizer) -> None:
    """Before a step: Keras adds epsilon before the second moment is corrected for its bias, torch adds it after.

    At first this divides it by up to 32: it then counts beside gradients of some 1e-6, which deep networks have.
    """
    for group in adam.param_groups:
        taken = max((int(adam.state[one]["step"]) for one in group["params"] if adam.state.get(one)), default=0)
        group["eps"] = _EPSILON / (1 - group["betas"][1] ** (taken + 1)) ** 0.5


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Change the learning rate as Keras does: what momentum has gathered keeps the rate that it came in with.

    Keras' velocity sums gradients times their learning rates, torch's the gradients alone, which all get the new rate.
    """
    for group in optimizer.param_groups:
        before, group["lr"] = group["lr"], rate
        for state in (optimizer.state[one] for one in group["params"] if before != rate and one in optimizer.state):
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"].mul_(before / rate)


def penalty(net: nn.Module, recipe: Recipe) -> Tensor:
    """L2 of the recipe: factor times the sum of the squares of each named layer's kernel, without its bias.

    Raises
    ------
    SourceError
        The network has no such layer, or it has no kernel.
    """
    layers, total = dict(net.named_modules()), torch.zeros(())
    for name, factor in recipe.l2.items():
        kernels = [one for one in layers[name].parameters() if one.ndim > 1] if name in layers else []
        if not kernels:
            raise SourceError(f"l2 of the layer {name!r}: {recipe.architecture} has no such layer with a kernel")
        total = total + factor * sum(kernel.square().sum() for kernel in kernels)
    return total
