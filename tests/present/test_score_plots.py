"""The plots show the figures: their lines, bars, colours and texts are read back from matplotlib."""

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from evaluation.colours import colour_model, painted
from evaluation.results import drawn, result_of
from matplotlib.figure import Figure
from PIL import Image

from torchcam_suite.errors import MissingLibraryError
from torchcam_suite.evaluate import evaluate
from torchcam_suite.evaluation import EvaluationResult
from torchcam_suite.present import score_plots

Show = Callable[[EvaluationResult, str], Figure]
NAMES = ("ant", "bee", "cat")
BINARY = ([0, 0, 1, 1, 1, 0], [[-1], [0.5], [1], [0.2], [2], [-2]], ("cat", "dog"))


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Draw a plot and give the figure that was rendered."""
    figures: list[Figure] = []
    render = score_plots._rendered

    def keeping(figure: Figure) -> Image.Image:
        figures.append(figure)
        return render(figure)

    monkeypatch.setattr(score_plots, "_rendered", keeping)

    def draw(result: EvaluationResult, what: Any) -> Figure:
        assert result.plot(what).mode == "RGB"
        return figures[-1]

    return draw


def texts(figure: Figure) -> str:
    """Everything that is written in a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


# ---------------------------------------------------------------- what is drawn


def test_the_confusion_matrix_has_counts_as_text_and_shares_as_colours(show: Show) -> None:
    result = drawn(90, NAMES)
    axes = show(result, "confusion").axes[0]
    confusion = result.scores.confusion
    np.testing.assert_allclose(axes.images[0].get_array(), confusion / confusion.sum(axis=1, keepdims=True))
    counts = [text.get_text() for text in axes.texts]
    assert counts == [str(count) for count in confusion.ravel()]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_many_classes_have_no_counts_and_very_many_no_names(show: Show) -> None:
    axes = show(drawn(200, tuple(map(str, range(30)))), "confusion").axes[0]
    assert (len(axes.texts), len(axes.get_yticklabels())) == (0, 30)
    axes = show(drawn(200, tuple(map(str, range(70)))), "confusion").axes[0]
    assert len(axes.get_yticklabels()) < 30


def test_the_roc_curve_of_two_classes_is_that_of_class_1_with_the_threshold_on_it(show: Show) -> None:
    result = result_of(*BINARY)
    figure = show(result, "roc")
    chance, curve, dot = figure.axes[0].lines
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    expected = result.scores.roc(1)
    np.testing.assert_allclose(
        curve.get_xydata(), np.stack([expected.false_positive_rate, expected.true_positive_rate], axis=1)
    )
    assert dot.get_xydata().tolist() == [[1 / 3, 1]]
    assert dot.get_xydata()[0].tolist() in curve.get_xydata().tolist()
    low, high = result.scores.aucs[1].interval()
    assert f"AUC {result.scores.aucs[1].value:.3f} ({low:.3f}-{high:.3f})  dog" in texts(figure)
    assert "dot: threshold 0.5" in texts(figure)


def test_the_area_under_the_precision_recall_steps_is_the_average_precision(show: Show) -> None:
    result = drawn(60, NAMES)
    figure = show(result, "precision-recall")
    lines = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-pre"]
    assert len(lines) == 3
    for index, line in enumerate(lines):
        recall, precision = line.get_xydata().T
        area = sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))
        assert area == pytest.approx(result.scores.average_precisions[index])
        assert f"AP {area:.3f}  {NAMES[index]}" in texts(figure)


def test_the_worst_of_many_classes_are_in_colour(show: Show) -> None:
    result = drawn(600, tuple(f"class {index}" for index in range(20)))
    figure = show(result, "roc")
    worst = sorted(range(20), key=lambda index: result.scores.aucs[index].value)[:8]
    assert sorted(map(int, re.findall(r"class (\d+)$", texts(figure), re.MULTILINE))) == sorted(worst)
    assert "in colour: the 8 of 20 classes with the lowest AUC" in texts(figure)


@pytest.mark.parametrize("what", ["roc", "precision-recall"])
@pytest.mark.parametrize("length", [3, 28])
def test_the_legend_is_within_the_picture(what: Any, length: int) -> None:
    names = tuple(f"{'w' * (length - 1)}{i}" for i in range(9))
    pixels = np.asarray(drawn(200, names).plot(what))
    assert (pixels[:, [0, 1, -2, -1]] == 255).all()
    assert (pixels.shape[1] > 900) == (length == 28)


