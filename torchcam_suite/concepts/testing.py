"""From directional derivatives to a table: scores, intervals, significance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.concepts.gram import Planes
from torchcam_suite.concepts.picture_sets import FEWEST
from torchcam_suite.concepts.result import TcavRow
from torchcam_suite.concepts.significance import CORRECTIONS, TESTS, Runs, sets_needed
from torchcam_suite.concepts.training import LayerProbes, Trained

RESAMPLES = 2000
FEW_SETS = 10  # with fewer, intervals are told to be too short
SILENT = 0.05  # share of sensitivities that are 0 from which on it is told


@dataclass(frozen=True)
class Testing:
    """How it is decided what is significant.

    Attributes
    ----------
    test : str
        A key of `torchcam_suite.concepts.significance.TESTS`.
    correction : str
        A key of `torchcam_suite.concepts.significance.CORRECTIONS`, over all rows of a result.
    level : float
        Chance of a false finding that is accepted.
    """

    test: str = "calibrated"
    correction: str = "holm"
    level: float = 0.05

    def __post_init__(self) -> None:
        for name, known in (("test", TESTS), ("correction", CORRECTIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected one of {', '.join(known)}")
        if not 0 < self.level < 1:
            raise ValueError(f"level={self.level!r}; expected a number between 0 and 1, as 0.05")


@dataclass(frozen=True, eq=False)
class Measured:
    """What one concept gave for one target at one layer.

    Attributes
    ----------
    positive, negative : array (R, m)
        Whether the sensitivity of each image is positive, or negative, in each run.
    runs : Runs
        Scores and mean sensitivities; without those of random sets where no test is made.
    """

    positive: np.ndarray
    negative: np.ndarray
    runs: Runs


def measure(probes: LayerProbes, cross: Tensor) -> dict[str, Measured]:
    """Scores of all concepts at a layer, by concept; `cross` (m, N) are products of gradients and activations."""
    chance = {size: _between_random_sets(_summary(planes, cross)) for size, planes in probes.chance.items()}
    nothing = np.empty((0, 0)), np.empty((0, 0))
    found = {}
    for concept, planes in probes.planes.items():
        values = planes.sensitivities(cross)
        positive, negative = (values > 0).cpu().numpy(), (values < 0).cpu().numpy()
        means = values.mean(1).cpu().numpy()
        random = chance.get(probes.sizes[concept], nothing)
        found[concept] = Measured(positive, negative, Runs(positive.mean(1), means, negative.mean(1), *random))
    return found


class Summary(NamedTuple):
    """Shares of images with positive and negative sensitivity, and mean sensitivities, each (P,)."""

    positive: np.ndarray
    negative: np.ndarray
    means: np.ndarray


def _summary(planes: Planes, cross: Tensor) -> Summary:
    parts = [
        torch.stack([(values > 0).double().mean(1), (values < 0).double().mean(1), values.mean(1)])
        for values in planes.sensitivities_in_parts(cross)
    ]
    return Summary(*torch.cat(parts, dim=1).cpu().numpy())


def _between_random_sets(pairs: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Scores and mean sensitivities (R, R) from those of all pairs r < s."""
    count = int((1 + (1 + 8 * len(pairs.means)) ** 0.5) / 2 + 0.5)
    first, second = np.array(list(combinations(range(count), 2))).T
    scores, means = np.full((count, count), np.nan), np.full((count, count), np.nan)
    scores[first, second] = pairs.positive
    # seen from the other set, the same plane points the other way
    scores[second, first] = pairs.negative
    means[first, second] = pairs.means
    means[second, first] = -pairs.means
    return scores, means


def rows_of(
    measured: Mapping[tuple[str, str, str], Measured], trained: Trained, testing: Testing
) -> tuple[tuple[TcavRow, ...], tuple[str, ...]]:
    """The table, and what its reader should know; keys are (layer, concept, target)."""
    tested = not trained.training.relative
    raw = [TESTS[testing.test](found.runs) for found in measured.values()] if tested else []
    corrected = CORRECTIONS[testing.correction](raw).tolist() if tested else []
    fewest = min((len(found.runs.scores) for found in measured.values()), default=0)
    needed = sets_needed(testing.level, len(measured), testing.correction)
    short = tested and testing.test == "calibrated" and fewest < needed
    rows = [
        _row(key, found, trained, _verdict(raw[i], corrected[i], testing, short, found.runs), raw[i], corrected[i])
        if tested
        else _row(key, found, trained, "not tested")
        for i, (key, found) in enumerate(measured.items())
    ]
    return tuple(rows), _notes(rows, measured, trained, testing, needed if short else None)


