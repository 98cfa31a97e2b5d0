"""Names in any script are drawn in a font that is installed and has their letters."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from evaluation.results import drawn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontManager
from PIL import Image

from torchcam_suite.concepts.result import TcavResult, TcavRow
from torchcam_suite.embedding import embed
from torchcam_suite.errors import FontWarning
from torchcam_suite.present import fonts, tcav_chart, training_curves
from torchcam_suite.present.feature_map import feature_map, save_feature_map
from torchcam_suite.present.fonts import chart_fonts, fonts_with, letters
from torchcam_suite.present.grid import Cell, Row, grid

NAMES = ("\u732b", "dog \u732b", "\u043a\u043e\u0442")  # \u732b is the letter that the font of the tests has


@pytest.fixture
def squares_installed(no_further_fonts: FontManager, squares: Path) -> None:
    no_further_fonts.addfont(squares)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a b", "b\tc\n"], "abc"),
        (["\u732b\u200b\ufe0f", "\udce9\uffff\x00"], "\u732b"),
        (["e\u0301"], "e\u0301"),
        ([], ""),
    ],
)
def test_letters_are_what_a_font_has_to_have(texts: list[str], expected: str) -> None:
    assert letters(texts) == set(expected)


# ---------------------------------------------------------------- which fonts


@pytest.mark.usefixtures("squares_installed")
def test_the_fewest_fonts_that_have_all_letters_are_chosen() -> None:
    assert [font.family for font in fonts_with("\u732b")] == ["Squares"]
    assert [font.family for font in fonts_with("\u043a\u043e\u0442")] == ["DejaVu Sans"]
    both = fonts_with("\u732b\u043a")
    assert {font.family for font in both} == {"DejaVu Sans", "Squares"}
    assert fonts_with("") == fonts_with("\u0915") == ()


@pytest.mark.usefixtures("no_further_fonts")
def test_a_font_that_was_installed_after_matplotlib_made_its_list_is_found(
    squares: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert fonts_with("\u732b") == ()
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    there = [str(tmp_path / "damaged.ttf"), str(squares)]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: there)
    fonts._fonts_with.cache_clear()
    assert [font.file for font in fonts_with("\u732b")] == [str(squares)]


def test_a_font_that_is_gone_is_passed_over(no_further_fonts: FontManager, squares: Path, tmp_path: Path) -> None:
    file = tmp_path / "gone.ttf"
    file.write_bytes(squares.read_bytes())
    no_further_fonts.addfont(file)
    file.unlink()
    assert fonts_with("\u732b") == ()


# ---------------------------------------------------------------- charts


def chart_of_tcav() -> Figure:
    rows = tuple(
        TcavRow("conv", name, NAMES[0], 0.7, 0.6, 0.8, 0.1, 0.01, 0.01, 0.9, "significant", 20) for name in NAMES
    )
    settings = {"test": {"test": "calibrated", "correction": "holm", "level": 0.05}}
    return tcav_chart.chart(TcavResult(rows, {}, {}, {}, {}, {}, NAMES, settings, {}, {}))


def map_of_features() -> Figure:
    table = np.random.default_rng(0).normal(size=(30, 3))
    return feature_map(embed(table, engine="pca", perplexity=5, labels=NAMES * 10), style="text", title=NAMES[0])


def plot(what: str) -> Callable[[], Image.Image]:
    return lambda: drawn(60, NAMES).plot(what)


def curves() -> Image.Image:
    row = {f"{part}_{what}": 0.5 for part in ("train", "val") for what in ("loss", "accuracy")}
    return training_curves.training_curves([row | {"epoch": 1}], title=NAMES[0])


CHARTS: dict[str, Callable[[], Any]] = {
    "confusion": plot("confusion"),
    "roc": plot("roc"),
    "tcav": chart_of_tcav,
    "map": map_of_features,
    "curves": curves,
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is made."""
    made: list[Figure] = []
    begin = Figure.__init__

    def keeping(figure: Figure, *arguments: Any, **options: Any) -> None:
        begin(figure, *arguments, **options)
        made.append(figure)

    monkeypatch.setattr(Figure, "__init__", keeping)
    return made


