"""`torchcam-suite evaluate`."""

import warnings
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from torchcam_suite.cli.options import (
    BatchSize,
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
    Workers,
    open_model,
)
from torchcam_suite.cli.output import log, print_json, status, warnings_on_stderr
from torchcam_suite.errors import AssumptionWarning
from torchcam_suite.evaluate import evaluate as evaluate_images
from torchcam_suite.evaluation import EvaluationResult
from torchcam_suite.labelled_images import labelled_images
from torchcam_suite.metrics.calibration import Binning


def evaluate(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Argument(help="Folder with one folder a class, or CSV file of paths and labels.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for evaluation.json, predictions.csv and the plots.", show_default=False
        ),
    ] = None,
    weights: Weights = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Of two classes: class 1 is predicted from this probability on.", show_default="0.5"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a broken picture or an unknown label.")] = False,
    mistakes: Annotated[int, typer.Option(min=0, help="How many of the most confident mistakes to keep.")] = 12,
    method: Annotated[str, typer.Option(help="Of the mistakes' heat maps.")] = "gradcam",
    layer: Annotated[
        str | None, typer.Option(help="Layer of the heat maps.", show_default="the last spatial one")
    ] = None,
    bins: Annotated[int, typer.Option(min=1, help="Of the calibration error.")] = 15,
    binning: Annotated[str, typer.Option(help=f"Of the bins: {' or '.join(get_args(Binning))}.")] = "equal width",
    path_column: Annotated[
        str | None, typer.Option(help="Column of the paths in a CSV file.", show_default="found by its name")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the labels.", show_default="found by its name")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between the columns.", show_default="the likeliest")] = None,
    root: Annotated[
        Path | None, typer.Option(help="What the paths in a CSV file start from.", show_default="its folder")
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw; this needs matplotlib.")] = True,
    batch_size: BatchSize = 32,
    workers: Workers = None,
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
    """Score a classifier on labelled pictures: accuracy, F1, AUC with its error, calibration, confident mistakes.

    With -o, also draws the confusion matrix, ROC and precision-recall curves,
    the reliability diagram, and the mistakes with heat maps. Pictures that
    cannot be read are left out, counted and listed.

    [dim]Example:  torchcam-suite evaluate model.bundle test_pictures -o out[/]
    """
    if out is not None:
        _require_outside(out, data)
    if out is not None and plots:
        from torchcam_suite.present.score_plots import require_matplotlib

        require_matplotlib()
    images = labelled_images(
        data, path_column=path_column, label_column=label_column, delimiter=_character(delimiter), root=root
    )
    options: dict[str, Any] = {"threshold": threshold, "strict": strict, "mistakes": mistakes, "method": method}
    options |= {"layer": layer, "bins": bins, "binning": binning, "batch_size": batch_size, "workers": workers}
    with warnings_on_stderr():
        with status(f"opening {model}"):
            opened = open_model(
                model, weights, input_size, preprocess, classes, device, no_cache, input, output, custom
            )
        with warnings.catch_warnings():
            if not as_json:
                warnings.simplefilter("ignore", AssumptionWarning)  # the table has it as a note
            found = evaluate_images(opened, images, progress=True, **options)
        written = [] if out is None else found.save(out, plots=plots)
    _print(found, written, as_json)


def _require_outside(out: Path, data: Path) -> None:
    """The plots in a folder among the class folders would be pictures of a class the next time."""
    if data.is_dir() and data.resolve() in out.resolve().parents:
        raise ValueError(
            f"-o {out} is within {data}, whose folders are classes: the plots would be pictures of a class the next "
            "time; name a folder outside"
        )


def _print(found: EvaluationResult, written: list[Path], as_json: bool) -> None:
    if as_json:
        print_json(found.to_json() | {"files": [str(path) for path in written]})
        return
    print(found)
    for path in written:
        log.print(f"written: {path}", soft_wrap=True)


def _character(delimiter: str | None) -> str | None:
    """A shell passes a tab as a backslash and a t."""
    return "\t" if delimiter in ("\\t", "tab") else delimiter
