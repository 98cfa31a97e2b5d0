"""Run a method on a batch: record what it takes, answer what it asks."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from torchcam_suite.cam.biases import spatial_biases
from torchcam_suite.cam.guided_relu import GuidedReLU
from torchcam_suite.cam.method import Chosen, Raw
from torchcam_suite.cam.passes import Passes, recorded_exactly
from torchcam_suite.cam.requests import Gradient, Record, Request, ScoreFeatures, ScoreInputs, Steps
from torchcam_suite.cam.scoring import Classifier, Progress
from torchcam_suite.errors import LayerError, TargetError
from torchcam_suite.grids import Layout
from torchcam_suite.recorder import INPUT, Recorder, Site
from torchcam_suite.targets import Target, Targets, resolve


class Computed(NamedTuple):
    """Raw maps of a batch.

    Attributes
    ----------
    raw : dict of Site to Tensor
        (N, h, w) each, signed.
    targets : Targets
        What was explained.
    logits : Tensor
        (N, classes) of the images.
    scores : Tensor
        (N,), the value that was explained.
    counts : dict of Site to dict
        What the method counted at a layer, of this batch.
    chunk_size : int or None
        Inputs in one of many forward passes, where there were any.
    """

    raw: dict[Site, Tensor]
    targets: Targets
    logits: Tensor
    scores: Tensor
    counts: dict[Site, dict[str, int]]
    chunk_size: int | None


def compute(
    chosen: Chosen,
    model: Classifier,
    images: Tensor,
    sites: Mapping[Site, str],
    target: Target,
    progress: Progress | None = None,
    layouts: Mapping[Site, Layout] | None = None,
) -> Computed:
    """Compute the raw maps of a batch at all sites together.

    Parameters
    ----------
    chosen : Chosen
        The method and its options.
    model : Classifier
        What is explained.
    images : Tensor
        (N, c, H, W).
    sites : mapping of Site to str
        The layers and their names, or `INPUT` alone for a method that takes none.
    target : as for `torchcam_suite.explain`
        What is explained of each image.
    progress : function, optional
        ``progress(done, total)`` in forward passes of one input.
    layouts : mapping of Site to Layout, optional
        How the output of a layer is feature maps, where it is no (N, C, h, w).

    Raises
    ------
    LayerError, GradientError, TargetError
        The layer or the target does not fit the model or the method.
    """
    differentiated = chosen.method.cost in ("one backward", "several backwards") or "gradients" in chosen.method.takes
    biases = spatial_biases(model.module, images, model.logits) if "bias_gradients" in chosen.method.takes else {}
    recorder = Recorder(model.module, [*_recorded_sites(chosen, sites), *biases], gradients=differentiated)
    with recorded_exactly(chosen, images), recorder:
        run = _Run(chosen, model, images, sites, recorder, progress, layouts or {}, biases)
        logits = recorder.run(model.logits, images)
        run.logits, run.targets = logits, resolve(target, logits.detach(), model.class_names)
        found = run.method_at_all()
    scores = run.targets.score(logits.detach(), model.to_probabilities, chosen.of)
    raw = {site: result if isinstance(result, Tensor) else result.raw for site, result in found.items()}
    counts = {site: {} if isinstance(result, Tensor) else result.counts for site, result in found.items()}
    return Computed(raw, run.targets, logits.detach(), scores, counts, run.chunk_size)


@dataclass
class _Run:
    """One batch: what was recorded of it, and the answers to what methods ask."""

    chosen: Chosen
    model: Classifier
    images: Tensor
    sites: Mapping[Site, str]
    recorder: Recorder
    progress: Progress | None
    layouts: Mapping[Site, Layout]
    biases: Mapping[Site, Tensor]
    logits: Tensor = field(init=False)
    targets: Targets = field(init=False)
    chunk_size: int | None = None
    _gradients: dict[Site, Tensor] | None = None
    _guided: Tensor | None = None

    def method_at_all(self) -> dict[Site, Tensor | Raw]:
        """What the method gives at each site; the generators of all sites go step by step together."""
        found: dict[Site, Any] = {site: self._method_at(site) for site in self.sites}
        if not inspect.isgeneratorfunction(self.chosen.method.function):
            return found
        steps: dict[Site, Steps] = found
        results: dict[Site, Tensor | Raw] = {}
        answers: dict[Site, Any] = dict.fromkeys(steps)  # None starts a generator
        while len(results) < len(steps):
            asked: dict[Site, Request] = {}
            for site, answer in answers.items():
                with self._named(site):
                    try:
                        asked[site] = steps[site].send(answer)
                    except StopIteration as end:
                        results[site] = end.value
            answers = self._answers(asked)
        return {site: results[site] for site in self.sites}

    def _method_at(self, site: Site) -> Any:
        recorded = [self._recorded(name, site) for name in self.chosen.method.takes]
        with self._named(site):
            return self.chosen.method.function(*recorded, **self.chosen.own)

    @contextmanager
    def _named(self, site: Site) -> Iterator[None]:
        """Let what a method says against a layer begin with the layer's name, which the method does not know."""
        try:
            yield
        except LayerError as error:
            if site == INPUT:
                raise
            raise LayerError(f"layer {self.sites[site]!r}: {error}") from error

    def _recorded(self, name: str, site: Site) -> Any:
        """One entry of `RECORDED`."""
        if name == "activations":
            return self._require_an_image_each(self._maps(site, self.recorder.activations[site]))
        if name == "gradients":
            return self._maps(site, self._gradients_of_score()[site])
        if name == "input_gradient":
            return self._gradients_of_score()[INPUT]
        if name == "bias_gradients":
            gradients = self._gradients_of_score()
            # a branch that the score does not depend on has none
            return [gradients[place] * bias for place, bias in self.biases.items() if place in gradients]
        if name == "guided_gradient":
            return self._guided_gradient()
        if name == "images":
            return self.images
        raise AssertionError(f"{name!r} is in RECORDED, but the engine does not give it")

    def _maps(self, site: Site, output: Tensor) -> Tensor:
        """What a site gave, or a gradient there, as feature maps."""
        layout = self.layouts.get(site)
        return output if layout is None else layout.maps(output)

    def _require_an_image_each(self, maps: Tensor) -> Tensor:
        if len(maps) != len(self.images):
            raise LayerError(
                f"the layer gives {len(maps)} outputs for {len(self.images)} images, as where windows are put into the "
                "batch; choose another layer, or give reshape=, a function that makes feature maps (N, C, h, w) of them"
            )
        return maps

    def _gradients_of_score(self) -> dict[Site, Tensor]:
        if self._gradients is None:
            # where many forward passes are scored by a probability, that is no reason to differentiate a saturated one
            of = "logit" if self.chosen.method.cost == "many forwards" else self.chosen.of
            score = self.targets.score(self.logits, self.model.to_probabilities, of).sum()
            again = inspect.isgeneratorfunction(self.chosen.method.function)
            self._gradients = self.recorder.gradients(score, retain_graph=again, optional=self.biases)
        return self._gradients

    def _guided_gradient(self) -> Tensor:
        if self._guided is None:
            with Recorder(self.model.module, [INPUT], gradients=True) as recorder:
                with GuidedReLU() as guided:
                    logits = recorder.run(self.model.logits, self.images)
                # without any graph, it is that which is told
                if not guided.guided and (logits.requires_grad or not guided.count):
                    where = " between its input and the score" if guided.count else ""
                    raise LayerError(
                        f"{self.chosen.method.name} changes the gradient of ReLUs, but this model calls none that can "
                        f"be seen{where}, so that nothing would be guided; use a method without it, as 'gradcam' or "
                        "'layercam'"
                    )
                score = self.targets.score(logits, self.model.to_probabilities, self.chosen.of)
                self._guided = recorder.gradients(score.sum())[INPUT]
        return self._guided

    def _classes(self) -> Tensor:
        if self.targets.classes is None:
            raise TargetError(f"{self.chosen.method.name} compares classes, so its target is a class, not a function")
        return self.targets.classes

    def _require_logits(self) -> None:
        if self.chosen.of != "logit":
            raise ValueError(
                f"{self.chosen.method.name} compares logits, so of={self.chosen.of!r} does not apply; leave it out"
            )

    def _answers(self, asked: Mapping[Site, Request]) -> dict[Site, Any]:
        """Answer the requests of all sites; what they ask alike is done once."""
        answers: dict[Site, Any] = {}
        inputs = {site: request for site, request in asked.items() if isinstance(request, ScoreInputs)}
        if inputs:
            scores, self.chunk_size = self._passes().inputs(list(inputs.values()))
            answers |= dict(zip(inputs, scores, strict=True))
        for request in dict.fromkeys(asked.values()):
            sites = [site for site, one in asked.items() if one == request]
            if isinstance(request, ScoreFeatures):
                answers[sites[0]] = self._score_features(sites[0], request)
            elif isinstance(request, Gradient):
                self._require_logits()
                score = request.objective(self.logits, self._classes()).sum()
                gradients = self.recorder.gradients(score, retain_graph=True)
                answers |= {site: self._maps(site, gradients[site]) for site in sites}
            elif isinstance(request, Record):
                answers |= self._record(request, sites)
        return answers

    def _passes(self) -> Passes:
        # hooks are on the module only while the recorder runs it
        return Passes(self.chosen, self.model, self.images, self.logits.detach(), self._score, self.progress)

    def _score_features(self, site: Site, request: ScoreFeatures) -> Tensor:
        recorded, layout = self.recorder.activations[site], self.layouts.get(site)
        if len(recorded) != len(self.images):
            raise LayerError(
                f"{self.chosen.method.name} replaces feature maps, but layer {site} gives {tuple(recorded.shape)} for "
                f"{len(self.images)} images, which are not along the first axis; choose a method that replaces none, "
                "as 'gradcam', or another layer"
            )
        asked = request if layout is None else _as_outputs(request, layout, recorded)
        scores, self.chunk_size = self._passes().features(site, asked, recorded)
        return scores[0]

    def _score(self, logits: Tensor, owner: Tensor) -> Tensor:
        return self.targets.score(logits, self.model.to_probabilities, self.chosen.of, owner)

    def _record(self, request: Record, sites: Sequence[Site]) -> dict[Site, tuple[Tensor, Tensor]]:
        with Recorder(self.model.module, sites, gradients=True) as recorder:
            logits = recorder.run(self.model.logits, request.change(self.images))
            score = self.targets.score(logits, self.model.to_probabilities, self.chosen.of)
            gradients = recorder.gradients(score.sum())
        return {
            site: (self._maps(site, recorder.activations[site]), self._maps(site, gradients[site])) for site in sites
        }


def _recorded_sites(chosen: Chosen, sites: Iterable[Site]) -> list[Site]:
    """What has to be recorded: the layers, if the method takes one, and the input for a gradient there."""
    layers = sites if chosen.method.takes_layer else ()
    return [*layers, *([INPUT] if "input_gradient" in chosen.method.takes else ())]


def _as_outputs(request: ScoreFeatures, layout: Layout, recorded: Tensor) -> ScoreFeatures:
    """Put the feature maps that are asked for into outputs of the layer, each of its own image."""

    def build(numbers: Tensor) -> Tensor:
        return layout.tokens(request.build(numbers), recorded[request.owner[numbers]])

    return ScoreFeatures(request.owner, build)
