"""What the scripts of the articles share: options, data, and a summary in Markdown with tables and pictures."""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from torchcam_suite import Explanation, Model, evaluate
from torchcam_suite.cam import METHODS
from torchcam_suite.comparison import MEASURES, Comparison, Estimate
from torchcam_suite.comparison.agreement import TITLES
from torchcam_suite.datasets import make
from torchcam_suite.errors import AssumptionWarning, ConceptWarning, SourceError, TorchcamError, ZeroMapWarning
from torchcam_suite.evaluation import EvaluationResult
from torchcam_suite.explanation import write_atomically
from torchcam_suite.labelled_images import LabelledImage, labelled_folder
from torchcam_suite.metrics.localisation import energy_in_mask, pointing_game
from torchcam_suite.metrics.masks import load_masks
from torchcam_suite.provenance import versions
from torchcam_suite.training import RECIPES, Recipe, TrainingResult, train

_WORTH_TELLING = (AssumptionWarning, ConceptWarning, ZeroMapWarning)


@dataclass(frozen=True)
class Scale:
    """How large a run is; each number can be given on the command line.

    Attributes
    ----------
    size : int
        Side of the pictures and of the network's input, in pixels.
    pictures, tests : int
        Procedural pictures to train on and to test with.
    width : float
        By which the article's numbers of channels are multiplied.
    epochs, batch_size : int
        Of the training.
    learning_rate : float
        At its beginning.
    explained : int
        Test pictures with heat maps in the figures of agreement and localisation.
    """

    size: int
    pictures: int
    tests: int
    width: float
    epochs: int
    batch_size: int
    learning_rate: float
    explained: int


def full_scale(recipe: str, size: int, pictures: int, tests: int, explained: int = 200) -> Scale:
    """The article's size with the recipe's own training."""
    known = RECIPES[recipe]
    return Scale(size, pictures, tests, 1.0, known.epochs, known.batch_size, known.learning_rate, explained)


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    out: Path
    data: Path | None
    quick: bool
    seed: int
    device: str
    scale: Scale
    changed: str  # the numbers that are neither of the full nor of the quick scale
    others: argparse.Namespace


def parse(
    about: str,
    full: Scale,
    quick: Scale,
    arguments: Sequence[str] | None = None,
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> Options:
    """Read the command line, or other arguments; `add` adds a script's own options.

    The scale is `quick` with `--quick` and else `full`, but for the numbers that are given.
    """
    name = Path(sys.modules["__main__"].__file__ or "article").stem if arguments is None else "article"
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/CLASS and test/CLASS; default: drawn pictures")
    parser.add_argument("-o", "--out", type=Path, default=Path("articles") / name, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="a small run of 40 to 100 seconds on two cores")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    for field in fields(Scale):
        values = f"({getattr(full, field.name):g}; with --quick {getattr(quick, field.name):g})"
        kind: Any = field.type
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help=f"{_HELP[field.name]} {values}")
    add(parser)
    given = parser.parse_args(arguments)
    chosen = {field.name: getattr(given, field.name) for field in fields(Scale)}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    for name, value in chosen.items():
        if not value > 0:
            parser.error(f"--{name.replace('_', '-')} {value}; expected a number above 0")
    scale = replace(quick if given.quick else full, **chosen)
    changed = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in chosen.items())
    return Options(given.out, given.data, given.quick, given.seed, given.device, scale, changed, given)


_HELP = {
    "size": "side of the pictures and of the network's input in pixels",
    "pictures": "pictures that are drawn to train on",
    "tests": "pictures that are drawn to test with",
    "width": "the article's numbers of channels times this",
    "epochs": "of the training",
    "batch_size": "of the training",
    "learning_rate": "of the training",
    "explained": "test pictures that are explained",
}


