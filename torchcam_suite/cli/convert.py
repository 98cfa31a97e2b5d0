"""`torchcam-suite convert`."""

from pathlib import Path
from typing import Annotated

import typer

from torchcam_suite.cli.options import (
    Classes,
    Custom,
    Input,
    InputSize,
    Json,
    NoCache,
    Output,
    Preprocess,
    Weights,
    parse_classes,
    parse_size,
)
from torchcam_suite.cli.output import log, print_json, print_table, status, warnings_on_stderr
from torchcam_suite.cli.verify import certificate_rows
from torchcam_suite.images import find_preprocessing


def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="Keras checkpoint (.h5, .hdf5, .keras, or .json with --weights), SavedModel folder, frozen .pb graph, "
            "or keras.applications:NAME.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the bundle; must not exist.", show_default="the cache")
    ] = None,
    weights: Weights = None,
    input_size: InputSize = None,
    input: Input = None,
    output: Output = None,
    custom: Custom = None,
    preprocess: Preprocess = None,
    classes: Classes = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the TensorFlow process may take.")] = 900,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Convert a Keras checkpoint to a bundle that torch opens without TensorFlow, and prove that it is the same.

    [dim]Example:  torchcam-suite convert model.json --weights w.h5 -o model.bundle[/]
    """
    from converters import convert as convert_checkpoint

    if preprocess is not None:
        find_preprocessing(preprocess)
    with warnings_on_stderr(), status(f"converting {Path(model).name} (TensorFlow takes a few seconds to start)"):
        bundle = convert_checkpoint(
            model,
            weights=weights,
            out=out,
            input_size=parse_size(input_size),
            input=input,
            output=output,
            custom=custom or (),
            preprocessing=preprocess,
            class_names=parse_classes(classes),
            cache=not no_cache,
            timeout=timeout,
        )
    if as_json:
        print_json({"bundle": str(bundle.path), "certificate": bundle.certificate.to_json()})
        return
    print_table(("proof", "figure", "where"), certificate_rows(bundle.certificate))
    log.print("bundle:")
    print(bundle.path)
