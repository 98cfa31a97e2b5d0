"""Products of activations and gradients, and what hundreds of probes say about a target by way of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.concepts.probes import PROBES, spreads

# Activations are converted to float64 in strips of columns: of 8 MB, as larger ones are new memory each time; but of
# 512 columns at least, below which adding up takes as long as multiplying; and never of more than 256 MB.
STRIP_VALUES, FEWEST_COLUMNS, MOST_VALUES = 2**20, 512, 2**25
PROBLEMS = 2**20  # values of the Gram matrices that are solved at once: 8 MB, and a few times that while solving
FOLDS = 3
ROUNDING = 1e-7  # relative, of float32


def products(
    left: np.ndarray, right: np.ndarray, device: torch.device | str = "cpu", *, centred: bool = False
) -> Tensor:
    """``left @ right.T`` (n, m) in float64, of rows (n, d) and (m, d) that may be memory-mapped.

    Read in strips of columns, so that neither is ever held in float64 as a whole.

    Parameters
    ----------
    centred : bool
        Take the mean of the rows of `right` off them first; where `left` is `right`, off both. What is common to all
        activations, often many times what tells them apart, then costs no digits.
    """
    total = torch.zeros(len(left), len(right), dtype=torch.float64, device=device)
    for columns in _strips(left.shape[1], len(left) + len(right)):
        theirs = _strip(right, columns, device, centred=centred)
        if right is left:
            for some in _parts(len(theirs)):
                total[some, some.start :] += theirs[some] @ theirs[some.start :].T
        else:
            total += _strip(left, columns, device) @ theirs.T
    if right is left:
        for some in _parts(len(left)):
            total[some.stop :, some] = total[some, some.stop :].T
            total[some, some] = total[some, some].triu() + total[some, some].triu(1).T
    return total


def _parts(rows: int, count: int = 8) -> Iterator[slice]:
    """Parts of rows, of each of which a symmetric product needs only the columns from its own on."""
    step = max(1, -(-rows // count))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def magnitude(rows: np.ndarray) -> float:
    """Mean squared length of rows (n, d), to float32 rounding."""
    parts = (np.asarray(rows[start : start + 64]).reshape(-1) for start in range(0, len(rows), 64))
    return sum(float(np.vdot(part, part)) for part in parts) / len(rows)


def _strips(width: int, rows: int) -> Iterator[slice]:
    step = strip_width(rows)
    return (slice(start, start + step) for start in range(0, width, step))


def strip_width(rows: int) -> int:
    """Columns that are converted to float64 at once."""
    rows = max(rows, 1)
    return max(1, min(max(STRIP_VALUES // rows, FEWEST_COLUMNS), MOST_VALUES // rows))


def _strip(rows: np.ndarray, columns: slice, device: torch.device | str, *, centred: bool = False) -> Tensor:
    # half the bytes to a device; on the host, one copy is enough
    dtype = np.float64 if torch.device(device).type == "cpu" else rows.dtype
    part = torch.from_numpy(np.array(rows[:, columns], dtype=dtype)).to(device, torch.float64)
    return part.sub_(part.mean(0)) if centred else part


@dataclass(frozen=True)
class Planes:
    """What P probes found: each separates a first set of pictures (label 1) from a second one (label -1).

    Attributes
    ----------
    rows : Tensor (P, n)
        Which rows of the activations each was trained on.
    duals : Tensor (P, n)
        Weights of those rows; their sum is the CAV, of length 1 and pointing to the first set. Zeros where a probe
        found no direction.
    centred : bool
        Whether the Gram matrix was that of centred activations.
    """

    rows: Tensor
    duals: Tensor
    centred: bool = False

    def first(self, count: int) -> "Planes":
        """The first `count` of the probes."""
        return Planes(self.rows[:count], self.duals[:count], self.centred)

    def sensitivities(self, cross: Tensor) -> Tensor:
        """Directional derivatives (P, m) of m images, of which `cross` (m, N) has gradient times activations."""
        return torch.cat(list(self.sensitivities_in_parts(cross)))

    def sensitivities_in_parts(self, cross: Tensor) -> Iterator[Tensor]:
        """The same, for some probes at a time."""
        size = max(1, PROBLEMS // (self.rows.shape[1] * max(len(cross), 1)))
        for rows, duals in zip(self.rows.split(size), self.duals.split(size), strict=True):
            yield (cross.T[rows] * duals[..., None]).sum(1)

    def vectors(self, activations: np.ndarray) -> np.ndarray:
        """The CAVs (P, d), float32, of length 1; zeros where a probe found no direction."""
        return vectors([self], activations)


def vectors(planes: Sequence[Planes], activations: np.ndarray) -> np.ndarray:
    """The CAVs of several planes, one after the other; the activations (N, d) are read once for all."""
    centred = planes[0].centred
    weights = torch.zeros(sum(len(some.rows) for some in planes), len(activations), dtype=torch.float64, device="cpu")
    start = 0
    for some in planes:
        weights[start : start + len(some.rows)].scatter_add_(1, some.rows.cpu(), some.duals.cpu())
        start += len(some.rows)
    found = np.empty((len(weights), activations.shape[1]), np.float32)
    for columns in _strips(activations.shape[1], len(activations) + len(weights)):
        # the duals give length 1 already, up to the rounding of float32
        found[:, columns] = (weights @ _strip(activations, columns, "cpu", centred=centred)).numpy()
    return found


def fit(
    gram: Tensor,
    rows: Tensor,
    labels: Tensor,
    probe: str,
    regularization: float | None = None,
    seed: int = 0,
    *,
    magnitude: float = 0.0,
    centred: bool = False,
) -> Planes:
    """Train P probes and give their planes.

    Parameters
    ----------
    gram : Tensor (N, N)
        Products of all activations, float64.
    rows : Tensor (P, n)
        Which of them each probe is trained on.
    labels : Tensor (n,)
        1 for the pictures to which the CAV points, -1 for the others; the same for all probes.
    probe : str
        A key of `torchcam_suite.concepts.probes.PROBES`.
    regularization, seed
        Handed on to the probe.
    magnitude : float
        Mean squared length of the activations before they were centred.
    centred : bool
        Whether `gram` is that of centred activations.

    Notes
    -----
    A probe finds no direction where the activations of its pictures differ by no more than float32 rounds, or where
    both sets have the same ones: its duals are 0 then, all sensitivities are 0, and no image counts as positive.
    """
    found = []
    for some in rows.split(max(1, PROBLEMS // rows.shape[1] ** 2)):
        part = _square(gram, some, some)
        duals, _ = PROBES[probe](part, labels, regularization=regularization, seed=seed)
        lengths = (duals * (part @ duals[..., None])[..., 0]).sum(1).clamp_min(0).sqrt()
        spread = spreads(part)
        real = (spread > ROUNDING**2 * magnitude) & (lengths > ROUNDING * duals.abs().sum(1) * spread.sqrt())
        found.append(torch.where(real[:, None], duals / lengths[:, None], 0.0))
    return Planes(rows, torch.cat(found), centred)


def accuracies(
    gram: Tensor, rows: Tensor, labels: Tensor, probe: str, regularization: float | None = None, seed: int = 0
) -> Tensor:
    """Held-out accuracy (P,) of each probe, in [0, 1], by three-fold cross-validation.

    Each third of either set is classified by a probe that was trained on the other two. 0.5 is chance where the sets
    have the same size. A value on the plane itself counts half.
    """
    fold = _folds(labels, seed).to(gram.device)
    labels = labels.to(gram.device)
    right = torch.zeros(len(rows), dtype=torch.float64, device=gram.device)
    for number in range(FOLDS):
        train, test = (fold != number).nonzero()[:, 0], (fold == number).nonzero()[:, 0]
        for start, some in _counted(rows, max(1, PROBLEMS // rows.shape[1] ** 2)):
            part = _square(gram, some[:, train], some[:, train])
            duals, intercepts = PROBES[probe](part, labels[train], regularization=regularization, seed=seed)
            values = (_square(gram, some[:, test], some[:, train]) @ duals[..., None])[..., 0] + intercepts[:, None]
            right[start : start + len(some)] += ((values * labels[test]).sign() + 1).sum(1) / 2
    return right / len(labels)


def _folds(labels: Tensor, seed: int) -> Tensor:
    """A fold for each picture, so that both sets are dealt evenly."""
    fold = torch.empty(len(labels), dtype=torch.long, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for label in (1, -1):
        members = (labels.cpu() == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=generator, device="cpu")]
        fold[shuffled] = torch.arange(len(members), device="cpu") % FOLDS
    return fold


def _counted(rows: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    return ((start, rows[start : start + size]) for start in range(0, len(rows), size))


def _square(gram: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The parts of a Gram matrix (P, n, m) that belong to rows (P, n) and columns (P, m)."""
    return gram[down[:, :, None], across[:, None, :]]
