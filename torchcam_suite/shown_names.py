"""Names as people read them: of files without their folders, and of layers without their middle."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def short_names(names: Sequence[str]) -> list[str]:
    """File names without their folders, or with as many of these as tell two of them apart.

    Examples
    --------
    >>> short_names(["/data/a/cat.png", "/data/b/cat.png", "/data/b/dog.png", "image 3"])
    ['a/cat.png', 'b/cat.png', 'dog.png', 'image 3']
    """
    parts = {name: Path(name).parts for name in names}
    shown: dict[str, str] = {}
    depth = 1
    while len(shown) < len(parts):
        tails = {name: parts[name][-depth:] for name in parts if name not in shown}
        counts = Counter(tails.values())
        for name, tail in tails.items():
            if counts[tail] == 1 or depth >= len(parts[name]):
                shown[name] = str(Path(*tail))
        depth += 1
    return [shown[name] for name in names]


def shorten(names: Sequence[str], width: int) -> list[str]:
    """Names of at most so many characters, at least 3: what does not fit loses its middle, more of the beginning.

    Two names that would become the same stay whole.

    Examples
    --------
    >>> shorten(["encoder.layers.encoder_layer_11.ln_1", "conv2d_5"], 20)
    ['encode…layer_11.ln_1', 'conv2d_5']
    """
    cut = {name: _without_middle(name, width) for name in names}
    counts = Counter(cut.values())
    return [cut[name] if counts[cut[name]] == 1 else name for name in names]


def _without_middle(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    head = (width - 1) // 3
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def plain_text(name: str) -> str:
    r"""A name as Matplotlib draws it letter by letter: no mathematics; the numbers of bytes that are not UTF-8.

    Examples
    --------
    >>> print(plain_text("$5 to $10"))
    \$5 to \$10
    """
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
