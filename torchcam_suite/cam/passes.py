"""The many forward passes that a method asks for, in the precision and the chunks that were chosen."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchcam_suite.cam.chunk_size import first_guess, for_cpu, remember, remembered
from torchcam_suite.cam.fast_forward import fast_forward
from torchcam_suite.cam.method import Chosen
from torchcam_suite.cam.precision import arithmetic, require_finite, require_precision
from torchcam_suite.cam.requests import ScoreFeatures, ScoreInputs
from torchcam_suite.cam.saliency_map import at_least_float32
from torchcam_suite.cam.scoring import (
    CHUNK_OF_FEATURES_ON_CPU,
    Classifier,
    Progress,
    Scored,
    score_features,
    score_inputs,
)
from torchcam_suite.recorder import Site

Score = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def recorded_exactly(chosen: Chosen, images: Tensor) -> Iterator[None]:
    """Let what many passes are compared with be recorded in full precision, whatever theirs is.

    Raises
    ------
    ValueError
        The device or the model cannot compute in the chosen precision.
    """
    if "precision" not in chosen.method.options:
        yield
        return
    require_precision(chosen.precision, images)
    with arithmetic("float32", images.device):
        yield


@dataclass(frozen=True)
class Passes:
    """The many passes of one batch.

    Attributes
    ----------
    chosen : Chosen
        Says precision, compile and chunk size.
    model : Classifier
        What is explained.
    images, logits : Tensor
        The batch, and what the model gives for it in full precision.
    score : function
        ``score(logits, owner)``: logits (m, classes), float32 or wider, to scores (m,).
    progress : function, optional
        ``progress(done, total)`` in forward passes of one input.
    """

    chosen: Chosen
    model: Classifier
    images: Tensor
    logits: Tensor
    score: Score
    progress: Progress | None = None

    def inputs(self, requests: Sequence[ScoreInputs]) -> Scored:
        """Answer requests as one queue."""
        precision, compiled = self.chosen.precision, self.chosen.compile
        forward = fast_forward(
            self.model,
            self.images,
            self.logits,
            passes=sum(len(request.owner) for request in requests),
            precision=precision,
            compile=compiled,
        )

        def score(inputs: Tensor, owner: Tensor) -> Tensor:
            return self.score(at_least_float32(forward(inputs)), owner)

        return self._run(
            "inputs",
            lambda first: score_inputs(requests, score, fixed_shape=compiled, **self._chunks(first)),
            for_cpu(self.images),
        )

    def features(self, site: Site, request: ScoreFeatures, activations: Tensor) -> Scored:
        """Answer one request; `activations` is what the site gives for the batch."""
        if self.chosen.compile:
            raise ValueError(
                f"{self.chosen.method.name} replaces feature maps inside the model, which torch.compile cannot see; "
                "leave compile out"
            )

        def score(logits: Tensor, owner: Tensor) -> Tensor:
            return self.score(at_least_float32(logits), owner)

        return self._run(
            site,
            lambda first: score_features(
                self.model, site, request, self.images, activations, score, **self._chunks(first)
            ),
            CHUNK_OF_FEATURES_ON_CPU,
        )

    def _chunks(self, first: int) -> dict[str, Any]:
        return {"chunk_size": self.chosen.chunk_size, "first": first, "progress": self.progress}

    def _run(self, what: object, run: Callable[[int], Scored], on_cpu: int) -> Scored:
        key = what, self.images.device, self.images.shape[1:], self.chosen.precision
        first = remembered(self.model.module, key) or first_guess(self.images, on_cpu)
        exactly = "precision" in self.chosen.method.options
        with arithmetic(self.chosen.precision, self.images.device) if exactly else nullcontext():
            scored = run(first)
        if self.chosen.chunk_size == "auto" and scored.chunk_size < first:
            remember(self.model.module, key, scored.chunk_size)
        for scores in scored.scores:
            require_finite(scores, self.chosen.precision)
        return scored
