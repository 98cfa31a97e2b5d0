"""Concept activation vectors: trained for all layers, concepts and random sets from one pass over the pictures."""

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.concepts.gram import Planes, accuracies, fit, magnitude, products
from torchcam_suite.concepts.picture_sets import Pictures, PictureSets, joined_items, others
from torchcam_suite.concepts.probes import PROBES
from torchcam_suite.errors import ConceptError
from torchcam_suite.features import Features, features
from torchcam_suite.features.pooling import Pool
from torchcam_suite.models import Model


@dataclass(frozen=True)
class Training:
    """How probes are trained.

    Attributes
    ----------
    probe : str
        A key of `torchcam_suite.concepts.probes.PROBES`.
    regularization : float or None
        Its strength; None takes the probe's own.
    relative : bool
        Tell a concept from the other concepts instead of from random pictures (relative CAVs, Kim et al. 2018, 3.6).
    pool : {"flatten", "mean"}
        Whether a CAV has a weight for each position of a feature map, or one for each channel.
    seed : int
        Of the choice of pictures where sets differ in size, of the folds, and of `sgd`.
    """

    probe: str = "ridge"
    regularization: float | None = None
    relative: bool = False
    pool: Pool = "flatten"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probe not in PROBES:
            raise ValueError(f"probe={self.probe!r}; expected one of {', '.join(PROBES)}")
        if self.pool not in {"flatten", "mean"}:
            raise ValueError(f"pool={self.pool!r}; expected 'flatten' (all positions) or 'mean' (one value a channel)")
        if self.regularization is not None and not 0 < self.regularization < float("inf"):
            raise ValueError(f"regularization={self.regularization!r}; expected a finite number over 0")
        if self.regularization is not None and PROBES[self.probe].regularization is None:
            raise ValueError(f"probe={self.probe!r} takes no regularization")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}; expected a whole number, 0 or more")

    @property
    def strength(self) -> float | None:
        """The regularization that is used; None where the probe has none."""
        default = PROBES[self.probe].regularization
        return default if self.regularization is None else self.regularization


@dataclass(frozen=True, eq=False)
class LayerProbes:
    """The probes of one layer, and all that it takes to test them.

    Attributes
    ----------
    activations : array (N, d)
        Of all pictures; perhaps memory-mapped.
    planes : dict of str to Planes
        For each concept, against each random set in turn.
    chance : dict of int to Planes
        For each number of pictures that concepts have, random set r against random set s for all r < s.
    accuracies : dict of str to array (R,)
        Held out, by three-fold cross-validation.
    sizes : dict of str to int
        Pictures of each concept that its probes were trained on; as many of the other side.
    centred : bool
        Whether the probes were trained on activations less their mean.
    """

    activations: np.ndarray
    planes: dict[str, Planes]
    chance: dict[int, Planes]
    accuracies: dict[str, np.ndarray]
    sizes: dict[str, int]
    centred: bool


@dataclass(frozen=True, eq=False)
class Trained:
    """The probes of all layers, concepts and random sets.

    Attributes
    ----------
    layers : dict of str to LayerProbes
        By layer name.
    concepts : dict of str to Pictures
        All pictures of each concept, of which as many were used as `sizes` says.
    opponents : dict of str to dict of str to Pictures
        For each concept the sets that it was told from: the random ones, or mixtures of the other concepts.
    features : Features
        What was recorded, with the shapes of the layers.
    training : Training
        How.
    """

    layers: dict[str, LayerProbes]
    concepts: dict[str, Pictures]
    opponents: dict[str, dict[str, Pictures]]
    features: Features
    training: Training

    @property
    def sizes(self) -> dict[str, int]:
        """Pictures of each concept that its probes were trained on, the same for all layers."""
        return next(iter(self.layers.values())).sizes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What one CAV of each layer is."""
        return {
            layer: shape if self.training.pool == "flatten" else (probes.activations.shape[1],)
            for (layer, probes), shape in zip(self.layers.items(), self.features.shapes.values(), strict=True)
        }


@dataclass(frozen=True, eq=False)
class Recorded:
    """The activations of all pictures, and who is told from whom.

    Attributes
    ----------
    features : Features
        One row a picture; a picture of several sets has one.
    rows : dict of str to array
        Which of them each set holds.
    concepts : dict of str to Pictures
        All pictures of each concept.
    opponents : dict of str to dict of str to Pictures
        For each concept the sets that it is told from.
    """

    features: Features
    rows: dict[str, np.ndarray]
    concepts: dict[str, Pictures]
    opponents: dict[str, dict[str, Pictures]]


def record(model: Model, sets: PictureSets, layers: Sequence[str], training: Training, **recording: Any) -> Recorded:
    """Run all pictures once.

    Parameters
    ----------
    sets : PictureSets
        Concepts and random sets.
    **recording
        Of `torchcam_suite.features`: batch_size, workers, memory, folder, progress.

    Raises
    ------
    ConceptError
        A picture gives NaN or infinity at a layer.
    """
    opponents = {
        name: others(sets.concepts, name, training.seed) if training.relative else sets.random for name in sets.concepts
    }
    items, names, rows = _indexed(sets.concepts | {k: v for group in opponents.values() for k, v in group.items()})
    found = features(model, items, layers, pool=training.pool, **recording)
    for layer in layers:
        _require_finite(found.layers[layer], names, layer)
    return Recorded(found, rows, sets.concepts, opponents)


def _require_finite(activations: np.ndarray, names: Sequence[str], layer: str) -> None:
    for start in range(0, len(activations), 64):
        finite = np.isfinite(activations[start : start + 64]).all(axis=1)
        if not finite.all():
            raise ConceptError(
                f"layer {layer!r} gives NaN or infinity for {names[start + int(np.argmin(finite))]}; half precision "
                f"overflows so: use the model in float32, or leave the picture out"
            )


def train(
    recorded: Recorded,
    training: Training,
    *,
    chance: bool,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train every probe.

    Parameters
    ----------
    chance : bool
        Whether random sets are told from each other as well, which the significance tests need.
    progress : function, optional
        Called as ``progress(done, total)`` for each layer.
    """
    probes = {}
    for done, (layer, activations) in enumerate(recorded.features.layers.items(), 1):
        probes[layer] = train_layer(activations, recorded.rows, recorded.opponents, training, chance, device)
        if progress is not None:
            progress(done, len(recorded.features.layers))
    return Trained(probes, recorded.concepts, recorded.opponents, recorded.features, training)


