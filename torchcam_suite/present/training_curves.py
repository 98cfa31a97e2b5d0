"""Curves of a training: loss and accuracy of training and validation by epoch."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from torchcam_suite.present.fonts import chart_fonts
from torchcam_suite.present.score_plots import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150
# Okabe and Ito's, told apart by colour-blind eyes
_PARTS = {"train": ("training", "#0072b2"), "val": ("validation", "#d55e00")}
_MOST_DOTS = 60  # epochs whose values are marked


def training_curves(history: Sequence[Mapping[str, float]], title: str = "") -> Image.Image:
    """Draw loss and accuracy by epoch, side by side; a dotted line marks the epoch of the smallest validation loss.

    Parameters
    ----------
    history : sequence of mapping
        An epoch each, with `epoch`, `train_loss`, `val_loss`, `train_accuracy`, `val_accuracy`, and perhaps
        `train_pseudo_accuracy` and `val_pseudo_accuracy`, which are drawn dashed.
    title : str
        Above both panels.

    Raises
    ------
    ValueError
        There is no epoch.
    MissingLibraryError
        Matplotlib is not installed.
    """
    if not history:
        raise ValueError("no epoch to draw")
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = min(history, key=lambda row: row["val_loss"])
    # a title may hold dollar signs, which are no mathematics
    with chart_fonts(title), matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw(left, history, "loss")
        _draw(right, history, "accuracy")
        right.set_ylim(-0.02, 1.02)
        for axes in (left, right):
            axes.axvline(best["epoch"], color="#444444", linewidth=0.9, linestyle=":", zorder=0)
        said = f"smallest validation loss: epoch {int(best['epoch'])}, accuracy {best['val_accuracy']:.3f}"
        figure.suptitle(f"{title}\n{said}" if title else said, size=11)
        FigureCanvasAgg(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI)
    file.seek(0)
    return Image.open(file).convert("RGB")


def _draw(axes: "Axes", history: Sequence[Mapping[str, float]], what: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) <= _MOST_DOTS else ""
    for part, (name, color) in _PARTS.items():
        values = [row[f"{part}_{what}"] for row in history]
        axes.plot(epochs, values, color=color, linewidth=1.6, marker=marker, markersize=3.5, label=name)
        pseudo = f"{part}_pseudo_{what}"
        if pseudo in history[0]:
            label = f"{name}, pseudo-accuracy"
            axes.plot(epochs, [row[pseudo] for row in history], color=color, linestyle="--", linewidth=1.2, label=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set(xlabel="epoch", ylabel=what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    axes.legend(frameon=False, fontsize=9)
