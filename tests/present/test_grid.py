import numpy as np
import pytest
from PIL import ImageFont

from torchcam_suite.present.grid import Cell, Row, arrange, grid
from torchcam_suite.present.overlay import colorize

RNG = np.random.default_rng(0)
LONG = "a title that is very much longer than its cell, block5_conv4"


def picture(height, width):
    # No pixel is white, so that a picture can be told from the background.
    return RNG.integers(0, 200, (height, width, 3), dtype=np.uint8)


def rows_of(shapes, title="", subtitle="", label=""):
    return [Row(label, [Cell(picture(*shape), title, subtitle) for shape in row]) for row in shapes]


def crop(image, corner, size):
    left, top = corner
    return np.asarray(image)[top : top + size[1], left : left + size[0]]


def ink(pixels):
    return (np.asarray(pixels) < 255).any(axis=2)


def drawn_text(text, width=224):
    """Give the ink of a title drawn under one blank picture."""
    rows = [Row("", [Cell(np.full((8, width, 3), 255, np.uint8), text)])]
    image = grid(rows, cell=width)
    assert image.width == width + 28
    return ink(image)


@pytest.mark.parametrize("rows", [1, 2, 6])
@pytest.mark.parametrize("columns", [1, 3, 7])
def test_every_picture_is_found_unchanged_where_the_layout_says(rows, columns):
    content = rows_of([[(40, 40)] * columns] * rows, "Grad-CAM · conv2d_5", "ember 0.98", "fire.jpg")
    options = {"cell": 40, "headers": ["a"] * columns, "colorbar": "jet"}
    layout, image = arrange(content, **options), grid(content, **options)
    assert image.mode == "RGB"
    assert image.size == layout.size
    for i, row in enumerate(content):
        for j, cell in enumerate(row.cells):
            np.testing.assert_array_equal(crop(image, layout.corner(i, j), (40, 40)), cell.picture)


