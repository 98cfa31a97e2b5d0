"""What other libraries explain: a copy of the model that they can hook, change and throw away."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torchcam_suite.grids import Grid, Layout, Reshape
from torchcam_suite.models import Model
from torchcam_suite.recorder import logits_of
from torchcam_suite.targets import Targets

LAYER = "tap"


class NotComparable(Exception):
    """The other library cannot explain this model; the message says why."""


@dataclass(frozen=True)
class Subject:
    """What another library is asked to explain.

    Attributes
    ----------
    module : nn.Module
        (N, C, H, W) to (N, classes), in eval mode, without in-place operations of modules.
    images : Tensor
        (N, C, H, W), a leaf that requires a gradient: the module's parameters require none.
    classes : list of int
        The column that is explained, one an image.
    is_plain : bool
        Whether the columns are the model's own logits. Otherwise they are -z and z of a head with one logit z, or
        the single value of a function.
    """

    module: "Tapped"
    images: Tensor
    classes: list[int]
    is_plain: bool

    @property
    def layer(self) -> nn.Module:
        """A module, called once, whose output are the layer's feature maps (N, C, h, w)."""
        return self.module.get_submodule(LAYER)

    def scores(self) -> Tensor:
        """(N,), what is explained; with a graph to the images."""
        columns: Tensor = self.module(self.images)
        return columns.gather(1, torch.tensor(self.classes, device=columns.device)[:, None])[:, 0]

    def recorded(self) -> tuple[Tensor, Tensor]:
        """Give the layer's feature maps, and the gradients of the scores there, by a plain hook."""
        kept: list[Tensor] = []
        handle = self.layer.register_forward_hook(lambda _module, _args, output: kept.append(output))
        scores = self.scores()
        handle.remove()
        (gradients,) = torch.autograd.grad(scores.sum(), kept)
        return kept[0].detach(), gradients


class Tapped(nn.Module):
    """A copy of a module, in which one call of one layer goes through a module of its own.

    So each library sees the layer that is meant, where it would see the first or the last call of a shared module, the
    tokens of a transformer, or what an in-place operation made of the layer's output.

    Parameters
    ----------
    model : Model
        What is copied. The copy shares the storage of the weights, but neither hooks that are added later nor
        gradients.
    layer : str
        A name from `model.layers`.
    outputs : function
        Logits to the columns that are explained.
    reshape : Reshape, optional
        How the layer's output is feature maps, where the table of layers does not know.
    """

    def __init__(
        self, model: Model, layer: str, outputs: Callable[[Tensor], Tensor], reshape: Reshape | None = None
    ) -> None:
        super().__init__()
        site, grid = model.layers.site(layer), model.layers[layer].grid
        self.copied = _copy(model.module)
        self.add_module(LAYER, _Tap())
        self._outputs = outputs
        recognised = grid if isinstance(grid, Grid) else None
        self._layout: Layout | None = recognised if reshape is None else Rearranged(reshape)
        self._call, self._calls = site.call, 0
        self.copied.get_submodule(site.module).register_forward_hook(self._through_tap)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, columns)."""
        self._calls = 0
        return self._outputs(logits_of(self.copied)(images))

    def _through_tap(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        call, self._calls = self._calls, self._calls + 1
        if call != self._call:
            return None
        tap = self.get_submodule(LAYER)  # by its name, as pytorch-grad-cam puts another module there
        if self._layout is not None:
            return self._layout.tokens(tap(self._layout.maps(output)), like=output)
        return tap(output).clone()  # the next operation may be in place


class _Tap(nn.Module):
    def forward(self, output: Tensor) -> Tensor:
        return output.clone()


@dataclass(frozen=True)
class Rearranged:
    """Feature maps by a function of the user, and the way back, which is read off what the function does to numbers.

    So other libraries see feature maps in the middle of the model, where they would see its tokens.
    """

    reshape: Reshape

    def maps(self, output: Tensor) -> Tensor:
        """Give feature maps (N, C, h, w) of outputs."""
        return self.reshape.maps(output)

    def tokens(self, maps: Tensor, like: Tensor) -> Tensor:
        """Put maps into outputs where the function took them from; all else is that of `like`.

        Raises
        ------
        NotComparable
            The function does more than rearrange.
        """
        places = self._places(like).flatten()
        return like.flatten().scatter(0, places, maps.flatten().to(like)).view(like.shape)

    def _places(self, like: Tensor) -> Tensor:
        numbers = torch.arange(like.numel(), device=like.device)
        # other numbers in the same places: arithmetic would give itself away
        generator = torch.Generator().manual_seed(0)
        shuffled = torch.randperm(like.numel(), generator=generator, device="cpu").to(like.device)
        try:
            places = self.reshape.maps(numbers.view(like.shape))
            as_expected = torch.equal(self.reshape.maps(shuffled.view(like.shape)), shuffled[places])
        except Exception as error:  # whatever a function of the user does to whole numbers
            raise NotComparable(_REARRANGES) from error
        if not as_expected or len(places.unique()) != places.numel():
            raise NotComparable(_REARRANGES)
        return places


_REARRANGES = "reshape= does more to the layer's output than rearrange it and leave out, so that it cannot be undone"


def make_subject(
    model: Model, layer: str, images: Tensor, targets: Targets, logits: int, reshape: Reshape | None = None
) -> Subject:
    """Copy a model for one library to explain.

    Parameters
    ----------
    model : Model
        Stays as it is.
    layer : str
        A name from `model.layers`.
    images : Tensor
        (N, C, H, W), ready for the model.
    targets : Targets
        What is explained.
    logits : int
        How many the model gives for an image.
    reshape : Reshape, optional
        As for `Tapped`.
    """
    function, count = targets.function, len(images)
    if function is not None:
        outputs, classes, plain = _column_of(function), [0] * count, False
    else:
        assert targets.classes is not None
        outputs, classes, plain = (
            _both_sides if logits == 1 else _as_they_are,
            targets.classes.tolist(),
            logits > 1,
        )
    return Subject(Tapped(model, layer, outputs, reshape), images.detach().clone().requires_grad_(), classes, plain)


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


def _both_sides(logits: Tensor) -> Tensor:
    return torch.cat([-logits, logits], dim=1)


def _column_of(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda logits: function(logits)[:, None]


def _copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode that shares the storage of all tensors, and of which no parameter asks for a gradient."""
    shared: dict[int, Any] = {id(tensor): tensor.detach() for tensor in _tensors(module)}
    shared |= {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in module.parameters()}
    copied = copy.deepcopy(module, shared)
    part: Any
    for part in copied.modules():
        part.training = False
        if hasattr(part, "inplace"):
            part.inplace = False
    return copied


def _tensors(module: nn.Module) -> list[Tensor]:
    """All, with what a module keeps in plain attributes: a result of its last run cannot be copied otherwise."""
    return [leaf for part in module.modules() for leaf in tree_leaves(vars(part)) if isinstance(leaf, Tensor)]
