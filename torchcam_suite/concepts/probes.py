"""Linear probes between two sets of pictures, each a small problem in the Gram matrix of their activations.

With the activations of n pictures as rows X (n, d), every probe here has a weight vector ``w = X' a``: its duals `a`
(n,) follow from the Gram matrix ``K = X X'`` (n, n) alone, however many features d there are, and so do its values
``X w = K a``, its length ``sqrt(a' K a)`` and its product with a gradient g, ``g' w = (X g)' a``. Hundreds of probes
that share their pictures are solved as one batch.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.errors import ConvergenceWarning

ITERATIONS, SETTLED = 100, 1e-10  # of Newton's method: at most so many, until no dual moves by more than this share


def ridge(gram: Tensor, labels: Tensor, *, regularization: float) -> tuple[Tensor, Tensor]:
    """Least squares on labels of 1 and -1, with an intercept and a penalty on the length of the weights.

    Minimises ``|y - X w - b|^2 + p |w|^2``, where ``p = regularization * trace(K_c) / n``, `K_c` is the Gram matrix of
    the centred rows, so that the strength does not depend on the scale of the activations. In the duals
    ``(K_c + p I) a = y - mean(y)``; `a` sums to 0, so that w needs no centred rows.

    Parameters
    ----------
    gram : Tensor (P, n, n)
        Of the pictures of each of P probes, float64.
    labels : Tensor (n,)
        1 for the concept, -1 for the random pictures.
    regularization : float
        Share of the mean squared distance from the mean.

    Returns
    -------
    duals : Tensor (P, n)
    intercepts : Tensor (P,)

    References
    ----------
    Hoerl and Kennard 1970; the dual form is that of Saunders, Gammerman and Vovk 1998.
    """
    rows = gram.mean(-1)
    matrix = gram - rows[:, None, :]
    matrix += (rows.mean(-1, keepdim=True) - rows)[..., None]  # K_c
    matrix.diagonal(dim1=-2, dim2=-1).add_(_penalty(gram, regularization)[:, None])
    duals = _solve(matrix, (labels - labels.mean()).expand(gram.shape[:2]))
    duals = duals - duals.mean(1, keepdim=True)  # what rounding left of it would be multiplied by the mean activation
    return duals, labels.mean() - (rows * duals).sum(1)


def logistic(gram: Tensor, labels: Tensor, *, regularization: float) -> tuple[Tensor, Tensor]:
    """Logistic regression with a penalty on the length of the weights, by Newton's method in the duals.

    Minimises ``sum(log(1 + exp(-y (X w + b)))) + p / 2 |w|^2`` with `p` as for `ridge`. At the optimum
    ``a = (t - sigmoid(K a + b)) / p`` with t in {0, 1}.

    Parameters and results are those of `ridge`.

    References
    ----------
    Jaakkola and Haussler 1999, "Probabilistic kernel regression models".
    """
    penalty = _penalty(gram, regularization)[:, None]
    wanted = (labels + 1) / 2
    duals, intercepts = torch.zeros_like(gram[..., 0]), torch.zeros_like(gram[:, 0, 0])
    settled = False
    for _ in range(ITERATIONS):
        step, shift = _newton_step(gram, duals, intercepts, wanted, penalty)
        share = _step_length(gram, labels, duals, intercepts, step, shift, penalty)
        duals, intercepts = duals + share[:, None] * step, intercepts + share * shift
        if bool(((share[:, None] * step).abs().amax(1) <= SETTLED * duals.abs().amax(1)).all()):
            settled = True
            break
    if not settled:
        text = f"logistic regression has not settled after {ITERATIONS} steps; a larger regularization= helps"
        warnings.warn(text, ConvergenceWarning, stacklevel=2)
    return duals, intercepts


def mean_difference(gram: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The difference of the means of both sets; the threshold lies half way.

    The limit of `ridge` for a large penalty, so that it takes none; otherwise parameters and results are the same.

    References
    ----------
    Martin and Weller 2019, "Interpretable machine learning with concept activation vectors": less prone to noise of
    the pictures than a separating plane.
    """
    positive = labels > 0
    weights = torch.where(positive, 1 / positive.sum(), -1 / (~positive).sum()).to(gram.dtype)
    duals = weights.expand(gram.shape[:2])
    return duals, -(gram @ weights @ weights.abs()) / 2


