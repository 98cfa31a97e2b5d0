"""Lines of text as pictures, by Pillow: cut to their room, each letter in a font that has it."""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torchcam_suite.present.fonts import Font, fonts_with, letters

__all__ = ["font_of", "line_height", "nowhere_drawn", "text_image", "text_width"]

_WHITE = (255, 255, 255)
_ELLIPSIS = "…"
# What Pillow's font lacks and Unicode does not decompose to something that it has.
_SUBSTITUTES = {"×": "x", "−": "-", "–": "-", "—": "-", "→": "->", "≈": "~", "ß": "ss"}
# A code point that no font has: it draws as the box that stands for every missing glyph.
_NO_CHARACTER = "\uffff"


@lru_cache(maxsize=16)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, of a height in pixels."""
    font = ImageFont.load_default(size)
    # A Pillow built without FreeType has no scalable font, and has already refused the size.
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Pixels from the top of the highest letter to the bottom of the lowest."""
    ascent, descent = font.getmetrics()
    return ascent + descent


def text_width(text: str, font: ImageFont.FreeTypeFont) -> int:
    """Pixels that the text's ink or its advance takes, whichever is more."""
    return _width(_pieces(text, font))


def text_image(text: str, width: int, font: ImageFont.FreeTypeFont, color: tuple[int, int, int]) -> Image.Image:
    """Draw one line on white, as wide as its text but never wider than `width`."""
    pieces = _pieces(_shortened(text, width, font), font)
    line = Image.new("RGB", (_width(pieces), line_height(font)), _WHITE)
    draw, left = ImageDraw.Draw(line), 0.0
    for piece, suiting in pieces:
        draw.text((left, font.getmetrics()[0]), piece, fill=color, font=suiting, anchor="ls")
        left += suiting.getlength(piece)
    return line


def nowhere_drawn(texts: Iterable[str], font: ImageFont.FreeTypeFont) -> frozenset[str]:
    """The letters that no font has, and that are drawn as boxes."""
    lacking = _lacking("".join(_drawable(text, font) for text in texts), font)
    return frozenset(one for one in lacking if not any(_has_glyph(one, other) for other in _others(lacking, font)))


def _pieces(text: str, font: ImageFont.FreeTypeFont) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The text in pieces, each with a font that has its letters."""
    shown = _drawable(text, font)
    others = _others(_lacking(shown, font), font)
    if not others:
        return [(shown, font)]

    def suiting(character: str) -> ImageFont.FreeTypeFont:
        if _has_glyph(character, font):
            return font
        return next((other for other in others if _has_glyph(character, other)), font)

    return [("".join(piece), own) for own, piece in groupby(shown, suiting)]


def _width(pieces: list[tuple[str, ImageFont.FreeTypeFont]]) -> int:
    *first, (last, font) = pieces
    left = sum(own.getlength(piece) for piece, own in first)
    return int(max(np.ceil(left + font.getlength(last)), np.ceil(left) + font.getbbox(last)[2]))


def _lacking(text: str, font: ImageFont.FreeTypeFont) -> frozenset[str]:
    return frozenset(one for one in letters([text]) if not _has_glyph(one, font))


def _others(characters: frozenset[str], font: ImageFont.FreeTypeFont) -> list[ImageFont.FreeTypeFont]:
    return [_opened(found, font.size) for found in fonts_with(characters)]


@lru_cache(maxsize=64)
def _opened(font: Font, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font.file, size, index=font.face)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Take from the middle what does not fit: names often differ in their last letters."""
    if text_width(text, font) <= width:
        return text

    def kept(count: int) -> str:
        head = (count + 1) // 2
        return text[:head].rstrip() + _ELLIPSIS + text[len(text) - (count - head) :].lstrip()

    fitting = bisect_right(range(len(text)), width, key=lambda count: text_width(kept(count), font))
    return kept(fitting - 1) if fitting else ""


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Put text into characters that the font has; those without a likeness stay, with the marks on them."""
    shown: list[str] = []
    for character in text:
        is_mark = unicodedata.category(character) in ("Mn", "Me")
        stays = is_mark and bool(shown) and shown[-1] not in ("", " ") and not _has_glyph(shown[-1][-1], font)
        shown.append(character if stays else _drawable_character(character, font))
    return "".join(shown)


def _drawable_character(character: str, font: ImageFont.FreeTypeFont) -> str:
    if " " <= character <= "~" or _has_glyph(character, font):
        return character
    if character.isspace() or unicodedata.category(character) == "Cc":
        return " "
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return ""
    if character in _SUBSTITUTES:
        return _SUBSTITUTES[character]
    base = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
    return "".join(base) if base and all(_has_glyph(part, font) for part in base) else character


@lru_cache(maxsize=8192)
def _has_glyph(character: str, font: ImageFont.FreeTypeFont) -> bool:
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))
