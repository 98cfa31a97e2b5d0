"""TCAV scores as bars, with what is not significant marked: PNG, PDF or SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchcam_suite.concepts.result import TcavResult, TcavRow
from torchcam_suite.errors import ConceptError, ImageError, MissingLibraryError
from torchcam_suite.explanation import write_atomically
from torchcam_suite.present.fonts import chart_fonts, without_glyph_warnings
from torchcam_suite.present.map_colours import PALETTE
from torchcam_suite.shown_names import plain_text, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")

_DPI = 150
_PANEL, _BAR, _GAP = 2.1, 0.2, 0.22  # inches: height of a panel, width of a bar, room between two concepts
_LEAST, _MOST, _SIDES = 5.5, 20.0, 1.0  # inches: width of the chart, and of what is beside its bars
_WIDEST = 1.6  # inches: room of a concept in a chart of few
_LETTER, _LINE = 0.09, 0.17  # inches: of a concept's name, of the legend
_SLANTED, _TITLE = 0.05, 0.12  # inches: height of a letter of a name at an angle, width of one of a title
_VISIBLE = 0.002  # shorter intervals are no line
_TOP = 1.16  # of the axis; marks stand above bars of height 1
_LONGEST = 30  # characters of a layer's or concept's name
_INK, _MUTED = "#222222", "#606060"
_HATCHES = ("", "///", "...", "xxx")  # of more layers than there are colours
_MARKS = {"not significant": "*", "undecided": "?"}
_SOLID = ("significant", "not significant")
_CORRECTIONS = {"holm": "Holm", "benjamini_hochberg": "Benjamini and Hochberg"}
_MEANINGS = {
    "not significant": "not significant",
    "undecided": "undecided: too few random sets",
    "not tested": "not tested for significance",
}


def draw(result: TcavResult, path: Path, *, target: str | None = None) -> Path:
    """Write the scores as a chart, to a file that is either whole or absent.

    Parameters
    ----------
    result, target
        As for `chart`.
    path : Path
        Its ending, .png, .pdf or .svg, says the format.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConceptError
        The result has no such target.
    ImageError
        The file cannot be written.
    MissingLibraryError
        Matplotlib is not installed.
    ValueError
        The ending is another one.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"the file name {str(path)!r} was given; expected one that ends in {', '.join(FORMATS)}")
    figure = chart(result, target=target)
    kind = path.suffix.lower().removeprefix(".")
    from matplotlib import rc_context

    # dates and random names would make every file of the same chart another one
    undated: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    try:
        with rc_context({"svg.hashsalt": "tcav"}), without_glyph_warnings():
            write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=_DPI, metadata=undated.get(kind)))
    except OSError as error:
        raise ImageError(f"cannot write the picture {str(path)!r}: {error.strerror or error}") from error
    return path


def chart(result: TcavResult, *, target: str | None = None) -> "Figure":
    """Draw the scores: a panel for each target, a group of bars for each concept, a bar for each layer.

    As in Kim et al. 2018, figure 6. Lines on the bars are the 95 % intervals (`TcavRow.low` to `TcavRow.high`), the
    dashed line is 0.5. A star marks what is not significant, as in the paper; a hollow bar with a question mark what
    too few random sets cannot decide; a hollow bar alone what was not tested.

    Parameters
    ----------
    result : TcavResult
        From `tcav`.
    target : str, optional
        Only this one; default all.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved, or changed first.

    Raises
    ------
    ConceptError
        The result has no such target.
    MissingLibraryError
        Matplotlib is not installed.
    """
    panels = _panels(result, target)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingLibraryError(
            "charts need Matplotlib, which is not installed: pip install 'torchcam-suite[plots]'"
        ) from None
    layers = [row.layer for rows in panels.values() for row in rows]
    with chart_fonts(*map(plain_text, (*panels, *result.concepts, *layers))):
        return _figure(result, panels)


def _figure(result: TcavResult, panels: dict[str, list[TcavRow]]) -> "Figure":
    from matplotlib.figure import Figure

    rows = [row for found in panels.values() for row in found]
    layers = list(dict.fromkeys(row.layer for row in rows))
    width, room = _widths(len(result.concepts), len(layers))
    names = [plain_text(name) for name in shorten(result.concepts, _LONGEST)]
    slanted = _LETTER * max(map(len, names)) > room
    below = _SLANTED * max(map(len, names)) if slanted else 0.0
    height = 1.2 + _LINE * len(layers) / 2 + (_PANEL + below) * len(panels)
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    margin = ((width - _SIDES) / room - len(result.concepts)) / 2
    titles = shorten([f"class {name}" if name.isdecimal() else name for name in panels], int((width - _SIDES) / _TITLE))
    every = zip(figure.subplots(len(panels), squeeze=False)[:, 0], titles, panels.values(), strict=True)
    for axes, title, found in every:
        _draw_panel(axes, found, result.concepts, layers)
        _name_concepts(axes, names, slanted=slanted)
        axes.set_xlim(-0.5 - margin, len(result.concepts) - 0.5 + margin)
        axes.set_title(plain_text(title), fontsize=10, loc="left", fontweight="bold")
    figure.supxlabel(footing(result, rows), fontsize=7.5, color=_MUTED)
    _draw_legend(figure, layers, rows)
    return figure


