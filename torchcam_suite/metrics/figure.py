"""What a metric gives: one value an image, under a name that says how it was measured."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Better = Literal["higher", "lower", "zero"]
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "zero": "→0"}


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure of merit of N maps.

    Attributes
    ----------
    name : str
        The metric with its protocol, as in ``insertion_auc[blur,steps=50]``: two figures are comparable where their
        names are equal.
    better : {"higher", "lower", "zero"}
        Which way the better map lies; "zero" is close to zero.
    values : Tensor
        (N,) on the CPU: float64, or bool where the answer is yes or no.
    """

    name: str
    better: Better
    values: Tensor

    @property
    def mean(self) -> float:
        """Over the images; the share of yes where the values are bool."""
        return float(self.values.double().mean())

    @property
    def spread(self) -> float | None:
        """Standard deviation over the images; None for a single one, and for yes and no."""
        if len(self.values) < 2 or not self.values.is_floating_point():
            return None
        return float(self.values.std())


@dataclass(frozen=True, eq=False)
class Curve(Figure):
    """A figure that is the area under a curve.

    Attributes
    ----------
    shares : Tensor
        (S,), the share of the pixels that are changed, from 0 to 1.
    confidences : Tensor
        (N, S), the confidence in the target there.
    """

    shares: Tensor
    confidences: Tensor


@dataclass(frozen=True, eq=False)
class Road(Figure):
    """ROAD, with what it is the mean of.

    Attributes
    ----------
    shares : Tensor
        (S,), the share of the pixels that are removed.
    most_relevant_first, least_relevant_first : Tensor
        (N, S), the confidence in the target (or whether it is the top class) after these pixels are removed.
    """

    shares: Tensor
    most_relevant_first: Tensor
    least_relevant_first: Tensor


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How much of the maps is left when the weights are random.

    Attributes
    ----------
    name : str
        The protocol.
    layers : tuple of str
        For each stage, the last part of the module that was randomised, from the head down.
    rank_correlation, structural_similarity : Tensor
        (N, stages), of the map with that of the trained model.
    """

    name: str
    layers: tuple[str, ...]
    rank_correlation: Tensor
    structural_similarity: Tensor

    @property
    def figures(self) -> tuple[Figure, Figure]:
        """The two figures of the last stage, where all weights are random; a map that shows the model is near zero."""
        return (
            Figure(f"rank_correlation[{self.name}]", "zero", self.rank_correlation[:, -1]),
            Figure(f"structural_similarity[{self.name}]", "zero", self.structural_similarity[:, -1]),
        )
