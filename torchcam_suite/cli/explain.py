"""`torchcam-suite explain`."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.text import Text

from torchcam_suite.cam import METHODS, make_method
from torchcam_suite.cli.method_options import options_of, require_used, split_options
from torchcam_suite.cli.options import (
    Classes,
    Custom,
    Device,
    Input,
    InputSize,
    Json,
    ModelArgument,
    NoCache,
    Output,
    Preprocess,
    Weights,
    open_model,
    parse_target,
)
from torchcam_suite.cli.output import (
    exit_unless,
    file_name,
    image_file_names,
    log,
    print_json,
    print_table,
    status,
    warnings_on_stderr,
)
from torchcam_suite.errors import GradientError, LayerError, SourceError, TorchcamError
from torchcam_suite.explain import explain as explain_images
from torchcam_suite.explanation import SCHEMA, Explanation, require_writable, write_atomically
from torchcam_suite.images import open_picture, region
from torchcam_suite.models import Model
from torchcam_suite.present.comparison import compare
from torchcam_suite.present.overlay import colorize, overlay, save_png, shrunk
from torchcam_suite.shown_names import short_names


def explain(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Pictures: PNG, JPEG, WebP, ...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and figures.", show_default=False)],
    weights: Weights = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Name from torchcam-suite methods; repeat for several.", show_default="gradcam"),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Layer name; repeat for several.", show_default="the last spatial one")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class number or name.", show_default="each image's top class")
    ] = None,
    of: Annotated[
        str | None, typer.Option(help="Of the logit or the probability.", show_default="the method's own")
    ] = None,
    relu: Annotated[
        str | None, typer.Option(help="ReLU before or after upsampling.", show_default="the method's own")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Which published definition, as official or paper.", show_default="the method's own"),
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Inputs in one of many forward passes.", show_default="automatic")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Any other option of a method, as samples=20; repeat.", show_default=False
        ),
    ] = None,
    preprocess: Preprocess = None,
    classes: Classes = None,
    input_size: InputSize = None,
    input: Input = None,
    output: Output = None,
    custom: Custom = None,
    colormap: Annotated[str, typer.Option(help="OpenCV colour map: jet, viridis, turbo, ...")] = "jet",
    strength: Annotated[float, typer.Option(min=0, max=1, help="Share of the colours in the overlay.")] = 0.4,
    interpolation: Annotated[
        str | None, typer.Option(help="bilinear, or nearest for blocks.", show_default="bilinear")
    ] = None,
    device: Device = "auto",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Draw where a model sees its evidence: overlays, a side-by-side grid, the maps as .npz, and explanation.json.

    [dim]Example:  torchcam-suite explain model.json cat.jpg --weights weights.h5
    --method gradcam --method scorecam --layer conv2d_6 -o out[/]
    """
    options = {"of": of, "relu": relu, "variant": variant, "chunk_size": chunk_size, "interpolation": interpolation}
    given = {name: value for name, value in options.items() if value is not None}
    methods = list(dict.fromkeys(method or ["gradcam"]))
    texts = split_options(option or [])
    require_used(given, texts, methods)
    chosen = {name: _options(name, given, texts) for name in methods}
    # what cannot be drawn or written is told before the work, not after
    colorize(np.zeros((1, 1)), colormap)
    require_writable(out / "explanation.json")
    with warnings_on_stderr():
        with status(f"opening {model}"):
            opened = open_model(
                model, weights, input_size, preprocess, classes, device, no_cache, input, output, custom
            )
        found, left_out = explain_all(opened, images, chosen, layer, parse_target(target, opened.class_names))
        drawing: dict[str, Any] = {"colormap": colormap, "strength": strength}
        drawing["interpolation"] = interpolation or texts.get("interpolation", "bilinear")
        written = write_all(opened, images, found, out, drawing, left_out)
    if as_json:
        print_json({"files": [str(path) for path in written], "explanations": _described(found, left_out)})
        exit_unless(not left_out)
        return
    print_table(
        ("image", "method", "layer", "target", "score", "probability"),
        [
            (
                name,
                item.method,
                item.layer,
                item.target_names[i],
                f"{float(item.scores[i]):.4g}",
                "" if item.probabilities is None else f"{float(item.probabilities[i]):.4f}",
            )
            for i, name in enumerate(short_names(list(map(str, images))))
            for item in found
        ],
        right=(4, 5),
        whole=(2,),
        short=None if len(images) == 1 else 2,
    )
    log.print(f"{len(written)} files in {out}; start with:")
    print(written[0])
    exit_unless(not left_out)


class LeftOut(NamedTuple):
    """A method that does not suit the model, or not at one of the layers."""

    method: str
    layer: str | None
    error: TorchcamError | ValueError

    def __str__(self) -> str:
        return self.method if self.layer is None else f"{self.method} at {self.layer}"

    def to_json(self) -> dict[str, Any]:
        """As the JSON values of an explanation of no image."""
        about = {"schema": SCHEMA, "method": self.method, "layer": self.layer}
        return about | {"left_out": str(self.error), "images": []}