def test_without_text_a_grid_is_pictures_and_even_margins():
    image = grid(rows_of([[(50, 50)] * 3] * 2), cell=50, font_size=10)
    assert image.size == (10 + 3 * (50 + 10), 10 + 2 * (50 + 10))
    columns, rows = ink(image).any(axis=0), ink(image).any(axis=1)
    assert columns.tolist() == ([False] * 10 + [True] * 50) * 3 + [False] * 10
    assert rows.tolist() == ([False] * 10 + [True] * 50) * 2 + [False] * 10


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((100, 300), (90, 30)), ((300, 100), (30, 90)), ((180, 180), (90, 90)), ((1, 4000), (90, 1))],
)
def test_pictures_keep_their_aspect_ratio_in_the_cell(shape, drawn):
    content = rows_of([[shape, (90, 90)]])
    layout = arrange(content, cell=90)
    assert layout.picture_sizes[0][0] == drawn
    left, top = layout.corner(0, 0)
    surplus = 90 - drawn[0], 90 - drawn[1]
    assert (left, top) == (layout.lefts[0] + surplus[0] // 2, layout.tops[0] + surplus[1] // 2)
    rows, columns = np.nonzero(ink(crop(grid(content, cell=90), (layout.lefts[0], layout.tops[0]), (90, 90))))
    assert (columns.min(), rows.min()) == (surplus[0] // 2, surplus[1] // 2)
    assert (columns.max() - columns.min() + 1, rows.max() - rows.min() + 1) == drawn


def test_a_row_is_as_high_as_its_highest_picture():
    layout = arrange(rows_of([[(20, 80), (20, 80)], [(80, 80), (40, 80)], [(80, 10), (20, 10)]]), cell=80)
    assert layout.heights == (20, 80, 80)
    assert layout.column_width == 80


def test_a_large_picture_shrinks_to_the_mean_of_its_pixels():
    fine = np.zeros((400, 400, 3), np.uint8)
    fine[::2, ::2] = fine[1::2, 1::2] = (80, 120, 200)
    content = [Row("", [Cell(fine, "")])]
    drawn = crop(grid(content, cell=100), arrange(content, cell=100).corner(0, 0), (100, 100))
    assert np.abs(drawn.astype(int) - (40, 60, 100)).max() <= 3


@pytest.mark.parametrize(("side", "factor"), [(32, 7), (100, 2), (150, 1), (224, 1)])
def test_small_pictures_grow_by_whole_factors_with_exact_pixels(side, factor):
    content = rows_of([[(side, side)] * 2])
    layout, image = arrange(content), grid(content)
    assert layout.picture_sizes == (((side * factor,) * 2,) * 2,)
    expected = np.kron(content[0].cells[1].picture, np.ones((factor, factor, 1), np.uint8))
    np.testing.assert_array_equal(crop(image, layout.corner(0, 1), expected.shape[1::-1]), expected)


def test_a_picture_smaller_than_the_others_fills_its_cell_as_well():
    assert arrange(rows_of([[(90, 120), (60, 80)]]), cell=120).picture_sizes == (((120, 90), (120, 90)),)


def test_a_grey_picture_is_drawn_in_grey():
    grey = picture(40, 40)[:, :, 0]
    content = [Row("", [Cell(grey, "")])]
    drawn = crop(grid(content, cell=40), arrange(content, cell=40).corner(0, 0), (40, 40))
    np.testing.assert_array_equal(drawn, np.dstack([grey] * 3))


@pytest.mark.parametrize("font_size", [9, 14, 31])
@pytest.mark.parametrize("shape", [(120, 120), (30, 120), (120, 20)])
def test_long_text_stays_within_its_cell(font_size, shape):
    content = rows_of([[shape] * 3] * 2, LONG, LONG + " 0.98", LONG * 3)
    options = {"headers": [LONG] * 3, "cell": 120, "font_size": font_size, "colorbar": "twilight_shifted"}
    layout, image = arrange(content, **options), grid(content, **options)
    marks = ink(image)
    within = np.zeros(image.width, bool)
    within[font_size : layout.lefts[0] - 1] = True
    for left in layout.lefts:
        within[left : left + layout.column_width] = True
    within[layout.colorbar[0] : image.width - font_size] = True
    assert marks[:, within].any()
    assert not marks[:, ~within].any()
    below = layout.tops[1] - font_size, layout.tops[1]
    assert not marks[slice(*below), : layout.colorbar[0]].any()
    assert not marks[:font_size].any()
    assert not marks[image.height - font_size :].any()


def test_headers_titles_and_subtitles_stand_on_lines_of_their_own():
    content = rows_of([[(60, 60)] * 2], "Grad-CAM (gjpqy)", "ember 0.98")
    image = grid(content, headers=["input", "jet"], cell=60)
    inked = ink(image).any(axis=1).astype(int)
    starts = np.flatnonzero(np.diff(inked) == 1) + 1
    assert len(starts) == 4  # header, pictures, title, subtitle
    assert starts[1] == arrange(content, headers=["input", "jet"], cell=60).tops[0]


def test_text_takes_room_only_where_there_is_text():
    bare = arrange(rows_of([[(60, 60)]]), cell=60).size
    titled, both = (arrange(rows_of([[(60, 60)]], *texts), cell=60).size for texts in (("a",), ("a", "b")))
    labelled = arrange(rows_of([[(60, 60)]], label="a"), cell=60).size
    headed = arrange(rows_of([[(60, 60)]]), cell=60, headers=["a"]).size
    assert bare == (60 + 28, 60 + 28)
    assert bare[1] < titled[1] < both[1]
    assert titled[0] == both[0] == bare[0]
    assert labelled[0] > bare[0]
    assert labelled[1] == bare[1]
    assert headed[1] == titled[1]


def test_columns_of_narrow_pictures_widen_for_their_text_up_to_ten_letter_heights():
    narrow = [[(100, 10)] * 2]
    widths = [arrange(rows_of(narrow, title), cell=100).column_width for title in ("", "Grad-CAM", LONG)]
    assert widths[0] == 10
    font = ImageFont.load_default(14)
    assert font.getlength("Grad-CAM") <= widths[1] <= font.getlength("Grad-CAM") + 2
    assert widths[2] == 140


def test_a_title_of_any_length_leaves_the_margins_white():
    inked = [drawn_text("l" * count, width=140) for count in range(1, 80)]
    widest = max(np.ptp(np.flatnonzero(marks.any(axis=0))) + 1 for marks in inked)
    assert 130 <= widest <= 140
    assert not any(marks[:, :14].any() or marks[:, -14:].any() for marks in inked)


def test_a_long_title_keeps_its_beginning_and_its_end():
    ends = [drawn_text("Grad-CAM " + "x" * 200 + end) for end in ("_conv4", "_conv5", "_conv4")]
    assert (ends[0] == ends[2]).all()
    differing = np.flatnonzero((ends[0] != ends[1]).any(axis=0))
    assert differing.size > 0
    assert differing.min() > 0.8 * ends[0].shape[1]
    np.testing.assert_array_equal(
        drawn_text("Grad-CAM " + "x" * 200)[:, :60], drawn_text("Grad-CAM " + "x" * 300)[:, :60]
    )


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.FontWarning")
@pytest.mark.usefixtures("no_further_fonts")
@pytest.mark.parametrize(
    ("given", "same_as"),
    [
        ("Grad-CAM é", "Grad-CAM e"),
        ("Cafe\u0301", "Cafe"),
        ("Ångström", "Angstrom"),
        ("3×3 − 2 → 1", "3x3 - 2 -> 1"),
        ("straße", "strasse"),
        ("two\nlines\tand\x00more", "two lines and more"),
        ("a\u200bb\u202ec", "abc"),
        ("日本", "\uffff\uffff"),
        ("bad \udcff name", "bad \uffff name"),
    ],
)
def test_characters_that_the_font_lacks_are_replaced(given, same_as):
    expected = drawn_text(same_as)
    assert expected.sum() > 20
    np.testing.assert_array_equal(drawn_text(given), expected)


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.FontWarning")
def test_the_middle_dot_and_the_ellipsis_are_drawn_as_themselves():
    marks = [drawn_text(character).sum() for character in "·…日"]
    assert 0 < marks[0] < marks[1] < marks[2]


@pytest.mark.parametrize("colormap", ["jet", "viridis"])
def test_the_colour_bar_shows_the_colour_map_from_1_down_to_0(colormap):
    content = rows_of([[(200, 200)]])
    layout, image = arrange(content, colorbar=colormap), grid(content, colorbar=colormap)
    left, top, right, bottom = layout.colorbar
    assert (top, bottom) == (layout.tops[0], layout.tops[0] + 200)
    bar = np.asarray(image)[top:bottom, left:right]
    ends = colorize(np.array([[1.0], [0.0]]), colormap)
    assert (bar[0] == ends[0]).all()
    assert (bar[-1] == ends[1]).all()
    assert (bar == bar[:, :1]).all()
    np.testing.assert_array_equal(bar[:, 0], colorize(np.linspace(1, 0, 200)[None], colormap)[0])


@pytest.mark.parametrize("shapes", [[[(4, 40)]], [[(4, 40)]] * 3, [[(40, 4)]] * 2])
def test_a_colour_bar_beside_small_pictures_has_room_for_its_ticks(shapes):
    layout = arrange(rows_of(shapes), cell=40, colorbar="jet")
    _, top, right, bottom = layout.colorbar
    assert bottom - top >= 5 * 14
    assert bottom + 14 <= layout.size[1]
    image = grid(rows_of(shapes), cell=40, colorbar="jet")
    beside = ink(image)[top:bottom, right + 1 : right + 30].any(axis=1).astype(int)
    assert (np.diff(beside) == 1).sum() + beside[0] == 3  # three ticks, apart from each other


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "without pictures"),
        ([Row("a", [])], {}, "without pictures"),
        (
            [*rows_of([[(9, 9)] * 2]), Row("b.png", [Cell(picture(9, 9), "")])],
            {},
            r"row 2 \('b.png'\) has 1 cells",
        ),
        (rows_of([[(9, 9)] * 2]), {"headers": ["a"]}, "1 headers were given for 2 columns"),
        (rows_of([[(9, 9)]]), {"cell": 0}, "cell=0"),
        (rows_of([[(9, 9)]]), {"font_size": 0}, "font_size=0"),
        (rows_of([[(9, 9)]]), {"colorbar": "virdis"}, "did you mean 'viridis'"),
        ([Row("", [Cell(np.zeros((9, 9, 3)), "")])], {}, "type float64 was given; expected uint8"),
    ],
)
def test_a_grid_that_cannot_be_drawn_says_why(rows, options, message):
    with pytest.raises(ValueError, match=message):
        grid(rows, **options)
