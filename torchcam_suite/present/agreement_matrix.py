"""The agreement of all pairs of a comparison, as a matrix for each measure and group of images."""

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from torchcam_suite.cam import METHODS
from torchcam_suite.comparison.agreement import MEASURES, TITLES
from torchcam_suite.present.fonts import chart_fonts
from torchcam_suite.present.score_plots import require_matplotlib
from torchcam_suite.shown_names import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from torchcam_suite.comparison.result import Column, Comparison

_DPI = 130
_MOST_NUMBERS = 24  # columns whose figures have room in their cells
_LONGEST_NAME = 44
_SHUFFLED = "shuffled"


def draw_agreement(result: "Comparison") -> Image.Image:
    """Draw the mean agreement of all pairs of columns: a panel for each measure, a row of panels for each group.

    In the panels of all images, the figures above the diagonal are those of different images; elsewhere only the half
    below it is drawn.

    Parameters
    ----------
    result : Comparison
        What is drawn.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    MissingLibraryError
        matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    groups, count = _drawn_groups(result), len(result.columns)
    side = min(9.0, max(1.8, 0.36 * count + 0.4))
    names = _names(result.columns)
    margin = 0.075 * max(map(len, names)) + 0.8
    with chart_fonts(*names), matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        size = (margin + len(MEASURES) * (side + 0.2), 0.4 + len(groups) * (side + 0.5))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(groups), len(MEASURES), squeeze=False)
        for row, group in zip(panels, groups, strict=True):
            for axes, measure in zip(row, MEASURES, strict=True):
                _draw_panel(axes, result, measure, group)
            row[0].set_yticks(range(count), names, size=8)
            row[0].set_ylabel(_group_title(result, group), size=10, weight="bold")
        if len(result) > 1:
            figure.supxlabel(
                "mean over images; in the panels of all images, above the diagonal: maps of different images", size=9
            )
        return _rendered(figure)


def _drawn_groups(result: "Comparison") -> list[str]:
    """Groups that have images and are not all of them for every pair."""
    groups = ["all"]
    for group in ("both right", "both wrong", "one right"):
        rows = [row for row in result.agreement if row.group == group]
        if any(0 < row.images + row.constant < len(result) for row in rows):
            groups.append(group)
    return groups


def _names(columns: "tuple[Column, ...]") -> list[str]:
    names = [f"{column.model} · {column.layer} · {METHODS[column.method].title}" for column in columns]
    return [f"{name}  {number}" for number, name in enumerate(shorten(names, _LONGEST_NAME), start=1)]


def _group_title(result: "Comparison", group: str) -> str:
    counts = sorted({row.images for row in result.agreement if row.group == group})
    text = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{group} (n = {text})"


def _draw_panel(axes: "Axes", result: "Comparison", measure: str, group: str) -> None:
    values = _shown(result, measure, group)
    signed = measure != "iou"
    np.fill_diagonal(values, np.nan)  # which says nothing
    axes.imshow(values, cmap="RdBu" if signed else "Blues", vmin=-1 if signed else 0, vmax=1)
    if len(values) <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if row == column:
                axes.add_patch(_grey_square(row))
            elif not np.isnan(value):
                dark = abs(value) > 0.58
                axes.text(
                    column, row, _number(value), ha="center", va="center", size=7, color="white" if dark else "#222222"
                )
    axes.set_xticks(range(len(values)), [str(number + 1) for number in range(len(values))], size=8)
    axes.set_yticks([])
    axes.set_title(TITLES[measure], size=10)
    for edge in axes.spines.values():
        edge.set_visible(False)


def _grey_square(place: int) -> "Rectangle":
    from matplotlib.patches import Rectangle

    return Rectangle((place - 0.5, place - 0.5), 1, 1, color="#dddddd", linewidth=0)


def _shown(result: "Comparison", measure: str, group: str) -> npt.NDArray[np.float64]:
    """Below the diagonal the group's figures, above it those of different images."""
    values = np.tril(result.matrix(measure, group)) + np.triu(np.full_like(result.matrix(measure), np.nan), 1)
    if group == "all" and len(result) > 1:
        above = np.triu(np.ones_like(values, bool), 1)
        values[above] = result.matrix(measure, _SHUFFLED)[above]
    return values


def _number(value: float) -> str:
    """Two digits, without the zero before the point: twelve columns have no room for it."""
    text = f"{round(value, 2) + 0.0:.2f}"  # no -0.00
    return text.replace("0.", ".", 1) if abs(value) < 1 and "0." in text else text


def _rendered(figure: "Figure") -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    file.seek(0)
    return Image.open(file).convert("RGB")
