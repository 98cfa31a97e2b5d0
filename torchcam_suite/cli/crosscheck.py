"""`torchcam-suite crosscheck`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

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
from torchcam_suite.cli.output import log, print_json, status, warnings_on_stderr
from torchcam_suite.crosscheck import LIBRARIES, CrossCheck, Interrupted
from torchcam_suite.crosscheck import crosscheck as crosscheck_images
from torchcam_suite.errors import ParityError, SourceError
from torchcam_suite.explanation import require_writable, write_atomically
from torchcam_suite.models import Model


def crosscheck(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Pictures, a few.", show_default=False)],
    weights: Weights = None,
    layer: Annotated[str | None, typer.Option(help="Layer name.", show_default="the last spatial one")] = None,
    target: Annotated[
        str | None, typer.Option(help="Class number or name.", show_default="each image's top class")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method of ours, or Saliency, IntegratedGradients, Occlusion; repeat for several.",
            show_default="all that are quick",
        ),
    ] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Also what takes many passes and is not named.")] = False,
    library: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help=f"{', '.join(LIBRARIES)}; repeat for several.", show_default="all that are installed"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for crosscheck.png and crosscheck.json.", show_default=False),
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
    """Compare our maps with those of Captum, pytorch-grad-cam and torch-cam; exit status 3 if one is not the same.

    Of a method that has the same definition there, only rounding may differ
    ("same" or "FAILED"). Of another definition ("other"), it says the rank
    correlation and the share of the highest 20 % of the pixels in common.
    Ctrl-C ends it with what was compared until then, and status 130.

    [dim]Example:  torchcam-suite crosscheck model.bundle cat.jpg --layer conv2d_6 -o out[/]
    """
    if out is not None:
        require_writable(out / "crosscheck.json")
    with warnings_on_stderr():
        with status(f"opening {model}"):
            opened = open_model(
                model, weights, input_size, preprocess, classes, device, no_cache, input, output, custom
            )
        asked: dict[str, Any] = {
            "layer": layer,
            "target": parse_target(target, opened.class_names),
            "methods": "all" if method == ["all"] else method,
            "libraries": library,
            "slow": slow,
            "progress": True,
        }
        found, interrupted = _until_interrupted(opened, images, asked)
        written = [] if out is None else _write(found, out)
    if as_json:
        print_json(found.to_json() | {"files": [str(path) for path in written]})
    else:
        print(found)
        for path in written:
            log.print(f"written: {path}", soft_wrap=True)
    if interrupted:
        log.print(f"interrupted; compared until then: {len(found.rows)}")
        raise typer.Exit(130)
    if found.failed:
        raise ParityError(
            f"{len(found.failed)} of {len(found.rows)} comparisons differ by more than rounding: "
            + "; ".join(f"{row.method} beside {row.library} {row.theirs} by {row.error:.1e}" for row in found.failed)
            + ". Where the layer's values nearly cancel, rounding can be that large: compare with a float64 model "
            "(load(net.double(), ...)); if it still differs, please report it"
        )


def _until_interrupted(model: Model, images: Sequence[Path], asked: Mapping[str, Any]) -> tuple[CrossCheck, bool]:
    """What was compared, and whether Ctrl-C came before the end."""
    try:
        return crosscheck_images(model, images, **asked), False
    except Interrupted as stop:
        return stop.found, True


def _write(found: CrossCheck, out: Path) -> list[Path]:
    from torchcam_suite.present.overlay import save_png

    about = json.dumps(found.to_json(), indent=2).encode()
    try:
        pictures = [save_png(found.figure(), out / "crosscheck.png")] if found.rows else []
        write_atomically(out / "crosscheck.json", lambda file: file.write(about))
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error}") from error
    return [*pictures, out / "crosscheck.json"]
