"""Run a method's generator without a model: what it asks is answered by functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from torchcam_suite.cam.requests import ScoreInputs, Steps
from torchcam_suite.cam.scoring import score_inputs


class Driven(NamedTuple):
    """What a method returned, and the chunk size that its scoring ended with."""

    result: Any
    chunk_size: int


def drive(steps: Steps, score: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Driven:
    """Answer requests of `ScoreInputs` by ``score(inputs, owner)``; options are those of `score_inputs`."""
    answer, chunk_size = None, 0
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as end:
            return Driven(end.value, chunk_size)
        assert isinstance(request, ScoreInputs)
        (answer,), chunk_size = score_inputs([request], score, **options)
