"""The arguments and options that several commands share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from torchcam_suite.errors import SourceError, TargetError
from torchcam_suite.models import Model
from torchcam_suite.sources import load

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Keras checkpoint (.h5, .hdf5, .keras, or .json with --weights), SavedModel folder, frozen .pb graph, "
        "keras.applications:NAME, bundle folder, torchvision:NAME, trained .safetensors, or recipe:NAME.",
        show_default=False,
    ),
]
Weights = Annotated[Path | None, typer.Option(help="Weights file of a .json architecture.", show_default=False)]
InputSize = Annotated[
    str | None, typer.Option(help="224 or 240x320 (height x width), for models of free size.", show_default=False)
]
Input = Annotated[
    str | None, typer.Option("--input", help="Name of the image input, if there are several.", show_default=False)
]
Output = Annotated[
    str | None, typer.Option("--output", help="Name of the output, if there are several.", show_default=False)
]
Custom = Annotated[
    list[str] | None,
    typer.Option(
        "--custom",
        metavar="CODE",
        help="module:attribute of yours that the checkpoint names; see docs/importing.md.",
        show_default=False,
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="unit (pixels in 0..1), tf (-1..1), caffe, torch or raw (0..255).",
        show_default="what the model says, else unit",
    ),
]
Classes = Annotated[
    str | None, typer.Option(help="Class names: a,b,c or a text file with one a line.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Convert a checkpoint anew and keep nothing.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]

BatchSize = Annotated[int, typer.Option(min=1, help="Pictures in one forward pass.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that decode pictures.", show_default="automatic")]


def open_model(
    model: str,
    weights: Path | None,
    input_size: str | None,
    preprocess: str | None,
    classes: str | None,
    device: str,
    no_cache: bool,
    input: str | None = None,
    output: str | None = None,
    custom: list[str] | None = None,
) -> Model:
    """Open the model that the options describe."""
    return load(
        model,
        weights=weights,
        input_size=parse_size(input_size),
        input=input,
        output=output,
        custom=custom or (),
        preprocessing=preprocess,
        class_names=parse_classes(classes),
        device=device,
        cache=not no_cache,
    )


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse a size.

    Examples
    --------
    >>> parse_size("224"), parse_size("240x320")
    ((224, 224), (240, 320))
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise SourceError(f"--input-size {text!r}; expected 224, or height x width as in 240x320")
    return int(parts[0]), int(parts[-1])


def parse_classes(text: str | None) -> list[str] | None:
    """Parse class names: a comma-separated list, or the path of a text file with one name a line."""
    if text is None:
        return None
    if Path(text).is_file():
        return [line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip()]
    if text.endswith(".txt") or "/" in text:
        raise SourceError(f"no such file: {text} (--classes takes a,b,c or a text file with one name a line)")
    return [name.strip() for name in text.split(",")]


def parse_target(text: str | None, class_names: Sequence[str] | None) -> int | str | None:
    """Parse a class of a model: a number, or else a name.

    Raises
    ------
    TargetError
        It is the number of one class and the name of another.

    Examples
    --------
    >>> parse_target("3", None), parse_target("cat", ["cat", "dog"]), parse_target("10", ["1", "10", "2"])
    (3, 'cat', '10')
    """
    if text is None or not re.fullmatch(r"-?\d+", text):
        return text
    number, names = int(text), list(class_names or ())
    if text not in names or names.index(text) == number:
        return number
    if 0 <= number < len(names):
        raise TargetError(
            f"--target {text} is the number of class {names[number]!r} and the name of class number "
            f"{names.index(text)}; call the classes otherwise (--classes)"
        )
    return text
