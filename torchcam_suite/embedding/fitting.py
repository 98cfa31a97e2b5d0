"""Features -> standardised, reduced -> a map with its quality."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.embedding.engines import ENGINES, Task
from torchcam_suite.embedding.inputs import Source, as_table, classes_of, names_of, numbers_of, predicted, source_of
from torchcam_suite.embedding.neighbours import Rows, centred, nearest
from torchcam_suite.embedding.principal import Principal, principal_components
from torchcam_suite.embedding.quality import affinities_of, judge
from torchcam_suite.embedding.result import Embedding
from torchcam_suite.errors import AssumptionWarning
from torchcam_suite.provenance import versions


def embed(
    features: Any,
    *,
    layer: str | None = None,
    engine: str = "opentsne",
    perplexity: float = 30,
    seed: int = 42,
    standardize: bool = False,
    pca: int | None = 50,
    k: int = 10,
    labels: Sequence[Any] | np.ndarray | Tensor | None = None,
    predictions: Sequence[Any] | np.ndarray | Tensor | None = None,
    confidences: Sequence[float] | np.ndarray | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    paths: Sequence[Any] | None = None,
) -> Embedding:
    """Lay images out in two dimensions, those near each other that a network takes for alike.

    Parameters
    ----------
    features : array, Tensor or Features
        (N, F), one row an image, at least four; or what `torchcam_suite.features` gives, of which `layer` chooses one.
        Ids, paths and, from its logits, predictions and confidences are then taken over.
    layer : str, optional
        Of the features; may be left out where there is one.
    engine : str
        `opentsne` (t-SNE; by FFT from 10,000 points), `sklearn` (its t-SNE; cannot place new images), `pca` (the first
        two principal components; needs no further library) or `umap` (extra `umap`).
    perplexity : float
        How many neighbours a point is to have, roughly, at least 1. More than (N - 1) / 3 is brought down to that,
        with a warning. It is UMAP's `n_neighbors`, rounded; `pca` only measures with it.
    seed : int
        Of everything random.
    standardize : bool
        Bring every feature to mean 0 and standard deviation 1 first (a constant one to 0).
    pca : int or None
        Reduce to that many principal components before t-SNE or UMAP, where there are more features; None leaves all.
    k : int
        How many neighbours the figures of quality look at, at least 1; less than N / 2.
    labels, predictions : sequence, optional
        One an image, shown as `str`; None for an image without a label.
    confidences : sequence of float, optional
        One an image, in [0, 1].
    class_names : sequence of str, optional
        Of the classes that the logits stand for; else the model's, else 0, 1, 2...
    ids, paths : sequence, optional
        Unique name and picture file of each image, for arrays.

    Returns
    -------
    Embedding
        The map, the nearest neighbours in the features, and `quality`. Trustworthiness, preservation and label accuracy
        are measured against all features (standardised, if asked for), the divergence against what the engine saw.

    Raises
    ------
    LayerError
        The features have no such layer, or several and none is named.
    MissingLibraryError
        The engine is not installed.
    ValueError
        The features are no table (N, F), hold NaN or infinity, are all the same, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.random.default_rng(0).normal(size=(40, 5)) + np.repeat([[0], [9]], 20, axis=0)
    >>> embedding = embed(features, engine="pca", perplexity=5, labels=["cat"] * 20 + ["dog"] * 20)
    >>> embedding.points.shape, embedding.quality.label_accuracy
    ((40, 2), 1.0)
    """
    _check(engine, perplexity, pca, k)
    ENGINES[engine].require(engine)
    source = source_of(features, layer)
    count = len(source.array)
    if source.logits is not None and predictions is None:
        names = source.model.get("class_names") if class_names is None else class_names
        predictions, confidences = predicted(source.logits, names, source.model.get("head", "none"))
    said, guessed = classes_of(labels, "labels", count), classes_of(predictions, "predictions", count)
    _warn_of_strange_labels(said, guessed)
    about = {
        "ids": source.ids if ids is None else _unique(names_of(ids, "ids", count)),
        "paths": source.paths if paths is None else names_of(paths, "paths", count),
        "labels": said,
        "predictions": guessed,
        "confidences": numbers_of(confidences, count),
    }
    return _fit(source, about, engine, _fitting(perplexity, count), seed, standardize, pca, min(k, (count - 1) // 2))


def _fit(
    source: Source,
    about: dict[str, Any],
    engine: str,
    perplexity: float,
    seed: int,
    standardize: bool,
    pca: int | None,
    k: int,
) -> Embedding:
    rows = _standardized(source.array) if standardize else centred(source.array)
    principal = None
    if pca is not None and source.array.shape[1] > pca and len(rows) > pca:
        principal = principal_components(rows, pca, seed)
    seen = _seen(rows, principal)
    indices, distances = nearest(centred(seen), min(len(rows) - 1, max(k, int(3 * perplexity))))
    layout = ENGINES[engine].lay_out(Task(seen, indices, distances, perplexity, seed))
    affinities = affinities_of(indices[:, : int(3 * perplexity)], distances[:, : int(3 * perplexity)], perplexity)
    return Embedding(
        points=layout.points,
        neighbours=indices[:, :k].astype(np.int32),
        quality=judge(rows, layout.points, affinities, k=k, labels=_numbered(about["labels"]), seed=seed),
        engine=engine,
        options={
            "perplexity": perplexity,
            "seed": seed,
            "standardize": standardize,
            "pca": None if principal is None else pca,
            "pca_variance": None if principal is None else principal.share,
            "features": source.array.shape[1],
            **layout.options,
        },
        layer=source.layer,
        model=source.model,
        versions=versions() | ENGINES[engine].versions(),
        place=None if layout.place is None else _placing(rows, principal, layout.place),
        **about,
    )


def _seen(rows: Rows, principal: Principal | None) -> np.ndarray:
    """What an engine sees of the rows, (N, F) float64; a single feature, as a binary head gives, has zeros beside."""
    seen = rows.take(slice(None)).double().numpy() if principal is None else principal.project(rows)
    return seen if seen.shape[1] > 1 else np.pad(seen, ((0, 0), (0, 1)))


def _placing(
    rows: Rows, principal: Principal | None, place: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Any], np.ndarray]:
    """From features as they were given to points of the map."""
    mean, scale = rows.mean, rows.scale

    def placed(features: Any) -> np.ndarray:
        array = as_table(features)
        if array.shape[1] != len(mean):
            raise ValueError(f"{array.shape[1]} features an image; this map is of {len(mean)}: take the same layer")
        return place(_seen(Rows(array, mean, scale), principal))

    return placed


def _check(engine: str, perplexity: float, pca: int | None, k: int) -> None:
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; expected one of {', '.join(ENGINES)}")
    if not perplexity >= 1:
        raise ValueError(f"perplexity={perplexity}; expected a number of neighbours, at least 1 (5 to 50 is usual)")
    if pca is not None and pca < 2:
        raise ValueError(f"pca={pca}; expected at least 2 components, or None for all features")
    if k < 1:
        raise ValueError(f"k={k}; expected a number of neighbours, at least 1")


def _fitting(perplexity: float, count: int) -> float:
    largest = (count - 1) / 3
    if perplexity <= largest:
        return float(perplexity)
    warnings.warn(
        AssumptionWarning(f"perplexity {perplexity:g} is too large for {count} images; {largest:.4g} is used instead"),
        stacklevel=3,
    )
    return largest


def _standardized(array: np.ndarray) -> Rows:
    rows = centred(array)
    squares = sum(block.double().square().sum(dim=0) for _, block in rows.blocks())
    deviation = np.sqrt(torch.as_tensor(squares).numpy() / len(rows))
    # rounding leaves a constant feature with a deviation that is no number of its own
    constant = deviation <= 1e-7 * np.abs(rows.mean)
    return Rows(array, rows.mean, np.where(constant, np.inf, deviation))


def _unique(ids: tuple[str | None, ...] | None) -> tuple[str | None, ...] | None:
    if ids is not None and len(set(ids)) < len(ids):
        raise ValueError(f"{len(ids) - len(set(ids))} of {len(ids)} ids are there twice; expected unique names")
    return ids


def _warn_of_strange_labels(labels: Sequence[str | None] | None, predictions: Sequence[str | None] | None) -> None:
    if labels is None or predictions is None or set(labels) & set(predictions):
        return
    warnings.warn(
        AssumptionWarning(
            f"no prediction is ever a label: predictions are like {predictions[0]!r}, labels like {labels[0]!r}; "
            "class_names= says how the model's classes are called"
        ),
        stacklevel=3,
    )


def _numbered(labels: Sequence[str | None] | None) -> np.ndarray | None:
    if labels is None:
        return None
    places = {name: i for i, name in enumerate(sorted({label for label in labels if label is not None}))}
    return np.array([-1 if label is None else places[label] for label in labels])
