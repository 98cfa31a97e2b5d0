"""What the float64 references of the methods are computed from: a model taken apart by plain hooks of our own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchcam_suite import Model, load

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A model, a layer and a batch; everything is asked for one image at a time and given as float64 arrays.

    Attributes
    ----------
    model : Model
        What is explained.
    layer : str
        Name in `model.layers`.
    images : Tensor
        (N, c, H, W).
    classes : list of int
        One an image.
    """

    model: Model
    layer: str
    images: Tensor
    classes: list[int]

    def picture(self, image: int) -> Array:
        """X, (c, H, W)."""
        return self.images[image].double().numpy()

    def activations(self, picture: Array) -> Array:
        """A, (C, h, w)."""
        return array(self._run(picture)[0])

    def gradient(self, picture: Array, value: Callable[[Tensor], Tensor]) -> Array:
        """Derivative of a function of the logits (classes,) by A, (C, h, w)."""
        with torch.enable_grad():
            features, logits = self._run(picture)
            (found,) = torch.autograd.grad(value(logits), features)
        return array(found)

    def logits(self, picture: Array) -> Array:
        """(classes,)."""
        return array(self._run(picture)[1])

    def logits_from(self, picture: Array, features: Array) -> Array:
        """(classes,), where the layer gives these features (C, h, w) instead of its own."""
        replaced = torch.from_numpy(features)[None].to(self.images.dtype)
        with torch.no_grad(), self._hooked(lambda _module, _args, _output: replaced):
            return array(self.model.logits(self._batch(picture))[0])

    def score(self, logits: Array, image: int, of: str = "logit") -> float:
        """The target's logit or probability."""
        values = logits if of == "logit" else np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        return float(values[self.classes[image]])

    def _batch(self, picture: Array) -> Tensor:
        return torch.from_numpy(picture)[None].to(self.images.dtype)

    def _run(self, picture: Array) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        with self._hooked(lambda _module, _args, output: kept.append(output)):
            logits = self.model.logits(self._batch(picture).requires_grad_())
        return kept[0], logits[0]

    @contextmanager
    def _hooked(self, hook: Callable[[nn.Module, Any, Tensor], Any]) -> Iterator[None]:
        part = self.model.module.get_submodule(self.model.layers.site(self.layer).module)
        handle = part.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def array(values: Tensor) -> Array:
    """As float64, without the batch of one."""
    values = values[0] if values.ndim == 4 else values
    return values.detach().double().numpy()


def toy(dtype: torch.dtype = torch.float64, *, pooled: bool = False) -> Case:
    """A small convolutional net of smooth and of piecewise linear parts, and two pictures.

    With `pooled` it ends in global average pooling and one dense layer, and the layer is the last one before.
    """
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1) if pooled else nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5 if pooled else 5 * 4 * 3, 4),
    ).to(dtype)
    with torch.no_grad():
        net[7].weight.mul_(4)  # so that masks change probabilities
    model = load(net, input_size=(3, 16, 12), preprocessing="unit", head="softmax", device="cpu")
    images = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return Case(model, "4" if pooled else "3", images, [2, 0])
