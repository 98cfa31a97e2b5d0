"""Fonts for names in any script: of those that are installed, the ones that have the letters."""

import logging
import re
import unicodedata
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from torchcam_suite.errors import FontWarning

__all__ = ["Font", "chart_fonts", "fonts_with", "letters", "warn_of_boxes", "without_glyph_warnings"]

_ADVICE = "install one that does, as Noto Sans (in Debian fonts-noto-core, fonts-noto-cjk)"
_INSTALL = "pip install 'torchcam-suite[plots]'"
_MOST_NAMED = 8
# symbols of formulas, letters at places of their own, and a font that has a box for every character there is
_NO_LETTERS = re.compile(r"\.?last ?resort|stix(size|nonunicode)|cm(b|ex|mi|r|ss|sy|tt)10", re.IGNORECASE)


class Font(NamedTuple):
    """A font that is installed."""

    family: str
    file: str
    face: int  # in a file of several


def letters(texts: Iterable[str]) -> frozenset[str]:
    r"""The characters that a font has to have: no blanks, marks of direction, or halves of a character.

    Examples
    --------
    >>> sorted(letters(["a cat", "\u732b\u200b"]))
    ['a', 'c', 't', '猫']
    """
    return frozenset(
        character
        for character in frozenset().union(*texts)
        if unicodedata.category(character)[0] not in "CZ" and not "\ufe00" <= character <= "\ufe0f"
    )


def fonts_with(characters: Collection[str], *, together: bool = False) -> tuple[Font, ...]:
    """The fewest installed fonts that have these characters, as far as any has them; none without Matplotlib.

    Parameters
    ----------
    characters : collection of str
        From `letters`.
    together : bool
        Whether one font has to have them all; there may be none then.
    """
    if not characters or find_spec("matplotlib") is None:
        return ()
    from matplotlib.font_manager import fontManager

    # fonts may be added while the program runs
    return _fonts_with(frozenset(characters), together, len(fontManager.ttflist))


@lru_cache(maxsize=256)
def _fonts_with(characters: frozenset[str], together: bool, _known: int) -> tuple[Font, ...]:
    of_each: dict[Font, frozenset[str]] = {}
    for font in _installed_fonts():
        of_each[font] = _of_these(font, characters)
        if of_each[font] == characters:
            return (font,)
    found: list[Font] = []
    while not together and of_each:
        best = max(of_each, key=lambda font: len(of_each[font] & characters))
        if not of_each[best] & characters:
            break
        found.append(best)
        characters -= of_each.pop(best)
    return tuple(found)


def _installed_fonts() -> Iterator[Font]:
    """Those that Matplotlib knows, then those that were installed after it had made its list."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = list(fontManager.ttflist)
    yield from _families(known)
    files = {str(entry.fname) for entry in known}
    for file in findSystemFonts():
        if str(file) not in files:
            with suppress(Exception):  # what no chart can be written with, as coloured pictures
                fontManager.addfont(file)
    yield from _families(fontManager.ttflist[len(known) :])


def _families(entries: Iterable[Any]) -> Iterator[Font]:
    """One font of each family, upright and without serifs first."""

    def rank(entry: Any) -> tuple[Any, ...]:
        weight = entry.weight if isinstance(entry.weight, int) else 400
        return entry.style != "normal", abs(weight - 400), "sans" not in entry.name.lower(), entry.name, entry.fname

    families: dict[str, Font] = {}
    for entry in sorted((one for one in entries if not _NO_LETTERS.match(one.name)), key=rank):
        families.setdefault(entry.name, Font(entry.name, str(entry.fname), getattr(entry, "index", 0)))
    yield from families.values()


def _of_these(font: Font, characters: frozenset[str]) -> frozenset[str]:
    """Those that a font has."""
    from matplotlib.ft2font import FT2Font

    face: dict[str, Any] = {"face_index": font.face} if font.face else {}  # since Matplotlib 3.11
    try:
        opened = FT2Font(font.file, **face)
    except (OSError, RuntimeError):  # it is there no more, or damaged
        return frozenset()
    return frozenset(one for one in characters if opened.get_char_index(ord(one)))


@contextmanager
def chart_fonts(*texts: str) -> Iterator[None]:
    """Let the charts of Matplotlib that are begun in this block have fonts for these texts.

    Warns
    -----
    FontWarning
        No installed font has some of their letters.
    """
    import matplotlib

    with without_glyph_warnings():
        families = list(matplotlib.rcParams["font.family"])
        lacking = _lacked_by(families, letters(texts))
        further = fonts_with(lacking)
        warn_of_boxes(lacking.difference(*(_of_these(font, lacking) for font in further)))
        with matplotlib.rc_context({"font.family": [*families, *(font.family for font in further)]}):
            yield


def _lacked_by(families: Iterable[str], characters: frozenset[str]) -> frozenset[str]:
    """Those that no font of the settings has; each has those of English."""
    from matplotlib.font_manager import FontProperties, fontManager

    lacking = frozenset(one for one in characters if not one.isascii())
    for family in families if lacking else ():
        file = fontManager.findfont(FontProperties(family=[family]))
        lacking -= _of_these(Font(family, str(file), getattr(file, "face_index", 0)), lacking)
    return lacking


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Keep Matplotlib from telling each time of each letter that is drawn as a box, or in no bold font."""
    finder = logging.getLogger("matplotlib.font_manager")
    level = finder.level
    finder.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            yield
    finally:
        finder.setLevel(level)


def warn_of_boxes(characters: Collection[str]) -> None:
    """Say which letters no font has.

    Warns
    -----
    FontWarning
        There are some.
    """
    if not characters:
        return
    shown = sorted(characters)
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    listed = " ".join(shown[:_MOST_NAMED]) + more
    if find_spec("matplotlib"):
        text = f"no installed font has {listed}, drawn as boxes; {_ADVICE}"
    else:
        text = f"Pillow's font lacks {listed}, drawn as boxes; with matplotlib, installed fonts are found: {_INSTALL}"
    warnings.warn(text, FontWarning, stacklevel=2)
