"""Distances between many rows of features, a chunk of rows at a time: the N x N matrix is never held."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ELEMENTS = 2**22  # of a chunk of distances: 32 MB in float64
_BLOCK = 4096  # rows of features converted at once
_EXACT = 2e10  # products of all pairs of rows up to which float64 costs a second or two


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of features, shifted and scaled when they are taken; the array itself may be memory-mapped.

    Attributes
    ----------
    array : array
        (N, F).
    mean, scale : array
        (F,) float64; a row is (x - mean) / scale. Centred rows lose fewer digits when distances are products.
    """

    array: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    @property
    def dtype(self) -> torch.dtype:
        """float64 where all pairs of rows take up to 2e10 products, as 6,000 rows of 512 features; float32 beyond."""
        return torch.float64 if len(self) ** 2 * self.array.shape[1] <= _EXACT else torch.float32

    def take(self, index: slice | np.ndarray) -> Tensor:
        """Some rows, (n, F)."""
        values = np.asarray(self.array[index], np.float64 if self.dtype == torch.float64 else np.float32)
        return torch.from_numpy((values - self.mean.astype(values.dtype)) / self.scale.astype(values.dtype))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """All rows, some thousand at a time."""
        step = max(1, min(_BLOCK, 2**25 // self.array.shape[1]))
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            yield part, self.take(part)


class Chunk(NamedTuple):
    """Squared distances from some rows to all."""

    anchors: np.ndarray
    squared: Tensor


def centred(array: np.ndarray) -> Rows:
    """The rows of an array about their mean."""
    total = np.zeros(array.shape[1])
    for start in range(0, len(array), _BLOCK):
        total += np.asarray(array[start : start + _BLOCK], np.float64).sum(axis=0)
    return Rows(array, total / len(array), np.ones(array.shape[1]))


def chunk_rows(count: int) -> int:
    """How many rows of a matrix with `count` columns are computed at once."""
    return max(1, _ELEMENTS // count)


def squared_distances(rows: Rows, anchors: np.ndarray) -> Iterator[Chunk]:
    """Squared Euclidean distances from the rows numbered `anchors` to all rows; infinite to the row itself."""
    norms = torch.cat([block.square().sum(dim=1) for _, block in rows.blocks()])
    step = chunk_rows(len(rows))
    for start in range(0, len(anchors), step):
        index = anchors[start : start + step]
        squared = _squared(rows, rows.take(index), norms)
        squared[torch.arange(len(index), device="cpu"), torch.from_numpy(index)] = torch.inf
        yield Chunk(index, squared)


def nearest(rows: Rows, k: int, queries: Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows, exactly; a row is not its own neighbour.

    Distances are taken anew as differences for those found, so that copies of a row are at distance 0.

    Parameters
    ----------
    rows : Rows
        (N, F), among which the neighbours are.
    k : int
        Less than N.
    queries : Tensor, optional
        (M, F), already shifted and scaled; else every row looks for its own neighbours.

    Returns
    -------
    indices, distances : array
        (N, k) or (M, k), int64 and float64, the nearest first.
    """
    found = []
    if queries is None:
        for index, squared in squared_distances(rows, np.arange(len(rows))):
            found.append(_ordered(rows, rows.take(index), squared, k))
    else:
        norms = torch.cat([block.square().sum(dim=1) for _, block in rows.blocks()])
        for part in queries.to(rows.dtype).split(chunk_rows(len(rows))):
            found.append(_ordered(rows, part, _squared(rows, part, norms), k))
    indices, distances = zip(*found, strict=True)
    return np.concatenate(indices), np.concatenate(distances)


def _squared(rows: Rows, part: Tensor, norms: Tensor) -> Tensor:
    squared = torch.empty(len(part), len(rows), dtype=rows.dtype, device="cpu")
    own = part.square().sum(dim=1, keepdim=True)
    for columns, block in rows.blocks():
        torch.addmm(norms[columns] + own, part, block.T, alpha=-2, out=squared[:, columns])
    return squared.clamp_(min=0)


def _ordered(rows: Rows, part: Tensor, squared: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest of each line, in the order of their distances as differences."""
    indices = squared.topk(k, dim=1, largest=False, sorted=False).indices
    distances = torch.empty(indices.shape, dtype=torch.float64, device="cpu")
    step = max(1, 2**22 // (k * part.shape[1]))
    for start in range(0, len(part), step):
        lines = slice(start, start + step)
        others = rows.take(indices[lines].flatten().numpy()).view(-1, k, part.shape[1])
        distances[lines] = (others - part[lines, None]).square().sum(dim=2).sqrt()
    order = distances.argsort(dim=1, stable=True)
    return indices.gather(1, order).numpy(), distances.gather(1, order).numpy()
