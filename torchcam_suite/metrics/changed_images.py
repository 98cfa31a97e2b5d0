"""The confidence of a model in the target, of images that a metric changed."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from torchcam_suite.cam.requests import ScoreInputs
from torchcam_suite.cam.saliency_map import at_least_float32
from torchcam_suite.cam.scoring import Progress, score_inputs
from torchcam_suite.errors import TargetError
from torchcam_suite.models import Model
from torchcam_suite.recorder import Recorder
from torchcam_suite.targets import Target, Targets, resolve

Answer = Literal["probability", "accuracy"]
ChunkSize = int | Literal["auto"]


class Confidences:
    """A model, the targets of a batch, and the queue that scores changed images.

    Confidence is the probability of the class (of a single-logit head: of the side that is explained), or what a
    function gives as target, which has to lie in [0, 1].

    Parameters
    ----------
    model : Model
        What is explained.
    images : Tensor
        (N, C, H, W), prepared.
    target : as for `torchcam_suite.explain`
        None is the top class of each image.
    chunk_size : int or "auto"
        Images in one forward pass.
    """

    def __init__(self, model: Model, images: Tensor, target: Target = None, *, chunk_size: ChunkSize = "auto") -> None:
        self.images = images
        self._model = model
        self._chunk_size = chunk_size
        logits, self.targets = targets_of(model, images, target)
        self.before = self._confidence(logits, torch.arange(len(images), device=images.device)).double()

    def after(
        self, owner: Tensor, build: Callable[[Tensor], Tensor], progress: Progress | None, of: Answer = "probability"
    ) -> Tensor:
        """Score changed images.

        Parameters
        ----------
        owner : Tensor
            (M,) long, which image each was made of.
        build : function
            Numbers (m,) out of 0 to M - 1 to images (m, C, H, W), one chunk after the other.
        progress : function, optional
            ``progress(done, total)`` in forward passes of one image.
        of : {"probability", "accuracy"}
            The confidence, or 1 where the target is the top class and 0 elsewhere.

        Returns
        -------
        Tensor
            (M,) float64.
        """
        answer = self._confidence if of == "probability" else self._is_top
        with Recorder(self._model.module):
            found = score_inputs(
                [ScoreInputs(owner, build)],
                lambda images, owner: answer(self._model.logits(images), owner),
                chunk_size=self._chunk_size,
                progress=progress,
            )
        return found.scores[0].double()

    def _confidence(self, logits: Tensor, owner: Tensor) -> Tensor:
        found = self.targets.score(at_least_float32(logits), self._model.to_probabilities, "probability", owner)
        if self.targets.function is not None and not bool(((found >= 0) & (found <= 1)).all()):
            raise TargetError(
                f"the target function gave values from {float(found.min()):.3g} to {float(found.max()):.3g}; a figure "
                "of confidence needs values in [0, 1], as lambda logits: logits.softmax(dim=1)[:, 3]"
            )
        return found

    def _is_top(self, logits: Tensor, owner: Tensor) -> Tensor:
        if self.targets.classes is None:
            raise TargetError("accuracy is about a class; with a function as target use of='probability'")
        top = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
        return (top == self.targets.classes[owner]).float()


def targets_of(model: Model, images: Tensor, target: Target) -> tuple[Tensor, Targets]:
    """The logits (N, classes) of prepared images, and what is explained of each."""
    with Recorder(model.module):
        logits = torch.cat([model.logits(part) for part in images.split(32)])
    return logits, resolve(target, logits, model.class_names)


def confidences(model: Model, images: Any, maps: Tensor, target: Target, chunk_size: ChunkSize) -> Confidences:
    """Check that maps fit the images, and open the queue for them.

    Raises
    ------
    ValueError
        Another number or size of maps, or NaN or infinity in them.
    """
    prepared = model.prepare(images)
    expected = (len(prepared), *prepared.shape[2:])
    if tuple(maps.shape) != expected:
        raise ValueError(f"maps of shape {tuple(maps.shape)}; expected {expected}: one at the size of each image")
    if not bool(maps.isfinite().all()):
        raise ValueError("maps with NaN or infinity; expected finite values")
    return Confidences(model, prepared, target, chunk_size=chunk_size)


def black_to_white(model: Model) -> Tensor:
    """How far white is from black in the model's input, (1, C or 1, 1, 1)."""
    example = model.prepare(torch.zeros(1, *model.input, device="cpu"))
    return (255 * model.preprocessing.scale / example.new_tensor(model.preprocessing.std)).view(1, -1, 1, 1)
