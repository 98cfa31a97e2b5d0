"""Principal component analysis of a table of any length, in passes over chunks of its rows."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.embedding.neighbours import Rows

_EXACT = 1000  # up to this many rows or features a matrix of products is decomposed as a whole
_MORE, _PASSES = 20, 7  # of the randomised search


@dataclass(frozen=True, eq=False)
class Principal:
    """Principal components.

    Attributes
    ----------
    components : Tensor
        (F, p) float64, of unit length, those of the largest variance first. The largest entry of each is positive.
    share : float
        Of the variance of all features, from 0 to 1, that the p components hold.
    """

    components: Tensor
    share: float

    def project(self, rows: Rows) -> np.ndarray:
        """Coordinates of every row, (N, p) float64."""
        return torch.cat([self.of(block) for _, block in rows.blocks()]).numpy()

    def of(self, block: Tensor) -> Tensor:
        """Coordinates of some centred rows, (n, p) float64."""
        return (block @ self.components.to(block.dtype)).double()


def principal_components(rows: Rows, count: int, seed: int) -> Principal:
    """The first principal components of centred rows.

    Exact where there are up to 1,000 rows or features; beyond, a randomised subspace iteration of seven passes
    (Halko, Martinsson and Tropp 2011, algorithm 4.4), which is exact to rounding where the variances fall.

    Parameters
    ----------
    rows : Rows
        (N, F), of mean 0.
    count : int
        How many, at most min(N, F).
    seed : int
        Of the randomised search.
    """
    features = rows.array.shape[1]
    total = sum(float(block.double().square().sum()) for _, block in rows.blocks())
    if features <= _EXACT:
        components = _from_features(rows, count)
    elif len(rows) <= _EXACT:
        components = _from_rows(rows, count)
    else:
        components = _by_iteration(rows, count, seed)
    components = components * _signs(components)
    held = sum(float((block @ components.to(block.dtype)).double().square().sum()) for _, block in rows.blocks())
    return Principal(components, min(1.0, held / total))


def _from_features(rows: Rows, count: int) -> Tensor:
    products = torch.zeros(rows.array.shape[1], rows.array.shape[1], dtype=torch.float64, device="cpu")
    for _, block in rows.blocks():
        products += block.double().T @ block.double()
    return torch.linalg.eigh(products).eigenvectors.flip(1)[:, :count]


def _from_rows(rows: Rows, count: int) -> Tensor:
    every = rows.take(slice(None)).double()
    return torch.linalg.svd(every, full_matrices=False).Vh[:count].T


def _by_iteration(rows: Rows, count: int, seed: int) -> Tensor:
    features = rows.array.shape[1]
    width = min(count + _MORE, features, len(rows))
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(features, width, dtype=torch.float64, generator=generator, device="cpu")
    basis = torch.linalg.qr(start).Q
    for _ in range(_PASSES):
        image = torch.zeros(features, width, dtype=torch.float64, device="cpu")
        for _, block in rows.blocks():
            image += (block.T @ (block @ basis.to(block.dtype))).double()
        basis = torch.linalg.qr(image).Q
    small = torch.zeros(width, width, dtype=torch.float64, device="cpu")
    for _, block in rows.blocks():
        projected = (block @ basis.to(block.dtype)).double()
        small += projected.T @ projected
    return basis @ torch.linalg.eigh(small).eigenvectors.flip(1)[:, :count]


def _signs(components: Tensor) -> Tensor:
    largest = components.abs().argmax(dim=0, keepdim=True)
    return torch.where(components.gather(0, largest) < 0, -1.0, 1.0)