def test_the_reliability_diagram_has_a_bar_and_a_dot_a_bin(show: Show) -> None:
    result = drawn(300, NAMES)
    found = result.scores.reliability
    above, below = show(result, "reliability").axes
    filled = found.counts > 0
    np.testing.assert_allclose([bar.get_height() for bar in above.patches], np.nan_to_num(found.accuracy))
    np.testing.assert_allclose([bar.get_height() for bar in below.patches], found.counts)
    dots = above.lines[1].get_xydata()
    np.testing.assert_allclose(dots, np.stack([found.confidence, found.accuracy], axis=1)[filled])
    assert above.get_title() == f"{found.name} = {found.ece:.3f}"


@pytest.mark.parametrize("what", ["roc", "precision-recall", "confusion", "reliability"])
def test_a_single_class_is_drawn_as_far_as_it_is_defined(what: str, show: Show) -> None:
    figure = show(result_of([1, 1], [[0.0, 1.0], [0.0, -1.0]], ("cat", "dog")), what)
    assert "nan" not in texts(figure)
    if what in ("roc", "precision-recall"):
        assert "not defined: images of one class alone" in texts(figure)


@pytest.mark.usefixtures("no_further_fonts")
@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.FontWarning")
@pytest.mark.parametrize("what", ["confusion", "roc"])
def test_class_names_are_no_mathematics_and_never_hidden(what: str, show: Show) -> None:
    names = ("$x^2$", "_hidden", "猫")
    written = texts(show(drawn(90, names), what))
    assert all(name in written for name in names)


@pytest.mark.parametrize("names", [("ant", "bee", "cat"), ("ant", "bee", "cat", "dog", "eel", "fox")])
@pytest.mark.parametrize("what", ["roc", "precision-recall"])
def test_nothing_is_cut_off_or_overlaps(what: str, names: tuple[str, ...], show: Show) -> None:
    figure = show(drawn(90, names), what)
    axes, legend = figure.axes[0].get_tightbbox(), figure.legends[0].get_window_extent()
    assert axes.y1 <= figure.bbox.y1
    assert axes.y0 >= legend.y1
    assert min(axes.x0, legend.x0, legend.y0) >= 0
    assert max(axes.x1, legend.x1) <= figure.bbox.x1


def test_the_settings_of_the_user_stay(show: Show) -> None:
    with warnings.catch_warnings():
        before = dict(matplotlib.rcParams)
    show(drawn(20, NAMES), "roc")
    assert dict(matplotlib.rcParams) == before


# ---------------------------------------------------------------- mistakes


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to the grid, which is drawn all the same."""
    calls: list[Any] = []
    grid = score_plots.grid
    monkeypatch.setattr(
        score_plots, "grid", lambda rows, **options: (calls.append((rows, options)), grid(rows, **options))[1]
    )
    return calls


def test_a_mistake_stands_beside_the_evidence_for_both_classes(rows: list[Any], tmp_path: Path) -> None:
    folder = painted(tmp_path, {("red", "red"): 1, ("green", "red"): 1})
    result = evaluate(colour_model(), folder)
    assert result.plot("mistakes").mode == "RGB"
    (((row,), options),) = rows
    (mistake,) = result.mistakes
    assert row.label == "red_0.png"
    assert options["headers"] == ["picture", "evidence for the predicted class", "evidence for the true class"]
    assert [cell.title for cell in row.cells] == [
        "is green",
        f"red {mistake.confidence:.3f}",
        f"green {mistake.label_probability:.3f}",
    ]
    picture, said, true = (cell.picture for cell in row.cells)
    assert np.array_equal(picture, mistake.picture)
    for drawn_map, saliency in ((said, mistake.prediction_map), (true, mistake.label_map)):
        assert np.array_equal(drawn_map, score_plots.overlay(mistake.picture, saliency))


def test_without_mistakes_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="there is no mistake to draw"):
        result_of(*BINARY).plot("mistakes")


def test_an_unknown_plot_is_told() -> None:
    with pytest.raises(ValueError, match="plot 'rock' does not exist; there are 'confusion', 'roc'"):
        result_of(*BINARY).plot("rock")  # type: ignore[arg-type]


# ---------------------------------------------------------------- matplotlib


def test_without_matplotlib_the_message_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = result_of(*BINARY)
    with monkeypatch.context() as patch:
        patch.setattr(score_plots, "find_spec", {}.get)
        for call in (lambda: result.plot("roc"), lambda: result.save(tmp_path)):
            with pytest.raises(MissingLibraryError, match=r"pip install 'torchcam-suite\[plots\]'"):
                call()
        assert list(tmp_path.iterdir()) == []
        assert len(result.save(tmp_path, plots=False)) == 2


def test_figures_need_neither_matplotlib_nor_scikit_learn() -> None:
    code = (
        "import sys, torchcam_suite.evaluate, torchcam_suite.cli.evaluate, torchcam_suite.present.score_plots\n"
        "assert not {'matplotlib', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
