"""`torchcam-suite map`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer

from torchcam_suite.cli.output import print_json, print_table, status, warnings_on_stderr
from torchcam_suite.embedding import ENGINES, Embedding, NeighbourAgreement, embed
from torchcam_suite.errors import SourceError
from torchcam_suite.explanation import Explanation
from torchcam_suite.present.feature_map import FORMATS, LAYOUTS, STYLES, feature_map, save_feature_map
from torchcam_suite.present.map_colours import COLOR_BY
from torchcam_suite.present.map_page import compared, map_page, matched, save_map_page

PAGES = (".html", ".htm")
Known = TypeVar("Known")


def map_features(
    features: Annotated[
        Path,
        typer.Argument(help="What torchcam-suite features wrote: .npz, .safetensors, .parquet.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="map.html to explore, map.png or map.pdf to print.", show_default=False),
    ],
    layer: Annotated[
        str | None, typer.Option(help="Layer of the features, if there are several.", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="CSV file of paths and labels, or: folders (the name of each file's folder).", show_default=False
        ),
    ] = None,
    color_by: Annotated[
        str | None, typer.Option(help=f"{', '.join(COLOR_BY)}.", show_default="the first that is known")
    ] = None,
    engine: Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}.")] = "opentsne",
    perplexity: Annotated[float, typer.Option(help="How many neighbours a point is to have, roughly.")] = 30,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 42,
    standardize: Annotated[bool, typer.Option("--standardize", help="Scale every feature to deviation 1.")] = False,
    pca: Annotated[int, typer.Option(help="Principal components that are kept first; 0 for all features.")] = 50,
    style: Annotated[
        str | None, typer.Option(help=f"{', '.join(STYLES)} (PNG, PDF).", show_default="pictures, if there are any")
    ] = None,
    layout: Annotated[str, typer.Option(help=f"{' or '.join(LAYOUTS)}: every picture in a cell (PNG, PDF).")] = "map",
    beside: Annotated[
        Path | None, typer.Option(help="Features of the same images by another model (HTML).", show_default=False)
    ] = None,
    beside_layer: Annotated[str | None, typer.Option(help="Layer of those, if several.", show_default=False)] = None,
    heat_maps: Annotated[
        list[Path] | None,
        typer.Option(
            help="Maps .npz of torchcam-suite explain, shown where pinned (HTML); repeat.", show_default=False
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading.", show_default="layer, engine, images")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also keep the map itself as .npz, for Embedding.load.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Draw what the network takes for alike: images on a map, as a page to explore or a picture.

    [dim]Example:  torchcam-suite map features.npz --labels folders -o map.html[/]
    """
    _check(out, beside, heat_maps, style, layout)
    _check_colours(color_by, labels)
    options: dict[str, Any] = {"engine": engine, "perplexity": perplexity, "seed": seed, "standardize": standardize}
    with warnings_on_stderr():
        ours = _embedded(features, layer, labels, options | {"pca": pca or None})
        other = None
        if beside is not None:
            other = matched(_embedded(beside, beside_layer, labels, options | {"pca": pca or None}), ours)
        with status(f"drawing {out}"):
            if out.suffix.lower() in PAGES:
                heat = _heat_maps(ours, heat_maps) if heat_maps else None
                names = _names(features, beside)
                page = map_page(ours, beside=other, heat_maps=heat, color_by=color_by, title=title, names=names)
                save_map_page(page, out)
            else:
                figure = feature_map(ours, color_by=color_by, style=style, layout=layout, title=title)  # type: ignore[arg-type]
                save_feature_map(figure, out)
    if save is not None:
        _save(ours, save)
    maps = [ours] if other is None else [ours, other]
    agreement = None if other is None else compared(ours, other)
    if as_json:
        print_json(_as_json(out, maps, agreement))
        return
    _print(maps, _names(features, beside), agreement)
    print(out)


def _check(out: Path, beside: Path | None, heat_maps: list[Path] | None, style: str | None, layout: str) -> None:
    """What does not go together is told before the map is made, not after."""
    if out.suffix.lower() not in (*PAGES, *FORMATS):
        raise ValueError(f"-o {out}; expected a name that ends in {', '.join((PAGES[0], *FORMATS))}")
    page = out.suffix.lower() in PAGES
    if not page and (beside is not None or heat_maps):
        given = "--beside" if beside is not None else "--heat-maps"
        raise ValueError(f"{given} is for pages: name a file -o {out.stem}.html")
    if page and (style is not None or layout != "map"):
        raise ValueError(f"--style and --layout are for pictures: name a file -o {out.stem}.png or {out.stem}.pdf")
    for name, value, known in (("--style", style, STYLES), ("--layout", layout, LAYOUTS)):
        if value is not None and value not in known:
            raise ValueError(f"{name} {value!r}; expected one of {', '.join(known)}")


def _check_colours(color_by: str | None, labels: str | None) -> None:
    if color_by is None:
        return
    if color_by not in COLOR_BY:
        raise ValueError(f"--color-by {color_by!r}; expected one of {', '.join(COLOR_BY)}")
    if color_by in {"label", "correctness"} and labels is None:
        raise ValueError(f"--color-by {color_by} needs --labels")


