"""Pictures side by side in one image: a row an input, a column a method and layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torchcam_suite.present.fonts import warn_of_boxes
from torchcam_suite.present.lettering import font_of, line_height, nowhere_drawn, text_image, text_width
from torchcam_suite.present.overlay import Picture, as_rgb, colorize

_WHITE = (255, 255, 255)
_TEXT = (34, 34, 34)
_MUTED = (96, 96, 96)
_MARK = (200, 30, 30)
_RULE = (160, 160, 160)
_TICKS = ("1", "0.5", "0")
# A shorter colour bar would have no room for its ticks and its name.
_COLORBAR_LINES = 5


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a grid and the two lines under it.

    Parameters
    ----------
    picture
        RGB (H, W, 3) or grey (H, W), uint8, of any size.
    title
        First line, for example "Grad-CAM · conv2d_5".
    subtitle
        Second line, for example "ember 0.98".
    marked
        Whether a frame around the picture, and the colour of the first line, call attention to it.
    """

    picture: np.ndarray
    title: str
    subtitle: str = ""
    marked: bool = False


class Group(NamedTuple):
    """A header over so many columns."""

    text: str
    columns: int


@dataclass(frozen=True, eq=False)
class Row:
    """The pictures of one input, the original first; `label` (a file name) stands upright at the left."""

    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Layout:
    """Where a grid puts things, in pixels from its top left corner.

    Parameters
    ----------
    size
        Width and height of the whole image.
    lefts
        Left edge of each column.
    column_width
        Width of every column; pictures and text stay within it.
    tops, heights
        Top edge and height of each row's pictures, without their titles.
    picture_sizes
        Width and height of each picture as drawn, by row and column.
    colorbar
        Left, top, right and bottom edge of the colour bar, without its ticks; None without one.
    """

    size: tuple[int, int]
    lefts: tuple[int, ...]
    column_width: int
    tops: tuple[int, ...]
    heights: tuple[int, ...]
    picture_sizes: tuple[tuple[tuple[int, int], ...], ...]
    colorbar: tuple[int, int, int, int] | None = None

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Give the left and top edge of a picture, which is centred in its cell."""
        width, height = self.picture_sizes[row][column]
        return (
            self.lefts[column] + (self.column_width - width) // 2,
            self.tops[row] + (self.heights[row] - height) // 2,
        )


def grid(
    rows: Sequence[Row],
    *,
    headers: Sequence[str] = (),
    groups: Sequence[Sequence[Group]] = (),
    cell: int = 224,
    font_size: int = 14,
    colorbar: str | None = None,
) -> Image.Image:
    """Draw pictures side by side on white, each with its titles, for comparison.

    Pictures keep their aspect ratio: each is fitted into a square of `cell` pixels and centred.
    Where every picture is smaller than that, the square shrinks to a whole multiple of the longest
    side, so that their pixels stay exact. Text that does not fit loses its middle; characters that
    Pillow's font lacks lose their accents, or come from an installed font where Matplotlib is there to find it.

    Parameters
    ----------
    rows
        One row an input, each with the same number of cells.
    headers
        One line above each column, or none at all.
    groups
        Lines above the headers, from the top down, each of headers that span all columns together.
    cell
        Longest side of a picture, in pixels.
    font_size
        Height of the text in pixels; margins and gaps follow it.
    colorbar
        Name of the colour map whose scale from 0 to 1 is drawn at the right, if any.

    Returns
    -------
    PIL.Image.Image
        RGB image, of the size that `arrange` tells.

    Raises
    ------
    ValueError
        There are no rows or no cells, rows differ in length, `headers` or `groups` do not match them, a
        picture is no uint8 image, a size is not positive, or no colour map has this name.

    Warns
    -----
    FontWarning
        No font has some letters, which become boxes.
    """
    layout = arrange(rows, headers=headers, groups=groups, cell=cell, font_size=font_size, colorbar=colorbar)
    font = font_of(font_size)
    warn_of_boxes(nowhere_drawn(_texts(rows, headers, groups), font))
    canvas = Image.new("RGB", layout.size, _WHITE)
    _draw_groups(canvas, layout, groups, font)
    _draw_headers(canvas, layout, headers, font)
    for index, row in enumerate(rows):
        _draw_label(canvas, layout, index, row, font)
        for column, content in enumerate(row.cells):
            _draw_cell(canvas, layout, (index, column), content, font)
    if colorbar is not None and layout.colorbar is not None:
        _draw_colorbar(canvas, layout.colorbar, colorbar, font)
    return canvas


def arrange(
    rows: Sequence[Row],
    *,
    headers: Sequence[str] = (),
    groups: Sequence[Sequence[Group]] = (),
    cell: int = 224,
    font_size: int = 14,
    colorbar: str | None = None,
) -> Layout:
    """Compute where `grid`, given the same arguments, draws each picture."""
    _check(rows, headers, cell, font_size)
    _check_groups(groups, len(rows[0].cells))
    font = font_of(font_size)
    line, gap, pad = line_height(font), font_size, _pad(font)
    sizes = _picture_sizes(rows, cell)
    heights = tuple(max(height for _, height in row) for row in sizes)
    column_width = _column_width(rows, headers, sizes, font)

    left = gap + (line + pad if any(row.label for row in rows) else 0)
    lefts = tuple(left + column * (column_width + gap) for column in range(len(sizes[0])))
    tops = [gap + len(groups) * (line + 2 * pad) + (line + pad if any(headers) else 0)]
    for row, height in zip(rows, heights, strict=True):
        tops.append(tops[-1] + height + _caption_height(row, font) + gap)
    right, bottom = lefts[-1] + column_width + gap, tops.pop()
    if colorbar is None:
        return Layout((right, bottom), lefts, column_width, tuple(tops), heights, sizes)
    pictures_height = tops[-1] + heights[-1] - tops[0]
    bar_height = max(heights[0], min(pictures_height, column_width), _COLORBAR_LINES * line)
    bar = (right, tops[0], right + font_size, tops[0] + bar_height)
    size = (bar[2] + _colorbar_text_width(font) + gap, max(bottom, bar[3] + gap))
    return Layout(size, lefts, column_width, tuple(tops), heights, sizes, bar)


def _texts(rows: Sequence[Row], headers: Sequence[str], groups: Sequence[Sequence[Group]]) -> list[str]:
    """Everything that is written."""
    cells = chain.from_iterable(row.cells for row in rows)
    return [
        *headers,
        *(group.text for line in groups for group in line),
        *(row.label for row in rows),
        *chain.from_iterable(map(_lines, cells)),
    ]


def _check(rows: Sequence[Row], headers: Sequence[str], cell: int, font_size: int) -> None:
    if cell < 1 or font_size < 1:
        raise ValueError(f"cell={cell} and font_size={font_size} were given; expected pixels, at least 1")
    if not rows or not rows[0].cells:
        raise ValueError("a grid without pictures was asked for; expected at least one row with one cell")
    columns = len(rows[0].cells)
    for number, row in enumerate(rows, start=1):
        if len(row.cells) != columns:
            raise ValueError(
                f"row {number} ({row.label!r}) has {len(row.cells)} cells and row 1 has {columns}; "
                "expected as many in each row"
            )
    if headers and len(headers) != columns:
        raise ValueError(f"{len(headers)} headers were given for {columns} columns; expected one a column")


def _check_groups(groups: Sequence[Sequence[Group]], columns: int) -> None:
    for line in groups:
        if sum(group.columns for group in line) != columns or any(group.columns < 1 for group in line):
            raise ValueError(f"groups {line} were given for {columns} columns; expected each column in one of them")


def _picture_sizes(rows: Sequence[Row], cell: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    shapes = [[as_rgb(content.picture).shape for content in row.cells] for row in rows]
    longest = max(max(height, width) for row in shapes for height, width, _ in row)
    side = cell if longest > cell else longest * (cell // longest)
    return tuple(tuple(_fitted(width, height, side) for height, width, _ in row) for row in shapes)


def _fitted(width: int, height: int, side: int) -> tuple[int, int]:
    longest = max(width, height)
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def _column_width(
    rows: Sequence[Row],
    headers: Sequence[str],
    sizes: Sequence[Sequence[tuple[int, int]]],
    font: ImageFont.FreeTypeFont,
) -> int:
    """Width of the widest picture; text may widen columns of narrow pictures to a readable width."""
    texts = [*headers, *(text for row in rows for content in row.cells for text in _lines(content))]
    widest_text = max((text_width(text, font) for text in texts), default=0)
    readable = 10 * round(font.size)
    return max(max(width for row in sizes for width, _ in row), min(widest_text, readable))


def _lines(content: Cell) -> tuple[str, str]:
    return content.title, content.subtitle


def _caption_height(row: Row, font: ImageFont.FreeTypeFont) -> int:
    if any(content.subtitle for content in row.cells):
        return _pad(font) + 2 * line_height(font)
    return _pad(font) + line_height(font) if any(content.title for content in row.cells) else 0


def _draw_groups(
    canvas: Image.Image, layout: Layout, groups: Sequence[Sequence[Group]], font: ImageFont.FreeTypeFont
) -> None:
    """Each group's text over a rule that spans its columns; a group without a text has neither."""
    step, draw = line_height(font) + 2 * _pad(font), ImageDraw.Draw(canvas)
    for level, line in enumerate(groups):
        first, top = 0, round(font.size) + level * step
        for group in line:
            left, first = layout.lefts[first], first + group.columns
            right = layout.lefts[first - 1] + layout.column_width
            if group.text:
                text = text_image(group.text, right - left, font, _TEXT)
                canvas.paste(text, (left + (right - left - text.width) // 2, top))
                draw.line((left, top + step - _pad(font), right - 1, top + step - _pad(font)), fill=_RULE)


def _draw_headers(canvas: Image.Image, layout: Layout, headers: Sequence[str], font: ImageFont.FreeTypeFont) -> None:
    top = layout.tops[0] - _pad(font) - line_height(font)
    for left, header in zip(layout.lefts, headers, strict=False):
        line = text_image(header, layout.column_width, font, _TEXT)
        canvas.paste(line, (left + (layout.column_width - line.width) // 2, top))


def _draw_label(canvas: Image.Image, layout: Layout, index: int, row: Row, font: ImageFont.FreeTypeFont) -> None:
    """Write beside the picture, and on beside its titles where the picture is too low for the label."""
    height = layout.heights[index]
    upright = text_image(row.label, height + _caption_height(row, font), font, _TEXT)
    upright = upright.transpose(Image.Transpose.ROTATE_90)
    left = layout.lefts[0] - _pad(font) - upright.width
    canvas.paste(upright, (left, layout.tops[index] + max(0, (height - upright.height) // 2)))


def _draw_cell(
    canvas: Image.Image,
    layout: Layout,
    place: tuple[int, int],
    content: Cell,
    font: ImageFont.FreeTypeFont,
) -> None:
    row, column = place
    size, (left, upper) = layout.picture_sizes[row][column], layout.corner(row, column)
    canvas.paste(_scaled(as_rgb(content.picture), size), (left, upper))
    if content.marked:
        edges = (left, upper, left + size[0] - 1, upper + size[1] - 1)
        ImageDraw.Draw(canvas).rectangle(edges, outline=_MARK, width=max(2, round(font.size / 4)))
    top = layout.tops[row] + layout.heights[row] + _pad(font)
    for text, color in zip(_lines(content), (_MARK if content.marked else _TEXT, _MUTED), strict=True):
        line = text_image(text, layout.column_width, font, color)
        canvas.paste(line, (layout.lefts[column] + (layout.column_width - line.width) // 2, top))
        top += line_height(font)


def _scaled(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """Smooth when a picture shrinks or grows by a fraction; whole factors keep its pixels as blocks."""
    height, width = picture.shape[:2]
    if size[0] < width or size[1] < height:
        resampling = Image.Resampling.LANCZOS
    elif size[0] % width == 0 and size[1] % height == 0:
        resampling = Image.Resampling.NEAREST
    else:
        resampling = Image.Resampling.BILINEAR
    return Image.fromarray(picture).resize(size, resampling)


def _draw_colorbar(
    canvas: Image.Image,
    edges: tuple[int, int, int, int],
    colormap: str,
    font: ImageFont.FreeTypeFont,
) -> None:
    left, top, right, bottom = edges
    height = bottom - top
    scale = np.linspace(1, 0, height)[:, np.newaxis].repeat(right - left, axis=1)
    canvas.paste(Image.fromarray(colorize(scale, colormap)), (left, top))
    draw = ImageDraw.Draw(canvas)
    # Pillow's anchors: left, and the ink's top, the middle, the ink's bottom.
    for tick, anchor, y in zip(_TICKS, ("lt", "lm", "lb"), (top, (top + bottom) // 2, bottom), strict=True):
        draw.text((right + _pad(font), y), tick, fill=_MUTED, font=font, anchor=anchor)
    name = text_image(colormap, height, font, _MUTED).transpose(Image.Transpose.ROTATE_90)
    canvas.paste(name, (right + 2 * _pad(font) + _ticks_width(font), top + (height - name.height) // 2))


def _colorbar_text_width(font: ImageFont.FreeTypeFont) -> int:
    return 2 * _pad(font) + _ticks_width(font) + line_height(font)


def _ticks_width(font: ImageFont.FreeTypeFont) -> int:
    return max(text_width(text, font) for text in _TICKS)


def _pad(font: ImageFont.FreeTypeFont) -> int:
    return max(1, round(font.size / 3))
