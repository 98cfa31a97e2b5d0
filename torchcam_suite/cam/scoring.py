"""Many forward passes: one queue of all inputs that are to be scored, cut into chunks."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from torchcam_suite.cam.requests import ScoreFeatures, ScoreInputs
from torchcam_suite.recorder import Recorder, Site

Progress = Callable[[int, int], None]

# On 2 CPU cores 8 inputs are the fastest (32 take 1.3 to 1.5 times as long an input, ResNet-18 and a small CNN):
# larger chunks leave the caches. A GPU needs a few hundred to be busy; where memory is too small, "auto" halves.
_CHUNK_ON_CPU, _CHUNK_ON_ACCELERATOR = 8, 256
# Where feature maps are replaced, the layers below run once a chunk: 64 instead of 8 made Ablation-CAM at layer4 and
# layer3 of ResNet-18 5 and 1.5 times as fast, and cost nothing at layer2. Shallow layers would fill the memory.
CHUNK_OF_FEATURES_ON_CPU = 64
_FEATURE_BYTES_ON_CPU = 64 * 2**20
_NO_ROOM_ON_GPU = "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"


class Classifier(Protocol):
    """What the engine and the scoring need of a model."""

    module: torch.nn.Module
    class_names: list[str] | None

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        ...

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """(N, classes) -> (N, classes)."""
        ...


class Scored(NamedTuple):
    """Answers to requests.

    Attributes
    ----------
    scores : list of Tensor
        (M,) each, float32 or wider, one a request.
    chunk_size : int
        The number of inputs in one forward pass: the given one, or what "auto" came to.
    """

    scores: list[Tensor]
    chunk_size: int


def score_inputs(
    requests: Sequence[ScoreInputs],
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    chunk_size: int | Literal["auto"] = "auto",
    first: int | None = None,
    fixed_shape: bool = False,
    progress: Progress | None = None,
) -> Scored:
    """Score the inputs of all requests as one queue.

    Parameters
    ----------
    requests : sequence of ScoreInputs
        What is built, chunk by chunk.
    score : function
        ``score(inputs, owner)`` with inputs (m, c, H, W) and owner (m,) long returns (m,): the score of the target of
        image ``owner[i]`` for each input. It runs in `torch.inference_mode`.
    chunk_size : int or "auto"
        Inputs in one forward pass; results do not depend on it beyond rounding. "auto" starts with 8 on a CPU and 256
        on an accelerator, and halves whenever memory runs out.
    first : int, optional
        What "auto" starts with instead.
    fixed_shape : bool
        Whether every chunk has the same shape, as compiled code wants it: smaller ones are filled up with zeros, for
        which `owner` is that of the last input, and their scores are dropped.
    progress : function, optional
        ``progress(done, total)`` after each chunk, in forward passes of one input.

    Raises
    ------
    ValueError
        A chunk size below 1, or scores of another shape.
    torch.OutOfMemoryError
        A chunk of the given size, or with "auto" a single input, does not fit into memory.
    """
    counts = [len(request.owner) for request in requests]
    owner = torch.cat([request.owner for request in requests])
    chunks = _Chunks(chunk_size, owner.device, len(owner), progress, first)

    def score_part(start: int, end: int) -> Tensor:
        inputs, whose = _build(requests, counts, start, end), owner[start:end]
        if not fixed_shape:
            return score(inputs, whose)
        missing = chunks.size - len(inputs)
        blank, last = inputs.new_zeros(missing, *inputs.shape[1:]), whose[-1:].expand(missing)
        return score(torch.cat([inputs, blank]), torch.cat([whose, last]))[: end - start]

    return Scored(list(chunks.scores(len(owner), score_part).split(counts)), chunks.size)


def score_features(
    model: Classifier,
    site: Site,
    request: ScoreFeatures,
    images: Tensor,
    activations: Tensor,
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    chunk_size: int | Literal["auto"] = "auto",
    first: int | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score replaced feature maps.

    The layers below the site are run for one image only, and its other branches are broadcast, where the model allows
    it: that is tried with the image's own feature maps, whose logits are known.

    Parameters
    ----------
    model : Classifier
        What is explained.
    site : Site
        Whose output is replaced.
    request : ScoreFeatures
        By what.
    images, activations : Tensor
        The batch, and what the site gives for it.
    score : function
        ``score(logits, owner)``: logits (m, classes) to scores (m,).
    chunk_size, first, progress
        As for `score_inputs`; a chunk has feature maps of one image. On a CPU "auto" starts with up to 64 where the
        layers below run for one image only.
    """
    owner = request.owner
    replaced: Tensor

    # A copy: an in-place operation after the layer would alter what was recorded, or fail on an inference tensor.
    with Recorder(model.module, replace={site: lambda _: replaced.clone()}) as recorder:

        def logits_of(image: Tensor, features: Tensor) -> Tensor:
            nonlocal replaced
            replaced = features
            return recorder.run(model.logits, image)

        broadcast = _broadcasts(logits_of, images[:1], activations[:1])
        first = _first_of_features(first, activations, broadcast)
        chunks = _Chunks(chunk_size, owner.device, len(owner), progress, first)
        found = [torch.zeros(0, device=owner.device, dtype=torch.float32)]
        numbers, counts = (part.tolist() for part in owner.unique_consecutive(return_counts=True))
        starts = accumulate(counts, initial=0)
        for number, begin, count in zip(numbers, starts, counts, strict=False):
            image = images[number : number + 1]

            def score_part(start: int, end: int, begin: int = begin, image: Tensor = image) -> Tensor:
                features = request.build(torch.arange(begin + start, begin + end, device=owner.device))
                whole = image if broadcast else image.expand(end - start, *image.shape[1:])
                return score(logits_of(whole, features), owner[begin + start : begin + end])

            found.append(chunks.scores(count, score_part))
    return Scored([torch.cat(found)], chunks.size)


