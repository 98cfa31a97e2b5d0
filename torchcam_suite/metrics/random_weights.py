"""Models whose weights become random, from the head down: what a map of the model must not survive."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from torchcam_suite.images import example_images
from torchcam_suite.models import Model
from torchcam_suite.recorder import Recorder

How = Literal["permute", "reset"]


class Stage(NamedTuple):
    """One step of the randomisation.

    Attributes
    ----------
    model : Model
        Random from the head down to `layer`; the next step changes the same copy further.
    layer : str
        Path of the weight that was reached last.
    """

    model: Model
    layer: str


def randomised(model: Model, *, how: How = "permute", stages: int = 8, seed: int = 0) -> Iterator[Stage]:
    """Make a copy of a model random step by step, from the head down; the model itself stays as it is.

    Weights are taken in the order in which a forward pass uses them, which works for any module. The last stage is
    random everywhere.

    Parameters
    ----------
    model : Model
        Copied, so that its weights are twice in memory.
    how : {"permute", "reset"}
        Shuffle the values of each weight, bias and running statistic, which keeps the scale of the activations, or draw
        new ones by the module's own `reset_parameters`, as after its construction.
    stages : int
        Number of steps at most; each makes an equal number of the layers random.
    seed : int
        Of the weights.

    Yields
    ------
    Stage

    Raises
    ------
    ValueError
        No weights, fewer than one stage, or a module without `reset_parameters`.
    """
    if stages < 1:
        raise ValueError(f"stages={stages}; expected at least 1")
    if how not in ("permute", "reset"):
        raise ValueError(f"how={how!r}; expected 'permute' or 'reset'")
    changed = _copy(model)
    groups = _weights_from_the_head_down(changed)
    if not groups:
        raise ValueError(f"{model.name} has no weights, so there is nothing to randomise")
    generator = torch.Generator().manual_seed(seed)
    ends = [round(len(groups) * (stage + 1) / min(stages, len(groups))) for stage in range(min(stages, len(groups)))]
    for start, end in zip([0, *ends], ends, strict=False):
        names = list(chain.from_iterable(groups[start:end]))
        if how == "permute":
            _permute(changed.module, names, generator)
        else:
            _reset(changed.module, names, generator)
        yield Stage(changed, names[-1])


def _copy(model: Model) -> Model:
    held = [leaf for part in model.module.modules() for leaf in tree_leaves(vars(part)) if isinstance(leaf, Tensor)]
    with torch.inference_mode(False):  # inside it, tensors are made that cannot be changed later
        # what a module keeps of its last run cannot be copied with its graph
        without_graph = {id(tensor): tensor.detach().clone() for tensor in held if not tensor.is_leaf}
        module = copy.deepcopy(model.module, without_graph)
    return Model(
        module,
        input=model.input,
        preprocessing=model.preprocessing,
        layers=model.layers,
        head=model.head,
        name=model.name,
        class_names=model.class_names,
        source=model.source,
    )


def _weights_from_the_head_down(model: Model) -> list[list[str]]:
    """Names of weights that are used together, the last used first; what no pass shows counts as the head."""
    weights = {id(tensor): name for name, tensor in _weights(model.module)}
    example = model.prepare(example_images(1, model.input))
    with Recorder(model.module), _Uses(weights) as uses:
        model.logits(example)
    unseen = [name for number, name in weights.items() if number not in uses.seen]
    return [*([unseen] if unseen else []), *reversed(uses.groups)]


def _weights(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters and buffers of more than one floating-point value; a single value is the same in any order."""
    named = chain(module.named_parameters(), module.named_buffers())
    return ((name, tensor) for name, tensor in named if tensor.is_floating_point() and tensor.numel() > 1)


class _Uses(TorchFunctionMode):
    """Note which weights go into which operation, in the order of a forward pass.

    The order in which modules are registered says little of attention, of weights that the root holds, and of the
    constants of imported graphs.
    """

    def __init__(self, weights: dict[int, str]) -> None:
        super().__init__()
        self.seen: set[int] = set()
        self.groups: list[list[str]] = []
        self._weights = weights

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # to look at a weight's shape or dtype is not to use it
        looks = getattr(func, "__name__", "") == "__get__"
        numbers = [] if looks else [id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        new = [number for number in dict.fromkeys(numbers) if number in self._weights and number not in self.seen]
        if new:
            self.seen.update(new)
            self.groups.append([self._weights[number] for number in new])
        return func(*args, **(kwargs or {}))


def _permute(module: nn.Module, names: Sequence[str], generator: torch.Generator) -> None:
    found = dict(_weights(module))
    with torch.inference_mode(False), torch.no_grad():
        for name in names:
            weight = found[name]
            order = torch.randperm(weight.numel(), generator=generator, device="cpu").to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))


def _reset(module: nn.Module, names: Sequence[str], generator: torch.Generator) -> None:
    owners = dict.fromkeys(name.rpartition(".")[0] for name in names)
    seed = int(torch.randint(2**62, (1,), generator=generator, device="cpu"))
    devices = {tensor.device for _, tensor in _weights(module) if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.no_grad():
        torch.manual_seed(seed)
        for owner in owners:
            part = module.get_submodule(owner)
            reset = getattr(part, "reset_parameters", None)
            if not callable(reset):
                raise ValueError(
                    f"how='reset': {owner or 'the root module'!r} is a {type(part).__name__}, which has no "
                    "reset_parameters; how='permute' works for any module"
                )
            reset()