def sgd(gram: Tensor, labels: Tensor, *, regularization: float, seed: int) -> tuple[Tensor, Tensor]:
    """scikit-learn's `SGDClassifier` (hinge loss), as the reference implementation of TCAV trains it.

    Its steps depend on the activations by their products alone: it is trained, one probe at a time, on rows of n
    numbers that have the same products, ``K = Z Z'``, and its weights ``Z' a`` give the duals.

    Parameters
    ----------
    gram, labels
        As for `ridge`.
    regularization : float
        `alpha` of `SGDClassifier`, on the activations as they are; the reference takes 0.1.
    seed : int
        Its `random_state`, which shuffles the pictures.
    """
    from sklearn.linear_model import SGDClassifier

    values, vectors = torch.linalg.eigh(gram)
    roots = values.clamp_min(0).sqrt()
    inverse = torch.where(values > values.amax(1, keepdim=True) * 1e-12, 1 / roots, 0.0)
    duals, intercepts = [], []
    for root, back, basis in zip(roots, inverse, vectors, strict=True):
        classifier = SGDClassifier(alpha=regularization, random_state=seed)
        classifier.fit((basis * root).cpu().numpy(), labels.cpu().numpy())
        duals.append(basis @ (back * torch.from_numpy(np.ascontiguousarray(classifier.coef_[0])).to(gram)))
        intercepts.append(float(classifier.intercept_[0]))
    return torch.stack(duals), torch.tensor(intercepts, dtype=torch.float64, device="cpu").to(gram)


@dataclass(frozen=True)
class Probe:
    """A way to tell two sets of pictures apart.

    Attributes
    ----------
    function : function
        Gram matrices (P, n, n) and labels (n,) to duals (P, n) and intercepts (P,).
    regularization : float or None
        Strength that is taken unless another one is asked for; None for a probe that has none.
    seeded : bool
        Whether it draws random numbers.
    translation_invariant : bool
        Whether it finds the same plane wherever zero is; `sgd` does not, whose intercept learns slowly.
    """

    function: Callable[..., tuple[Tensor, Tensor]]
    regularization: float | None
    seeded: bool = False
    translation_invariant: bool = True

    def __call__(
        self, gram: Tensor, labels: Tensor, *, regularization: float | None = None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Train P probes; see `ridge` for shapes."""
        options: dict[str, float] = {}
        if self.regularization is not None:
            options["regularization"] = self.regularization if regularization is None else regularization
        if self.seeded:
            options["seed"] = seed
        return self.function(gram, labels, **options)


PROBES: dict[str, Probe] = {
    "ridge": Probe(ridge, 0.1),
    "logistic": Probe(logistic, 0.01),
    "mean_difference": Probe(mean_difference, None),
    "sgd": Probe(sgd, 0.1, seeded=True, translation_invariant=False),
}


def spreads(gram: Tensor) -> Tensor:
    """Mean squared distance (P,) of the rows from their mean; 0 where it is below the rounding of the Gram matrix."""
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    spread = size - gram.mean((-2, -1))
    rounding = torch.finfo(gram.dtype).eps * size
    return torch.where(spread > 10 * rounding, spread, 0.0)


def _penalty(gram: Tensor, regularization: float) -> Tensor:
    """(P,); where all pictures are the same, a number that keeps the problem solvable."""
    spread, size = spreads(gram), gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    return regularization * torch.where(spread > 0, spread, torch.where(size > 0, size, 1.0))


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """A symmetric positive definite system for each probe; what rounding made singular is solved by least length."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if not bool(info.any()):
        return torch.cholesky_solve(right if right.ndim == 3 else right[..., None], factor).reshape(right.shape)
    values, vectors = torch.linalg.eigh(matrix)
    eps = torch.finfo(matrix.dtype).eps * matrix.shape[-1]
    inverse = torch.where(values > eps * values.amax(-1, keepdim=True), 1 / values, 0.0)
    columns = right if right.ndim == 3 else right[..., None]
    return (vectors @ (inverse[..., None] * (vectors.mT @ columns))).reshape(right.shape)


def _newton_step(
    gram: Tensor, duals: Tensor, intercepts: Tensor, wanted: Tensor, penalty: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted ridge problem of one step: ``(K + p / W) a + b = z`` with ``sum(a) = 0``."""
    values = (gram @ duals[..., None])[..., 0] + intercepts[:, None]
    weights = (values.sigmoid() * (-values).sigmoid()).clamp_min(1e-12)
    working = values + (wanted - values.sigmoid()) / weights
    columns = torch.stack([working, torch.ones_like(working)], dim=-1)
    both = _solve(gram + torch.diag_embed(penalty / weights), columns)
    intercept = both[..., 0].sum(1) / both[..., 1].sum(1)
    return both[..., 0] - intercept[:, None] * both[..., 1] - duals, intercept - intercepts


def _step_length(
    gram: Tensor, labels: Tensor, duals: Tensor, intercepts: Tensor, step: Tensor, shift: Tensor, penalty: Tensor
) -> Tensor:
    """The whole step, or its half, quarter, ... where that is needed for the loss not to grow."""

    def loss(share: Tensor) -> Tensor:
        moved = duals + share[:, None] * step
        products = (gram @ moved[..., None])[..., 0]
        values = products + (intercepts + share * shift)[:, None]
        length = (moved * products).sum(1)
        return torch.nn.functional.softplus(-labels * values).sum(1) + penalty[:, 0] / 2 * length

    share = torch.ones_like(intercepts)
    start = loss(torch.zeros_like(share))
    for _ in range(30):
        worse = loss(share) > start * (1 + 1e-12)
        if not bool(worse.any()):
            break
        share = torch.where(worse, share / 2, share)
    return share
