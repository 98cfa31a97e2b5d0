"""The methods by name: what each needs of the model, and its options.

A method is a frozen dataclass of its options with a `compute` that turns a batch into raw maps. The
mathematics stands in the file of its family, as functions of tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.cam.saliency_map import Interpolation
from torchcam_suite.cam.score import VARIANTS, Progress, score_cam
from torchcam_suite.recorder import Recorder, Site
from torchcam_suite.targets import Of, Target, Targets, resolve

Relu = Literal["before", "after"]
Scale = Literal["max", "minmax"]


class Classifier(Protocol):
    """What a method needs of a model."""

    module: torch.nn.Module
    class_names: list[str] | None

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        ...

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """(N, classes) -> (N, classes)."""
        ...


class Computed(NamedTuple):
    """Raw maps of a batch.

    Attributes
    ----------
    raw : dict of Site to Tensor
        (N, h, w) each, signed.
    targets : Targets
        What was explained.
    logits : Tensor
        (N, classes) of the unmasked images.
    scores : Tensor
        (N,), the value that was explained.
    details : dict of Site to dict
        Figures worth keeping, as JSON values.
    """

    raw: dict[Site, Tensor]
    targets: Targets
    logits: Tensor
    scores: Tensor
    details: dict[Site, dict[str, Any]]


@dataclass(frozen=True)
class GradCAM:
    """Options of Grad-CAM (Selvaraju 2017); see `torchcam_suite.cam.gradient.grad_cam`.

    Attributes
    ----------
    of : {"logit", "probability"}
        What is differentiated. The paper takes the logit; some Keras code takes the softmax output.
    relu : {"before", "after"}
        ReLU before the upsampling, as in the paper, or after it, as in some Keras code.
    normalize : {"max", "minmax"}
        How the map is brought to [0, 1].
    interpolation : {"bilinear", "nearest"}
        How it is brought to the size of the image.
    """

    of: Of = "logit"
    relu: Relu = "before"
    normalize: Scale = "max"
    interpolation: Interpolation = "bilinear"

    name: ClassVar[str] = "gradcam"
    title: ClassVar[str] = "Grad-CAM"
    summary: ClassVar[str] = "channels weighted by their mean gradient; one forward, one backward"

    def __post_init__(self) -> None:
        _require_choices(self, of=Of, relu=Relu, normalize=Scale, interpolation=Interpolation)

    def compute(
        self, model: Classifier, images: Tensor, sites: Sequence[Site], target: Target, _: Progress | None
    ) -> Computed:
        """Compute the raw maps of all sites in one forward and one backward pass."""
        with Recorder(model.module, sites, gradients=True) as recorder:
            logits = recorder.run(model.logits, images)
            targets = resolve(target, logits.detach(), model.class_names)
            scores = targets.score(logits, model.to_probabilities, self.of)
            gradients = recorder.gradients(scores.sum())
            raw = {site: grad_cam(recorder.activations[site], gradients[site]) for site in sites}
        return Computed(raw, targets, logits.detach(), scores.detach(), {site: {} for site in sites})


@dataclass(frozen=True)
class ScoreCAM:
    """Options of Score-CAM (Wang 2020); see `torchcam_suite.cam.score.score_cam`.

    Attributes
    ----------
    variant : {"official", "paper", "logit", "keep-learning"}
        Which of the definitions in use.
    of : {"logit", "probability"}, optional
        What a masked image is scored by; by default as the variant has it.
    chunk_size : int or "auto"
        Masked images in one forward pass; "auto" halves where memory runs out.
    relu, normalize : str, optional
        As for Grad-CAM; by default as the variant has it.
    interpolation : {"bilinear", "nearest"}
        How the map is brought to the size of the image.
    """

    variant: str = "official"
    of: Of | None = None
    chunk_size: int | Literal["auto"] = "auto"
    relu: Relu | None = None
    normalize: Scale | None = None
    interpolation: Interpolation = "bilinear"

    name: ClassVar[str] = "scorecam"
    title: ClassVar[str] = "Score-CAM"
    summary: ClassVar[str] = "channels weighted by the score of the image that they mask; one forward a channel"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(
                f"Score-CAM variant {self.variant!r} does not exist; expected one of {', '.join(VARIANTS)}"
            )
        rules = VARIANTS[self.variant]
        # resolved here, so that a saved explanation says what was done
        object.__setattr__(self, "of", self.of or rules.of)
        object.__setattr__(self, "relu", self.relu or rules.relu)
        object.__setattr__(self, "normalize", self.normalize or rules.normalize)
        _require_choices(self, of=Of, relu=Relu, normalize=Scale, interpolation=Interpolation)

    def compute(
        self, model: Classifier, images: Tensor, sites: Sequence[Site], target: Target, progress: Progress | None
    ) -> Computed:
        """Compute the raw maps of all sites: one recorded pass, then one forward pass a channel."""
        of: Of = self.of or VARIANTS[self.variant].of
        # scored inside the block, where the module is in eval mode; hooks are only on it while `run` runs
        with Recorder(model.module, sites) as recorder:
            logits = recorder.run(model.logits, images)
            targets = resolve(target, logits, model.class_names)

            def score(masked: Tensor, owner: Tensor | None = None) -> Tensor:
                return targets.score(model.logits(masked), model.to_probabilities, of, owner)

            found = {
                site: score_cam(
                    recorder.activations[site],
                    images,
                    score,
                    variant=self.variant,
                    chunk_size=self.chunk_size,
                    progress=progress,
                )
                for site in sites
            }
        scores = targets.score(logits, model.to_probabilities, of)
        details = {
            site: {"chunk_size": one.chunk_size, "channels_skipped": int(one.skipped.sum())}
            for site, one in found.items()
        }
        return Computed({site: one.raw for site, one in found.items()}, targets, logits, scores, details)


def _require_choices(method: Any, **choices: Any) -> None:
    for option, known in choices.items():
        given = getattr(method, option)
        if given not in get_args(known):
            raise ValueError(f"{method.name}: {option}={given!r}; expected one of {', '.join(get_args(known))}")


Method = GradCAM | ScoreCAM
METHODS: dict[str, type[GradCAM] | type[ScoreCAM]] = {method.name: method for method in (GradCAM, ScoreCAM)}


def make_method(name: str, options: dict[str, Any]) -> Method:
    """Look a method up and give it its options.

    Raises
    ------
    ValueError
        An unknown method, an option that it does not have, or a value that the option does not take.
    """
    if name not in METHODS:
        near = get_close_matches(name.lower().replace("-", ""), METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"method {name!r} does not exist; {hint}expected one of {', '.join(METHODS)}")
    known = [field.name for field in fields(METHODS[name])]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    return METHODS[name](**options)
