"""What a map is made of: features that can be laid out, and what is known of each image."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.class_names import composed
from torchcam_suite.errors import AssumptionWarning, LayerError

MINIMUM = 4  # points
_BLOCK = 4096


class Source(NamedTuple):
    """Features and where they come from.

    Attributes
    ----------
    array : array
        (N, F), finite.
    layer : str or None
        Which layer gave them.
    ids, paths : tuple
        One an image.
    logits : array or None
        (N, classes), of the model.
    model : dict
        Which model gave them.
    """

    array: np.ndarray
    layer: str | None
    ids: tuple[str, ...]
    paths: tuple[str | None, ...]
    logits: np.ndarray | None
    model: dict[str, Any]


def source_of(features: Any, layer: str | None) -> Source:
    """An array, or one layer of what `torchcam_suite.features` gives.

    Raises
    ------
    LayerError
        There is no such layer, or there are several and none was named.
    ValueError
        It is no table of at least four rows, or holds NaN or infinity, or all rows are the same.
    """
    if hasattr(features, "layers"):
        name = _layer(tuple(features.layers), layer)
        array = as_table(features.layers[name])
        source = Source(array, name, features.ids, features.paths, features.logits, features.model)
    elif layer is not None:
        raise ValueError(f"layer={layer!r} was given with an array; it chooses among the layers of Features")
    else:
        array = as_table(features)
        ids = tuple(f"image {i}" for i in range(len(array)))
        source = Source(array, None, ids, (None,) * len(array), None, {})
    if len(array) < MINIMUM:
        raise ValueError(f"features of {len(array)} images; a map needs at least {MINIMUM}")
    _warn_of_copies(array)
    return source


def as_table(values: Any) -> np.ndarray:
    """Check features: (N, F) of finite floats or integers, an array or a tensor; they are given as an array.

    Raises
    ------
    ValueError
        They are something else.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"features of shape {array.shape}; expected (N, F), one row an image: flatten or pool feature maps"
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"features of type {array.dtype}; expected real numbers")
    bad = [
        start + int(row)
        for start in range(0, len(array), _BLOCK)
        for row in np.flatnonzero(~np.isfinite(array[start : start + _BLOCK]).all(axis=1))
    ]
    if bad:
        shown = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
        raise ValueError(
            f"NaN or infinity in {len(bad)} of {len(array)} rows of features ({shown}); leave these images out, or "
            "look for what makes the model give them"
        )
    return array


def names_of(
    values: Sequence[Any] | np.ndarray | Tensor | None, what: str, count: int
) -> tuple[str | None, ...] | None:
    """One name an image, a number's as Python writes it; None stays None.

    Raises
    ------
    ValueError
        There is another number of them.
    """
    if values is None:
        return None
    if len(values) != count:
        raise ValueError(f"{len(values)} {what} for {count} images; expected one an image")
    plain = values.tolist() if isinstance(values, Tensor) else values
    return tuple(None if value is None else str(value) for value in plain)


def classes_of(
    values: Sequence[Any] | np.ndarray | Tensor | None, what: str, count: int
) -> tuple[str | None, ...] | None:
    """The same for names of classes, which are written in one way."""
    names = names_of(values, what, count)
    return None if names is None else tuple(None if name is None else composed(name) for name in names)


def numbers_of(values: Sequence[float] | np.ndarray | Tensor | None, count: int) -> np.ndarray | None:
    """One confidence an image.

    Raises
    ------
    ValueError
        There is another number of them, or one is not in [0, 1].
    """
    if values is None:
        return None
    numbers = np.asarray(values.tolist() if isinstance(values, Tensor) else values, np.float64)
    if numbers.shape != (count,):
        raise ValueError(f"confidences of shape {numbers.shape} for {count} images; expected one an image")
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError("confidences that are not in [0, 1]; expected probabilities")
    return numbers


def predicted(
    logits: np.ndarray, class_names: Sequence[str] | None, head: str = "softmax"
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Name of each image's top class and its probability, None for a head that gives none.

    A single logit stands for the classes 0 and 1; several sigmoids are several labels, of which the surest counts.

    Raises
    ------
    ValueError
        The number of class names is not that of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> names, confidences = predicted(np.array([[0.0, 2.0], [3.0, 0.0]]), ["cat", "dog"])
    >>> names, confidences.round(2).tolist()
    (('dog', 'cat'), [0.88, 0.95])
    """
    logits = np.asarray(logits, np.float64)
    several = head == "sigmoid" and logits.shape[1] > 1
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    names = [str(i) for i in range(logits.shape[1])] if class_names is None else list(class_names)
    if len(names) != logits.shape[1]:
        raise ValueError(f"{len(names)} class names for {logits.shape[1]} classes; expected one a class")
    top, highest = tuple(names[i] for i in logits.argmax(axis=1)), logits.max(axis=1)
    if head not in {"softmax", "sigmoid"}:
        return top, None
    if several:
        return top, 1 / (1 + np.exp(-np.clip(highest, -700, 700)))
    return top, 1 / np.exp(logits - highest[:, None]).sum(axis=1)


def _layer(known: tuple[str, ...], asked: str | None) -> str:
    if asked is None and len(known) == 1:
        return known[0]
    if asked is None:
        raise LayerError(f"these are features of several layers; name one with layer=: {', '.join(known)}")
    if asked not in known:
        raise LayerError(f"layer {asked!r} is not among these features; there are: {', '.join(known)}")
    return asked


def _warn_of_copies(array: np.ndarray) -> None:
    # a hash of each row, not the sorted rows: those would be a copy of it all
    seen = {hashlib.blake2b((row + 0).tobytes(), digest_size=16).digest() for row in array}
    copies = len(array) - len(seen)
    if len(seen) == 1:
        raise ValueError(f"all {len(array)} rows of features are the same; there is nothing to lay out")
    if copies:
        warnings.warn(
            AssumptionWarning(
                f"{copies} of {len(array)} rows of features are copies of another row: the same image twice, or a "
                "layer that is dead for them; they lie on one another"
            ),
            stacklevel=4,
        )
