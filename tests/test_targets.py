"""What is explained: classes, names, either side of a binary head, functions of the logits."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torchcam_suite.errors import TargetError
from torchcam_suite.targets import Of, resolve

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, 1.0]])
BINARY = torch.tensor([[1.5], [-0.5], [0.0]])
NAMES = ["ember", "moss", "tide"]


def softmax(row: Sequence[float]) -> list[float]:
    return [math.exp(value) / sum(map(math.exp, row)) for value in row]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize(
    ("target", "names", "expected"),
    [
        (None, None, [2, 0]),
        (1, None, [1, 1]),
        ([2, 1], None, [2, 1]),
        ((0, 0), None, [0, 0]),
        ("moss", NAMES, [1, 1]),
        (["tide", "ember"], NAMES, [2, 0]),
        ("gr\u00fcn", ["rot", "blau", "gru\u0308n"], [2, 2]),
        ("gru\u0308n", ["rot", "blau", "gr\u00fcn"], [2, 2]),
        (["tide", 1], NAMES, [2, 1]),
        (np.int64(1), None, [1, 1]),
        (np.array([2, 0]), None, [2, 0]),
        (torch.tensor([2, 0]), None, [2, 0]),
        (torch.tensor(1), None, [1, 1]),
        ([np.int64(2), np.uint8(0)], None, [2, 0]),
        ([torch.tensor(2), torch.tensor(0)], None, [2, 0]),
        ([np.str_("tide"), "ember"], NAMES, [2, 0]),
    ],
    ids=(
        "none number numbers tuple name names composed decomposed mixed numpy-number array tensor tensor-number "
        "numpy-numbers tensor-numbers numpy-names"
    ).split(),
)
def test_a_target_becomes_one_class_an_image(target: Any, names: list[str] | None, expected: list[int]) -> None:
    found = resolve(target, LOGITS, names)
    assert found.classes is not None
    assert found.classes.tolist() == expected
    assert found.names == tuple(names[i] if names else f"class {i}" for i in expected)


@pytest.mark.parametrize("of", ["logit", "probability"])
@pytest.mark.parametrize("classes", [[0, 1], [2, 2]])
def test_the_score_is_the_entry_of_the_class(of: Of, classes: list[int]) -> None:
    found = resolve(classes, LOGITS, None).score(LOGITS, lambda logits: logits.softmax(1), of)
    rows = LOGITS.tolist()
    expected = [(row if of == "logit" else softmax(row))[i] for row, i in zip(rows, classes, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_top_class_of_a_binary_head_is_the_sign_of_its_logit() -> None:
    found = resolve(None, BINARY, ["cat", "dog"])
    assert found.names == ("dog", "cat", "cat")


@pytest.mark.parametrize(
    ("of", "target", "value"),
    [
        ("logit", 1, lambda z: z),
        ("logit", 0, lambda z: -z),
        ("probability", 1, sigmoid),
        ("probability", 0, lambda z: 1 - sigmoid(z)),
    ],
)
def test_both_sides_of_a_binary_head(of: Of, target: int, value: Callable[[float], float]) -> None:
    found = resolve(target, BINARY, None).score(BINARY, torch.sigmoid, of)
    assert found.tolist() == pytest.approx([value(z) for z in BINARY[:, 0].tolist()], abs=1e-6)


def test_rows_may_belong_to_other_images() -> None:
    rows, owner = torch.arange(12.0).reshape(4, 3), torch.tensor([1, 0, 1, 1])
    found = resolve([0, 2], LOGITS, None).score(rows, torch.sigmoid, "logit", owner)
    assert found.tolist() == [2.0, 3.0, 8.0, 11.0]


def margin(logits: Tensor) -> Tensor:
    return logits[:, 2] - logits[:, 0]


@pytest.mark.parametrize("of", ["logit", "probability"])
def test_a_function_always_gets_the_logits(of: Of) -> None:
    found = resolve(margin, LOGITS, NAMES)
    assert found.classes is None
    assert found.names == ("margin", "margin")
    assert found.score(LOGITS, torch.sigmoid, of).tolist() == [1.5, -2.0]


class Total:
    def __call__(self, logits: Tensor) -> Tensor:
        return logits.sum(dim=1)


def test_a_function_object_is_called_by_its_class() -> None:
    assert resolve(Total(), LOGITS, None).names == ("Total", "Total")


@pytest.mark.parametrize(
    ("target", "names", "message"),
    [
        (3, None, "target 3 is out of range: this model has 3 classes, 0 to 2"),
        (-1, None, "target -1 is out of range"),
        ([0, 7], None, "target 7 is out of range"),
        ([0, 1, 2], None, "3 targets for 2 images; give one for all, or one an image"),
        ([], None, "0 targets for 2 images"),
        ("moss", None, "target 'moss' is a name, but this model has no class names; give 0 to 2"),
        ("mos", NAMES, r"target 'mos' is no class of this model; did you mean 'moss'\?"),
        ("xyz", NAMES, "expected one of 'ember', 'moss', 'tide'"),
        ("xyz", [f"{i:03}" for i in range(20)], "'007' and 12 more"),
        ("moss", ["moss", "tide", "moss"], "target 'moss' is the name of classes 0 and 2; give the number of one"),
        ("moss", ["moss"] * 3, "the name of classes 0, 1 and 2"),
        ([np.float32(1), 0], None, r"target 1\.0; expected a class number"),
        (True, None, "target True; expected a class number, a class name, or a function of the logits"),
        (1.0, None, r"target 1\.0; expected a class number"),
        ([1.0, 0], None, r"target 1\.0; expected a class number"),
        (np.array([0.5, 1.0]), None, r"target 0\.5; expected a class number"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(target: Any, names: list[str] | None, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        resolve(target, LOGITS, names)


def test_a_binary_head_has_two_classes() -> None:
    with pytest.raises(TargetError, match="target 2 is out of range: this model has 2 classes, 0 to 1"):
        resolve(2, BINARY, None)


@pytest.mark.parametrize(
    ("function", "given"),
    [(lambda logits: logits, r"\(2, 3\)"), (lambda logits: logits.sum(), r"\(\)"), (lambda _: 1.0, "float")],
    ids=["one a class", "one in all", "no tensor"],
)
def test_a_function_gives_one_score_an_image(function: Callable[[Tensor], Any], given: str) -> None:
    with pytest.raises(TargetError, match=f"gave {given} for 2 images; expected a tensor"):
        resolve(function, LOGITS, None).score(LOGITS, torch.sigmoid, "logit")
