"""What is explained: a class, either side of a binary head, or any function of the logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.class_names import composed
from torchcam_suite.errors import TargetError

Target = int | str | Sequence[int | str] | np.ndarray | Tensor | Callable[[Tensor], Tensor] | None
Of = Literal["logit", "probability"]


@dataclass(frozen=True)
class Targets:
    """The resolved targets of a batch.

    Attributes
    ----------
    classes : Tensor or None
        (N,) long, the class of each image; None for a function.
    function : callable or None
        Logits (M, classes) to scores (M,).
    names : tuple of str
        How each image's target is called.
    """

    classes: Tensor | None
    function: Callable[[Tensor], Tensor] | None
    names: tuple[str, ...]

    def score(
        self, logits: Tensor, probabilities: Callable[[Tensor], Tensor], of: Of, owner: Tensor | None = None
    ) -> Tensor:
        """The value that is explained, one for each row of logits.

        A binary head has one logit z: class 1 is explained by z, class 0 by -z; their probabilities are
        sigmoid(z) and 1 - sigmoid(z).

        Parameters
        ----------
        logits : Tensor
            (M, classes).
        probabilities : function
            Logits to probabilities, of the same shape.
        of : {"logit", "probability"}
            Which of the two is explained; a function always gets the logits.
        owner : Tensor, optional
            (M,) long, the image to whose target a row belongs; by default row m belongs to image m.

        Returns
        -------
        Tensor
            (M,).
        """
        if self.function is not None:
            return _one_score_each(self.function(logits), len(logits))
        assert self.classes is not None
        classes = self.classes if owner is None else self.classes[owner]
        values = logits if of == "logit" else probabilities(logits)
        if values.shape[1] == 1:
            values = torch.cat([-values if of == "logit" else 1 - values, values], dim=1)
        return values.gather(1, classes[:, None])[:, 0]


def resolve(target: Target, logits: Tensor, class_names: Sequence[str] | None) -> Targets:
    """Turn what the user asked for into one target an image.

    Parameters
    ----------
    target : None, int, str, sequence or array of them, or function
        None is the top class of each image; a sequence has one entry an image; a function maps logits
        (M, classes) to scores (M,).
    logits : Tensor
        (N, classes) of the images. One column is a binary head with classes 0 and 1.
    class_names : sequence of str or None
        What names are looked up in.

    Raises
    ------
    TargetError
        Out of range, an unknown name, or not one target an image.
    """
    target, count, classes = plain(target), len(logits), max(2, logits.shape[1])
    if callable(target):
        name = getattr(target, "__name__", type(target).__name__)
        return Targets(None, target, (name,) * count)
    if target is None:
        top = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
        found = top.tolist()
    elif isinstance(target, str) or not isinstance(target, Sequence):
        found = [_index(target, classes, class_names)] * count
    else:
        found = [_index(item, classes, class_names) for item in target]
        if len(found) != count:
            raise TargetError(f"{len(found)} targets for {count} images; give one for all, or one an image")
    names = tuple(class_names[index] if class_names else f"class {index}" for index in found)
    return Targets(torch.tensor(found, device=logits.device), None, names)


def plain(target: Target) -> Target:
    """Give the numbers of NumPy and torch as Python's own: class labels often come as an array."""
    return target.tolist() if isinstance(target, np.ndarray | np.generic | Tensor) else target


def part_of(target: Target, positions: Sequence[int]) -> Target:
    """What is asked of some of the images: their entries of a sequence, and all of anything else."""
    target = plain(target)
    if isinstance(target, str) or not isinstance(target, Sequence):
        return target
    return [target[i] for i in positions]


def _index(target: Any, classes: int, class_names: Sequence[str] | None) -> int:
    target = plain(target)
    if isinstance(target, str):
        if class_names is None:
            raise TargetError(
                f"target {target!r} is a name, but this model has no class names; give 0 to {classes - 1}"
            )
        places = [index for index, name in enumerate(class_names) if composed(name) == composed(target)]
        if not places:
            near = get_close_matches(target, class_names, n=3)
            hint = (
                f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; expected one of {_some(class_names)}"
            )
            raise TargetError(f"target {target!r} is no class of this model{hint}")
        if len(places) > 1:
            raise TargetError(f"target {target!r} is the name of classes {_and(places)}; give the number of one")
        return places[0]
    if isinstance(target, bool) or not isinstance(target, int):
        raise TargetError(f"target {target!r}; expected a class number, a class name, or a function of the logits")
    if not 0 <= target < classes:
        raise TargetError(f"target {target} is out of range: this model has {classes} classes, 0 to {classes - 1}")
    return target


def _one_score_each(scores: Tensor, count: int) -> Tensor:
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise TargetError(f"the target function gave {given} for {count} images; expected a tensor ({count},)")
    return scores


def _and(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _some(names: Sequence[str], most: int = 8) -> str:
    listed = ", ".join(map(repr, names[:most]))
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