class Summary:
    """The Markdown of a run; it is written at the end, when everything that it tells of is there.

    Parameters
    ----------
    title : str
        Of the page.
    options : Options
        Of the run.
    """

    def __init__(self, title: str, options: Options) -> None:
        self.out = options.out
        self._title, self._options = title, options
        self._parts: list[str] = []
        self._facts: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say on stderr what is going on, and note how long it took; our own warnings become notes."""
        print(f"{what} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            for kind in _WORTH_TELLING:
                warnings.simplefilter("always", kind)
            yield
        self._seconds[what] = self._seconds.get(what, 0) + time.perf_counter() - started
        for note in dict.fromkeys(str(warning.message) for warning in caught):
            self.text(f"Note: {note}.")

    def fact(self, name: str, value: object) -> None:
        """Add a line to the table of what was run."""
        self._facts[name] = str(value)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._parts.append(f"## {text}")

    def text(self, paragraph: str) -> None:
        """Add a paragraph."""
        self._parts.append(paragraph)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; columns of figures are aligned at the right."""
        columns = list(zip(*rows, strict=True))
        marks = ["---:" if all(_is_figure(cell) for cell in column) else "---" for column in columns]
        lines = (headers, marks, *rows)
        self._parts.append("\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines))

    def picture(self, file: str, caption: str) -> None:
        """Show a picture; its name is relative to the folder of the results."""
        self._parts.append(f"![{caption}]({file})\n\n*{caption}*")

    def write(self) -> Path:
        """Write OUT/summary.md, which is whole or absent."""
        whole = f"{time.perf_counter() - self._started:.0f} s"
        parts = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in self._seconds.items())
        scale = "quick" if self._options.quick else "the article's"
        scale += f", but for {self._options.changed}" if self._options.changed else ""
        known = {"scale": scale, "seed": str(self._options.seed), **self._facts, "time": f"{whole} ({parts})"}
        known["software"] = _software()
        facts = "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in known.items())])
        text = "\n\n".join([f"# {self._title}", facts, *self._parts]) + "\n"
        file = self.out / "summary.md"
        write_atomically(file, lambda opened: opened.write(text.encode("utf-8", "backslashreplace")))
        return file


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) or str(value)[:1].isdecimal()