def explain_all(
    model: Model,
    images: Sequence[Path],
    methods: Mapping[str, Mapping[str, Any]],
    layers: Sequence[str] | None,
    target: Any,
) -> tuple[list[Explanation], list[LeftOut]]:
    """Explain with every method and its options; those that take a layer at every layer.

    Returns
    -------
    list of Explanation
        Of the methods and layers that suit each other and the model. Where none do, the error is raised.
    list of LeftOut
        The others; what speaks against them is said on stderr, and the work of the rest is not lost.
    """
    takes_layer = {name: METHODS[name].takes_layer for name in methods}
    if any(takes_layer.values()):
        for name in layers or ():
            model.layers.site(name)  # a slip of the hand is told before the work, not after
    found: list[Explanation] = []
    left_out: list[LeftOut] = []
    for name, options in methods.items():
        asked: dict[str, Any] = {"method": name, "target": target, "progress": True, **options}
        try:
            if takes_layer[name]:
                given = list(dict.fromkeys(layers or [model.default_layer]))
                explained, refused = _at_layers(model, images, given, asked)
                found, left_out = found + explained, left_out + refused
            else:
                # layers that another method takes are no mistake
                useless = None if any(takes_layer.values()) or not layers else layers[0]
                found.append(explain_images(model, images, layer=useless, **asked))
        except (TorchcamError, ValueError) as error:
            left_out.append(LeftOut(name, None, error))
    if not found:
        raise left_out[0].error
    for one in left_out:
        log.print(Text(f"left out {one}: ", "bold red") + Text(str(one.error)), soft_wrap=True)
    return found, left_out


def _at_layers(
    model: Model, images: Sequence[Path], layers: list[str], asked: dict[str, Any]
) -> tuple[list[Explanation], list[LeftOut]]:
    """Explain at all layers in one pass; where they do not all suit the method, at each by itself."""
    try:
        return list(explain_images(model, images, layer=layers, **asked).values()), []
    except (LayerError, GradientError):
        if len(layers) == 1:
            raise
    found: list[Explanation] = []
    left_out: list[LeftOut] = []
    for layer in layers:
        try:
            found.append(explain_images(model, images, layer=layer, **asked))
        except (LayerError, GradientError) as error:
            left_out.append(LeftOut(asked["method"], layer, error))
    if not found:
        raise left_out[0].error
    return found, left_out


def write_all(
    model: Model,
    images: Sequence[Path],
    found: Sequence[Explanation],
    out: Path,
    drawing: dict[str, Any],
    left_out: Sequence[LeftOut] = (),
) -> list[Path]:
    """Write the grid, one overlay an image and explanation, the maps and explanation.json; the grid comes first."""
    import json

    stems, tags = image_file_names(images), [f"{item.method}_{file_name(item.layer)}" for item in found]
    drawn, overlays = out / "comparison.png", [[out / f"{stem}_{tag}.png" for stem in stems] for tag in tags]
    _require_none_of(images, [drawn, *chain.from_iterable(overlays)])
    try:
        small = [shrunk(_seen(image, model), _SHOWN) for image in images[:_MOST_ROWS]]
        save_png(compare(small, found, **drawing), drawn)
        for i, image in enumerate(images):
            picture = _seen(image, model)
            for item, files in zip(found, overlays, strict=True):
                save_png(overlay(picture, item.maps[i].cpu().numpy(), **drawing), files[i])
        maps = [item.save(out / f"{tag}.npz") for tag, item in zip(tags, found, strict=True)]
        about = json.dumps(_described(found, left_out), indent=2).encode()
        write_atomically(out / "explanation.json", lambda file: file.write(about))
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error}") from error
    if len(images) > _MOST_ROWS:
        log.print(f"{drawn.name} shows the first {_MOST_ROWS} of {len(images)} pictures", soft_wrap=True)
    by_explanation = [[*files, file] for files, file in zip(overlays, maps, strict=True)]
    return [drawn, *chain.from_iterable(by_explanation), out / "explanation.json"]


def _described(found: Sequence[Explanation], left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    return [*(item.to_json() for item in found), *(one.to_json() for one in left_out)]


def _require_none_of(images: Sequence[Path], written: Sequence[Path]) -> None:
    given = {image.resolve() for image in images}
    for path in written:
        if path.resolve() in given:
            raise SourceError(f"{path} is one of the pictures and would be overwritten; choose another folder (--out)")


_SHOWN = 256  # pixels of the longest side of a picture in the grid
_MOST_ROWS = 50  # of the grid: viewers do not open pictures of tens of thousands of pixels


def _seen(image: Path, model: Model) -> np.ndarray:
    """What the model sees of a picture, in its own resolution."""
    return np.asarray(region(open_picture(image), model.preprocessing))


def _options(name: str, given: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """The options that a method has; what does not fit is told before the model is opened."""
    options = options_of(METHODS[name], given, texts) if name in METHODS else {}
    make_method(name, options)
    return options
