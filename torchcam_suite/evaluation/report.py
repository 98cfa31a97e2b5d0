"""A result as text for a terminal."""

import io
import textwrap
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchcam_suite.evaluation.scores import Scores
from torchcam_suite.metrics.roc import Auc
from torchcam_suite.shown_names import shorten

if TYPE_CHECKING:
    from torchcam_suite.evaluation.result import EvaluationResult

_MOST_ROWS, _MOST_COLUMNS, _MOST_CONFUSIONS, _MOST_MISTAKES = 20, 8, 8, 5
_NAME = 24  # characters of a class name among words
Cells = Sequence[Sequence[str]]


def report(result: "EvaluationResult", width: int = 80) -> str:
    """Write a result out in lines of at most `width` characters."""
    scores = result.scores
    parts = [
        _folded(f"{result.model['name']} on {result.data.source}: {len(result)} images", width),
        _rendered(None, _summary(scores), width),
        _classes(scores, width),
        _confusion(scores, width),
        _mistakes(result, width),
        _notes(result.notes, width),
    ]
    return "\n\n".join(part for part in parts if part)


def _summary(scores: Scores) -> list[tuple[str, str, str]]:
    low, high = scores.accuracy_interval
    macro, calibration = scores.macro, scores.reliability
    rows = [
        ("accuracy", _three(scores.accuracy), f"95 %: {low:.3f} to {high:.3f} (Wilson)"),
        ("balanced accuracy", _three(scores.balanced_accuracy), "mean recall of the classes"),
        ("F1, macro", _three(macro.f1), f"precision {macro.precision:.3f}, recall {macro.recall:.3f}"),
    ]
    if scores.is_binary:
        (index,) = scores.ranked_classes
        auc, name = scores.aucs[index], shorten(scores.class_names, _NAME)[index]
        rows += [
            (f"AUC of {name}", _three(auc.value), f"95 %: {_interval(auc)} (DeLong)"),
            ("  standard error", _three(auc.delong), f"DeLong; Hanley-McNeil {_three(auc.hanley_mcneil)}"),
            ("average precision", _three(scores.average_precisions[index]), f"of {name}"),
            ("threshold", f"{scores.threshold:.3g}", f"from it on, {name} is predicted"),
        ]
    else:
        rows.append(("AUC, macro", _three(scores.macro_auc), "mean, each class against the rest"))
    rows += [
        ("calibration error", _three(calibration.ece), calibration.name),
        ("  largest gap", _three(calibration.largest_gap), "of a bin"),
    ]
    return rows


def _classes(scores: Scores, width: int) -> str:
    figures = scores.classes
    listed, title = list(range(len(scores.class_names))), ""
    if len(listed) > _MOST_ROWS:
        title = f"the {_MOST_ROWS} classes of {len(listed)} with the lowest F1:\n"
        listed = np.argsort(np.where(np.isnan(figures.f1), 2, figures.f1), kind="stable")[:_MOST_ROWS].tolist()
    headers = ["class", "images", "precision", "recall", "F1"]
    headers += [] if scores.is_binary else ["AUC", "95 % DeLong", "SE H.-McN."]
    rows = []
    # what the other columns leave
    names = shorten(scores.class_names, width - (40 if scores.is_binary else 66))
    for index in listed:
        shares = (figures.precision[index], figures.recall[index], figures.f1[index])
        row = [names[index], str(figures.support[index]), *map(_three, shares)]
        if not scores.is_binary:
            auc = scores.aucs[index]
            row += [_three(auc.value), _interval(auc, "-"), _three(auc.hanley_mcneil)]
        rows.append(row)
    return title + _rendered(headers, rows, width)


def _confusion(scores: Scores, width: int) -> str:
    if len(scores.class_names) > _MOST_COLUMNS:
        names = shorten(scores.class_names, 30)
        found = scores.confusions(_MOST_CONFUSIONS)
        pairs = [(names[true], names[said], str(count)) for true, said, count in found]
        headers = ["true", "predicted", "images"]
        return "most frequent mistakes:\n" + _rendered(headers, pairs, width, figures_from=2) if pairs else ""
    names = shorten(scores.class_names, max(7, width // (len(scores.class_names) + 2) - 2))
    rows = [[names[index], *map(str, row)] for index, row in enumerate(scores.confusion)]
    return "confusion matrix, true classes down, predicted ones across:\n" + _rendered(["", *names], rows, width)


def _mistakes(result: "EvaluationResult", width: int) -> str:
    if not result.mistakes:
        return ""
    base = Path(result.data.source if result.data.kind == "folder" else Path(result.data.source).parent)
    rows = [
        (_below(m.path, base), m.label, m.prediction, _three(m.confidence)) for m in result.mistakes[:_MOST_MISTAKES]
    ]
    headers = ["most confident mistakes", "true", "predicted", "probability"]
    return _rendered(headers, rows, width, figures_from=3)


def _notes(notes: Sequence[str], width: int) -> str:
    lines = [
        textwrap.fill(
            _printable(note), width - 2, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
        for note in notes
    ]
    return "notes:\n" + "\n".join(lines) if lines else ""


def _rendered(headers: Sequence[str] | None, rows: Cells, width: int, figures_from: int = 1) -> str:
    table = Table(box=None, pad_edge=False, show_header=headers is not None)
    for index, header in enumerate(headers or rows[0]):
        # without headers, the last column is words
        right = figures_from <= index and (headers is not None or index + 1 < len(rows[0]))
        justify: Literal["left", "right"] = "right" if right else "left"
        # an object of Text: names may hold square brackets, which are no markup
        table.add_column(Text(_printable(header)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _folded(line: str, width: int) -> str:
    return textwrap.fill(_printable(line), width, break_on_hyphens=False)


def _three(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _interval(auc: Auc, between: str = " to ") -> str:
    low, high = auc.interval("delong")
    return "-" if isnan(low) else f"{low:.3f}{between}{high:.3f}"


def _below(path: str, base: Path) -> str:
    found = Path(path)
    return str(found.relative_to(base)) if found.is_relative_to(base) else path


def _printable(text: str) -> str:
    """The same text; of a file name that is not UTF-8, the bytes as numbers."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
