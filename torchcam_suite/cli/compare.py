"""`torchcam-suite compare`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from torchcam_suite.cam import METHODS, make_method
from torchcam_suite.cli.method_options import options_of, require_used, split_options
from torchcam_suite.cli.options import (
    BatchSize,
    Custom,
    Device,
    Input,
    Json,
    NoCache,
    Output,
    parse_classes,
    parse_size,
    parse_target,
)
from torchcam_suite.cli.output import log, print_json, status, warnings_on_stderr
from torchcam_suite.compare import compare as compare_models
from torchcam_suite.comparison import Comparison, load_native
from torchcam_suite.comparison.answers import Subject, model_of
from torchcam_suite.comparison.native import PREFIX
from torchcam_suite.errors import SourceError
from torchcam_suite.shown_names import short_names
from torchcam_suite.sources import load


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="As for explain; an architecture with its weights as model.json+weights.h5; NAME=MODEL to call it so "
            "in the result; keras:MODEL to run a checkpoint in Keras itself.",
            show_default=False,
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Option(help="Picture, folder of pictures, or of class folders; repeat for several.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for comparison.json, maps.npz and the pictures.", show_default=False),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="Layer name; shallow, middle, deep, or a depth as 0.5; MODEL=LAYER for one model; repeat for several.",
            show_default="deep",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Name from torchcam-suite methods; repeat for several.", show_default="gradcam"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of a method, as samples=20; repeat.", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Class number or name, or label for what each picture shows.",
            show_default="each model's top class",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many pictures, chosen evenly.", show_default=False)
    ] = None,
    drawn: Annotated[int, typer.Option(min=1, help="Pictures in the grid.")] = 12,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            help="unit, tf, caffe, torch or raw; once for all models, or once for each in order.",
            show_default="what each model says, else unit",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="a,b,c or a text file; once for all models, or once for each in order.", show_default=False),
    ] = None,
    input_size: Annotated[
        list[str] | None,
        typer.Option(help="224 or 240x320; once for all models, or once for each in order.", show_default=False),
    ] = None,
    input: Input = None,
    output: Output = None,
    custom: Custom = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of what is shuffled.")] = 0,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the matrices; needs matplotlib.")] = True,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Compare models, layers and methods on the same pictures: how far their maps agree, right and wrong apart.

    With -o, also draws a grid (a row a picture, a column a model, layer and
    method) and the agreement of all pairs, and keeps the maps.

    [dim]Example:  torchcam-suite compare vgg.h5 resnet.h5 --images pictures
    --layer shallow --layer deep --method gradcam --method scorecam -o out[/]
    """
    if out is not None and out.exists() and not out.is_dir():
        raise SourceError(f"{out} is a file; name a folder to write")
    if out is not None and plots:
        from torchcam_suite.present.score_plots import require_matplotlib

        require_matplotlib()
    methods = list(dict.fromkeys(method or ["gradcam"]))
    options = _options(methods, split_options(option or []))
    names, sources = zip(*map(_named, models), strict=True)
    each: dict[str, Sequence[Any]] = {
        "preprocessing": _for_each(preprocess, models, "--preprocess"),
        "class_names": [parse_classes(text) for text in _for_each(classes, models, "--classes")],
        "input_size": [parse_size(text) for text in _for_each(input_size, models, "--input-size")],
    }
    shared = {"input": input, "output": output, "custom": custom or (), "device": device, "cache": not no_cache}
    asked: dict[str, Any] = {"methods": methods, "method_options": options}
    asked |= {"limit": limit, "drawn": drawn, "seed": seed, "batch_size": batch_size}
    with warnings_on_stderr():
        opened = []
        for place, source in enumerate(sources):
            with status(f"opening {source}"):
                own = {option: values[place] for option, values in each.items()}
                opened.append(_open(source, own | shared))
        titled = _titled(names, sources, opened)
        asked["target"] = _target(target, opened)
        if layer:
            asked["layers"] = _layers(layer, titled)
        found = compare_models(titled, list(images), progress=True, **asked)
        written = [] if out is None else found.save(out, plots=plots)
    _print(found, written, as_json)


