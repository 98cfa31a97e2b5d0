"""How well scores tell a class from the rest at every threshold: ROC and precision-recall curves, AUC and its error."""

from dataclasses import dataclass
from math import nan, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from torchcam_suite.metrics.classification import Z_95, Floats

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve: the chance that an image of the class scores higher than another image.

    Attributes
    ----------
    value : float
        From 0 to 1; chance is 0.5. Ties count half. NaN where there are only images of the class, or none of it.
    positives, negatives : int
        Images of the class, and others.
    hanley_mcneil, delong : float
        Standard errors by the two formulas; see `hanley_mcneil` and `area_under_roc`.
    """

    value: float
    positives: int
    negatives: int
    hanley_mcneil: float
    delong: float

    def interval(self, by: Literal["hanley_mcneil", "delong"] = "delong") -> tuple[float, float]:
        """Give the 95 % interval: the value +- 1.96 standard errors, within [0, 1]; too short for a value near 1.

        Returns
        -------
        tuple of float
            Lower and upper end. NaN where the standard error is NaN, or 0: scores that separate the two sides entirely
            (or tie throughout) have an error of 0 by either formula, which says nothing about other images.
        """
        error = getattr(self, by)
        if not error > 0:
            return nan, nan
        return max(0.0, self.value - Z_95 * error), min(1.0, self.value + Z_95 * error)


def area_under_roc(positive: npt.ArrayLike, scores: npt.ArrayLike) -> Auc:
    r"""Area under the ROC curve with its standard errors.

    With m images of the class of scores x and n others of scores y, and psi = 1 where x > y, 1/2 where they tie and 0
    elsewhere, each image has a placement, the mean of psi over the other side:

    .. math::

        V_{10}(x_i) = \frac{1}{n} \sum_j \psi(x_i, y_j), \qquad V_{01}(y_j) = \frac{1}{m} \sum_i \psi(x_i, y_j)

    Their mean is the AUC, and DeLong's variance is var(V10) / m + var(V01) / n. The placements are counted in sorted
    scores, in O(N log N), as in Sun & Xu's fast algorithm.

    Parameters
    ----------
    positive : array of bool
        (N,), whether an image is of the class.
    scores : array
        (N,), finite, higher for the class. Only their order counts.

    Returns
    -------
    Auc
        Everything NaN without images on both sides; DeLong's error is NaN with a single image on one of them.

    Raises
    ------
    ValueError
        The shapes differ, `positive` is not bool, or a score is not finite.

    References
    ----------
    DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves,
    Biometrics 1988. Sun & Xu, Fast Implementation of DeLong's Algorithm, IEEE Signal Processing Letters 2014.

    Examples
    --------
    >>> area_under_roc([False, False, True, True], [0.1, 0.4, 0.35, 0.8]).value
    0.75
    """
    positive, scores = _checked(positive, scores)
    ours, others = np.sort(scores[positive]), np.sort(scores[~positive])
    if not (len(ours) and len(others)):
        return Auc(nan, len(ours), len(others), nan, nan)
    above, below = _placements(ours, others), 1 - _placements(others, ours)
    value = float(above.mean())
    variance = _variance(above) / len(ours) + _variance(below) / len(others)
    return Auc(value, len(ours), len(others), hanley_mcneil(value, len(ours), len(others)), sqrt(variance))


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    r"""Standard error of an AUC, from its value and the numbers of images alone.

    .. math::

        SE^2 = \frac{A (1 - A) + (n_+ - 1)(Q_1 - A^2) + (n_- - 1)(Q_2 - A^2)}{n_+ n_-}, \\
        Q_1 = \frac{A}{2 - A}, \quad Q_2 = \frac{2 A^2}{1 + A}

    It takes the scores for exponentially distributed; DeLong's formula assumes nothing about them.

    Parameters
    ----------
    auc : float
        A, from 0 to 1.
    positives, negatives : int
        n+ and n-, at least 1.

    References
    ----------
    Hanley & McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982, equation 1.

    Examples
    --------
    >>> round(hanley_mcneil(0.77835, 100, 100), 6)
    0.032782
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return sqrt(max(0.0, spread) / (positives * negatives))


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Shares of the images that score at least a threshold, as the threshold falls.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : ndarray
        (P,), of the other images and of those of the class, from 0 to 1; NaN where there are none.
    thresholds : ndarray
        (P,), falling; the first is infinite.
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats


