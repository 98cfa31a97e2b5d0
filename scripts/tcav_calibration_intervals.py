"""How often the 95 % interval of a TCAV score holds the score, for tcav_calibration.py.

The score that an interval should hold is that over all random sets and images there are: here `POPULATION` sets of a
`Synthetic` world and `IMAGES` images, of which each draw takes a few, each as likely as any other, again and again.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from tcav_calibration_worlds import CONCEPTS, FEATURES, PICTURES, SEED, SHIFTS

from torchcam_suite.concepts.gram import fit
from torchcam_suite.concepts.testing import interval

POPULATION, IMAGES = 100, 1000
SETS = 2, 3, 5, 10, 20, 40
SHOWN_IMAGES = 30, 200
PROBE = "ridge"


class Population(NamedTuple):
    """Whether the sensitivity of each image (IMAGES) to each CAV (POPULATION) of a concept is positive."""

    positive: np.ndarray

    @property
    def score(self) -> float:
        """The TCAV score over all of them."""
        return float(self.positive.mean())


def population(number: int, concept: str) -> Population:
    """The concept of a world, told from each of its random sets; a number gives the same each time."""
    random = np.random.default_rng([SEED, 3, number, CONCEPTS.index(concept)])
    common = random.standard_normal(FEATURES)
    gradients = common + random.standard_normal((IMAGES, FEATURES))
    activations = random.standard_normal(((POPULATION + 1) * PICTURES, FEATURES)) + random.standard_normal(FEATURES)
    activations[:PICTURES] += SHIFTS[concept] * common / np.linalg.norm(common)
    rows = torch.from_numpy(activations)
    blocks = torch.arange(len(rows)).view(-1, PICTURES)
    pairs = torch.stack([torch.cat([blocks[0], other]) for other in blocks[1:]])
    labels = torch.tensor([1.0] * PICTURES + [-1.0] * PICTURES, dtype=torch.float64)
    planes = fit(rows @ rows.T, pairs, labels, PROBE)
    return Population((planes.sensitivities(torch.from_numpy(gradients) @ rows.T) > 0).numpy())


def count(draws: int) -> list[dict[str, Any]]:
    """Of how many draws, each from a world of its own, the interval holds the score; and its mean width."""
    rows = [
        {"concept": concept, "sets": sets, "images": images, "draws": draws, "held": 0, "width": 0.0}
        for concept in CONCEPTS
        for images in SHOWN_IMAGES
        for sets in SETS
    ]
    for concept in CONCEPTS:
        for number in range(draws):
            found = population(number, concept)
            for row in (row for row in rows if row["concept"] == concept):
                low, high = interval(drawn(found, row["sets"], row["images"], number), seed=number)
                row["held"] += low <= found.score <= high
                row["width"] += (high - low) / draws
    return rows


def drawn(found: Population, sets: int, images: int, number: int) -> np.ndarray:
    """(sets, images) of a population, with replacement, so that its score is exactly what is to be held."""
    random = np.random.default_rng([SEED, 4, number, sets, images])
    some = random.integers(POPULATION, size=sets), random.integers(IMAGES, size=images)
    return found.positive[np.ix_(*some)]


def table(rows: list[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and lines: a line for each number of random sets."""
    columns = [(images, concept) for images in SHOWN_IMAGES for concept in CONCEPTS]
    by_place = {(row["sets"], row["images"], row["concept"]): row for row in rows}
    lines = [
        [str(sets), *(_cell(by_place[sets, images, concept]) for images, concept in columns)]
        for sets in sorted({row["sets"] for row in rows})
    ]
    header = ["sets", *(f"{images} images, {concept}" for images, concept in columns)]
    title = "Intervals that hold the score over all random sets and images, in % of the draws (mean width)"
    return f"{title}, by images of the class; synthetic, {PROBE}, {rows[0]['draws']} draws", header, lines


def _cell(row: dict[str, Any]) -> str:
    return f"{100 * row['held'] / row['draws']:.0f} ({row['width']:.2f})"
