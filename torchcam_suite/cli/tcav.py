"""`torchcam-suite tcav`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

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
from torchcam_suite.cli.output import data as stdout
from torchcam_suite.cli.output import exit_unless, log, print_json, print_table, status, warnings_on_stderr
from torchcam_suite.concepts import TcavResult
from torchcam_suite.concepts import tcav as test_concepts
from torchcam_suite.concepts.picture_sets import pictures_of
from torchcam_suite.concepts.plan import plan
from torchcam_suite.concepts.result import CSV, TABLE, VECTORS
from torchcam_suite.concepts.testing import Testing
from torchcam_suite.concepts.training import Training
from torchcam_suite.errors import (
    ConceptError,
    MissingLibraryError,
    SourceError,
)

CHART = "tcav.png"


def tcav(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(help="Folder of folders: one a concept, one a class, several random sets.", show_default=False),
    ],
    concept: Annotated[
        list[str], typer.Option(help="Folder of a concept's pictures; repeat for several.", show_default=False)
    ],
    target: Annotated[
        list[str],
        typer.Option(
            metavar="CLASS[=FOLDER]",
            help="Class that is explained and the folder of its images: fire, or 0=fire; repeat for several.",
            show_default=False,
        ),
    ],
    layer: Annotated[
        list[str] | None, typer.Option(help="Layer name; repeat for several.", show_default="the last spatial one")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for tcav.json, tcav.csv, CAVs and chart.", show_default=False),
    ] = None,
    random: Annotated[str, typer.Option(metavar="PREFIX", help="What names of random folders begin with.")] = "random",
    runs: Annotated[int | None, typer.Option(help="Random sets to use.", show_default="all")] = None,
    redeal: Annotated[
        bool, typer.Option("--redeal", help="Deal all random pictures into new, smaller sets: more of them.")
    ] = False,
    test: Annotated[str, typer.Option(help="calibrated; paper or reference for comparison.")] = "calibrated",
    correction: Annotated[str, typer.Option(help="For several questions: holm, benjamini_hochberg or none.")] = "holm",
    level: Annotated[float, typer.Option(help="Of significance.")] = 0.05,
    probe: Annotated[str, typer.Option(help="ridge, logistic, mean_difference or sgd.")] = "ridge",
    relative: Annotated[
        bool, typer.Option("--relative", help="Tell a concept from the others instead of from random pictures.")
    ] = False,
    pool: Annotated[str, typer.Option(help="flatten, or mean: one weight a channel.")] = "flatten",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn at random.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the activations for the next time.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be computed, in how much memory, and stop.")
    ] = False,
    weights: Weights = None,
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
    """Test with which concepts a model decides: TCAV scores, each with its interval and its significance.

    A concept is a folder of pictures that show it. Its score for a class is
    the share of the class's images whose logit grows in its direction; random
    folders say what a concept without meaning would score.

    [dim]Example:  torchcam-suite tcav model.h5 --data pictures --concept red
    --concept blue --target fire --classes labels.txt --layer conv2d_5 -o out[/]
    """
    # what does not exist is told before the model is opened, not after
    Training(probe=probe, relative=relative, pool=pool, seed=seed)  # type: ignore[arg-type]
    Testing(test, correction, level)
    with warnings_on_stderr():
        with status(f"opening {model}"):
            opened = open_model(
                model, weights, input_size, preprocess, classes, device, no_cache, input, output, custom
            )
        asked: dict[str, Any] = {
            "layers": layer or opened.default_layer,
            "concepts": list(dict.fromkeys(concept)),
            "target": targets_in(data, target, opened.class_names),
            "data": data,
            "random": random,
            "runs": runs,
            "redeal": redeal,
            "test": test,
            "correction": correction,
            "level": level,
            "probe": probe,
            "relative": relative,
            "pool": pool,
            "seed": seed,
        }
        if dry_run:
            planned = plan(opened, **asked)
            if as_json:
                print_json(planned.to_json())
            else:
                stdout.print(str(planned))
            return
        found = test_concepts(opened, **asked, folder=cache, progress=True)
        written, complete = ([], True) if out is None else write(found, out)
    if as_json:
        print_json(found.to_json() | {"files": [str(path) for path in written]})
    else:
        print_result(found)
        for path in written:
            log.print(f"written: {path}", soft_wrap=True)
    exit_unless(complete)


def targets_in(data: Path, texts: Sequence[str], class_names: Sequence[str] | None) -> dict[int | str, list[Path]]:
    """The classes and their images: ``fire`` names a class and its folder, ``0=fire`` each.

    Raises
    ------
    ConceptError
        A class is named, but the model has no class names; or a folder is missing.
    """
    found: dict[int | str, list[Path]] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        goal = parse_target(name, class_names)
        assert goal is not None
        if isinstance(goal, str) and class_names is None:
            raise ConceptError(
                f"--target {text} names a class, but this model has no class names; give them (--classes), or the "
                f"class's number with the folder of its images (--target 0={folder or name})"
            )
        if isinstance(goal, int) and not folder and not (data / name).is_dir():
            raise ConceptError(
                f"--target {text} is a class number, and {data} has no folder of that name; say which folder holds its "
                f"images (--target {text}=FOLDER)"
            )
        found[goal] = list(pictures_of(data, folder or name).items)
    return found


def write(result: TcavResult, out: Path) -> tuple[list[Path], bool]:
    """Write the table, the CAVs and the chart; the chart is left out, and that said, where it cannot be drawn.

    Returns
    -------
    list of Path
        The files.
    bool
        Whether the chart is among them.
    """
    try:
        result.save(out)
    except OSError as error:
        raise SourceError(f"cannot write to {out}: {error}") from error
    written = [out / TABLE, out / CSV, out / VECTORS]
    try:
        return [*written, result.plot(out / CHART)], True
    except MissingLibraryError as error:
        log.print(Text(f"left out {CHART}: ", "bold red") + Text(str(error)), soft_wrap=True)
        return written, False


def print_result(result: TcavResult) -> None:
    """Print a table for each target and layer, and below them what their reader should know."""
    for number, (target, layer) in enumerate(dict.fromkeys((row.target, row.layer) for row in result.rows)):
        rows = [row for row in result.rows if (row.target, row.layer) == (target, layer)]
        goal = f"class {target}" if target.isdecimal() else target
        stdout.print(Text("\n" if number else "") + Text(f"{goal} at {layer}", "bold"))
        print_table(
            ("concept", "score", "95 % interval", "sensitivity", result.p_header, "accuracy", ""),
            [
                (
                    row.concept,
                    f"{row.score:.2f}",
                    f"{row.low:.2f} to {row.high:.2f}",
                    f"{row.mean_sensitivity:+.3g}",
                    "-" if row.p_corrected is None else f"{row.p_corrected:.3f}",
                    f"{row.accuracy:.2f}",
                    row.verdict,
                )
                for row in rows
            ],
            right=(1, 2, 3, 4, 5),
            whole=(1, 2, 3, 4, 5, 6),
            short=0,
        )
    if any(row.p is not None for row in result.rows):
        test = result.settings["test"]
        correction = test["correction"].replace("_", " and ")
        log.print(f"p: {test['test']} test, correction for {len(result.rows)} question(s): {correction}")
    for note in result.notes:
        stdout.print(f"\n{note}")