def _broadcasts(logits_of: Callable[[Tensor, Tensor], Tensor], image: Tensor, activations: Tensor) -> bool:
    """Whether two feature maps may be put in the place of one: each has to give what it gives alone."""
    features = torch.cat([activations, torch.zeros_like(activations)])
    with torch.inference_mode():
        alone = torch.cat([logits_of(image, one) for one in features.split(1)])
        try:
            together = logits_of(image, features)
        except Exception:  # whatever a model says of a batch that changes half-way, it is run the plain way then
            return False
    return together.shape == alone.shape and bool((together - alone).abs().max() <= 1e-3 * alone.abs().max())


def _first_of_features(first: int | None, activations: Tensor, broadcast: bool) -> int | None:
    """What "auto" starts with: no more than `first`, and on a CPU no more than pays and fits."""
    if activations.device.type != "cpu":
        return first
    fit = _FEATURE_BYTES_ON_CPU // (activations[0].numel() * activations.element_size())
    most = max(_CHUNK_ON_CPU, min(CHUNK_OF_FEATURES_ON_CPU, fit)) if broadcast else _CHUNK_ON_CPU
    return most if first is None else min(first, most)


class _Chunks:
    """Cut work into even chunks, smaller ones where memory runs out."""

    def __init__(
        self,
        size: int | Literal["auto"],
        device: torch.device,
        total: int,
        progress: Progress | None,
        first: int | None = None,
    ) -> None:
        self.size = first if size == "auto" and first is not None else first_chunk_size(size, device)
        self._adapt = size == "auto"
        self._device = device
        self._total = total
        self._done = 0
        self._progress = progress

    def scores(self, count: int, score_part: Callable[[int, int], Tensor]) -> Tensor:
        """(count,), of `score_part(start, end)` in inference mode."""
        scores = torch.zeros(count, device=self._device, dtype=torch.float32)
        done = 0
        while done < count:
            step = _even_step(count - done, self.size)
            try:
                with torch.inference_mode():
                    part = _require_scores(score_part(done, done + step), step)
            except RuntimeError as error:
                if not (self._adapt and step > 1 and is_out_of_memory(error)):
                    raise
                self.size = step // 2
                continue
            if done == 0:
                # made outside inference mode, so that the caller gets ordinary tensors
                scores = scores.to(torch.promote_types(part.dtype, torch.float32))
            scores[done : done + step] = part
            done += step
            self._done += step
            if self._progress is not None:
                self._progress(self._done, self._total)
        return scores


def _build(requests: Sequence[ScoreInputs], counts: Sequence[int], start: int, end: int) -> Tensor:
    """The inputs `start` to `end` of the queue; a chunk may reach over several requests."""
    parts, first = [], 0
    for request, count in zip(requests, counts, strict=True):
        here = range(max(start - first, 0), min(end - first, count))
        if here:
            parts.append(request.build(torch.arange(here.start, here.stop, device=request.owner.device)))
        first += count
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def first_chunk_size(chunk_size: int | str, device: torch.device) -> int:
    """The chunk size to begin with."""
    if chunk_size == "auto":
        return _CHUNK_ON_CPU if device.type == "cpu" else _CHUNK_ON_ACCELERATOR
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size!r}; expected a whole number of at least 1, or 'auto'")
    return chunk_size


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out."""
    # The CPU's allocator, and libraries of the GPU that find no room beside torch's memory, raise a plain RuntimeError;
    # only its text tells what happened.
    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or ("DefaultCPUAllocator" in text and ("can't allocate memory" in text or "not enough memory" in text))
        or any(said in text for said in _NO_ROOM_ON_GPU)
    )


def _even_step(remaining: int, size: int) -> int:
    """Cut what remains into equal chunks of at most `size`: no small, inefficient chunk at the end."""
    chunks = -(-remaining // size)
    return -(-remaining // chunks)


def _require_scores(scores: Tensor, count: int) -> Tensor:
    if scores.shape != (count,):
        raise ValueError(
            f"the score function gave shape {tuple(scores.shape)} for {count} inputs; expected ({count},): one score "
            "each"
        )
    return scores