def _panels(result: TcavResult, target: str | None) -> dict[str, list[TcavRow]]:
    """The rows of each target that is drawn."""
    targets = list(dict.fromkeys(row.target for row in result.rows))
    if target is not None and target not in targets:
        raise ConceptError(f"target={target!r}; this result has {', '.join(map(repr, targets))}")
    return {name: [row for row in result.rows if row.target == name] for name in targets if target in {None, name}}


def _widths(concepts: int, layers: int) -> tuple[float, float]:
    """Inches of the chart, and of the room of one concept in it."""
    least = _GAP + _BAR * layers
    width = min(max(_SIDES + least * concepts, _LEAST), _MOST)
    return width, min((width - _SIDES) / concepts, max(least, _WIDEST))


def footing(result: TcavResult, rows: Sequence[TcavRow]) -> str:
    """How the scores and their significance were found, in two lines."""
    test = result.settings["test"]
    runs = min(row.runs for row in rows)
    tested = any(row.p is not None for row in rows)
    sets = f"{runs} random sets" if tested else f"{runs} runs"
    correction = _CORRECTIONS.get(test["correction"], test["correction"])
    how = f" · {test['test']} test at a level of {test['level']:g}, correction: {correction}" if tested else ""
    return f"{sets}{how}\nlines on bars: 95 % interval over images and runs"


def _draw_panel(axes: "Axes", rows: Sequence[TcavRow], concepts: Sequence[str], layers: Sequence[str]) -> None:
    share = 1 / (len(layers) + _GAP / _BAR)  # of a concept's room that a bar takes
    for row in rows:
        place = concepts.index(row.concept) + share * (layers.index(row.layer) - (len(layers) - 1) / 2)
        _draw_bar(axes, row, place, share, layers.index(row.layer))
    axes.axhline(0.5, color=_MUTED, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    axes.set(ylim=(-0.03, _TOP), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="TCAV score")
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _name_concepts(axes: "Axes", names: Sequence[str], *, slanted: bool) -> None:
    """Below each panel; at an angle where they would touch each other."""
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0, labelsize=9)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _draw_bar(axes: "Axes", row: TcavRow, place: float, width: float, number: int) -> None:
    from matplotlib.patheffects import withStroke

    axes.bar(place, row.score, 0.9 * width, zorder=2, **_style(number, solid=row.verdict in _SOLID))
    lower, upper = max(0.0, row.score - row.low), max(0.0, row.high - row.score)
    if max(lower, upper) > _VISIBLE:
        lines = axes.errorbar(place, row.score, [[lower], [upper]], color=_INK, linewidth=1, capsize=2, zorder=3)
        for line in lines[2]:
            line.set_path_effects([withStroke(linewidth=2.4, foreground="white")])  # seen on dark bars too
    if mark := _MARKS.get(row.verdict):
        height = max(row.score, row.high) + 0.02
        axes.annotate(mark, (place, height), ha="center", va="bottom", fontsize=10, color=_INK, annotation_clip=False)


def _style(number: int, *, solid: bool) -> dict[str, Any]:
    """Of the bars of a layer; the edge shows a bar of height 0 as well."""
    colour, hatch = PALETTE[number % len(PALETTE)], _HATCHES[number // len(PALETTE) % len(_HATCHES)]
    return {"facecolor": colour if solid else "white", "edgecolor": colour, "linewidth": 1.4, "hatch": hatch}


def _draw_legend(figure: "Figure", layers: Sequence[str], rows: Sequence[TcavRow]) -> None:
    """The layers, and the marks that occur."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = shorten(layers, _LONGEST)
    handles: list[Any] = [
        Patch(label=plain_text(name), **_style(number, solid=True)) for number, name in enumerate(names)
    ]
    seen = {row.verdict for row in rows}
    for verdict, meaning in _MEANINGS.items():
        if verdict in seen:
            mark = _MARKS.get(verdict, "")
            handles.append(Line2D([], [], linestyle="", marker=f"${mark}$" if mark else "s", color=_INK, label=meaning))
            if not mark:
                handles[-1].set_markerfacecolor("white")
    handles.append(Line2D([], [], color=_MUTED, linestyle=(0, (5, 3)), linewidth=0.9, label="0.5: as often up as down"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