@pytest.mark.usefixtures("squares_installed")
@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_has_a_font_for_its_names(chart: str, figures: list[Figure], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        before = dict(matplotlib.rcParams)
    CHARTS[chart]()
    assert dict(matplotlib.rcParams) == before
    named = [text for text in figures[-1].findobj(matplotlib.text.Text) if "\u732b" in text.get_text()]
    assert named
    assert {tuple(text.get_fontfamily()) for text in named} == {(*before["font.family"], "Squares")}
    figures[-1].savefig(tmp_path / "chart.png")  # Matplotlib warns of what it draws as a box, which is an error here


@pytest.mark.usefixtures("no_further_fonts")
@pytest.mark.parametrize("chart", ["confusion", "tcav"])
def test_letters_that_no_font_has_are_told_once(chart: str) -> None:
    with pytest.warns(FontWarning) as told:
        CHARTS[chart]()
    said = [str(one.message) for one in told]
    assert len(said) == 1
    assert said[0].startswith("no installed font has \u732b, drawn as boxes; install one that does, as Noto Sans")


@pytest.mark.usefixtures("no_further_fonts")
def test_files_are_written_without_a_word_of_matplotlib(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(FontWarning):
        figure = map_of_features()
    save_feature_map(figure, tmp_path / "map.png")
    assert caplog.records == []


def test_the_letters_are_drawn_as_the_font_has_them(no_further_fonts: FontManager, squares: Path) -> None:
    def ink() -> float:
        with chart_fonts("\u732b"):
            figure = Figure(figsize=(1, 1), dpi=100)
            figure.text(0.2, 0.2, "\u732b", size=36)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
        return float((np.asarray(canvas.buffer_rgba())[..., 0] < 128).sum())

    with pytest.warns(FontWarning, match="\u732b"):
        box = ink()
    no_further_fonts.addfont(squares)
    side = 36 / 72 * 100 * 0.8
    assert ink() == pytest.approx(side**2, rel=0.06)
    assert 0 < box < 0.6 * side**2


@pytest.mark.usefixtures("no_further_fonts")
def test_many_letters_are_counted() -> None:
    twenty = "".join(chr(0x4E00 + number) for number in range(20))
    with pytest.warns(FontWarning, match=f"has {' '.join(twenty[:8])} and 12 more, drawn"), chart_fonts(twenty):
        pass


# ---------------------------------------------------------------- grids


def title(text: str) -> np.ndarray:
    """The ink of a title under a blank picture."""
    return np.asarray(grid([Row("", [Cell(np.full((8, 100, 3), 255, np.uint8), text)])], cell=100).convert("L")) < 128


@pytest.mark.usefixtures("squares_installed")
def test_a_grid_takes_each_letter_from_a_font_that_has_it() -> None:
    square, latin, both = title("\u732b"), title("0.98"), title("\u732b0.98")
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    assert square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 10 <= len(rows) <= 12  # 0.8 of 14 pixels
    assert len(columns) == len(rows)
    assert both.sum() == square.sum() + latin.sum()
    # on one line
    assert np.flatnonzero(both.any(axis=1))[-1] == np.flatnonzero(latin.any(axis=1))[-1]


@pytest.mark.usefixtures("squares_installed")
def test_a_long_title_is_cut_in_any_script() -> None:
    cut = np.flatnonzero(title("\u732b" * 40).any(axis=0))
    assert 120 <= np.ptp(cut) + 1 <= 140  # ten letters' heights


@pytest.mark.usefixtures("no_further_fonts")
def test_letters_that_a_grid_draws_as_boxes_are_told_once() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.warns(FontWarning, match="no installed font has \u732b, drawn as boxes") as told:
        grid([Row(NAMES[0], [Cell(picture, NAMES[1], NAMES[0])] * 2)] * 3, headers=[NAMES[1]] * 2)
    assert len(told) == 1


def test_without_matplotlib_a_grid_is_drawn_with_pillows_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "find_spec", lambda _: None)
    with pytest.warns(FontWarning, match="Pillow's font lacks \u732b, .* pip install 'torchcam-suite\\[plots\\]'"):
        box = title("\u732b")
    assert box.any()
