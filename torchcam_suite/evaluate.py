"""Evaluate a classifier on labelled pictures."""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torchcam_suite.cam import make_method
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.errors import AssumptionWarning, ImageError, SourceError, TorchcamError
from torchcam_suite.evaluation.class_labels import ClassLabels, match_labels, unknown_text
from torchcam_suite.evaluation.mistakes import Mistake, explain_mistakes, find_mistakes
from torchcam_suite.evaluation.result import Data, EvaluationResult
from torchcam_suite.evaluation.scores import Head, Scores
from torchcam_suite.labelled_images import LabelledImages, labelled_images
from torchcam_suite.metrics.calibration import Binning, reliability
from torchcam_suite.metrics.classification import Integers
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.provenance import about_model, versions_on
from torchcam_suite.recorder import Recorder
from torchcam_suite.streaming import Unreadable, stream

NOT_FINITE = "the model answers it with NaN or infinity"


def evaluate(
    model: Model,
    images: str | Path | LabelledImages,
    *,
    threshold: float | None = None,
    mistakes: int = 12,
    method: str = "gradcam",
    layer: str | None = None,
    bins: int = 15,
    binning: Binning = "equal width",
    strict: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | Progress = False,
) -> EvaluationResult:
    """Tell how well a classifier does on labelled pictures.

    Parameters
    ----------
    model : Model
        From `load`; its head has to give probabilities.
    images : path or LabelledImages
        A folder of class folders, or a CSV file of paths and labels; `torchcam_suite.labelled_images` has the rules,
        and options for CSV files. Labels are the model's class names, or class numbers; if the model has no class
        names, labels in sorted order may stand for the classes, which the result says.
    threshold : float, optional
        For two classes: class 1 is predicted where its probability is at least that; default 0.5.
    mistakes : int
        How many of the most confident mistakes are kept.
    method : str
        Of the heat maps of the mistakes, as for `explain`: one for the predicted class, one for the true one.
    layer : str, optional
        Where they are made; default `model.default_layer`.
    bins : int
        Of the calibration error.
    binning : {"equal width", "equal count"}
        How they are laid.
    strict : bool
        Whether a broken picture, an unknown label or a NaN is an error. Otherwise such pictures are left out, counted
        and listed.
    batch_size : int
        Pictures in one forward pass.
    workers : int, optional
        Processes that decode pictures, as for `torchcam_suite.streaming.stream`.
    progress : bool or function
        True shows a bar on stderr; a function is called as ``progress(done, total)`` in pictures.

    Returns
    -------
    EvaluationResult
        Prints as a table. What is not defined, as the AUC of a class without images, is NaN and has a note.

    Raises
    ------
    SourceError
        There are no labelled pictures, or their labels are not the model's classes.
    HeadError
        The model's output is not known to be logits.
    ImageError
        No picture can be read, or with `strict` one cannot.
    ValueError
        An option out of range.
    """
    if not isinstance(model, Model):
        raise SourceError(f"evaluate takes a Model, not a {type(model).__name__}; open it first: load(...)")
    _check(model, mistakes, method, layer, bins, binning)
    data = images if isinstance(images, LabelledImages) else labelled_images(images)
    outputs = _outputs(model)
    classes = match_labels(data.labels, max(2, outputs), model.class_names, folders=data.kind == "folder")

    def score(labels: Integers, logits: npt.NDArray[np.floating]) -> Scores:
        head: Head = "sigmoid" if model.head == "sigmoid" else "softmax"
        return Scores(labels, logits, head, classes.class_names, threshold, bins, binning)

    score(np.empty(0, np.int64), np.empty((0, outputs)))  # a wrong threshold is told before the work, not after
    _tell(data, classes, strict)
    with reporting("evaluate", progress) as report:
        answers = _answers(model, data, classes, outputs, strict, batch_size, workers, report)
    scores = score(answers.labels, answers.logits)
    found = find_mistakes(model, scores, answers.paths, mistakes)
    found, heat_maps, reason = _explained(model, scores, found, method, layer, batch_size)
    return EvaluationResult(
        scores=scores,
        paths=answers.paths,
        data=_described(data, classes, answers.unreadable),
        mistakes=found,
        heat_maps=heat_maps,
        notes=(*_notes(data, classes, answers.unreadable), *scores.notes, *reason),
        model=about_model(model),
        versions=versions_on(model.device),
    )


class _Answers(NamedTuple):
    """What the model says to the pictures that count."""

    paths: tuple[str, ...]
    labels: Integers
    logits: npt.NDArray[np.floating]
    unreadable: tuple[Unreadable, ...]


def _check(model: Model, mistakes: int, method: str, layer: str | None, bins: int, binning: Binning) -> None:
    """Tell of a wrong option before the work, not after."""
    if mistakes < 0:
        raise ValueError(f"mistakes={mistakes}; expected 0 or more")
    make_method(method, {})
    if layer is not None:
        model.layers.site(layer)
    reliability([], np.zeros(0, bool), bins=bins, binning=binning)


