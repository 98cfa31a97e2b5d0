"""Which class of the model a label means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torchcam_suite.class_names import composed
from torchcam_suite.errors import SourceError
from torchcam_suite.labelled_images import shortlist

NAMES, NUMBERS, SORTED = "class names", "class numbers", "sorted order"


@dataclass(frozen=True)
class ClassLabels:
    """Labels as classes of a model.

    Attributes
    ----------
    indices : dict of str to int
        Class by label, for the labels that mean one.
    unknown : tuple of str
        The labels that mean none.
    rule : {"class names", "class numbers", "sorted order"}
        Labels are the model's class names, numbers of classes, or stand for the classes in their sorted order.
    class_names : tuple of str
        How each class is called: by the model, else by the labels, else by its number.
    assumption : str
        What the data leave open, as a sentence; empty where they leave nothing open.
    """

    indices: dict[str, int]
    unknown: tuple[str, ...]
    rule: str
    class_names: tuple[str, ...]
    assumption: str = ""


def match_labels(
    labels: Sequence[str], classes: int, class_names: Sequence[str] | None = None, *, folders: bool = False
) -> ClassLabels:
    """Find the class of each label.

    Where the model has class names, a label is one of them, or, if no label is, its number. Where it has none, labels
    are numbers of classes; if they are not, and there are as many as classes, they are taken in sorted order, as Keras
    and torchvision number the folders of their training data.

    Parameters
    ----------
    labels : sequence of str
        Every label once, also of classes without pictures.
    classes : int
        Of the model; 2 for a binary head.
    class_names : sequence of str, optional
        Of the model.
    folders : bool
        Whether labels are names of folders: Keras and torchvision number folders called 0, 1, 2, 10 in their order as
        text, so that a number for a name leaves open which class it is.

    Raises
    ------
    SourceError
        No label means a class, there are not as many labels as classes, or a name is that of two classes.

    Examples
    --------
    >>> match_labels(["cat", "dog", "eel"], 2, ["dog", "cat"])  # doctest: +ELLIPSIS
    ClassLabels(indices={'cat': 1, 'dog': 0}, unknown=('eel',), rule='class names', ...)
    """
    if class_names is not None and not set(map(composed, class_names)).isdisjoint(map(composed, labels)):
        return _by_name(labels, class_names)
    numbers = {label: number for label in labels if (number := _number(label)) is not None and number < classes}
    if len(numbers) == len(labels):
        return _by_number(numbers, classes, class_names, folders)
    if class_names is not None:
        raise SourceError(
            f"no label is a class name of this model: the labels are {shortlist(labels)}, the class names "
            f"{shortlist(class_names)}; give the names that the labels use with class_names= (--classes), in the order "
            "of the model's outputs"
        )
    return _by_order(labels, classes)


def _by_name(labels: Sequence[str], class_names: Sequence[str]) -> ClassLabels:
    places: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        places.setdefault(composed(name), []).append(index)
    known = {label: places[composed(label)] for label in labels if composed(label) in places}
    for label, found in known.items():
        if len(found) > 1:
            raise SourceError(
                f"{label!r} is the name of classes {' and '.join(map(str, found))} of this model, so the label does "
                "not say which; use class numbers as labels, or give other names with class_names= (--classes)"
            )
    unknown = tuple(label for label in labels if label not in known)
    return ClassLabels({label: found[0] for label, found in known.items()}, unknown, NAMES, tuple(class_names))


def _number(label: str) -> int | None:
    return int(label) if label.isascii() and label.isdigit() and len(label) < 10 else None


def _by_number(numbers: dict[str, int], classes: int, class_names: Sequence[str] | None, folders: bool) -> ClassLabels:
    names = tuple(class_names or (f"class {index}" for index in range(classes)))
    in_order = sorted(numbers)
    agree = all(numbers[label] == place for place, label in enumerate(in_order))
    assumption = ""
    if folders and not agree:
        assumption = (
            f"folders {shortlist(in_order)} are taken as class numbers; Keras and torchvision would number them in "
            "this order from 0"
        )
    return ClassLabels(numbers, (), NUMBERS, names, assumption)


def _by_order(labels: Sequence[str], classes: int) -> ClassLabels:
    if len(labels) != classes:
        raise SourceError(
            f"{len(labels)} labels ({shortlist(sorted(labels))}) for a model with {classes} classes and no class "
            "names; give them with class_names= (--classes), in the order of the model's outputs"
        )
    in_order = sorted(labels)
    indices = {label: index for index, label in enumerate(in_order)}
    pairs = ", ".join(f"{index} = {label}" for index, label in enumerate(in_order[:8]))
    assumption = (
        f"the model has no class names; labels are taken in sorted order as Keras and torchvision do: {pairs}"
        f"{', ...' if classes > 8 else ''} (class_names=, --classes says otherwise)"
    )
    return ClassLabels(indices, (), SORTED, tuple(in_order), assumption)


def unknown_text(unknown: Sequence[str], class_names: Sequence[str], counts: Mapping[str, int]) -> str:
    """Say which labels are no class, with how many pictures, and what they may have meant.

    Examples
    --------
    >>> unknown_text(["dgo"], ["cat", "dog"], {"dgo": 3})
    "3 pictures with labels that are no class of this model: 'dgo' (3; did you mean 'dog'?)"
    """
    parts = []
    for label in unknown[:8]:
        near = get_close_matches(label, class_names, n=1)
        parts.append(f"{label!r} ({counts[label]}{f'; did you mean {near[0]!r}?' if near else ''})")
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    total = sum(counts[label] for label in unknown)
    what = "picture with a label that is" if total == 1 else "pictures with labels that are"
    return f"{total} {what} no class of this model: {', '.join(parts)}{more}"
