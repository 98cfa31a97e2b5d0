"""All figures of a classifier on labelled images, out of its logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from torchcam_suite.metrics.calibration import Binning, Reliability, reliability
from torchcam_suite.metrics.classification import (
    Average,
    ClassScores,
    Floats,
    Integers,
    accuracy,
    class_scores,
    confusion_matrix,
    wilson_interval,
)
from torchcam_suite.metrics.roc import (
    Auc,
    PrecisionRecallCurve,
    RocCurve,
    area_under_roc,
    precision_recall_curve,
    roc_curve,
)

Head = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Labels, logits, and all that follows from them; each figure is computed when it is first asked for.

    Attributes
    ----------
    labels : ndarray of int64
        (N,), the class of each image.
    logits : ndarray
        (N, outputs) as the model gave them; one output is a binary head.
    head : {"softmax", "sigmoid"}
        How logits become probabilities.
    class_names : tuple of str
        One a class; two for a binary head.
    threshold : float or None
        Of two classes: class 1 is predicted where its probability is at least that; 0.5 if it is not given. None for
        more classes, of which the most probable is predicted, the first of those that tie.
    bins : int
        Of the calibration; see `torchcam_suite.metrics.calibration.reliability`.
    binning : {"equal width", "equal count"}
        How they are laid.
    """

    labels: Integers
    logits: npt.NDArray[np.floating]
    head: Head
    class_names: tuple[str, ...]
    threshold: float | None = None
    bins: int = 15
    binning: Binning = "equal width"

    def __post_init__(self) -> None:
        if self.threshold is not None and not (self.is_binary and 0 <= self.threshold <= 1):
            raise ValueError(
                f"threshold={self.threshold} for {len(self.class_names)} classes; it is a probability from 0 to 1, for "
                "a model that decides between two classes"
            )
        if self.is_binary and self.threshold is None:
            object.__setattr__(self, "threshold", 0.5)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes whose probabilities add up to 1: two outputs with sigmoids are none."""
        return len(self.class_names) == 2 and (self.head == "softmax" or self.logits.shape[1] == 1)

    @cached_property
    def probabilities(self) -> Floats:
        """Probability of each class, (N, classes) float64; they add up to 1 unless several outputs are sigmoids."""
        logits = torch.from_numpy(self.logits).double()
        if self.head == "softmax":
            return logits.softmax(dim=1).numpy()
        if logits.shape[1] == 1:
            logits = torch.cat([-logits, logits], dim=1)
        return logits.sigmoid().numpy()

    @cached_property
    def log_odds(self) -> Floats:
        """Logarithm of p / (1 - p) of each class, (N, classes) float64: ordered as p, but never rounded to 0 or 1."""
        return log_odds(self.logits, self.head)

    @cached_property
    def predictions(self) -> Integers:
        """The predicted class of each image, (N,)."""
        if self.threshold is not None:
            return (self.probabilities[:, 1] >= self.threshold).astype(np.int64)
        return self.logits.argmax(axis=1)

    @cached_property
    def confidences(self) -> Floats:
        """The probability of the predicted class, (N,)."""
        return self.probabilities[np.arange(len(self)), self.predictions]

    @cached_property
    def confusion(self) -> Integers:
        """Images by true class (row) and predicted class (column)."""
        return confusion_matrix(self.labels, self.predictions, len(self.class_names))

    @cached_property
    def classes(self) -> ClassScores:
        """Precision, recall, F1 and support of each class."""
        return class_scores(self.confusion)

    @property
    def accuracy(self) -> float:
        """The share of the images whose class was predicted."""
        return accuracy(self.confusion)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Its 95 % interval, by Wilson's score."""
        return wilson_interval(int(np.trace(self.confusion)), len(self))

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall over the classes that have images."""
        return self.macro.recall

    @property
    def macro(self) -> Average:
        """Precision, recall and F1, each class with images counting the same."""
        return self.classes.average("macro")

    @property
    def weighted(self) -> Average:
        """Precision, recall and F1, each class counting as much as it has images."""
        return self.classes.average("weighted")

    @property
    def ranked_classes(self) -> tuple[int, ...]:
        """The classes that have a ROC curve: class 1 of two, because class 0's is its mirror; else every class."""
        return (1,) if self.is_binary else tuple(range(len(self.class_names)))

    @cached_property
    def aucs(self) -> dict[int, Auc]:
        """Area under the ROC curve of each of the `ranked_classes` against the rest."""
        return {index: area_under_roc(self.labels == index, self.log_odds[:, index]) for index in self.ranked_classes}

    @property
    def macro_auc(self) -> float:
        """The mean AUC over the classes that have one; NaN where none has."""
        known = [auc.value for auc in self.aucs.values() if not np.isnan(auc.value)]
        return float(np.mean(known)) if known else float("nan")

    def roc(self, index: int) -> RocCurve:
        """Give the ROC curve of a class against the rest; its thresholds are log-odds."""
        return roc_curve(self.labels == index, self.log_odds[:, index])

    def precision_recall(self, index: int) -> PrecisionRecallCurve:
        """Give the precision-recall curve of a class against the rest; its thresholds are log-odds."""
        return precision_recall_curve(self.labels == index, self.log_odds[:, index])

    @cached_property
    def average_precisions(self) -> dict[int, float]:
        """Area under the precision-recall curve, by steps, of each of the `ranked_classes`."""
        return {index: self.precision_recall(index).average_precision for index in self.ranked_classes}

    @cached_property
    def reliability(self) -> Reliability:
        """Confidence beside accuracy, of the predicted class; its `ece` is the calibration error."""
        return reliability(self.confidences, self.predictions == self.labels, bins=self.bins, binning=self.binning)

    def confusions(self, most: int) -> list[tuple[int, int, int]]:
        """Give the most frequent mistakes: true class, predicted class, number of images."""
        counts = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-counts, axis=None, kind="stable")[:most]
        true, predicted = np.unravel_index(order, counts.shape)
        return [(int(t), int(p), int(counts[t, p])) for t, p in zip(true, predicted, strict=True) if counts[t, p]]

    def mistakes(self, most: int) -> list[int]:
        """Give the positions of the wrong answers, the most confident first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.confidences[wrong], kind="stable")][:most].tolist()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is not defined, and what must not be read out of these figures."""
        return tuple(_notes(self))


