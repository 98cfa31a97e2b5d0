"""`torchcam-suite data`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from torchcam_suite.cli.options import Json, parse_classes
from torchcam_suite.cli.output import log, print_json, print_table, warnings_on_stderr
from torchcam_suite.datasets import (
    PROCEDURAL,
    TORCHVISION_SETS,
    PreparedSet,
    caltech101,
    crops,
    dogs_vs_cats,
    make,
    torchvision_set,
)
from torchcam_suite.datasets.description import DESCRIPTION
from torchcam_suite.errors import TorchcamError

_FOLDERS = {"dogs-vs-cats": dogs_vs_cats, "caltech101": caltech101, "crops": crops}
_SHOWN = 10


def data(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="pets, families, faces or objects are drawn; dogs-vs-cats, caltech101 and crops read your folder; "
            "fashion-mnist and cifar-10 are fetched. Without a name: a list.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write.", show_default=False)] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder with the originals, which is only read.", show_default=False)
    ] = None,
    train: Annotated[
        int | None,
        typer.Option(help="Training pictures to draw, or to take of what is fetched.", show_default="400, or all"),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(help="Validation: pictures to draw, or share of a folder.", show_default="0, or 0.15 of a folder"),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            help="Test: pictures to draw or take, or share of a folder.", show_default="0, or 0.15 of a folder"
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the square pictures.", show_default="128 drawn, 224 of crops, else as they are"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the drawings, and of the split.")] = 0,
    classes: Annotated[
        str | None, typer.Option(help="Of caltech101: a,b,c or all.", show_default="airplanes,Leopards,watch")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", help="Write masks of what is drawn.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that draw.", show_default="automatic")] = None,
    as_json: Json = False,
) -> None:
    """Make a data set: train, val and test, each with one folder a class.

    Draws pictures with exact masks, or brings real ones into the same
    layout. The same command again completes what was stopped. Nothing in
    the folder after --from is changed.

    [dim]Examples:
      torchcam-suite data pets -o drawn --train 400 --test 100 --size 128
      torchcam-suite data dogs-vs-cats --from train -o pets --size 150
      torchcam-suite data caltech101 --from 101_ObjectCategories
        --classes airplanes,watch,Leopards -o objects
      torchcam-suite data crops --from pictures -o faces --size 224
      torchcam-suite data cifar-10 -o cifar[/]
    """
    if name is None:
        _list(as_json)
        return
    if out is None:
        raise TorchcamError(f"name the folder to write: torchcam-suite data {name} -o FOLDER")
    given: dict[str, Any] = {"train": train, "val": val, "test": test, "size": size, "seed": seed, "classes": classes}
    given |= {"source": source, "masks": None if masks else False, "workers": workers}
    options = {option: value for option, value in given.items() if value is not None}
    with warnings_on_stderr():
        if name in PROCEDURAL:
            about = _drawn(name, out, options)
        elif name in TORCHVISION_SETS:
            about = _fetched(name, out, options).to_json()
        elif name in _FOLDERS:
            about = _read(name, out, options).to_json()
        else:
            raise TorchcamError(f"data set {name!r} is unknown; choose one of {', '.join(_about())}")
    _print(about, as_json)


def _about() -> dict[str, str]:
    """Every name with a few words."""
    return {
        **{name: f"drawn: {known.about}" for name, known in PROCEDURAL.items()},
        "dogs-vs-cats": "your folder of Kaggle's Dogs vs. Cats, or PetImages",
        "caltech101": "your folder 101_ObjectCategories",
        "crops": "your folder with one folder a class",
        **{name: f"fetched: {', '.join(known.class_names[:4])}, ..." for name, known in TORCHVISION_SETS.items()},
    }


def _list(as_json: bool) -> None:
    if as_json:
        print_json([{"name": name, "about": about} for name, about in _about().items()])
    else:
        print_table(("name", "what it is"), list(_about().items()), whole=(0,))


def _only(name: str, options: dict[str, Any], *known: str) -> None:
    """Refuse options that this set has no use for."""
    spelling = {"source": "--from", "masks": "--no-masks"}
    others = [spelling.get(option, f"--{option}") for option in options if option not in known]
    if others:
        taken = ", ".join(spelling.get(option, f"--{option}") for option in known)
        raise TorchcamError(f"{name} takes no {', '.join(others)}; it takes {taken}")


def _drawn(name: str, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    _only(name, options, "train", "val", "test", "size", "seed", "masks", "workers")
    folder = make(name, out, progress=True, **_whole(name, options, "val", "test"))
    return {"folder": str(folder)} | json.loads((folder / DESCRIPTION).read_bytes())


def _whole(name: str, options: dict[str, Any], *counted: str) -> dict[str, Any]:
    """With numbers of pictures, not shares."""
    for option in counted:
        if not float(options.get(option, 0)).is_integer():
            raise TorchcamError(f"--{option} {options[option]:g} of {name}; expected a number of pictures, as 100")
    return options | {option: int(options[option]) for option in counted if option in options}


def _fetched(name: str, out: Path, options: dict[str, Any]) -> PreparedSet:
    _only(name, options, "train", "val", "test", "seed", "source")
    return torchvision_set(name, out, progress=True, **_whole(name, options, "test"))


def _read(name: str, out: Path, options: dict[str, Any]) -> PreparedSet:
    classes = {"classes"} if name == "caltech101" else set()
    _only(name, options, "source", "val", "test", "size", "seed", *classes)
    if "source" not in options:
        raise TorchcamError(f"name the folder of {name}: torchcam-suite data {name} --from FOLDER -o {out}")
    if "classes" in options:
        options["classes"] = None if options["classes"] == "all" else parse_classes(options["classes"])
    return _FOLDERS[name](options.pop("source"), out, progress=True, **options)


def _print(about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(about)
        return
    counts, labels = about["counts"], about["class_names"]
    rows = [(label, *(str(counts[split][label]) for split in counts)) for label in labels]
    rows.append(("all", *(str(sum(counts[split].values())) for split in counts)))
    print_table(("class", *counts), rows, right=range(1, 1 + len(counts)))
    _note("left out: ", [one["reason"] for one in about.get("broken", [])])
    _note("without a mask: ", [one["reason"] for one in about.get("unmasked", [])])
    _note("in different classes: ", [", ".join(same) for same in about.get("contradictions", [])])
    log.print(f"written: {about['folder']}", soft_wrap=True)


def _note(what: str, lines: list[str]) -> None:
    """The first of many."""
    for line in lines[:_SHOWN]:
        log.print(Text(what, "yellow") + Text(line), soft_wrap=True)
    if len(lines) > _SHOWN:
        log.print(f"and {len(lines) - _SHOWN} more, listed in {DESCRIPTION}")