def _indexed(sets: Mapping[str, Pictures]) -> tuple[Any, list[str], dict[str, np.ndarray]]:
    """All pictures without repetition, their names, and which of them each set holds."""
    items = joined_items(list(sets.values()))
    if isinstance(items, Tensor):
        ends = np.cumsum([len(part) for part in sets.values()])
        rows = {name: np.arange(end - len(part), end) for (name, part), end in zip(sets.items(), ends, strict=True)}
        return items, [name for part in sets.values() for name in part.names], rows
    place: dict[Any, int] = {}
    pictures: list[Any] = []
    names: list[str] = []
    rows = {}
    for set_name, part in sets.items():
        found = []
        for picture, name in zip(part.items, part.names, strict=True):
            key = str(picture) if isinstance(picture, str | Path) else id(picture)
            if key not in place:
                place[key] = len(pictures)
                pictures.append(picture)
                names.append(name)
            found.append(place[key])
        rows[set_name] = np.array(found)
    return pictures, names, rows


def train_layer(
    activations: np.ndarray,
    rows: Mapping[str, np.ndarray],
    opponents: Mapping[str, Collection[str]],
    training: Training,
    chance: bool,
    device: torch.device | str = "cpu",
) -> LayerProbes:
    """Train all probes of one layer.

    Parameters
    ----------
    activations : array (N, d)
        Of all pictures.
    rows : mapping of str to array
        Which of them each set holds.
    opponents : mapping of str to collection of str
        For each concept the names of the sets that it is told from.
    chance : bool
        Whether those sets are told from each other as well.
    """
    centred = PROBES[training.probe].translation_invariant
    gram = products(activations, activations, device, centred=centred)
    exact: dict[str, Any] = {"magnitude": magnitude(activations), "centred": centred}
    options: dict[str, Any] = {
        "probe": training.probe,
        "regularization": training.strength,
        "seed": training.seed,
    }
    sizes = {name: _common_size(rows, name, group) for name, group in opponents.items()}
    planes, accurate, by_size = {}, {}, dict[int, Planes]()
    for name, group in opponents.items():
        size = sizes[name]
        some, labels = _pairs(rows, [(name, other) for other in group], size, training.seed)
        some, labels = some.to(device), labels.to(device)
        planes[name] = fit(gram, some, labels, **options, **exact)
        accurate[name] = accuracies(gram, some, labels, **options).cpu().numpy()
        if chance and size not in by_size:
            random, labels = _pairs(rows, list(combinations(group, 2)), size, training.seed)
            by_size[size] = fit(gram, random.to(device), labels.to(device), **options, **exact)
    return LayerProbes(activations, planes, by_size, accurate, sizes, centred)


def _common_size(rows: Mapping[str, np.ndarray], name: str, group: Collection[str]) -> int:
    """As many pictures of either side as all sets have: unequal sides would move the plane."""
    return min(len(rows[name]), *(len(rows[other]) for other in group))


def _pairs(
    rows: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Rows (P, 2 size) of pairs of sets, and their labels (2 size,); larger sets give some of theirs."""
    chosen = {name: _some(found, size, name, seed) for name, found in rows.items()}
    taken = np.stack([np.concatenate([chosen[one], chosen[other]]) for one, other in pairs])
    return torch.from_numpy(taken), torch.tensor([1.0] * size + [-1.0] * size, dtype=torch.float64, device="cpu")


def _some(rows: np.ndarray, size: int, name: str, seed: int) -> np.ndarray:
    """As many of a set's rows; which ones depends on its name, not on what else is asked."""
    if len(rows) == size:
        return rows
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(rows)[:size]