def _embedded(file: Path, layer: str | None, labels: str | None, options: dict[str, Any]) -> Embedding:
    from torchcam_suite.features import Features

    found = Features.load(file)
    with status(f"laying out {len(found.ids):,} images"):
        return embed(found, layer=layer, labels=labels_of(labels, found.paths), **options)


def labels_of(text: str | None, paths: Sequence[str | None]) -> list[str | None] | None:
    """The label of each image: from its folder's name, or from a CSV file, by path or else by a file name of its own.

    Raises
    ------
    SourceError
        No label fits any image.

    Examples
    --------
    >>> labels_of("folders", ["pets/cat/1.jpg", "pets/dog/1.jpg"])
    ['cat', 'dog']
    """
    if text is None:
        return None
    if text == "folders":
        if all(path is None for path in paths):
            raise SourceError("--labels folders: these features know no files; give a CSV file of paths and labels")
        return [None if path is None else Path(path).absolute().parent.name for path in paths]
    from torchcam_suite.labelled_images import labelled_csv

    rows = list(labelled_csv(text))
    found = _of_images(paths, {row.path: row.label for row in rows})
    if all(label is None for label in found):
        raise SourceError(f"{text} has labels of {len(rows)} files, none of which is in the features")
    return found


def _of_images(paths: Sequence[str | None], known: Mapping[Path, Known]) -> list[Known | None]:
    """What is known of each image: by its path, or else by a file name that one image and one known file have."""
    by_path = {path.absolute(): value for path, value in known.items()}
    images = [None if path is None else Path(path).absolute() for path in paths]
    clear = _names_of_one(by_path) & _names_of_one(image for image in images if image is not None)
    by_name = {path.name: value for path, value in by_path.items() if path.name in clear}
    return [None if image is None else by_path.get(image, by_name.get(image.name)) for image in images]


def _names_of_one(paths: Iterable[Path]) -> set[str]:
    """The file names that a single path has."""
    return {name for name, times in Counter(path.name for path in set(paths)).items() if times == 1}


def _heat_maps(embedding: Embedding, files: Sequence[Path]) -> list[np.ndarray | None]:
    """The maps of the images that the files explain; of an image in several, that of the last file."""
    explained: dict[Path, np.ndarray] = {}
    for file in files:
        explanation = Explanation.load(file)
        explained |= {Path(name): heat.numpy() for name, heat in zip(explanation.images, explanation.maps, strict=True)}
    maps = _of_images(embedding.paths, explained)
    if all(heat is None for heat in maps):
        raise SourceError(f"the maps in {', '.join(map(str, files))} are of none of these images")
    return maps


def _names(features: Path, beside: Path | None) -> tuple[str, str]:
    if beside is None:
        return features.stem, ""
    if features.stem != beside.stem:
        return features.stem, beside.stem
    return str(features), str(beside)


def _save(embedding: Embedding, path: Path) -> None:
    try:
        embedding.save(path)
    except OSError as error:
        raise SourceError(f"cannot write {path}: {error}") from error


def _as_json(out: Path, maps: Sequence[Embedding], agreement: NeighbourAgreement | None) -> dict[str, Any]:
    keys = ("engine", "options", "layer", "quality", "model", "versions")
    return {
        "file": str(out),
        "images": len(maps[0]),
        "maps": [{key: value for key, value in one.to_json().items() if key in keys} for one in maps],
        "agreement": None if agreement is None else agreement.to_json(),
    }


def _print(maps: Sequence[Embedding], names: tuple[str, str], agreement: NeighbourAgreement | None) -> None:
    """Figures down, maps across."""
    rows = [
        ("images", [f"{len(one):,}" for one in maps]),
        ("trustworthiness ↑", [f"{one.quality.trustworthiness:.3f}" for one in maps]),
        (
            f"{maps[0].quality.k} nearest neighbours kept ↑",
            [f"{one.quality.neighbour_preservation:.3f}" for one in maps],
        ),
        ("KL divergence ↓", [f"{one.quality.kl_divergence:.3f}" for one in maps]),
    ]
    on_map = [one.quality.label_accuracy for one in maps]
    in_features = [one.quality.label_accuracy_in_features for one in maps]
    if any(value is not None for value in (*on_map, *in_features)):
        rows.append(("label accuracy on the map ↑", ["-" if value is None else f"{value:.3f}" for value in on_map]))
        rows.append(("  in the features", ["-" if value is None else f"{value:.3f}" for value in in_features]))
    headers = ("", *(names if len(maps) > 1 else ("map",)))
    print_table(headers, [(name, *values) for name, values in rows], right=range(1, len(maps) + 1))
    if agreement is not None:
        k, common, chance = agreement.k, agreement.overlap, agreement.chance_overlap
        print(f"{k} nearest in the features in common: {common:.3f} (chance {chance:.3f})")
        print(f"Jaccard index of them: {agreement.jaccard:.3f} (chance {agreement.chance_jaccard:.3f})")
