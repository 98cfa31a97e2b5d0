"""Pictures of an evaluation: confusion matrix, ROC and precision-recall curves, reliability, confident mistakes."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from torchcam_suite.errors import MissingLibraryError
from torchcam_suite.evaluation.mistakes import Mistake
from torchcam_suite.evaluation.result import EvaluationResult
from torchcam_suite.evaluation.scores import Scores
from torchcam_suite.present.fonts import chart_fonts
from torchcam_suite.present.grid import Cell, Row, grid
from torchcam_suite.present.overlay import overlay
from torchcam_suite.shown_names import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, told apart by colour-blind eyes
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
_GREY = "#999999"
_DPI = 150
_MOST_COUNTS, _MOST_NAMES = 20, 60  # classes whose counts, and whose names, have room beside a confusion matrix


def require_matplotlib() -> None:
    """Raise where the library that draws is missing.

    Raises
    ------
    MissingLibraryError
        It says how to install it.
    """
    if find_spec("matplotlib") is None:
        raise MissingLibraryError(
            "plots need matplotlib, which is not installed: pip install 'torchcam-suite[plots]'; or go without them "
            "(plots=False, --no-plots)"
        )


def confusion(result: EvaluationResult) -> Image.Image:
    """Draw the confusion matrix: counts as numbers, shares of the true class as colours."""
    scores, names = result.scores, _names(result.scores)
    support = scores.classes.support[:, None]
    shares = np.divide(scores.confusion, support, out=np.zeros(scores.confusion.shape), where=support > 0)
    side = min(10.0, 3.2 + 0.4 * len(names))
    with _figure(side + 1, side, names) as (figure, axes):
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.04)
        if len(names) <= _MOST_COUNTS:
            _write_counts(axes, scores, shares)
        if len(names) <= _MOST_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", size=8)
            axes.set_yticks(range(len(names)), names, size=8)
        axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {scores.accuracy:.3f} of {len(result)} images")
        return _rendered(figure)


def _write_counts(axes: "Axes", scores: Scores, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(scores.confusion):
        color = "white" if shares[row, column] > 0.6 else "#222222" if count else "#bbbbbb"
        axes.text(column, row, str(count), ha="center", va="center", color=color, size=8)


def roc(result: EvaluationResult) -> Image.Image:
    """Draw the ROC curve of each class against the rest, or of class 1 of two; the dot is the threshold."""
    scores = result.scores
    with _figure(5.6, 6.2, _names(scores)) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
        lines = []
        for index, style in _styles(scores):
            curve, auc = scores.roc(index), scores.aucs[index]
            (line,) = axes.plot(curve.false_positive_rate, curve.true_positive_rate, **style)
            low, high = auc.interval()
            spread = "" if np.isnan(low) else f" ({low:.3f}-{high:.3f})"
            lines.append((line, f"AUC {auc.value:.3f}{spread}  {_shortened(scores.class_names[index])}"))
        if scores.is_binary:
            alarms, hits = _operating_point(scores)
            axes.plot([alarms], [hits], "o", color=_COLORS[0], markersize=6)
        each = f"dot: threshold {scores.threshold:.3g}" if scores.is_binary else "each against the rest"
        _legend(figure, axes, lines, f"{each}; 95 % by DeLong")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        return _rendered(figure)


def precision_recall(result: EvaluationResult) -> Image.Image:
    """Draw precision beside recall of each class against the rest, or of class 1 of two; dotted: that of chance."""
    scores = result.scores
    with _figure(5.6, 6.2, _names(scores)) as (figure, axes):
        lines = []
        for index, style in _styles(scores):
            curve, share = scores.precision_recall(index), scores.classes.support[index] / max(1, len(scores))
            (line,) = axes.plot(curve.recall, curve.precision, drawstyle="steps-pre", **style)
            axes.axhline(share, color=style["color"], linewidth=0.6, linestyle=":")
            lines.append((line, f"AP {curve.average_precision:.3f}  {_shortened(scores.class_names[index])}"))
        each = "" if scores.is_binary else "each against the rest; "
        _legend(figure, axes, lines, f"{each}dotted: by chance")
        axes.set(xlabel="recall", ylabel="precision", title="precision and recall")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        return _rendered(figure)


def reliability(result: EvaluationResult) -> Image.Image:
    """Draw accuracy beside confidence in each bin, and how many images are in it."""
    found = result.scores.reliability
    left, width, filled = found.edges[:-1], np.diff(found.edges), found.counts > 0
    with _figure(5.4, 6, rows=(3, 1)) as (figure, (above, below)):
        above.plot([0, 1], [0, 1], color="#444444", linewidth=0.8, linestyle=":", zorder=3)
        above.bar(left, np.nan_to_num(found.accuracy), width, align="edge", color=_COLORS[5], edgecolor="white")
        above.plot(found.confidence[filled], found.accuracy[filled], "o", color=_COLORS[0], markersize=4)
        above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), title=f"{found.name} = {found.ece:.3f}")
        below.bar(left, found.counts, width, align="edge", color=_GREY, edgecolor="white")
        below.set(xlabel="confidence (dots: its mean in the bin)", ylabel="images", xlim=(0, 1))
        return _rendered(figure)


def mistakes(result: EvaluationResult) -> Image.Image:
    """Lay the most confident mistakes out, a row each: the picture, the evidence for the predicted and the true class.

    Raises
    ------
    ValueError
        There is none.
    """
    if not result.mistakes:
        raise ValueError("there is no mistake to draw: every answer is right, or none was kept (mistakes=0)")
    names = short_names([mistake.path for mistake in result.mistakes])
    rows = [Row(name, _cells(mistake)) for name, mistake in zip(names, result.mistakes, strict=True)]
    if result.heat_maps is None:
        return grid(rows, headers=["picture"], cell=256)
    headers = ["picture", "evidence for the predicted class", "evidence for the true class"]
    return grid(rows, headers=headers, cell=256, colorbar="jet")


DRAW: dict[str, Callable[[EvaluationResult], Image.Image]] = {
    "confusion": confusion,
    "roc": roc,
    "precision-recall": precision_recall,
    "reliability": reliability,
    "mistakes": mistakes,
}
"""Function by the name of the picture."""


def _cells(mistake: Mistake) -> list[Cell]:
    picture = mistake.picture
    if mistake.prediction_map is None or mistake.label_map is None:
        said = f"{mistake.prediction} {mistake.confidence:.3f}, is {mistake.label}"
        return [Cell(picture, said)]
    cells = [Cell(picture, f"is {mistake.label}")]
    for name, share, saliency, flags in (
        (mistake.prediction, mistake.confidence, mistake.prediction_map, mistake.flags[0]),
        (mistake.label, mistake.label_probability, mistake.label_map, mistake.flags[1]),
    ):
        cells.append(Cell(overlay(picture, saliency), f"{name} {share:.3f}", "; ".join(flags)))
    return cells


def _operating_point(scores: Scores) -> tuple[float, float]:
    """False and true positive rate of class 1 at the threshold."""
    (_, alarms), (_, hits) = scores.confusion
    others, ours = scores.classes.support
    return alarms / others if others else np.nan, hits / ours if ours else np.nan


def _styles(scores: Scores) -> Iterator[tuple[int, dict[str, Any]]]:
    """Classes that have a curve, worst last so that it lies on top; grey where there are more of them than colours."""
    known = [index for index, auc in scores.aucs.items() if not np.isnan(auc.value)]
    best_first = sorted(known, key=lambda index: -scores.aucs[index].value)
    shown = sorted(best_first[-len(_COLORS) :])
    for index in best_first:
        if index not in shown:
            yield index, {"color": "#cccccc", "linewidth": 0.6}
    for place, index in enumerate(shown):
        yield index, {"color": _COLORS[place], "linewidth": 1.6}


def _legend(figure: "Figure", axes: "Axes", lines: list[tuple[Any, str]], title: str) -> None:
    if not lines:
        axes.text(0.5, 0.5, "not defined: images of one class alone", ha="center", va="center", backgroundcolor="white")
        return
    shown = lines[-len(_COLORS) :]
    more = (
        f"\nin colour: the {len(shown)} of {len(lines)} classes with the lowest AUC" if len(lines) > len(shown) else ""
    )
    handles, labels = zip(*shown, strict=True)
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=2, fontsize=7, title=title + more, title_fontsize=7
    )
    # long names are not cut off; at another resolution letters are a little wider
    widest = 1.05 * legend.get_window_extent().width / figure.dpi + 0.2
    figure.set_figwidth(max(figure.get_figwidth(), widest))


def _names(scores: Scores) -> list[str]:
    return [_shortened(name) for name in scores.class_names]


def _shortened(name: str, most: int = 28) -> str:
    """A class name that leaves room for the plot."""
    name = name.encode("utf-8", "backslashreplace").decode()
    return name if len(name) <= most else f"{name[: most - 10]}…{name[-9:]}"


@contextmanager
def _figure(
    width: float, height: float, names: Sequence[str] = (), *, rows: tuple[int, ...] = ()
) -> Iterator[tuple["Figure", Any]]:
    """Give a figure and its axes, in inches, with nothing of the user's own matplotlib settings changed but fonts."""
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    # a class name may hold dollar signs, which are no mathematics
    with chart_fonts(*names), matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        if not rows:
            axes = figure.subplots()
            axes.spines[["top", "right"]].set_visible(False)
            yield figure, axes
        else:
            yield figure, figure.subplots(len(rows), sharex=True, height_ratios=rows)


def _rendered(figure: "Figure") -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    figure.draw_without_rendering()  # a square finds its place in two rounds
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    file.seek(0)
    return Image.open(file).convert("RGB")
