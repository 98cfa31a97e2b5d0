"""One map of features, or two side by side, as a page to explore: a single HTML file that needs nothing else."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from torchcam_suite.embedding.agreement import NeighbourAgreement, neighbour_agreement
from torchcam_suite.embedding.result import Embedding
from torchcam_suite.errors import ImageError, MissingLibraryError
from torchcam_suite.explanation import write_atomically
from torchcam_suite.present.feature_map import footing, heading
from torchcam_suite.present.map_colours import RAMP, available, colouring
from torchcam_suite.present.map_layout import thumbnail_order
from torchcam_suite.present.overlay import overlay
from torchcam_suite.present.thumbnails import Thumbnail, placed_thumbnails

HeatMaps = Sequence[np.ndarray | Tensor | None] | Tensor

_STEPS = 65535  # to which coordinates are rounded: a hundredth of a pixel on a large screen
_PAGE = 2048  # pixels; graphics cards refuse textures that are much larger
_SHOWN = 8  # neighbours of a pinned image
# the fewer images, the larger each can be in a page of some ten megabytes
_SIZES = ((1000, 128), (3000, 96), (6000, 64))
_SMALLEST = 48


class Atlas(NamedTuple):
    """Many small pictures in few files: page after page, row after row.

    Attributes
    ----------
    size : int
        Side of a picture, in pixels.
    columns, per_page : int
        Pictures in a row, and on a page.
    pages : list of str
        Data URIs.
    """

    size: int
    columns: int
    per_page: int
    pages: list[str]


def map_page(
    embedding: Embedding,
    pictures: Sequence[Any] | None = None,
    *,
    beside: Embedding | None = None,
    heat_maps: HeatMaps | None = None,
    color_by: str | None = None,
    thumbnail: int | None = None,
    title: str | None = None,
    names: tuple[str, str] = ("first", "second"),
) -> str:
    """Make a page to explore a map: zoom, pan, point at images, pin one beside its nearest neighbours, filter.

    Parameters
    ----------
    embedding : Embedding
        The map.
    pictures : sequence, optional
        One an image: path, PIL image, array, or None; else the files that the map knows.
    beside : Embedding, optional
        A map of the same images by another model or layer, shown at its side; images are matched by their ids.
    heat_maps : sequence of array, Tensor or None, optional
        One an image: a saliency map (h, w) in [0, 1], laid over what the model saw of the picture where it is pinned;
        as `Explanation.maps`, on any device.
    color_by : str, optional
        What the colours say at first; else the first of label, prediction, correctness, confidence that is known.
    thumbnail : int, optional
        Side of the pictures in pixels; else 128 for up to 1,000 images, down to 48 for more than 6,000.
    title : str, optional
        Else layer, engine and number of images, or the names of the two maps.
    names : tuple of str
        What the two maps are called, where there are two.

    Returns
    -------
    str
        HTML. It loads nothing from anywhere, and all text in it is shown as text.

    Raises
    ------
    MissingLibraryError
        Jinja2 is not installed.
    ValueError
        The maps are not of the same images, or another argument does not fit.
    """
    shown = list(embedding.paths if pictures is None else pictures)
    size = _size(len(embedding)) if thumbnail is None else thumbnail
    _check(len(embedding), shown, heat_maps, size)
    first = None if color_by is None else colouring(embedding, color_by).by
    maps = [embedding] if beside is None else [embedding, matched(beside, embedding)]
    headings = [heading(one) for one in maps]
    if beside is not None:
        headings = [f"{name}: {about}" for name, about in zip(names, headings, strict=True)]
    drawn = heat_maps is not None or any(picture is not None for picture in shown)
    small = placed_thumbnails(shown, size) if drawn else []
    data = _about(embedding) | {
        "first": first,
        "atlas": _atlas([one.picture for one in small], size)._asdict() if drawn else None,
        "heat": None if heat_maps is None else _heat(small, heat_maps, size, _central(embedding)),
        "maps": [_map(one, about, name) for one, about, name in zip(maps, headings, names, strict=False)],
    }
    if beside is None:
        return _render(title or headings[0], data, None)
    return _render(title or f"{names[0]} beside {names[1]}", data, compared(*maps))


def save_map_page(page: str, path: str | Path) -> Path:
    """Write a page to a file that is either whole or absent.

    Raises
    ------
    ImageError
        The file cannot be written.
    ValueError
        The ending is not .html or .htm.
    """
    target = Path(path)
    if target.suffix.lower() not in {".html", ".htm"}:
        raise ValueError(f"the file name {str(path)!r} was given; expected one that ends in .html")
    try:
        # names of files need not be Unicode
        write_atomically(target, lambda file: file.write(page.encode("utf-8", "replace")))
    except OSError as error:
        raise ImageError(f"cannot write the page {str(target)!r}: {error.strerror or error}") from error
    return target


def matched(beside: Embedding, embedding: Embedding) -> Embedding:
    """The second map with its images in the order of the first.

    Raises
    ------
    ValueError
        The maps are not of the same images.
    """
    place = {name: i for i, name in enumerate(beside.ids)}
    common = sum(name in place for name in embedding.ids)
    if not common == len(embedding) == len(beside):
        raise ValueError(
            f"maps of {len(embedding)} and {len(beside)} images, {common} of them the same by id; expected the same "
            "images in both: make the features of both models from the same files"
        )
    order = np.array([place[name] for name in embedding.ids])
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Embedding(
        **{
            **{name: getattr(beside, name) for name in beside.__dataclass_fields__},
            "points": beside.points[order],
            "neighbours": back[beside.neighbours[order]].astype(np.int32),
            **{name: _picked(getattr(beside, name), order) for name in ("ids", "paths", "labels", "predictions")},
            "confidences": None if beside.confidences is None else beside.confidences[order],
        }
    )


def compared(first: Embedding, second: Embedding) -> NeighbourAgreement:
    """Agreement of the neighbourhoods in the features of two maps of the same images, in the same order."""
    k = min(first.neighbours.shape[1], second.neighbours.shape[1])
    return neighbour_agreement(first.neighbours[:, :k], second.neighbours[:, :k])


def _check(count: int, shown: Sequence[Any], heat_maps: HeatMaps | None, size: int) -> None:
    for what, values in (("pictures", shown), ("heat maps", heat_maps)):
        if values is not None and len(values) != count:
            raise ValueError(f"{len(values)} {what} for a map of {count} images; expected one an image")
    if not 8 <= size <= 512:
        raise ValueError(f"thumbnail={size}; expected pixels, 8 to 512")


def _about(embedding: Embedding) -> dict[str, Any]:
    """What is known of the images."""
    return {
        "files": [_file(path, name) for path, name in zip(embedding.paths, embedding.ids, strict=True)],
        "labels": embedding.labels,
        "confidences": None if embedding.confidences is None else embedding.confidences.round(4).tolist(),
        "correct": embedding.correct,
        "colourings": [_colouring(embedding, by) for by in available(embedding) or (None,)],
        "ramp": RAMP,
    }


def _picked(values: tuple | None, order: np.ndarray) -> tuple | None:
    return None if values is None else tuple(values[i] for i in order)


def _size(count: int) -> int:
    return next((size for limit, size in _SIZES if count <= limit), _SMALLEST)


def _file(path: str | None, name: str) -> str:
    return name if path is None else Path(path).name


def _colouring(embedding: Embedding, by: str | None) -> dict[str, Any]:
    found = colouring(embedding, by)
    return {
        "by": found.by,
        "names": found.names,
        "colours": found.colours,
        "shapes": found.shapes,
        "group": found.group.tolist(),
    }


def _map(embedding: Embedding, about: str, name: str) -> dict[str, Any]:
    low, high = embedding.points.min(axis=0), embedding.points.max(axis=0)
    span = float((high - low).max()) or 1.0
    centred = (embedding.points - (low + high) / 2) / span + 0.5
    groups = colouring(embedding).group if available(embedding) else np.zeros(len(embedding), np.int64)
    return {
        "name": name,
        "title": about,
        "about": footing(embedding),
        "predictions": embedding.predictions,
        "points": np.rint(centred * (1, -1) * _STEPS + (0, _STEPS)).astype(int).tolist(),
        "order": thumbnail_order(embedding.points, groups).tolist(),
        "neighbours": embedding.neighbours[:, :_SHOWN].tolist(),
    }


def _central(embedding: Embedding) -> float | None:
    """Share of the shorter side of a picture that the model sees; None where it sees all."""
    return (embedding.model.get("preprocessing") or {}).get("central")


def _heat(small: Sequence[Thumbnail], heat_maps: HeatMaps, size: int, central: float | None) -> dict[str, Any]:
    """Overlays of those images that have a heat map, and which of them each image has, -1 for none."""
    places: list[int] = []
    overlays: list[Image.Image] = []
    for thumbnail, heat in zip(small, heat_maps, strict=True):
        places.append(-1 if heat is None else len(overlays))
        if heat is not None:
            values = heat.detach().float().cpu() if isinstance(heat, Tensor) else heat
            box, laid = thumbnail.seen(central), thumbnail.picture.copy()
            laid.paste(Image.fromarray(overlay(np.asarray(laid.crop(box)), np.asarray(values, np.float32))), box)
            overlays.append(laid)
    return {"of": places} | _atlas(overlays, size)._asdict()


def _atlas(pictures: Sequence[Image.Image], size: int) -> Atlas:
    columns = max(1, _PAGE // size)
    per_page = columns * columns
    pages = []
    for start in range(0, len(pictures), per_page):
        part = pictures[start : start + per_page]
        rows = -(-len(part) // columns)
        page = Image.new("RGB", (min(columns, len(part)) * size, rows * size), "white")
        for i, picture in enumerate(part):
            page.paste(picture, (i % columns * size, i // columns * size))
        pages.append(_data_uri(page))
    return Atlas(size, columns, per_page, pages)


def _data_uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    # no subsampling of colours, and blocks of 8 pixels: sizes are multiples of 8, so that pictures do not bleed
    picture.save(file, "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _render(title: str, data: dict[str, Any], agreement: NeighbourAgreement | None) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingLibraryError(
            "map pages need Jinja2, which is not installed: pip install 'torchcam-suite[maps]'"
        ) from None
    loader = PackageLoader("torchcam_suite.present")
    # script and style are ours, so that their quotation marks stay; what comes from outside is escaped
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("map.html.jinja")
    return template.render(title=title, data=data, agreement=agreement)