def _row(
    key: tuple[str, str, str],
    found: Measured,
    trained: Trained,
    verdict: str,
    p: float | None = None,
    corrected: float | None = None,
) -> TcavRow:
    layer, concept, target = key
    low, high = interval(found.positive, trained.training.seed)
    return TcavRow(
        layer=layer,
        concept=concept,
        target=target,
        score=float(found.runs.scores.mean()),
        low=low,
        high=high,
        mean_sensitivity=float(found.runs.sensitivities.mean()),
        p=p,
        p_corrected=corrected,
        accuracy=float(trained.layers[layer].accuracies[concept].mean()),
        verdict=verdict,
        runs=len(found.runs.scores),
    )


def _verdict(p: float, corrected: float, testing: Testing, short: bool, runs: Runs) -> str:
    if corrected <= testing.level * (1 + 1e-9):
        return "significant"
    # no pictures of the concept could have given a smaller one
    smallest = testing.test == "calibrated" and p <= (1 + 1e-9) / (len(runs.scores) + 1)
    return "undecided" if short or smallest else "not significant"


def interval(positive: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of the mean score over random sets and images (R, m) both.

    The wider of two: the percentile bootstrap over both, and Wilson's interval (1927) of a share of m images, because
    the bootstrap of images that nearly all agree is too short. Of fewer than ten sets it is too short all the same, as
    these say little of how far others scatter (docs/concepts.md has how often it holds the true score).
    """
    runs, images = positive.shape
    by_run, by_image = _resampled(runs, images, seed)
    low, high = np.percentile(((by_run @ positive) * by_image).sum(1), [2.5, 97.5])
    centre, half = _wilson(float(positive.mean()), images)
    return max(0.0, min(float(low), centre - half)), min(1.0, max(float(high), centre + half))


@lru_cache(maxsize=8)
def _resampled(runs: int, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each run (B, R) and each image (B, m) is drawn, as shares; the same for all rows of a table."""
    generator = np.random.default_rng(seed)
    by_run = generator.multinomial(runs, np.full(runs, 1 / runs), RESAMPLES) / runs
    return by_run, generator.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Centre and half the width of the 95 % interval of a share."""
    z = 1.959964
    scale = 1 + z**2 / count
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (share + z**2 / (2 * count)) / scale, float(half / scale)


def _notes(
    rows: Sequence[TcavRow],
    measured: Mapping[tuple[str, str, str], Measured],
    trained: Trained,
    testing: Testing,
    needed: int | None,
) -> tuple[str, ...]:
    notes = []
    fewest = min(row.runs for row in rows)
    if needed is not None:
        notes.append(
            f"Too few random sets to decide: {fewest} allow no p value below {1 / (fewest + 1):.3f}; {len(rows)} "
            f"question(s) at a level of {testing.level:g} ({testing.correction}) need {needed}. "
            f"{_advice(trained, needed)}, or ask less."
        )
    if fewest < FEW_SETS:
        notes.append(f"The 95 % intervals are too short, since {fewest} set(s) say little of how others scatter.")
    if testing.test != "calibrated" and not trained.training.relative:
        notes.append(f"The {testing.test} test calls most random concepts significant; see docs/concepts.md.")
    if fewer := {name: size for name, size in trained.sizes.items() if size < len(trained.concepts[name])}:
        by_size = {size: [name for name in fewer if fewer[name] == size] for size in sorted(set(fewer.values()))}
        parts = [f"{_some(names)} only {size}" for size, names in by_size.items()]
        notes.append(f"Of {' and of '.join(parts)} pictures were used: the sets that they are told from have no more.")
    if absent := [f"{row.concept} at {row.layer}" for row in rows if _near_chance(row, trained)]:
        others = "the other concepts" if trained.training.relative else "random pictures"
        notes.append(
            f"The probe tells {_some(absent)} from {others} not clearly better than chance: the concept may not be "
            f"linearly present there, and its score means little then."
        )
    if still := [f"{concept} at {layer}" for (layer, concept, _), found in measured.items() if _still(found)]:
        notes.append(
            f"For {_some(still)} over {SILENT:.0%} of the sensitivities are exactly 0, as behind dead rectifiers; the "
            f"score counts them as not positive, the calibrated test as half."
        )
    return tuple(notes)


def _advice(trained: Trained, needed: int) -> str:
    pictures = sum(map(len, next(iter(trained.opponents.values())).values()))
    if pictures // needed < FEWEST:
        return f"Give more random pictures, {needed * FEWEST} at least"
    return f"Give more, or deal the {pictures} random pictures into smaller sets (redeal with {needed} runs)"


def _some(names: Sequence[str], most: int = 6) -> str:
    different = list(dict.fromkeys(names))
    return ", ".join(different[:most]) + (" and others" if len(different) > most else "")


def _still(found: Measured) -> bool:
    return 1 - found.positive.mean() - found.negative.mean() > SILENT


def _near_chance(row: TcavRow, trained: Trained) -> bool:
    """Whether a single probe that guesses would do as well in one of twenty cases (one-sided, normal approximation).

    The mean over the runs varies less, so that this says so rather too often.
    """
    pictures = 2 * trained.sizes[row.concept]
    return row.accuracy < 0.5 + 1.64 * float(np.sqrt(0.25 / pictures))