def _target(text: str | None, subjects: Sequence[Subject]) -> int | str | None:
    """A class: its name, where a model has one of this name."""
    found = [parse_target(text, model_of(subject).class_names) for subject in subjects]
    return next((target for target in found if isinstance(target, str)), found[0])


def _options(methods: Sequence[str], texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The options of each method; what does not exist is told before a model is opened, not after."""
    require_used({}, texts, methods)
    found = {name: options_of(METHODS[name], {}, texts) if name in METHODS else {} for name in methods}
    for name, options in found.items():
        make_method(name, options)
    return found


def _named(model: str) -> tuple[str | None, str]:
    """Name and source of ``NAME=MODEL``.

    Examples
    --------
    >>> _named("old=keras:model.h5"), _named("torchvision:resnet18?weights=DEFAULT")
    (('old', 'keras:model.h5'), (None, 'torchvision:resnet18?weights=DEFAULT'))
    """
    found = re.fullmatch(r"([\w .()-]+)=(.+)", model)
    return (None, model) if found is None or Path(model).exists() else (found[1], found[2])


def _for_each(given: Sequence[str] | None, models: Sequence[str], flag: str) -> Sequence[str | None]:
    """One value a model: the one that holds for all, or each its own."""
    if not given:
        return [None] * len(models)
    if len(given) not in (1, len(models)):
        raise SourceError(
            f"{flag} is given {len(given)} times for {len(models)} models; give it once for all, or once for each in "
            "their order"
        )
    return list(given) * (len(models) if len(given) == 1 else 1)


def _open(source: str, options: Mapping[str, Any]) -> Subject:
    native = source.startswith(PREFIX)
    path, weights = _with_weights(source.removeprefix(PREFIX))
    return load_native(path, weights=weights, **options) if native else load(path, weights=weights, **options)


def _with_weights(source: str) -> tuple[str, str | None]:
    """An architecture and its weights of ``model.json+weights.h5``.

    Examples
    --------
    >>> _with_weights("a/model.json+a/weights.h5"), _with_weights("model.h5")
    (('a/model.json', 'a/weights.h5'), ('model.h5', None))
    """
    architecture, plus, weights = source.partition(".json+")
    return (f"{architecture}.json", weights) if plus and not Path(source).exists() else (source, None)


def _titled(
    names: Sequence[str | None], sources: Sequence[str], opened: Sequence[Subject]
) -> list[tuple[str, Subject]]:
    """The models by their names; files of one name, as two `model.safetensors`, with the folders that tell them apart.

    What holds an equals sign is left to be numbered: `--layer MODEL=LAYER` could not name it.
    """
    own = [subject.name if name is None else name for name, subject in zip(names, opened, strict=True)]
    longer = [str(Path(short).with_suffix("")) for short in short_names(sources)]
    return [
        (long if given is None and own.count(name) > 1 and "=" not in long else name, subject)
        for given, name, long, subject in zip(names, own, longer, opened, strict=True)
    ]


def _layers(given: Sequence[str], models: Sequence[tuple[str, Subject]]) -> list[str] | dict[str, list[str]]:
    """Layers for all models, or, where one is ``MODEL=LAYER``, those of each."""
    split = [text.partition("=") for text in given]
    if not any(equals for _, equals, _ in split):
        return list(given)
    found: dict[str, list[str]] = {title: [] for title, _ in models}
    for model, equals, layer in split:
        if equals and model not in found:
            raise SourceError(f"--layer {model}={layer}: no model is called {model!r}; there are {', '.join(found)}")
        for title in [model] if equals else found:
            found[title].append(layer if equals else model)
    return found


def _print(found: Comparison, written: Sequence[Path], as_json: bool) -> None:
    if as_json:
        print_json(found.to_json() | {"files": [str(path) for path in written]})
        return
    print(found)
    for path in written:
        log.print(f"written: {path}", soft_wrap=True)
