"""A map of features as one picture for a page: PNG or PDF."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageOps

from torchcam_suite.embedding.result import Embedding
from torchcam_suite.errors import ImageError, MissingLibraryError
from torchcam_suite.explanation import write_atomically
from torchcam_suite.present.fonts import chart_fonts, without_glyph_warnings
from torchcam_suite.present.map_colours import RAMP, Colouring, colouring
from torchcam_suite.present.map_layout import apart, fitted, grid_cells, thumbnail_order
from torchcam_suite.present.thumbnails import as_pixels, thumbnails
from torchcam_suite.shown_names import plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MarkerPath

Style = Literal["pictures", "dots", "text"]
Layout = Literal["map", "grid"]
STYLES, LAYOUTS = ("pictures", "dots", "text"), ("map", "grid")
FORMATS = (".png", ".pdf")

_DPI = 200
_SIDE, _LEGEND, _HEAD, _FOOT = 8.0, 2.0, 0.45, 0.3  # inches
_THUMBNAIL = 56  # pixels
_FRAME = 3
_MARK = 12
_MARGIN = 30  # pixels left free at the sides of a map of dots
_ENTRY, _BESIDE_ENTRY = 8, 0.6  # points: of a name in the legend; inches: what is beside it
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X", "plus": "P"}
_MUTED = "#606060"
_LONGEST = 22  # characters of a name in the legend


def feature_map(
    embedding: Embedding,
    pictures: Sequence[Any] | None = None,
    *,
    color_by: str | None = None,
    style: Style | None = None,
    layout: Layout = "map",
    thumbnail: int = _THUMBNAIL,
    title: str | None = None,
) -> "Figure":
    """Draw a map.

    Parameters
    ----------
    embedding : Embedding
        The map.
    pictures : sequence, optional
        One an image: path, PIL image, array, or None; else the files that the map knows.
    color_by : str, optional
        `label`, `prediction`, `correctness` or `confidence`; else the first of them that is known.
    style : str, optional
        `pictures`: thumbnails in frames of their colour that do not cover one another, each cluster's medoid first, and
        a dot for every other image. `dots`: a dot for each. `text`: the name of its group in its colour, as maps of
        handwritten digits are drawn. Else `pictures` where there are any, `dots` where not.
    layout : str
        `map`, or `grid`: every image has a cell of its own near its place on the map, so that none is hidden; distances
        are lost.
    thumbnail : int
        Side of a thumbnail in pixels, of 1600 that the map has; a grid chooses its own.
    title : str, optional
        Else layer, engine and number of images.

    Returns
    -------
    matplotlib.figure.Figure
        For `save_feature_map`, or to change.

    Raises
    ------
    MissingLibraryError
        Matplotlib is not installed.
    ValueError
        The map lacks what it is to be coloured by, another option is not known, or there are too few pictures.
    """
    _check(embedding, pictures, style, layout, thumbnail)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingLibraryError(
            "pictures of maps need Matplotlib, which is not installed: pip install 'torchcam-suite[maps]'"
        ) from None
    shown = list(embedding.paths if pictures is None else pictures)
    style = style or ("pictures" if any(picture is not None for picture in shown) else "dots")
    colours, written = colouring(embedding, color_by), title or heading(embedding)
    with chart_fonts(written, *map(plain_text, colours.names)):
        return _figure(embedding, shown, colours, style, layout, thumbnail, written)


def _figure(
    embedding: Embedding, shown: list[Any], colours: Colouring, style: str, layout: str, thumbnail: int, title: str
) -> "Figure":
    from matplotlib.figure import Figure

    width, height = _SIDE + _legend_width(colours), _HEAD + _SIDE + _FOOT
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, _FOOT / height, _SIDE / width, _SIDE / height))
    side = round(_SIDE * _DPI)
    axes.set(xlim=(0, side), ylim=(side, 0))
    axes.axis("off")
    if layout == "grid":
        _draw_grid(axes, embedding, shown, colours, style, side)
    else:
        _draw_map(axes, embedding, shown, colours, style, thumbnail, side)
    _draw_legend(figure, axes, colours, style)
    figure.text(0.15 / width, 1 - 0.28 / height, plain_text(title), fontsize=11)
    figure.text(0.15 / width, 0.12 / height, footing(embedding), fontsize=7.5, color=_MUTED)
    return figure


def save_feature_map(figure: "Figure", path: str | Path) -> Path:
    """Write a picture to a file that is either whole or absent.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        As `feature_map` gives it.
    path
        Its ending, .png or .pdf, says the format. In a PDF, dots and text stay sharp at any size.

    Raises
    ------
    ImageError
        The file cannot be written.
    ValueError
        The ending is another one.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"the file name {str(path)!r} was given; expected one that ends in {' or '.join(FORMATS)}")
    kind = target.suffix.lower().removeprefix(".")
    # a date would make every file of the same map another one
    metadata = {"CreationDate": None} if kind == "pdf" else None
    try:
        with without_glyph_warnings():
            write_atomically(target, lambda file: figure.savefig(file, format=kind, dpi=_DPI, metadata=metadata))
    except OSError as error:
        raise ImageError(f"cannot write the picture {str(target)!r}: {error.strerror or error}") from error
    return target