def log_odds(logits: npt.NDArray[np.floating], head: Head) -> Floats:
    """Logarithm of p / (1 - p) of each class, without computing p, which rounds to 1 and makes ties.

    Parameters
    ----------
    logits : ndarray
        (N, outputs).
    head : {"softmax", "sigmoid"}
        How logits become probabilities.

    Returns
    -------
    ndarray
        (N, classes) float64; two columns for a single output.

    Examples
    --------
    >>> log_odds(np.array([[0.0, 100.0, 98.0]]), "softmax").round(1).tolist()
    [[-100.1, 2.0, -2.0]]
    """
    values = torch.from_numpy(logits).double()
    if head == "sigmoid":
        return (torch.cat([-values, values], dim=1) if values.shape[1] == 1 else values).numpy()
    total = values.logsumexp(dim=1, keepdim=True)
    others = total + torch.log1p(-(values - total).exp())  # of classes with p <= 1/2
    top = values.argmax(dim=1, keepdim=True)
    others.scatter_(1, top, values.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True))
    return (values - others).numpy()


def _notes(scores: Scores) -> list[str]:
    support, predicted, names = scores.classes.support, scores.classes.predicted, scores.class_names
    notes = []
    if (support == 0).any():
        notes.append(
            f"no image of {_named(np.flatnonzero(support == 0), names)}: no recall or AUC, and no part in the averages"
        )
    ignored = np.flatnonzero((support > 0) & (predicted == 0))
    if len(ignored):
        notes.append(f"never predicted: {_named(ignored, names)}; no precision, which counts as 0 in the averages")
    notes += _notes_on_auc(scores)
    if scores.head == "sigmoid" and scores.logits.shape[1] > 1:
        notes.append("each output is a sigmoid of its own; the most probable class is predicted")
    return notes


def _notes_on_auc(scores: Scores) -> list[str]:
    names, known = scores.class_names, {index: auc for index, auc in scores.aucs.items() if not np.isnan(auc.value)}
    notes = []
    one_sided = [index for index, auc in scores.aucs.items() if auc.positives and not auc.negatives]
    if one_sided:
        notes.append(f"every image is of {_named(one_sided, names)}: no AUC, which needs images of others")
    single = [index for index, auc in known.items() if min(auc.positives, auc.negatives) == 1]
    if single:
        notes.append(f"a single image on one side of {_named(single, names)}: no DeLong error, which needs two")
    exact = [index for index, auc in known.items() if auc.delong == 0]
    if exact:
        notes.append(
            f"the images of {_named(exact, names)} are separated entirely, or tie: a standard error of 0 means that "
            "these images do not show it, not that it is 0"
        )
    return notes


def _named(indices: Sequence[int] | Integers, names: Sequence[str], most: int = 5) -> str:
    listed = ", ".join(names[index] for index in indices[:most])
    return listed + (f" and {len(indices) - most} more" if len(indices) > most else "")
