"""Run a method on a batch: record what it takes, answer what it asks."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from torchcam_suite.cam.method import Chosen, Raw
from torchcam_suite.cam.requests import Gradient, Record, Request, ScoreFeatures, ScoreInputs, Steps
from torchcam_suite.cam.scoring import Classifier, Progress, score_features, score_inputs
from torchcam_suite.errors import TargetError
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
    sites: Sequence[Site],
    target: Target,
    progress: Progress | None = None,
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
    sites : sequence of Site
        The layers, or `INPUT` alone for a method that takes none.
    target : as for `torchcam_suite.explain`
        What is explained of each image.
    progress : function, optional
        ``progress(done, total)`` in forward passes of one input.

    Raises
    ------
    LayerError, GradientError, TargetError
        The layer or the target does not fit the model or the method.
    """
    differentiated = chosen.method.cost in ("one backward", "several backwards")
    with Recorder(model.module, _recorded_sites(chosen, sites), gradients=differentiated) as recorder:
        run = _Run(chosen, model, images, recorder, progress)
        logits = recorder.run(model.logits, images)
        run.logits, run.targets = logits, resolve(target, logits.detach(), model.class_names)
        found = run.method_at_all(sites)
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
    recorder: Recorder
    progress: Progress | None
    logits: Tensor = field(init=False)
    targets: Targets = field(init=False)
    chunk_size: int | None = None
    _gradients: dict[Site, Tensor] | None = None

    def method_at_all(self, sites: Sequence[Site]) -> dict[Site, Tensor | Raw]:
        """What the method gives at each site; the generators of all sites go step by step together."""
        function, takes = self.chosen.method.function, self.chosen.method.takes
        found: dict[Site, Any] = {
            site: function(*(self._recorded(name, site) for name in takes), **self.chosen.own) for site in sites
        }
        if not inspect.isgeneratorfunction(function):
            return found
        steps: dict[Site, Steps] = found
        results: dict[Site, Tensor | Raw] = {}
        answers: dict[Site, Any] = dict.fromkeys(steps)  # None starts a generator
        while len(results) < len(steps):
            asked: dict[Site, Request] = {}
            for site, answer in answers.items():
                try:
                    asked[site] = steps[site].send(answer)
                except StopIteration as end:
                    results[site] = end.value
            answers = self._answers(asked)
        return {site: results[site] for site in sites}

    def _recorded(self, name: str, site: Site) -> Any:
        """One entry of `RECORDED`."""
        if name == "activations":
            return self.recorder.activations[site]
        if name == "gradients":
            return self._gradients_of_score()[site]
        if name == "input_gradient":
            return self._gradients_of_score()[INPUT]
        if name == "images":
            return self.images
        if name == "logits":
            return self.logits.detach()
        if name == "classes":
            return self._classes()
        raise NotImplementedError(name)

    def _gradients_of_score(self) -> dict[Site, Tensor]:
        if self._gradients is None:
            score = self.targets.score(self.logits, self.model.to_probabilities, self.chosen.of).sum()
            again = inspect.isgeneratorfunction(self.chosen.method.function)
            self._gradients = self.recorder.gradients(score, retain_graph=again)
        return self._gradients

    def _classes(self) -> Tensor:
        if self.targets.classes is None:
            raise TargetError(f"{self.chosen.method.name} compares classes, so its target is a class, not a function")
        return self.targets.classes

    def _answers(self, asked: Mapping[Site, Request]) -> dict[Site, Any]:
        """Answer the requests of all sites; what they ask alike is done once."""
        answers: dict[Site, Any] = {}
        inputs = {site: request for site, request in asked.items() if isinstance(request, ScoreInputs)}
        if inputs:
            scores, self.chunk_size = score_inputs(
                list(inputs.values()), self._score_inputs, chunk_size=self.chosen.chunk_size, progress=self.progress
            )
            answers |= dict(zip(inputs, scores, strict=True))
        for request in dict.fromkeys(asked.values()):
            sites = [site for site, one in asked.items() if one == request]
            if isinstance(request, ScoreFeatures):
                answers[sites[0]] = self._score_features(sites[0], request)
            elif isinstance(request, Gradient):
                score = request.objective(self.logits, self._classes()).sum()
                gradients = self.recorder.gradients(score, retain_graph=True)
                answers |= {site: gradients[site] for site in sites}
            elif isinstance(request, Record):
                answers |= self._record(request, sites)
        return answers

    def _score_inputs(self, inputs: Tensor, owner: Tensor) -> Tensor:
        # hooks are on the module only while the recorder runs it
        return self._score(self.model.logits(inputs), owner)

    def _score_features(self, site: Site, request: ScoreFeatures) -> Tensor:
        scores, self.chunk_size = score_features(
            self.model,
            site,
            request,
            self.images,
            self.recorder.activations[site],
            self._score,
            chunk_size=self.chosen.chunk_size,
            progress=self.progress,
        )
        return scores[0]

    def _score(self, logits: Tensor, owner: Tensor) -> Tensor:
        return self.targets.score(logits, self.model.to_probabilities, self.chosen.of, owner)

    def _record(self, request: Record, sites: Sequence[Site]) -> dict[Site, tuple[Tensor, Tensor]]:
        with Recorder(self.model.module, sites, gradients=True) as recorder:
            logits = recorder.run(self.model.logits, request.change(self.images))
            score = self.targets.score(logits, self.model.to_probabilities, self.chosen.of)
            gradients = recorder.gradients(score.sum())
        return {site: (recorder.activations[site], gradients[site]) for site in sites}


def _recorded_sites(chosen: Chosen, sites: Sequence[Site]) -> list[Site]:
    """What has to be recorded: the layers, if the method takes one, and the input for a gradient there."""
    layers = sites if chosen.method.takes_layer else ()
    return [*layers, *([INPUT] if "input_gradient" in chosen.method.takes else ())]
