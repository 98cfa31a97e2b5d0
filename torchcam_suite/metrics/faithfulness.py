"""Whether a map is any good: figures of faithfulness, stability and localisation, each with its protocol in its name.

Of what a map shows: `confidence_change`, `insertion_auc`, `deletion_auc`, `road`. Of the method that made it:
`max_sensitivity`, `randomisation`. Where the object is known: `pointing_game`, `energy_in_mask`. `score_maps` computes
those of an explanation that it is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from torchcam_suite import images as pictures
from torchcam_suite.cam import make_method
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.errors import ImageError, TargetError
from torchcam_suite.explanation import Explanation
from torchcam_suite.metrics.confidence import confidence_change
from torchcam_suite.metrics.figure import Curve, Figure, Randomisation, Road
from torchcam_suite.metrics.localisation import energy_in_mask, pointing_game
from torchcam_suite.metrics.perturbation import deletion_auc, insertion_auc
from torchcam_suite.metrics.road import road
from torchcam_suite.metrics.sanity import randomisation
from torchcam_suite.metrics.sensitivity import max_sensitivity
from torchcam_suite.models import Model
from torchcam_suite.targets import Target

__all__ = [
    "METRICS",
    "Curve",
    "Figure",
    "Metric",
    "Randomisation",
    "Road",
    "confidence_change",
    "deletion_auc",
    "energy_in_mask",
    "insertion_auc",
    "max_sensitivity",
    "pointing_game",
    "randomisation",
    "road",
    "score_maps",
]


@dataclass(frozen=True)
class Batch:
    """A batch whose maps are scored.

    Attributes
    ----------
    model : Model
    images : Tensor
        (N, C, H, W), prepared.
    maps : Tensor
        (N, H, W).
    target : list of int, or function
        What they explain.
    again : dict
        Method, layer and options, to compute maps anew.
    masks : Tensor or None
        (N, H, W) bool.
    progress : bool or function
        As for `explain`.
    """

    model: Model
    images: Tensor
    maps: Tensor
    target: Target
    again: dict[str, Any]
    masks: Tensor | None
    progress: bool | Progress

    @property
    def known(self) -> Tensor:
        """The masks, on the device of the maps."""
        assert self.masks is not None
        return self.masks.to(self.maps.device)


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    Attributes
    ----------
    summary : str
        What it asks, in one line.
    source : str
        The paper.
    figures : function
        The figures of a batch.
    usual : bool
        Whether it is computed where nobody says which; those left out explain the images many times, or take long.
    needs_masks : bool
        Whether the object has to be known.
    """

    summary: str
    source: str
    figures: Callable[[Batch], Sequence[Figure]]
    usual: bool = True
    needs_masks: bool = False


def _confidence(batch: Batch) -> Sequence[Figure]:
    return confidence_change(batch.model, batch.images, batch.maps, batch.target)


def _insertion(batch: Batch) -> Sequence[Figure]:
    return (insertion_auc(batch.model, batch.images, batch.maps, batch.target, progress=batch.progress),)


def _deletion(batch: Batch) -> Sequence[Figure]:
    return (deletion_auc(batch.model, batch.images, batch.maps, batch.target, progress=batch.progress),)


def _road(batch: Batch) -> Sequence[Figure]:
    return (road(batch.model, batch.images, batch.maps, batch.target, progress=batch.progress),)


def _sensitivity(batch: Batch) -> Sequence[Figure]:
    again = {"target": batch.target, "progress": batch.progress} | batch.again
    return (max_sensitivity(batch.model, batch.images, **again),)


def _randomisation(batch: Batch) -> Sequence[Figure]:
    again = {"target": batch.target, "progress": batch.progress} | batch.again
    return randomisation(batch.model, batch.images, stages=1, **again).figures


def _pointing(batch: Batch) -> Sequence[Figure]:
    return (Figure("pointing_game[no tolerance]", "higher", pointing_game(batch.maps, batch.known).cpu()),)


def _energy(batch: Batch) -> Sequence[Figure]:
    return (Figure("energy_in_mask[share]", "higher", energy_in_mask(batch.maps, batch.known).cpu()),)


METRICS: dict[str, Metric] = {
    "confidence": Metric(
        "average drop, gain and increase in confidence of image x map",
        "Chattopadhay 2018, arXiv:1710.11063; gain: Zhang 2023, arXiv:2301.07002",
        _confidence,
    ),
    "insertion": Metric("confidence while relevant pixels come back", "Petsiuk 2018, arXiv:1806.07421", _insertion),
    "deletion": Metric("confidence while relevant pixels go", "Petsiuk 2018, arXiv:1806.07421", _deletion),
    "road": Metric(
        "confidence without the least minus without the most relevant pixels",
        "Rong 2022, arXiv:2202.00449",
        _road,
        usual=False,
    ),
    "sensitivity": Metric(
        "largest change of the map under slight noise", "Yeh 2019, arXiv:1901.09392", _sensitivity, usual=False
    ),
    "randomisation": Metric(
        "what is left of the map with random weights", "Adebayo 2018, arXiv:1810.03292", _randomisation, usual=False
    ),
    "pointing": Metric(
        "whether the maximum is on the object", "Zhang 2018, arXiv:1608.00507", _pointing, needs_masks=True
    ),
    "energy": Metric("share of the map on the object", "Wang 2020, arXiv:1910.01279", _energy, needs_masks=True),
}