def heading(embedding: Embedding) -> str:
    """Layer, engine and number of images, as in `dense_3 · t-SNE (openTSNE) · 1,000 images`."""
    names = {"opentsne": "t-SNE (openTSNE)", "sklearn": "t-SNE (scikit-learn)", "pca": "PCA", "umap": "UMAP"}
    parts = [embedding.layer, names.get(embedding.engine, embedding.engine), f"{len(embedding):,} images"]
    return " · ".join(part for part in parts if part)


def footing(embedding: Embedding) -> str:
    """The figures of quality in one line."""
    quality = embedding.quality
    parts = [
        f"trustworthiness {quality.trustworthiness:.3f}",
        f"{quality.neighbour_preservation:.0%} of {quality.k} nearest neighbours kept",
        f"KL divergence {quality.kl_divergence:.2f}",
    ]
    # few labels may be neighbours on the map and not in the features, or the other way round
    on_map, in_features = quality.label_accuracy, quality.label_accuracy_in_features
    if on_map is not None:
        of_features = "" if in_features is None else f" ({in_features:.1%} in features)"
        parts.append(f"label accuracy {on_map:.1%}{of_features}")
    return " · ".join([*parts, f"perplexity {embedding.options['perplexity']:.4g}, seed {embedding.options['seed']}"])


def _check(
    embedding: Embedding, pictures: Sequence[Any] | None, style: str | None, layout: str, thumbnail: int
) -> None:
    if pictures is not None and len(pictures) != len(embedding):
        raise ValueError(f"{len(pictures)} pictures for a map of {len(embedding)} images; expected one an image")
    if style is not None and style not in STYLES:
        raise ValueError(f"style {style!r} is not known; expected one of {', '.join(STYLES)}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is not known; expected one of {', '.join(LAYOUTS)}")
    if not 8 <= thumbnail <= 400:
        raise ValueError(f"thumbnail={thumbnail}; expected pixels, 8 to 400")


def _draw_map(
    axes: "Axes", embedding: Embedding, shown: list[Any], colours: Colouring, style: str, thumbnail: int, side: int
) -> None:
    if style == "text":
        outlines = _outlines(colours, len(embedding))
        widest = max((outline.get_extents().width for outline in outlines if outline is not None), default=0)
        places = fitted(embedding.points, (side, side), max(_MARGIN, widest / 2 * _DPI / 72 + 1))
        _draw_text(axes, places, colours, outlines)
        return
    places = fitted(embedding.points, (side, side), thumbnail if style == "pictures" else _MARGIN)
    rest = np.ones(len(places), bool)
    if style == "pictures":
        has_picture = np.array([picture is not None for picture in shown])
        order = thumbnail_order(embedding.points, colours.group)
        chosen = apart(np.rint(places), thumbnail + 1, order[has_picture[order]])
        rest[chosen] = False
    _draw_dots(axes, places, colours, rest)
    if style == "pictures":
        corners = np.rint(places[chosen]).astype(int) - thumbnail // 2
        framed = _framed([shown[i] for i in chosen], colours, colours.group[chosen], thumbnail)
        _draw_composite(axes, framed, corners, side)
        _draw_marks(axes, corners, colours, colours.group[chosen])


def _draw_grid(axes: "Axes", embedding: Embedding, shown: list[Any], colours: Colouring, style: str, side: int) -> None:
    cells, shape = grid_cells(embedding.points)
    cell = side // max(shape)
    if style == "pictures":
        framed = _framed(shown, colours, colours.group, max(4, cell - 1))
        _draw_composite(axes, framed, cells[:, ::-1] * cell, side)
        if cell >= 3 * _MARK:
            _draw_marks(axes, cells[:, ::-1] * cell, colours, colours.group)
        return
    places = (cells[:, ::-1] + 0.5) * cell
    if style == "text":
        _draw_text(axes, places, colours, _outlines(colours, len(places)))
    else:
        _draw_dots(axes, places, colours, np.ones(len(places), bool), size=cell * 0.7)


def _draw_dots(
    axes: "Axes",
    places: np.ndarray,
    colours: Colouring,
    which: np.ndarray,
    size: float | None = None,
    zorder: float = 1,
) -> None:
    size = size or (14 if len(places) <= 1000 else 9 if len(places) <= 5000 else 6)
    for number, (colour, shape) in enumerate(zip(colours.colours, colours.shapes, strict=True)):
        x, y = places[which & (colours.group == number)].T
        area = (size * 72 / _DPI) ** 2
        axes.scatter(x, y, s=area, c=colour, marker=_MARKERS[shape], linewidths=0.2, edgecolors="white", zorder=zorder)