def _cell(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _software() -> str:
    known = versions() | {"lightning": version("lightning")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} processors"
    return f"{', '.join(f'{name} {number}' for name, number in known.items())}; {device}"


def run_as_script(main: Callable[[], Path]) -> None:
    """Run a script; an error that the library explains ends it with the message and status 1, Ctrl-C with 130."""
    try:
        print(main())
    except (TorchcamError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


# ---------------------------------------------------------------- data and training


def find_data(options: Options, summary: Summary, name: str) -> Path:
    """The user's folder, or a procedural set drawn into OUT/data.

    Raises
    ------
    SourceError
        The user's folder has no training or no test pictures.
    """
    if options.data is None:
        return draw_pictures(options, summary, name, options.scale.pictures)
    for part in ("train", "test"):
        if not (options.data / part).is_dir():
            raise SourceError(
                f"{options.data} has no folder {part!r}; expected train/CLASS and test/CLASS with pictures, as "
                "`torchcam-suite data crops --from PICTURES -o FOLDER` makes them of one folder a class"
            )
    summary.fact("pictures", f"`{options.data}`: {_counted(options.data)}")
    return options.data


def draw_pictures(options: Options, summary: Summary, name: str, train: int) -> Path:
    """Draw a procedural set into OUT/data; one that is there is kept."""
    size, test = options.scale.size, options.scale.tests
    with summary.step("draw pictures"):
        data = make(name, options.out / "data", train=train, test=test, size=size, seed=options.seed, progress=True)
    summary.fact("pictures", f"procedural set `{name}` of {size} pixels: {_counted(data)}")
    return data


def _counted(data: Path) -> str:
    found = {part: labelled_folder(data / part) for part in ("train", "val", "test") if (data / part).is_dir()}
    counts = "; ".join(f"{len(pictures)} {part}" for part, pictures in found.items())
    return f"{counts} ({', '.join(found['test'].labels)})"


def train_network(
    options: Options, summary: Summary, data: Path, recipe: Recipe, folder: str = "training"
) -> TrainingResult:
    """Train with a recipe at the scale that was asked for; a run that was stopped goes on."""
    scale, name = options.scale, recipe.architecture
    with summary.step(f"train {name} by {recipe.loss}"):
        result = train(
            data,
            recipe,
            out=options.out / folder,
            epochs=scale.epochs,
            batch_size=scale.batch_size,
            learning_rate=scale.learning_rate,
            patience=0 if options.quick else None,
            input_size=scale.size,
            width=scale.width,
            seed=options.seed,
            accelerator=options.device,
        )
    trained = f"recipe `{name}` with {recipe.optimizer} and the loss {recipe.loss}, width {scale.width:g}"
    steps = f"input {scale.size} pixels, batches of {scale.batch_size}, learning rate {scale.learning_rate:g}"
    ended = f"{len(result.history)} epochs, the best is {result.best_epoch}"
    weights = f"`{(options.out / folder / result.model_file.name).relative_to(options.out).as_posix()}`"
    summary.fact(f"network in {folder}", f"{trained}, {steps}; {ended}; {weights}")
    return result


# ---------------------------------------------------------------- scores


def score(summary: Summary, model: Model, test: Path, folder: str = "evaluation") -> EvaluationResult:
    """Evaluate on the test pictures, with plots, and tell accuracy and AUC."""
    with summary.step("evaluate"):
        found = evaluate(model, test, mistakes=6)
        found.save(summary.out / folder)
    low, high = found.scores.accuracy_interval
    chance = 1 / len(found.scores.class_names)
    summary.table(
        ("on the test pictures", "value", "95 % interval"),
        [
            ("accuracy", found.scores.accuracy, f"{low:.3f} to {high:.3f} (Wilson)"),
            ("accuracy by chance", chance, ""),
            *(_auc_row(found, index) for index in found.scores.ranked_classes),
        ],
    )
    return found


def _auc_row(found: EvaluationResult, index: int) -> tuple[str, float, str]:
    auc, name = found.scores.aucs[index], found.scores.class_names[index]
    low, high = auc.interval("hanley_mcneil")
    interval = f"{low:.3f} to {high:.3f} (Hanley-McNeil)" if low == low else "none: its error is 0"
    return f"AUC of {name}{'' if found.scores.is_binary else ' against the rest'}", auc.value, interval


def some_pictures(test: Path, count: int) -> list[LabelledImage]:
    """So many labelled pictures, as many of each class as there are, class by class."""
    by_class: dict[str, list[LabelledImage]] = {}
    for picture in labelled_folder(test):
        by_class.setdefault(picture.label, []).append(picture)
    each = max(1, count // len(by_class))
    return [picture for pictures in by_class.values() for picture in pictures[:each]]


# ---------------------------------------------------------------- heat maps


def localise(
    summary: Summary, model: Model, data: Path, pictures: Sequence[LabelledImage], maps: Mapping[str, Explanation]
) -> None:
    """Tell whether maps point at the object, of pictures with a mask: DATA/masks/test/CLASS."""
    folder = data / "masks" / "test"
    known = _masks_of(folder, model, pictures)
    if not known:
        summary.text(f"There are no masks in `{folder}`, so nothing is said about whether the maps lie on the objects.")
        return
    masks = torch.stack(list(known.values()))
    rows: list[tuple[str, float, float]] = []
    for name, explanation in maps.items():
        found = explanation.maps.cpu()[list(known)]
        hits, energy = pointing_game(found, masks).double().mean(), energy_in_mask(found, masks).mean()
        rows.append((name, float(hits), float(energy)))
    area = float(masks.double().mean())
    rows.append(("by chance: the share of the pictures that the objects cover", area, area))
    count = f"{len(known)} test pictures" if len(known) == len(pictures) else f"the {len(known)} with a mask"
    summary.table((f"of {count}", "maximum on the object", "share of the map on it"), rows)


def _masks_of(folder: Path, model: Model, pictures: Sequence[LabelledImage]) -> dict[int, torch.Tensor]:
    """Masks by the number of the picture; some of Caltech 101 have none, or none in the square that was cut out."""
    found = {}
    for number, picture in enumerate(pictures):
        with suppress(TorchcamError):
            found[number] = load_masks(folder / picture.label, [picture.path], model)[0]
    return found


def tell_agreement(summary: Summary, found: Comparison, pairs: Collection[tuple[int, int]] | None = None) -> None:
    """A table of pairs of columns, all by default, with each group of images, means and half of their intervals."""
    rows = []
    for pair in found.agreement:
        names = f"{_column(found, pair.first)} and {_column(found, pair.second)}"
        if pair.images and (pairs is None or (pair.first, pair.second) in pairs):
            rows.append((names, pair.group, pair.images, *(_estimate(pair.measures[name]) for name in MEASURES)))
    summary.table(("maps", "images", "n", *(TITLES[name] for name in MEASURES)), rows)
    summary.text(
        "Means with half of their 95 % interval (bootstrap over images). *Shuffled* are the maps of different images: "
        "what the pair reaches without looking."
    )


def _column(found: Comparison, number: int) -> str:
    """What a column does not share with all others."""
    column = found.columns[number]
    parts = {"model": column.model, "layer": column.layer, "method": METHODS[column.method].title}
    differ = [name for name in parts if len({getattr(one, name) for one in found.columns}) > 1]
    return " ".join(parts[name] for name in differ)


def _estimate(estimate: Estimate) -> str:
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return "-" if estimate.mean is None else f"{estimate.mean:.2f}"
    return f"{estimate.mean:.2f} ± {(estimate.high - estimate.low) / 2:.2f}"