def choose_metrics(names: Sequence[str] | str | None, *, masks: bool) -> list[str]:
    """Look metrics up: the usual ones where none is named, those of `METRICS` for "all".

    Raises
    ------
    ValueError
        A name that does not exist, or one that needs masks where there are none.
    """
    if names is None:
        return [name for name, metric in METRICS.items() if metric.usual and (masks or not metric.needs_masks)]
    found: list[str] = []
    for name in [names] if isinstance(names, str) else names:
        if name == "all":
            found += [one for one, metric in METRICS.items() if masks or not metric.needs_masks]
        elif name not in METRICS:
            near = get_close_matches(name, METRICS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"metric {name!r} does not exist; {hint}expected all, or one of {', '.join(METRICS)}")
        elif METRICS[name].needs_masks and not masks:
            raise ValueError(f"metric {name!r} asks where the object is; give the masks (masks=, --masks FOLDER)")
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def score_maps(
    model: Model,
    images: Any,
    explanation: Explanation,
    *,
    metrics: Sequence[str] | str | None = None,
    masks: Tensor | None = None,
    target: Callable[[Tensor], Tensor] | None = None,
    reshape: Any = None,
    batch_size: int = 32,
    progress: bool | Progress = False,
) -> tuple[Figure, ...]:
    """Score the maps of an explanation, each metric by its default protocol.

    Parameters
    ----------
    model : Model
        That was explained.
    images : as for `Model.prepare`
        The images that were explained.
    explanation : Explanation
        Their maps.
    metrics : sequence of str, optional
        Keys of `METRICS`, or "all"; default: those that need no maps of other images or models, and little time.
    masks : Tensor, optional
        (N, H, W) bool at the size of the model's input, true on the object.
    target : function, optional
        Needed where the maps explain a function of the logits. Figures of confidence need values in [0, 1] of it.
    reshape : as for `torchcam_suite.explain`
        Needed for "sensitivity" and "randomisation" where the maps were made with it.
    batch_size : int
        Images that are scored together.
    progress : bool or function
        True shows a bar on stderr; a function is called as ``progress(done, total)``, anew for each metric and batch.

    Returns
    -------
    tuple of Figure
        In the order of the metrics.

    Raises
    ------
    HeadError, TargetError, ImageError, ValueError
        What does not fit; see the single metrics.

    Examples
    --------
    >>> from torchcam_suite import explain, load
    >>> from torch import nn
    >>> _ = torch.manual_seed(1)
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    >>> images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> for figure in score_maps(model, images, explain(model, images, layer="0"), metrics=["insertion", "deletion"]):
    ...     print(figure.name, figure.better, len(figure.values))
    insertion_auc[blur,steps=50] higher 3
    deletion_auc[zero,steps=50] lower 3
    """
    names = choose_metrics(metrics, masks=masks is not None)
    again = _again(explanation, reshape, names)
    if explanation.targets is None and target is None:
        raise TargetError("these maps explain a function of the logits; give it: score_maps(..., target=function)")
    parts: dict[str, list[Sequence[Figure]]] = {name: [] for name in names}
    for start, batch in _batches(model, images, len(explanation), batch_size):
        part = slice(start, start + len(batch))
        scored = Batch(
            model=model,
            images=batch,
            maps=explanation.maps[part].to(batch.device),
            target=target or list(explanation.targets or ())[part],
            again=again,
            masks=None if masks is None else masks[part],
            progress=progress,
        )
        for name in names:
            parts[name].append(METRICS[name].figures(scored))
    return tuple(_joined(found) for name in names for found in zip(*parts[name], strict=True))


_MADE_ANEW = "sensitivity", "randomisation"


def _again(explanation: Explanation, reshape: Any, metrics: Sequence[str]) -> dict[str, Any]:
    """How the maps were made; of a `reshape` the explanation knows only the name."""
    if not set(metrics) & set(_MADE_ANEW):
        return {}  # maps of a method that is not known here can be scored
    if {"gamma", "scaled"} <= explanation.options.keys():
        raise ValueError(f"maps fused of several layers cannot be made anew; leave out {' and '.join(_MADE_ANEW)}")
    options = {name: value for name, value in explanation.options.items() if name != "reshape"}
    layer = explanation.layer if make_method(explanation.method, {}).method.takes_layer else None
    return {
        "method": explanation.method,
        "layer": layer,
        "options": options | ({} if reshape is None else {"reshape": reshape}),
    }


def _batches(model: Model, images: Any, count: int, size: int) -> Iterator[tuple[int, Tensor]]:
    """Prepared images, and the number of the first."""
    if size < 1:
        raise ValueError(f"batch_size={size}; expected at least 1")
    sources = images if isinstance(images, Tensor) else pictures.as_list(images)
    if isinstance(sources, Tensor) and sources.ndim == 3:
        sources = sources[None]
    if len(sources) != count:
        raise ImageError(f"{len(sources)} images with maps of {count}; give the images that were explained")
    for start in range(0, count, size):
        yield start, model.prepare(sources[start : start + size])


def _joined(parts: Sequence[Figure]) -> Figure:
    """One figure of several batches."""
    first = parts[0]
    return Figure(first.name, first.better, torch.cat([part.values for part in parts]))
