"""`torchcam-suite crosscheck`."""

import json
import re
from pathlib import Path
from typing import Annotated

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
)
from torchcam_suite.cli.output import log, print_json, status, warnings_on_stderr
from torchcam_suite.crosscheck import LIBRARIES, CrossCheck
from torchcam_suite.crosscheck import crosscheck as crosscheck_images
from torchcam_suite.errors import ParityError, SourceError
from torchcam_suite.explanation import write_atomically


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
            help="A method of ours, or all, which takes long; repeat for several. Captum's Occlusion runs 200 passes.",
            show_default="all but those of many forward passes",
        ),
    ] = None,
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

    [dim]Example:  torchcam-suite crosscheck model.bundle cat.jpg --layer conv2d_6 -o out[/]
    """
    with warnings_on_stderr():
        with status(f"opening {model}"):
            opened = open_model(
                model, weights, input_size, preprocess, classes, device, no_cache, input, output, custom
            )
        found = crosscheck_images(
            opened,
            images,
            layer=layer,
            target=int(target) if target is not None and re.fullmatch(r"-?\d+", target) else target,
            methods="all" if method == ["all"] else method,
            libraries=library,
            progress=True,
        )
    written = [] if out is None else _write(found, out)
    if as_json:
        print_json(found.to_json() | {"files": [str(path) for path in written]})
    else:
        print(found)
        for path in written:
            log.print(f"written: {path}", soft_wrap=True)
    if found.failed:
        raise ParityError(
            f"{len(found.failed)} of {len(found.rows)} comparisons differ by more than rounding: "
            + "; ".join(f"{row.method} beside {row.library} {row.theirs} by {row.error:.1e}" for row in found.failed)
            + ". Where the layer's values nearly cancel, rounding can be that large: compare with a float64 model "
            "(load(net.double(), ...)); if it still differs, please report it"
        )


def _write(found: CrossCheck, out: Path) -> list[Path]:
    from torchcam_suite.present.overlay import save_png

    about = json.dumps(found.to_json(), indent=2).encode()
    try:
        pictures = [save_png(found.figure(), out / "crosscheck.png")] if found.rows else []
        write_atomically(out / "crosscheck.json", lambda file: file.write(about))
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error}") from error
    return [*pictures, out / "crosscheck.json"]
