"""A label is a class name, a class number, or a place in the sorted order; what it is not, is told."""

import pytest

from torchcam_suite.errors import SourceError
from torchcam_suite.evaluation.class_labels import ClassLabels, match_labels, unknown_text


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        # the model's order counts, not the order of the folders
        (["cat", "dog"], ["dog", "cat"], ClassLabels({"cat": 1, "dog": 0}, (), "class names", ("dog", "cat"))),
        (["dog"], ["dog", "cat"], ClassLabels({"dog": 0}, (), "class names", ("dog", "cat"))),
        (["dgo", "cat"], ["dog", "cat"], ClassLabels({"cat": 1}, ("dgo",), "class names", ("dog", "cat"))),
        # a name that is a number is a name
        (["1", "0"], ["1", "0"], ClassLabels({"1": 0, "0": 1}, (), "class names", ("1", "0"))),
        (["1", "0"], ["dog", "cat"], ClassLabels({"1": 1, "0": 0}, (), "class numbers", ("dog", "cat"))),
        (["1"], None, ClassLabels({"1": 1}, (), "class numbers", ("class 0", "class 1"))),
    ],
)
def test_labels_become_classes(labels: list[str], names: list[str] | None, expected: ClassLabels) -> None:
    assert match_labels(labels, 2, names) == expected


@pytest.mark.parametrize(("label", "name"), [("gru\u0308n", "gr\u00fcn"), ("gr\u00fcn", "gru\u0308n")])
def test_a_name_is_the_same_however_its_accents_are_written(label: str, name: str) -> None:
    found = match_labels([label, "red"], 2, ["red", name], folders=True)
    assert (found.indices, found.unknown, found.class_names) == ({"red": 0, label: 1}, (), ("red", name))


def test_without_class_names_labels_are_taken_in_sorted_order_which_is_said() -> None:
    found = match_labels(["b", "a", "B"], 3)
    assert (found.indices, found.rule, found.class_names) == ({"B": 0, "a": 1, "b": 2}, "sorted order", ("B", "a", "b"))
    assert "labels are taken in sorted order as Keras and torchvision do: 0 = B, 1 = a, 2 = b" in found.assumption


def test_numbers_for_folders_leave_open_which_class_they_are() -> None:
    labels = [str(number) for number in range(11)]
    found = match_labels(labels, 11, folders=True)
    assert found.indices["10"] == 10
    assert "Keras and torchvision would number them in this order" in found.assumption
    assert match_labels(labels, 11).assumption == ""
    assert match_labels(labels[:10], 10, folders=True).assumption == ""


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["n01", "n02"], ["dog", "cat"], r"the labels are 'n01', 'n02', the class names 'dog', 'cat'; give the names"),
        (["a", "b", "c"], None, r"3 labels \('a', 'b', 'c'\) for a model with 2 classes and no class names"),
        (["0", "2"], ["dog", "cat"], "no label is a class name"),
        (["9" * 5000, "0", "1"], None, "3 labels"),
        (["²", "0", "1"], None, "3 labels"),
        (["crane"], ["crane", "crane"], "'crane' is the name of classes 0 and 1 of this model"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[str], names: list[str] | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        match_labels(labels, 2, names)


def test_unknown_labels_are_named_with_their_pictures() -> None:
    unknown = [f"label {i}" for i in range(10)]
    text = unknown_text(["dgo", *unknown], ["dog"], {"dgo": 2} | dict.fromkeys(unknown, 1))
    assert text.startswith("12 pictures with labels that are no class of this model: 'dgo' (2; did you mean 'dog'?)")
    assert text.endswith("and 3 more")
