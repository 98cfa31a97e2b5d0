"""The grid that compares explanations of the same images: original, then one column an explanation."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from torchcam_suite.cam import METHODS
from torchcam_suite.explanation import Explanation
from torchcam_suite.present.grid import Cell, Row, grid
from torchcam_suite.present.overlay import Interpolation, overlay
from torchcam_suite.shown_names import short_names


def compare(
    pictures: Sequence[np.ndarray],
    explanations: Sequence[Explanation],
    *,
    colormap: str = "jet",
    strength: float = 0.4,
    interpolation: Interpolation = "bilinear",
) -> Image.Image:
    """Draw one row an image: the original, then its overlay for each explanation, titled with class and score.

    Parameters
    ----------
    pictures : sequence of array
        (H, W, 3) uint8 RGB, what the model saw of each image, at any resolution.
    explanations : sequence of Explanation
        Of these images, in this order.
    colormap, strength, interpolation
        As for `torchcam_suite.present.overlay.overlay`.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    names = short_names(explanations[0].images)
    headers = ["original", *(heading(explanation) for explanation in explanations)]
    rows = []
    for i, picture in enumerate(pictures):
        cells = [Cell(picture, "")]
        for explanation in explanations:
            blended = overlay(
                picture,
                explanation.maps[i].cpu().numpy(),
                colormap=colormap,
                strength=strength,
                interpolation=interpolation,
            )
            cells.append(Cell(blended, caption(explanation, i), "; ".join(explanation.flags[i])))
        rows.append(Row(names[i], cells))
    # wide enough for "Grad-CAM · block14_sepconv2_act"
    return grid(rows, headers=headers, cell=256, colorbar=colormap)


def heading(explanation: Explanation) -> str:
    """Method and layer, as in `Grad-CAM · conv2d_5`."""
    return f"{METHODS[explanation.method].title} · {explanation.layer}"


def caption(explanation: Explanation, index: int) -> str:
    """Target and its probability, or its score where there is none, as in `ember 0.98`."""
    values = explanation.scores if explanation.probabilities is None else explanation.probabilities
    return f"{explanation.target_names[index]} {float(values[index]):.2f}"
