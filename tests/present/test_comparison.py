"""The comparison: one row an image, one column an explanation, each titled with class and score."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchcam_suite import Explanation, explain, load
from torchcam_suite.present import comparison
from torchcam_suite.present.comparison import caption, compare, heading
from torchcam_suite.present.grid import Row, grid
from torchcam_suite.present.overlay import overlay

PICTURES = np.random.default_rng(0).integers(0, 200, (2, 40, 32, 3), dtype=np.uint8)


def explanations(methods: tuple[str, ...] = ("gradcam", "scorecam"), **options: Any) -> list[Explanation]:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = load(net, input_size=(3, 10, 8), preprocessing="unit", class_names=["ember", "moss"], device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [explain(model, PICTURES, method=name, layer="1", **{"target": [0, 1], **options}) for name in methods]


def test_a_column_is_headed_by_its_method_and_layer() -> None:
    assert [heading(found) for found in explanations()] == ["Grad-CAM · 1", "Score-CAM · 1"]


def test_a_cell_is_captioned_with_class_and_probability() -> None:
    (found,) = explanations(("gradcam",))
    assert found.probabilities is not None
    assert [caption(found, i) for i in range(2)] == [
        f"ember {found.probabilities[0]:.2f}",
        f"moss {found.probabilities[1]:.2f}",
    ]


def margin(logits: Tensor) -> Tensor:
    return logits[:, 0] - logits[:, 1]


def test_the_score_stands_where_there_is_no_probability() -> None:
    (found,) = explanations(("gradcam",), target=margin)
    assert caption(found, 1) == f"margin {found.scores[1]:.2f}"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Row], dict[str, Any]]]:
    """What is handed to the grid, which is drawn all the same."""
    calls = []

    def noting(rows: list[Row], **options: Any) -> Any:
        calls.append((rows, options))
        return grid(rows, **options)

    monkeypatch.setattr(comparison, "grid", noting)
    return calls


def test_every_map_is_laid_over_its_own_picture(drawn: list[tuple[list[Row], dict[str, Any]]]) -> None:
    found = explanations()
    image = compare(list(PICTURES), found, colormap="viridis", strength=0.7, interpolation="nearest")
    ((rows, options),) = drawn
    assert image.mode == "RGB"
    assert options["headers"] == ["original", "Grad-CAM · 1", "Score-CAM · 1"]
    assert options["colorbar"] == "viridis"
    assert [row.label for row in rows] == ["image 0", "image 1"]
    for i, row in enumerate(rows):
        assert np.array_equal(row.cells[0].picture, PICTURES[i])
        for cell, one in zip(row.cells[1:], found, strict=True):
            expected = overlay(
                PICTURES[i], one.maps[i].numpy(), colormap="viridis", strength=0.7, interpolation="nearest"
            )
            assert np.array_equal(cell.picture, expected)
            assert cell.title == caption(one, i)


def test_a_flag_stands_below_its_picture(drawn: list[tuple[list[Row], dict[str, Any]]]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 2))
    nn.init.constant_(net.get_parameter("3.weight"), -1)
    model = load(net, input_size=(3, 10, 8), preprocessing="unit", device="cpu")
    with pytest.warns(UserWarning, match="zero everywhere"):
        compare(list(PICTURES), [explain(model, PICTURES, layer="1", target=1)])
    ((rows, _),) = drawn
    assert [row.cells[1].subtitle for row in rows] == ["map is zero everywhere"] * 2


def test_pictures_of_one_name_are_told_apart_by_their_folders(drawn: list[tuple[list[Row], dict[str, Any]]]) -> None:
    (found,) = explanations(("gradcam",))
    compare(list(PICTURES), [replace(found, images=("data/a/cat.png", "data/b/cat.png"))])
    assert [row.label for row in drawn[0][0]] == ["a/cat.png", "b/cat.png"]
