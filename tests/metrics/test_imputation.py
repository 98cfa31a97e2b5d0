"""Linear imputation: the equations of the paper, solved densely, and the authors' code in pytorch-grad-cam."""

import numpy as np
import pytest
import torch
from linear import seeded
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from torchcam_suite.metrics.imputation import impute_linearly


def by_equations(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One equation a removed pixel, of one channel (H, W)."""
    height, width = image.shape
    removed = [(int(i), int(j)) for i, j in np.argwhere(~known)]
    matrix, right = np.zeros((len(removed), len(removed))), np.zeros(len(removed))
    for row, (i, j) in enumerate(removed):
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                place = (i + di, j + dj)
                if (di, dj) == (0, 0) or not (0 <= place[0] < height and 0 <= place[1] < width):
                    continue
                weight = 1 / 12 if di and dj else 1 / 6
                matrix[row, row] += weight
                if known[place]:
                    right[row] += weight * image[place]
                else:
                    matrix[row, removed.index(place)] -= weight
    filled = image.copy()
    filled[~known] = np.linalg.solve(matrix, right)
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_removed_pixels_solve_the_equations(share: float) -> None:
    images, known = seeded(3, 2, 9, 14), seeded(3, 9, 14, seed=1) > share
    found = impute_linearly(images, known, tolerance=1e-12)
    for i in range(3):
        for channel in range(2):
            expected = by_equations(images[i, channel].numpy(), known[i].numpy())
            assert expected.std() > 0.1
            np.testing.assert_allclose(found[i, channel].numpy(), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # of their code with NumPy 2
def test_large_holes_are_those_of_the_authors_code() -> None:
    image, known = seeded(1, 3, 40, 33).float(), torch.zeros(1, 40, 33, dtype=torch.bool)
    known[0, 3:9, 4:12] = known[0, 30:, 25:] = True
    expected = NoisyLinearImputer(noise=0)(image[0], known[0].float())
    assert float(expected[:, ~known[0]].std()) > 0.01
    torch.testing.assert_close(impute_linearly(image, known)[0], expected, atol=1e-4, rtol=0)


def test_known_pixels_stay_and_removed_ones_are_not_read() -> None:
    images, known = seeded(1, 3, 8, 8), seeded(1, 8, 8, seed=1) > 0.5
    other = torch.where(known[:, None], images, torch.full_like(images, torch.nan))
    found = impute_linearly(other, known)
    assert found[:, :, known[0]].equal(images[:, :, known[0]])
    torch.testing.assert_close(found, impute_linearly(images, known))


def test_a_slope_is_continued_and_a_colour_kept() -> None:
    slope = torch.arange(9, dtype=torch.float64).expand(1, 1, 5, 9).clone()
    known = torch.ones(1, 5, 9, dtype=torch.bool)
    known[0, :, 2:7] = False
    torch.testing.assert_close(impute_linearly(slope, known, tolerance=1e-10), slope)
    grey = torch.full((2, 3, 6, 6), 0.3)
    torch.testing.assert_close(impute_linearly(grey, seeded(2, 6, 6) > 0.8), grey)
    assert impute_linearly(torch.zeros(1, 1, 6, 6), seeded(1, 6, 6) > 0.8).equal(torch.zeros(1, 1, 6, 6))


def test_nothing_to_fill_in_and_nothing_to_fill_it_from() -> None:
    images = seeded(2, 3, 8, 8)
    assert impute_linearly(images, torch.ones(2, 8, 8, dtype=torch.bool)).equal(images)
    with pytest.raises(ValueError, match="nothing is known of an image"):
        impute_linearly(images, torch.zeros(2, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"with known \(2, 8, 8\) of torch.float32; expected"):
        impute_linearly(images, torch.ones(2, 8, 8))
