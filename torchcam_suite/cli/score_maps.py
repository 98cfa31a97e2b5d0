"""`torchcam-suite score-maps`."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from torchcam_suite.cam import METHODS, make_method
from torchcam_suite.cli.explain import explain_all
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
from torchcam_suite.cli.output import data, exit_unless, log, print_json, print_table, status, warnings_on_stderr
from torchcam_suite.errors import SourceError
from torchcam_suite.explanation import Explanation, require_writable, write_atomically
from torchcam_suite.metrics.faithfulness import METRICS, choose_metrics
from torchcam_suite.metrics.faithfulness import score_maps as score_explanation
from torchcam_suite.metrics.figure import ARROWS, Figure
from torchcam_suite.metrics.masks import load_masks
from torchcam_suite.shown_names import shorten


def score_maps(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Pictures: PNG, JPEG, WebP, ...", show_default=False)],
    method: Annotated[
        list[str] | None,
        typer.Option(help="Name from torchcam-suite methods; repeat for several.", show_default="gradcam"),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Layer name; repeat for several.", show_default="the last spatial one")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of a method, as samples=20; repeat.", show_default=False),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(METRICS)}, or all; repeat for several.", show_default="the quick ones"),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder with NAME_mask.png or NAME.png of each picture.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="CSV file with the values of each picture.", show_default=False)
    ] = None,
    weights: Weights = None,
    target: Annotated[
        str | None, typer.Option(help="Class number or name.", show_default="each image's top class")
    ] = None,
    preprocess: Preprocess = None,
    classes: Classes = None,
    input_size: InputSize = None,
    input: Input = None,
    output: Output = None,
    custom: Custom = None,
    device: Device = "auto",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Score maps: confidence in what they show, insertion, deletion, ROAD, stability; with masks, whether they hit.

    [dim]Example:  torchcam-suite score-maps model.h5 a.png b.png --method gradcam
    --method scorecam --masks masks -o scores.csv[/]
    """
    chosen = choose_metrics(metric, masks=masks is not None)
    methods = list(dict.fromkeys(method or ["gradcam"]))
    asked = _options(methods, split_options(option or []))
    if out is not None:
        require_writable(out)
    with warnings_on_stderr():
        with status(f"opening {model}"):
            opened = open_model(
                model, weights, input_size, preprocess, classes, device, no_cache, input, output, custom
            )
        known = None if masks is None else load_masks(masks, images, opened)
        explanations, left_out = explain_all(opened, images, asked, layer, parse_target(target, opened.class_names))
        rows = [
            Row(found, score_explanation(opened, images, found, metrics=chosen, masks=known, progress=True))
            for found in explanations
        ]
    if out is not None:
        try:
            write_atomically(out, lambda file: file.write(_csv(rows).encode()))
        except OSError as error:
            raise SourceError(f"cannot write {out}: {error}") from error
    if as_json:
        print_json({"file": None if out is None else str(out), "scores": [row.to_json() for row in rows]})
        exit_unless(not left_out)
        return
    _print(rows)
    log.print("one picture" if len(images) == 1 else f"mean ± standard deviation over {len(images)} pictures")
    log.print("↑ higher, ↓ lower, →0 near zero is better")
    if out is not None:
        print(out)
    exit_unless(not left_out)


_NAME, _LAYER = 32, 22  # columns of the table for the name of a figure, and of a layer


class Row(NamedTuple):
    """One method at one layer."""

    explanation: Explanation
    figures: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": self.explanation.method,
            "layer": self.explanation.layer,
            "images": list(self.explanation.images),
            "targets": list(self.explanation.target_names),
            "figures": [
                {
                    "name": figure.name,
                    "better": figure.better,
                    "mean": figure.mean,
                    "spread": figure.spread,
                    "values": figure.values.tolist(),
                }
                for figure in self.figures
            ],
        }


def _options(methods: Sequence[str], texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The options of each method; what does not exist is told before the model is opened, not after."""
    require_used({}, texts, methods)
    asked = {name: options_of(METHODS[name], {}, texts) if name in METHODS else {} for name in methods}
    for name, options in asked.items():
        make_method(name, options)
    return asked


def _csv(rows: Sequence[Row]) -> str:
    """One line for each image, method and layer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "method", "layer", "target", *(figure.name for figure in rows[0].figures)])
    for explanation, figures in rows:
        for i, image in enumerate(explanation.images):
            values = [figure.values[i].item() for figure in figures]
            cells = [int(value) if isinstance(value, bool) else f"{value:.6g}" for value in values]
            writer.writerow([image, explanation.method, explanation.layer, explanation.target_names[i], *cells])
    return text.getvalue()


def _print(rows: Sequence[Row]) -> None:
    """Figures down, methods across, in as many tables as the width asks for."""
    names = [_shown_name(figure) for figure in rows[0].figures]
    layers = shorten([row.explanation.layer for row in rows], _LAYER)
    several = len(set(layers)) > 1
    methods = [row.explanation.method for row in rows]
    headers = [f"{method}\n{layer}" for method, layer in zip(methods, layers, strict=True)] if several else methods
    columns = [[_cell(figure) for figure in row.figures] for row in rows]
    width = max(len(text) for column in [*columns, *(header.split("\n") for header in headers)] for text in column)
    at_once = max(1, (data.width - _NAME) // (width + 2))
    for start in range(0, len(rows), at_once):
        shown = range(start, min(start + at_once, len(rows)))
        table = [(name, *(columns[i][line] for i in shown)) for line, name in enumerate(names)]
        print_table(("", *(headers[i] for i in shown)), table, right=range(1, len(shown) + 1))


def _shown_name(figure: Figure) -> str:
    name = f"{figure.name} {ARROWS[figure.better]}"
    return name if len(name) <= _NAME else name.replace("[", "\n  [", 1)


def _cell(figure: Figure) -> str:
    parts = [figure.mean] if figure.spread is None else [figure.mean, figure.spread]
    return " ± ".join(f"{part:.3f}" if abs(part) < 10 else f"{part:.1f}" for part in parts)
