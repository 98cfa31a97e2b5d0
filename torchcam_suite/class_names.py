"""Names of classes, compared wherever they come from: folders, CSV files, models, the command line."""

from unicodedata import normalize

__all__ = ["composed"]


def composed(name: str) -> str:
    r"""A name with each accented letter as one character (Unicode's NFC): macOS writes names of folders with two.

    Names of classes are the same where this is.

    Examples
    --------
    >>> composed("gru\u0308n") == "gr\u00fcn" == composed("gr\u00fcn")
    True
    """
    return normalize("NFC", name)