def _draw_text(axes: "Axes", places: np.ndarray, colours: Colouring, outlines: "Sequence[MarkerPath | None]") -> None:
    """Each name as a marker of its own outline: ten thousand text objects would take minutes."""
    for number, (outline, colour) in enumerate(zip(outlines, colours.colours, strict=True)):
        members = colours.group == number
        if outline is None:
            _draw_dots(axes, places, colours, members)
            continue
        # Matplotlib scales a marker so that its farthest coordinate is at half the square root of its area
        area = (2 * np.abs(outline.vertices).max()) ** 2
        x, y = places[members].T
        axes.scatter(x, y, s=area, c=colour, marker=outline, linewidths=0)


def _outlines(colours: Colouring, count: int) -> "list[MarkerPath | None]":
    """The names of the groups about their middle, in points; None for a name that shows nothing."""
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    height = 7.0 if count <= 2000 else 5.0

    def outline(name: str) -> "MarkerPath":
        whole = TextPath((0, 0), plain_text(_short(name)), size=height)
        box = whole.get_extents()
        return whole.transformed(Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2))

    return [outline(name) if name.strip() else None for name in colours.names]


def _framed(shown: Sequence[Any], colours: Colouring, groups: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size, 3): thumbnails in frames of their colour."""
    frame = min(_FRAME, max(1, size // 12))
    small = thumbnails(shown, size - 2 * frame)
    bordered: list[Image.Image] = [
        ImageOps.expand(picture, frame, colours.colours[group]) for picture, group in zip(small, groups, strict=True)
    ]
    return as_pixels(bordered)


def _draw_composite(axes: "Axes", pictures: np.ndarray, corners: np.ndarray, side: int) -> None:
    """All thumbnails as one picture: ten thousand pictures would make a slow figure and a huge PDF."""
    canvas = np.zeros((side, side, 4), np.uint8)
    size = pictures.shape[1]
    for picture, (x, y) in zip(pictures, np.clip(corners, 0, side - size), strict=True):
        canvas[y : y + size, x : x + size, :3] = picture
        canvas[y : y + size, x : x + size, 3] = 255
    axes.imshow(canvas, extent=(0, side, side, 0), interpolation="none", zorder=3)
    axes.set(xlim=(0, side), ylim=(side, 0))


def _draw_marks(axes: "Axes", corners: np.ndarray, colours: Colouring, groups: np.ndarray) -> None:
    """The group's shape in the corner of each thumbnail, where frames alone would have the same colour twice."""
    if not _share_colours(colours):
        return
    marked = colours._replace(group=groups)
    _draw_dots(axes, corners + _MARK / 2, marked, np.ones(len(corners), bool), size=_MARK, zorder=4)


def _share_colours(colours: Colouring) -> bool:
    return colours.by != "confidence" and len(set(colours.colours)) < len(colours.colours)


def _draw_legend(figure: "Figure", axes: "Axes", colours: Colouring, style: str) -> None:
    from matplotlib.lines import Line2D

    if colours.by == "image":
        return
    if colours.by == "confidence":
        _draw_colour_bar(figure)
        return
    framed = style == "pictures" and not _share_colours(colours)
    handles = [
        Line2D([], [], linestyle="", marker=_MARKERS["square" if framed else shape], color=colour)
        for colour, shape in zip(colours.colours, colours.shapes, strict=True)
    ]
    axes.legend(
        handles,
        _entries(colours),
        title=colours.by,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        fontsize=_ENTRY,
        title_fontsize=9,
        alignment="left",
    )


def _entries(colours: Colouring) -> list[str]:
    """The groups in the legend, each with its number of images."""
    counts = np.bincount(colours.group, minlength=len(colours.names))
    return [f"{plain_text(_short(name))} ({count:,})" for name, count in zip(colours.names, counts, strict=True)]


def _legend_width(colours: Colouring) -> float:
    """Inches that the legend takes at the side of the map."""
    if colours.by in {"image", "confidence"}:
        return _LEGEND
    from matplotlib.textpath import TextPath

    widest = max(float(TextPath((0, 0), entry, size=_ENTRY).get_extents().x1) for entry in _entries(colours))
    return max(_LEGEND, widest / 72 + _BESIDE_ENTRY)


def _draw_colour_bar(figure: "Figure") -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    width, height = figure.get_size_inches()
    place = ((_SIDE + 0.15) / width, (_FOOT + 4) / height, 0.18 / width, 3.6 / height)
    bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(list(RAMP))), cax=figure.add_axes(place))
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_title("confidence", fontsize=9, loc="left")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}…{name[-8:]}"