def roc_curve(positive: npt.ArrayLike, scores: npt.ArrayLike) -> RocCurve:
    """Give the corners of the ROC curve; points on a straight line between two others are left out.

    Parameters
    ----------
    positive, scores
        As for `area_under_roc`.

    Examples
    --------
    >>> curve = roc_curve([False, False, True, True], [0.1, 0.4, 0.35, 0.8])
    >>> curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    positive, scores = _checked(positive, scores)
    hits, alarms, thresholds = _counts_as_the_threshold_falls(positive, scores)
    hits, alarms = np.r_[0, hits], np.r_[0, alarms]
    corner = np.ones(len(hits), bool)
    # equal steps before and after: a longer straight line of unequal steps keeps its points
    corner[2:-1] = (np.diff(hits[1:], 2) != 0) | (np.diff(alarms[1:], 2) != 0)
    return RocCurve(
        _share(alarms, int((~positive).sum()))[corner],
        _share(hits, int(positive.sum()))[corner],
        np.r_[np.inf, thresholds][corner],
    )


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision beside recall, as the threshold falls.

    Attributes
    ----------
    precision, recall : ndarray
        (P,), recall rising from 0. The first point, precision 1 at recall 0, is a convention. NaN where there is no
        image of the class.
    thresholds : ndarray
        (P,), falling; the first is infinite.
    average_precision : float
        Sum over the points of precision times the step in recall, without interpolation.
    """

    precision: Floats
    recall: Floats
    thresholds: Floats
    average_precision: float


def precision_recall_curve(positive: npt.ArrayLike, scores: npt.ArrayLike) -> PrecisionRecallCurve:
    """Give precision and recall at every threshold.

    Parameters
    ----------
    positive, scores
        As for `area_under_roc`.

    Examples
    --------
    >>> round(precision_recall_curve([False, False, True, True], [0.1, 0.4, 0.35, 0.8]).average_precision, 4)
    0.8333
    """
    positive, scores = _checked(positive, scores)
    hits, alarms, thresholds = _counts_as_the_threshold_falls(positive, scores)
    recall = np.r_[0.0, _share(hits, int(positive.sum()))]
    precision = np.r_[1.0, hits / (hits + alarms)]
    if not positive.any():
        precision, recall = np.full_like(precision, nan), np.full_like(recall, nan)
    average = float((np.diff(recall) * precision[1:]).sum()) if len(scores) else nan
    return PrecisionRecallCurve(precision, recall, np.r_[np.inf, thresholds], average)


def _checked(positive: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Booleans, Floats]:
    positive, scores = np.asarray(positive), np.asarray(scores, np.float64)
    if positive.dtype != np.bool_ or positive.ndim != 1 or positive.shape != scores.shape:
        raise ValueError(
            f"positive of shape {positive.shape} and type {positive.dtype}, scores of shape {scores.shape}; expected "
            "bool (N,) and floats (N,), as of labels == 1"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} scores are NaN or infinite; expected finite ones")
    return positive, scores


def _placements(ours: Floats, others: Floats) -> Floats:
    """For each of our scores, the share of the others (sorted) that are lower, plus half of those that tie."""
    lower, not_higher = others.searchsorted(ours, "left"), others.searchsorted(ours, "right")
    return (lower + not_higher) / (2 * len(others))


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else nan


def _counts_as_the_threshold_falls(positive: Booleans, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Images of the class, others, and the score, at each distinct score from the highest on."""
    order = np.argsort(-scores, kind="stable")
    positive, scores = positive[order], scores[order]
    last_of_its_score = np.r_[np.diff(scores) != 0, True][: len(scores)]
    hits = np.cumsum(positive, dtype=np.float64)[last_of_its_score]
    above = np.arange(1, len(scores) + 1, dtype=np.float64)[last_of_its_score]
    return hits, above - hits, scores[last_of_its_score]


def _share(counts: Floats, of: int) -> Floats:
    return counts / of if of else np.full(len(counts), nan)