def _outputs(model: Model) -> int:
    """How many there are; a head without probabilities is refused."""
    with Recorder(model.module):
        logits = model.logits(model.prepare(torch.zeros(1, *model.input, device="cpu")))
    return model.to_probabilities(logits).shape[1]


def _answers(
    model: Model,
    data: LabelledImages,
    classes: ClassLabels,
    outputs: int,
    strict: bool,
    batch_size: int,
    workers: int | None,
    report: Progress | None,
) -> _Answers:
    known = [(str(path), classes.indices[label]) for path, label in data if label in classes.indices]
    if not known:
        raise SourceError(f"no picture of {data.source} has a label that is a class: {_unknown(data, classes)}")
    paths, labels = [path for path, _ in known], np.array([label for _, label in known], np.int64)
    dtype = (
        np.float64 if model.prepare(torch.zeros(1, *model.input, device="cpu")).dtype == torch.float64 else np.float32
    )
    logits, unreadable = np.full((len(paths), outputs), np.nan, dtype), list[Unreadable]()
    on_error: Literal["raise", "skip"] = "raise" if strict else "skip"
    batches = stream(model, paths, batch_size=batch_size, workers=workers, on_error=on_error, unreadable=unreadable)
    with Recorder(model.module):
        for batch in batches:
            logits[list(batch.positions)] = model.logits(batch.images).to(torch.float64).cpu().numpy()
            if report is not None:
                report(batch.positions[-1] + 1, len(paths))
    finite = np.isfinite(logits).all(axis=1)
    unreadable += _not_finite(paths, finite, {item.path for item in unreadable}, strict)
    if not finite.any():
        first = f"; the first: {unreadable[0].reason}" if unreadable else ""
        raise ImageError(f"none of {len(paths)} pictures of {data.source} can be evaluated{first}")
    kept = np.flatnonzero(finite)
    return _Answers(tuple(paths[row] for row in kept), labels[kept], logits[kept], tuple(unreadable))


def _not_finite(paths: list[str], finite: npt.NDArray[np.bool_], known: set[str], strict: bool) -> list[Unreadable]:
    found = [paths[row] for row in np.flatnonzero(~finite) if paths[row] not in known]
    if found and strict:
        raise ImageError(f"{found[0]}: {NOT_FINITE}; check the weights and the preprocessing")
    return [Unreadable(path, NOT_FINITE) for path in found]


def _explained(
    model: Model, scores: Scores, found: tuple[Mistake, ...], method: str, layer: str | None, batch_size: int
) -> tuple[tuple[Mistake, ...], dict[str, str] | None, tuple[str, ...]]:
    """The mistakes with heat maps, how these were made, and a note where the model does not allow them."""
    if not found:
        return (), None, ()
    try:
        explained, at = explain_mistakes(model, scores, found, method, layer, batch_size)
    except TorchcamError as error:  # the figures are worth having without pictures
        return found, None, (f"no heat maps of the mistakes: {error}",)
    return explained, {"method": method, "layer": at}, ()


def _tell(data: LabelledImages, classes: ClassLabels, strict: bool) -> None:
    """Warn of what the data leave open."""
    unknown = _unknown(data, classes)
    if unknown and strict:
        raise SourceError(unknown)
    for text in _assumptions(data, classes):
        warnings.warn(text, AssumptionWarning, stacklevel=3)


def _assumptions(data: LabelledImages, classes: ClassLabels) -> list[str]:
    unknown = _unknown(data, classes)
    return [text for text in (classes.assumption, unknown and f"left out: {unknown}") if text]


def _unknown(data: LabelledImages, classes: ClassLabels) -> str:
    """The unknown labels that have pictures, as a sentence; empty where there are none."""
    labels = [label for label in classes.unknown if data.counts[label]]
    return unknown_text(labels, classes.class_names, data.counts) if labels else ""


def _notes(data: LabelledImages, classes: ClassLabels, unreadable: tuple[Unreadable, ...]) -> list[str]:
    notes = _assumptions(data, classes)
    if unreadable:
        more = f", and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        listed = "; ".join(
            f"{item.path}: {item.reason}" if item.path not in item.reason else item.reason for item in unreadable[:3]
        )
        notes.append(f"left out, could not be scored: {len(unreadable)} of {len(data)} pictures: {listed}{more}")
    if data.ignored:
        notes.append(f"passed over: {data.ignored} files that are no pictures, or in no class folder")
    return notes


def _described(data: LabelledImages, classes: ClassLabels, unreadable: tuple[Unreadable, ...]) -> Data:
    return Data(
        source=str(data.source),
        kind=data.kind,
        rule=classes.rule,
        assumption=classes.assumption,
        counts=data.counts,
        unknown=classes.unknown,
        unreadable=unreadable,
        ignored=data.ignored,
    )
