"""What one model says to the images: its predictions, and its maps by every method at every layer."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from torchcam_suite.cam import Chosen
from torchcam_suite.comparison.native import NativeKeras, probability_of
from torchcam_suite.errors import ImageError, ZeroMapWarning
from torchcam_suite.explain import ZERO_MAP, explain
from torchcam_suite.explanation import Explanation
from torchcam_suite.models import Model
from torchcam_suite.recorder import Recorder
from torchcam_suite.targets import Target, resolve

Subject = Model | NativeKeras


class Answer(NamedTuple):
    """What one model says.

    Attributes
    ----------
    classes : tuple of int
        The predicted class, one an image.
    names : tuple of str
        How it is called.
    probabilities : tuple of float, or None
        Of the predicted class; None for a head without probabilities.
    explanations : dict of (str, str) to Explanation
        By method and layer, on the CPU; the layer is `"input"` for a method that takes none.
    """

    classes: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...] | None
    explanations: dict[tuple[str, str], Explanation]

    def without_evidence(self) -> dict[tuple[str, str], list[int]]:
        """Numbers of the images whose map is zero everywhere, by method and layer, where there are any."""
        zero = {
            key: [number for number, flags in enumerate(found.flags) if ZERO_MAP in flags]
            for key, found in self.explanations.items()
        }
        return {key: numbers for key, numbers in zero.items() if numbers}


def model_of(subject: Subject) -> Model:
    """The model whose input, layers and class names count."""
    return subject.model if isinstance(subject, NativeKeras) else subject


def answer(
    subject: Subject,
    images: Tensor,
    names: tuple[str, ...],
    methods: Mapping[str, Mapping[str, object]],
    chosen: Sequence[Chosen],
    layers: Sequence[str],
    target: Target,
    batch_size: int,
    done: Callable[[], None],
) -> Answer:
    """Ask one model.

    Parameters
    ----------
    subject : Model or NativeKeras
        What is asked.
    images : Tensor
        (N, C, H, W), ready for it.
    names : tuple of str
        Of the images.
    methods, chosen : mapping of str to options, sequence of Chosen
        The methods, as the user gave them and as they are understood.
    layers : sequence of str
        Its layers.
    target : as for `torchcam_suite.explain`
        What is explained.
    batch_size : int
        Images in one pass.
    done : function
        Called after each method.
    """
    if isinstance(subject, NativeKeras):
        prediction, logits, found = subject.explain(images, chosen, layers, target)
        for _ in methods:
            done()
    else:
        logits = _logits(subject, images, batch_size)
        prediction = subject.to_probabilities(logits) if subject.head != "none" else logits
        found = {}
        for one, options in zip(chosen, methods.values(), strict=True):
            found |= _explained(subject, images, one, options, layers, target, batch_size)
            done()
    model = model_of(subject)
    top = resolve(None, logits, model.class_names)
    assert top.classes is not None
    classes = top.classes.tolist()
    probabilities = None if model.head == "none" else tuple(probability_of(prediction.cpu(), classes).tolist())
    return Answer(tuple(classes), top.names, probabilities, {key: _kept(one, names) for key, one in found.items()})


def _logits(model: Model, images: Tensor, batch_size: int) -> Tensor:
    with Recorder(model.module):
        logits = torch.cat([model.logits(batch) for batch in images.split(batch_size)])
    if not bool(logits.isfinite().all()):
        first = int((~logits.isfinite().all(dim=1)).nonzero()[0, 0])
        raise ImageError(f"{model.name} answers image {first} with NaN or infinity; check weights and preprocessing")
    return logits


def _explained(
    model: Model,
    images: Tensor,
    chosen: Chosen,
    options: Mapping[str, object],
    layers: Sequence[str],
    target: Target,
    batch_size: int,
) -> dict[tuple[str, str], Explanation]:
    name = chosen.method.name
    given = dict(options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroMapWarning)  # which would name neither the model nor the pictures
        if not chosen.method.takes_layer:
            found = explain(model, images, method=name, target=target, batch_size=batch_size, **given)  # type: ignore[call-overload]
            return {(name, found.layer): found}
        several = explain(model, images, method=name, layer=layers, target=target, batch_size=batch_size, **given)  # type: ignore[call-overload]
    return {(name, layer): found for layer, found in several.items()}


def _kept(explanation: Explanation, names: tuple[str, ...]) -> Explanation:
    """On the CPU, where the maps of all models meet, and with the images' own names."""
    probabilities = explanation.probabilities
    return replace(
        explanation,
        maps=explanation.maps.cpu(),
        raw=explanation.raw.cpu(),
        scores=explanation.scores.detach().cpu(),
        probabilities=None if probabilities is None else probabilities.detach().cpu(),
        images=names,
    )
