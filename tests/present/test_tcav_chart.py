"""The chart shows each score, its interval, and what of it is significant."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from torchcam_suite.concepts.result import TcavResult, TcavRow
from torchcam_suite.errors import ConceptError, ImageError, MissingLibraryError
from torchcam_suite.present.tcav_chart import chart, draw

VERDICTS = ("significant", "not significant", "undecided")
COLOURS = ("red", "green", "blue")
MANY = tuple("striped zigzagged dotted red green blue yellow metallic-surface grid woven_basket wood $fur$".split())
LAYERS = ("block3_conv3", "block4_conv3", "mixed_7a/branch3x3/with/a/very/long/name/of/a/layer_relu")


def made(
    concepts: Sequence[str] = COLOURS,
    layers: Sequence[str] = LAYERS[:2],
    targets: Sequence[str] = ("fire",),
    verdicts: Sequence[str] = VERDICTS,
) -> TcavResult:
    """A result of random scores, 0 and 1 among them; verdicts in turn."""
    random = np.random.default_rng(0)
    rows = []
    for target in targets:
        for layer in layers:
            for concept in concepts:
                score = float(random.choice([0, 1, random.uniform()]))
                low, high = max(0.0, score - random.uniform(0, 0.2)), min(1.0, score + random.uniform(0, 0.2))
                verdict = verdicts[len(rows) % len(verdicts)]
                p = None if verdict == "not tested" else 0.01
                rows.append(TcavRow(layer, concept, target, score, low, high, 0.1, p, p, 0.9, verdict, 20))
    settings = {"test": {"test": "calibrated", "correction": "benjamini_hochberg", "level": 0.05}}
    return TcavResult(tuple(rows), {}, {}, {}, {}, {}, tuple(concepts), settings, {}, {})


def bars(axes: Axes) -> list[SimpleNamespace]:
    """From left to right."""
    found = [
        SimpleNamespace(
            left=bar.get_x(),
            right=bar.get_x() + bar.get_width(),
            height=bar.get_height(),
            face=to_rgb(bar.get_facecolor()),
            edge=to_rgb(bar.get_edgecolor()),
        )
        for bar in axes.patches
    ]
    return sorted(found, key=lambda bar: bar.left)


def rows_in_order(result: TcavResult, target: str) -> list[TcavRow]:
    """As the bars of a panel stand."""
    layers = list(dict.fromkeys(row.layer for row in result.rows))
    rows = [row for row in result.rows if row.target == target]
    return sorted(rows, key=lambda row: (result.concepts.index(row.concept), layers.index(row.layer)))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("layers", [LAYERS[:1], LAYERS])
@pytest.mark.parametrize("targets", [("fire",), ("fire", "grass", "3")])
def test_each_panel_has_a_group_of_bars_for_each_concept(layers: Sequence[str], targets: Sequence[str]) -> None:
    result = made(layers=layers, targets=targets)
    panels = chart(result).axes
    assert [axes.get_title(loc="left") for axes in panels] == [{"3": "class 3"}.get(name, name) for name in targets]
    for axes, target in zip(panels, targets, strict=True):
        found, rows = bars(axes), rows_in_order(result, target)
        assert [bar.height for bar in found] == [row.score for row in rows]
        assert [round((bar.left + bar.right) / 2) for bar in found] == [COLOURS.index(row.concept) for row in rows]
        assert all(one.right < other.left for one, other in pairwise(found))
        by_layer = {row.layer: bar.edge for row, bar in zip(rows, found, strict=True)}
        assert len(set(by_layer.values())) == len(layers)
        assert all(bar.edge == by_layer[row.layer] for row, bar in zip(rows, found, strict=True))
        assert [label.get_text() for label in axes.get_xticklabels()] == list(COLOURS)


def test_the_lines_on_bars_are_the_intervals() -> None:
    result = made()
    (axes,) = chart(result).axes
    drawn = sorted(tuple(segment[:, 1]) for lines in axes.collections for segment in lines.get_segments())
    expected = sorted((row.low, row.high) for row in result.rows)
    np.testing.assert_allclose(drawn, expected, atol=1e-12)


def test_there_is_a_dashed_line_at_one_half_in_each_panel() -> None:
    for axes in chart(made(targets=("fire", "grass"))).axes:
        dashed = [line for line in axes.lines if line.is_dashed()]
        assert [list(line.get_ydata()) for line in dashed] == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("verdict", "mark", "solid", "meaning"),
    [
        ("significant", None, True, None),
        ("not significant", "*", True, "not significant"),
        ("undecided", "?", False, "undecided: too few random sets"),
        ("not tested", None, False, "not tested for significance"),
    ],
)
def test_a_verdict_is_seen_at_its_bar_and_told_in_the_legend(
    verdict: str, mark: str | None, solid: bool, meaning: str | None
) -> None:
    result = made(verdicts=[verdict])
    figure = chart(result)
    (axes,) = figure.axes
    found, rows = bars(axes), rows_in_order(result, "fire")
    marks = sorted((text.get_text(), text.xy) for text in axes.texts)
    assert {text for text, _ in marks} == ({mark} if mark else set())
    for (_, (x, y)), bar, row in zip(sorted(marks, key=lambda item: item[1]), found, rows, strict=bool(mark)):
        assert x == pytest.approx((bar.left + bar.right) / 2)
        assert row.high < y < row.high + 0.1
    assert all((bar.face == bar.edge) is solid for bar in found)
    assert all(bar.face == (1, 1, 1) or solid for bar in found)
    assert legend(figure) == [*LAYERS[:2], *([meaning] if meaning else []), "0.5: as often up as down"]


def test_a_bar_of_height_0_is_seen(tmp_path: Path) -> None:
    result = made(concepts=("red", "green"), layers=("conv",), verdicts=["significant"])
    rows = tuple(TcavRow(**(vars(row) | {"score": 0.0, "low": 0.0, "high": 0.0})) for row in result.rows)
    zero = TcavResult(rows, {}, {}, {}, {}, {}, result.concepts, result.settings, {}, {})
    with Image.open(draw(zero, tmp_path / "chart.png")) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    colour = 255 * np.array(bars(chart(zero).axes[0])[0].edge)
    below_the_legend = (np.abs(pixels - colour).max(axis=2) < 30)[pixels.shape[0] // 2 :]
    assert below_the_legend.sum() > 100


@pytest.mark.parametrize(
    "result",
    [made(MANY, LAYERS, ("zebra", "3")), made(("red",), ("conv",)), made(COLOURS, [f"layer{i}" for i in range(12)])],
    ids=["12 concepts, 3 layers", "one bar", "12 layers"],
)
def test_nothing_is_cut_off_or_overlaps(result: TcavResult, tmp_path: Path) -> None:
    figure = chart(result)
    with Image.open(draw(result, tmp_path / "chart.png")) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for border in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (border == 255).all()
    assert max(pixels.shape) < 3200
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [label.get_window_extent() for label in axes.get_xticklabels()]
        level = all(label.get_rotation() == 0 for label in axes.get_xticklabels())
        assert not level or all(one.x1 < other.x0 for one, other in pairwise(labels))
        (outside,) = figure.legends
        assert outside.get_window_extent().y0 > axes.get_window_extent().y1
    bar = figure.axes[0].patches[0].get_window_extent().width / figure.dpi
    assert 0.1 < bar < 1.5


def test_only_the_target_that_is_asked_is_drawn() -> None:
    result = made(targets=("fire", "grass"))
    (axes,) = chart(result, target="grass").axes
    assert axes.get_title(loc="left") == "grass"
    with pytest.raises(ConceptError, match="target='gras'; this result has 'fire', 'grass'"):
        chart(result, target="gras")


def test_the_footing_says_how_it_was_found() -> None:
    figure = chart(made())
    assert figure.get_supxlabel() == (
        "20 random sets · calibrated test at a level of 0.05, correction: Benjamini and Hochberg\n"
        "lines on bars: 95 % interval over images and runs"
    )
    assert "test" not in chart(made(verdicts=["not tested"])).get_supxlabel()


@pytest.mark.parametrize(
    ("concepts", "target"),
    [
        (("a texture of something long, which has no end, and goes on and on for ninety letters or so", "b"), "fire"),
        (COLOURS, "American Staffordshire terrier, American pit bull terrier, pit bull terrier"),
        (tuple(f"wide meadows number {i}" for i in range(6)), "Old English Sheepdogs " * 4),
    ],
)
def test_long_names_leave_the_bars_their_room(concepts: Sequence[str], target: str, tmp_path: Path) -> None:
    figure = chart(made(concepts=concepts, targets=(target,)))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_window_extent().height / figure.dpi > 1.4
    draw(made(concepts=concepts, targets=(target,)), tmp_path / "chart.png")
    pixels = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB"))
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 255).all()


def test_names_that_are_not_unicode_are_drawn(tmp_path: Path) -> None:
    odd = made(concepts=("caf\udce9", "red"), layers=("conv\udce9",), targets=("tub\udce9",))
    assert chart(odd).axes[0].get_title(loc="left") == "tub\\udce9"
    assert draw(odd, tmp_path / "odd.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("ending", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")]
)
def test_the_ending_says_the_format_and_a_chart_is_always_the_same_file(
    ending: str, start: bytes, tmp_path: Path
) -> None:
    first = made().plot(tmp_path / "new" / f"a{ending}")
    second = draw(made(), tmp_path / f"b{ending}")
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()
    assert list(first.parent.iterdir()) == [first]


def test_what_cannot_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"a.jpg' was given; expected one that ends in .png, .pdf, .svg"):
        draw(made(), tmp_path / "a.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot write the picture"):
        draw(made(), tmp_path / "file" / "a.png")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'torchcam-suite\[plots\]'"):
        draw(made(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
