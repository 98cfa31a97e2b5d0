"""The grid of a comparison: a row an image, a column a model, layer and method."""

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from torchcam_suite.cam import METHODS
from torchcam_suite.present.grid import Cell, Group, Row, grid
from torchcam_suite.present.overlay import overlay
from torchcam_suite.shown_names import short_names

if TYPE_CHECKING:
    from torchcam_suite.comparison.result import Column, Comparison

_COLORMAP, _STRENGTH = "jet", 0.45
# wide enough for "block14_sepconv2_act"; with few columns, as large as in the grid of `explain`
_NARROW, _WIDE, _MANY = 184, 256, 6


def draw_grid(result: "Comparison") -> Image.Image:
    """Draw the maps over their images, with what each model takes the image for; what is wrong is framed.

    Maps are drawn as they are compared: over the part of the picture that all models see.

    Parameters
    ----------
    result : Comparison
        What is drawn.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    names = short_names(result.images)
    rows = [Row(names[number], _cells(result, number)) for number in result.pictures]
    models, layers, methods = _headers(result.columns)
    cell = _NARROW if len(result.columns) > _MANY else _WIDE
    return grid(rows, headers=methods, groups=[models, layers], cell=cell, colorbar=_COLORMAP)


def _headers(columns: "tuple[Column, ...]") -> tuple[list[Group], list[Group], list[str]]:
    """Models and layers as they span the columns, and the method above each; the original stands first."""
    models, layers = [Group("", 1)], [Group("", 1)]
    for model, own in groupby(columns, key=lambda column: column.model):
        listed = list(own)
        models.append(Group(model, len(listed)))
        for (asked, layer), some in groupby(listed, key=lambda column: (column.asked, column.layer)):
            layers.append(Group(layer if asked == layer else f"{asked}: {layer}", len(list(some))))
    return models, layers, ["original", *(METHODS[column.method].title for column in columns)]


def _cells(result: "Comparison", number: int) -> list[Cell]:
    picture = result.pictures[number]
    cells = [Cell(picture, "" if result.labels is None else result.labels[number])]
    for column in result.columns:
        said = result.predictions[column.model]
        probability = "" if said.probabilities is None else f" {said.probabilities[number]:.2f}"
        wrong = said.right is not None and not said.right[number]
        blended = overlay(picture, _unit(column, number), colormap=_COLORMAP, strength=_STRENGTH)
        title = f"{said.names[number]}{probability}{', wrong' if wrong else ''}"
        cells.append(Cell(blended, title, _remark(column, said.classes[number], number), marked=wrong))
    return cells


def _unit(column: "Column", number: int) -> np.ndarray:
    # the weights of the interpolation may sum to a rounding error above 1
    return column.maps[number].clamp(0, 1).numpy()


def _remark(column: "Column", predicted: int, number: int) -> str:
    """What the map shows, where that is not the predicted class, and what is unusual about it."""
    explanation = column.explanation
    other = explanation.targets is None or explanation.targets[number] != predicted
    shown = [f"map: {explanation.target_names[number]}"] if other else []
    # a narrow column has no room for "map is zero everywhere"
    return "; ".join([*shown, *(flag.removeprefix("map is ") for flag in explanation.flags[number])])
