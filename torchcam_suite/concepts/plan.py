"""What a TCAV would compute, and how much memory it would take: known before the first forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb, prod
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import Tensor

from torchcam_suite.concepts.gram import FOLDS, PROBLEMS, strip_width
from torchcam_suite.concepts.picture_sets import Pictures, joined_items, others
from torchcam_suite.concepts.question import Question, ask
from torchcam_suite.concepts.significance import sets_needed
from torchcam_suite.concepts.testing import Testing
from torchcam_suite.concepts.training import Training
from torchcam_suite.errors import SourceError
from torchcam_suite.features.pooling import Pool, require_positions
from torchcam_suite.layers import Layer
from torchcam_suite.models import Model

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Plan:
    """What `tcav` would do with the same arguments. Prints as a few lines.

    Attributes
    ----------
    pictures : int
        Different pictures of concepts and random sets; each is run once through the model, for all layers together.
    images : dict of str to int
        Images of each target; each takes one forward and one backward pass, for all layers together.
    layers : dict of str to int
        By layer, how many numbers a row of activations, and a CAV, has.
    concepts : dict of str to int
        By concept, how many of its pictures a probe is trained on, beside as many of the other side.
    told_from : dict of str to int
        By concept, how many sets it is told from: random ones, or for relative CAVs mixtures of the other concepts.
    probes : int
        Probes that are trained in all: concepts, their held-out accuracy, and pairs of random sets.
    chance : int
        Those of them that are trained on pairs of random sets.
    activations, gram, cavs : int
        Bytes: of all activations; of the largest Gram matrix, one layer after the other; of all CAVs.
    work : int
        Bytes, about, that are taken for a while to compute in float64.
    relative : bool
        Whether the sets are mixtures of the other concepts.
    in_memory : bool
        Whether the activations fit in the `memory` that they may take; if not, they are in files, memory-mapped.
    questions : int
        Rows of the result: layers x concepts x targets.
    level : float
        Of significance.
    needed : int or None
        Random sets that it takes to call any of them significant; None where no calibrated test is made.
    """

    pictures: int
    images: dict[str, int]
    layers: dict[str, int]
    concepts: dict[str, int]
    told_from: dict[str, int]
    probes: int
    chance: int
    activations: int
    gram: int
    cavs: int
    work: int
    relative: bool
    in_memory: bool
    questions: int
    level: float
    needed: int | None

    @property
    def runs(self) -> int:
        """Sets that each concept is told from; the fewest, if they differ."""
        return min(self.told_from.values())

    @property
    def decides(self) -> bool | None:
        """Whether the random sets suffice to call a concept significant; None where no calibrated test is made."""
        return None if self.needed is None else self.runs >= self.needed

    @property
    def memory(self) -> int:
        """Bytes, about, of all that is held at once beside the model and a batch of images in it."""
        return (self.activations if self.in_memory else 0) + self.gram + self.cavs + self.work

    def __str__(self) -> str:
        cavs = len(self.layers) * sum(self.told_from.values())
        probes = f"{cavs:,} CAVs, {FOLDS * cavs:,} for their accuracy, {self.chance:,} between random sets"
        sets = "sets of other concepts" if self.relative else "random sets"
        lines = (
            ("pictures", f"{self.pictures:,} different ones, one forward pass each"),
            ("images", f"{sum(self.images.values()):,} ({_counts(self.images)}), one gradient pass each"),
            ("layers", f"numbers in a CAV: {_counts(self.layers)}"),
            ("concepts", f"{len(self.concepts)} of {_range(self.concepts)} pictures, told from {self.runs:,} {sets}"),
            ("probes", f"{self.probes:,}: {probes}"),
            (
                "activations",
                f"{_size(self.activations)} {'in memory' if self.in_memory else 'in files, memory-mapped'}",
            ),
            ("Gram matrix", f"{_size(self.gram)}, one layer after the other"),
            ("CAVs", _size(self.cavs)),
            ("memory", f"about {_size(self.memory)} beside the model, {_size(self.work)} of it only while computing"),
            ("random sets", self._sufficiency()),
        )
        return "\n".join(fill(f"{name:<13}{text}", 80, subsequent_indent=" " * 13) for name, text in lines)

    def _sufficiency(self) -> str:
        if self.needed is None:
            return "no calibrated test is made"
        verdict = "enough" if self.decides else "TOO FEW to decide"
        asked = f"{self.questions:,} question{'s' if self.questions > 1 else ''} at a level of {self.level:g}"
        return f"{self.runs:,}; {asked} need{'' if self.questions > 1 else 's'} {self.needed:,}: {verdict}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"runs": self.runs, "decides": self.decides, "memory": self.memory}


def plan(
    model: Model,
    *,
    layers: str | Sequence[str],
    concepts: Sequence[str] | Mapping[str, Any],
    target: Any,
    random: Any = "random",
    data: str | Path | None = None,
    images: Any = None,
    probe: str = "ridge",
    test: str = "calibrated",
    correction: str = "holm",
    level: float = 0.05,
    runs: int | None = None,
    redeal: bool = False,
    relative: bool = False,
    pool: Pool = "flatten",
    regularization: float | None = None,
    seed: int = 0,
    memory: int = 2**30,
) -> Plan:
    """Say what `tcav` would compute with these arguments, without a pass through the model.

    The pictures are found and looked at, so that what is wrong with them, or with an option, is told as `tcav` would.

    Parameters
    ----------
    model, layers, concepts, ...
        As for `tcav`; the result is one for all that it does not take.

    Raises
    ------
    ConceptError, LayerError, SourceError, ValueError
        As `tcav`.

    Examples
    --------
    >>> import torch
    >>> from torchcam_suite import load
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> model = load(net, input_size=(3, 8, 8), preprocessing="unit", device="cpu")
    >>> red, noise = torch.rand(20, 3, 8, 8), torch.rand(400, 3, 8, 8)
    >>> found = plan(model, layers="0", concepts={"red": red}, target=1, images=torch.rand(30, 3, 8, 8), random=noise)
    >>> found.pictures, found.images, found.layers, found.probes, found.decides
    (420, {'1': 30}, {'0': 144}, 270, True)
    """
    if not isinstance(model, Model):
        raise SourceError(f"plan takes a Model, not a {type(model).__name__}; open it first: load(...)")
    training, testing = Training(probe, regularization, relative, pool, seed), Testing(test, correction, level)
    names = dict.fromkeys([layers] if isinstance(layers, str) else layers)
    widths = {name: _width(model, name, pool) for name in names}
    question = ask(
        concepts, random, target, data=data, images=images, runs=runs, redeal=redeal, relative=relative, seed=seed
    )
    opponents = _opponents(question, training)
    told_from = {name: len(group) for name, group in opponents.items()}
    sizes = {name: _fewest(question.sets.concepts[name], *group.values()) for name, group in opponents.items()}
    pairs = 0 if relative or test == "paper" else comb(len(question.sets.random), 2)
    chance = len(widths) * len(set(sizes.values())) * pairs
    recorded = question.sets.concepts | {name: part for group in opponents.values() for name, part in group.items()}
    pictures = _distinct(list(recorded.values()))
    activations = pictures * sum(widths.values()) * _item_size(model)
    questions = len(widths) * len(sizes) * len(question.goals)
    return Plan(
        pictures=pictures,
        images={goal.name: len(goal.images) for goal in question.goals},
        layers=widths,
        concepts=sizes,
        told_from=told_from,
        probes=len(widths) * (1 + FOLDS) * sum(told_from.values()) + chance,
        chance=chance,
        activations=activations,
        gram=pictures**2 * 8,
        cavs=len(sizes) * min(told_from.values()) * sum(widths.values()) * 4,
        work=_work(pictures, max(widths.values()), max(pairs, *told_from.values()) * (2 * max(sizes.values())) ** 2),
        relative=relative,
        in_memory=activations <= memory,
        questions=questions,
        level=testing.level,
        needed=sets_needed(level, questions, correction) if test == "calibrated" and not relative else None,
    )


def _opponents(question: Question, training: Training) -> dict[str, Mapping[str, Pictures]]:
    """For each concept the sets that it is told from."""
    sets = question.sets
    if training.relative:
        return {name: others(sets.concepts, name, training.seed) for name in sets.concepts}
    return dict.fromkeys(sets.concepts, sets.random)


def _width(model: Model, name: str, pool: Pool) -> int:
    """How many numbers a row of a layer has."""
    model.layers.site(name)
    layer = model.layers[name]
    require_positions(layer, pool)
    return prod(size or 1 for size in _pooled_shape(layer, pool))


def _pooled_shape(layer: Layer, pool: Pool) -> tuple[int | None, ...]:
    return layer.output_shape if pool == "flatten" or layer.map_shape is None else layer.map_shape[:1]


def _item_size(model: Model) -> int:
    """Bytes of one activation: 8 of a float64 model, else 4."""
    return 8 if any(part.dtype == torch.float64 for part in model.module.parameters()) else 4


def _work(pictures: int, width: int, problems: int) -> int:
    """Bytes, about, that the products of a layer's activations and the probes take, each in parts of limited size."""
    # a part in float32, in float64, and once more less its mean or squared; six matrices of each problem
    return 20 * pictures * min(width, strip_width(pictures)) + 48 * min(problems, PROBLEMS)


def _fewest(*sets: Any) -> int:
    return min(map(len, sets))


def _distinct(parts: Sequence[Pictures]) -> int:
    """A picture in several sets is run once; rows of tensors are not compared."""
    pictures = joined_items(parts)
    if isinstance(pictures, Tensor):
        return len(pictures)
    return len({str(picture) if isinstance(picture, str | Path) else id(picture) for picture in pictures})


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _range(counts: Mapping[str, int]) -> str:
    """As in "20" or "15 to 40"."""
    low, high = min(counts.values()), max(counts.values())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _size(count: int) -> str:
    """Bytes as people write them.

    Examples
    --------
    >>> _size(512), _size(1_500_000)
    ('512 bytes', '1.5 MB')
    """
    power = min(len(_UNITS) - 1, max(0, len(str(count)) - 1) // 3)
    return f"{count:,} bytes" if power == 0 else f"{count / 1000**power:.1f} {_UNITS[power]}"
