"""The proof that the torch module computes what the original framework computed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from converters.errors import ParityError

if TYPE_CHECKING:
    from converters.module import ImportedModule

RTOL, ATOL = 1e-4, 1e-5  # |ours - theirs| <= RTOL |theirs| + ATOL max |theirs|
COSINE = 0.9999  # of the gradients at a tap
# A ReLU whose input is zero but for rounding lets the gradient through in one framework and not in the other.
# One such position among the samples would fail a correct model, so the worst are left out, as many as 0.1 % of
# the positions with a gradient, if they hold less than 1 % of its energy; a gradient that is wrong is wrong in
# far more of them.
FLIPPED = 0.001
NORM = 1e-2  # relative difference of their lengths


@dataclass(frozen=True)
class Certificate:
    """How far the torch module is from the original, on the reference batch.

    Errors are `max |ours - theirs| / max |theirs|`.

    Attributes
    ----------
    prediction, logits : float
        Error of the output and of the logits.
    taps : int
        Layer calls that were compared.
    worst_tap, worst_activation : str, float
        The layer call with the largest error, and that error.
    gradients : int
        Layer calls whose gradient was compared; the others have none (behind the head, or no path to it).
    worst_gradient, worst_cosine : str, float
        The layer call whose gradient agrees least, and the cosine of the angle between both gradients, the
        0.1 % of positions that differ most left out (`FLIPPED`).
    runtime_transposes : int
        Activations that are transposed at run time.
    torch : str
        Version of torch that computed it.
    """

    prediction: float
    logits: float
    taps: int
    worst_tap: str
    worst_activation: float
    gradients: int
    worst_gradient: str
    worst_cosine: float
    runtime_transposes: int
    torch: str

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TapRun:
    """Activations and gradients of every tap, by tap name; and output and logits."""

    activations: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    prediction: Tensor
    logits: Tensor


class _Taps(fx.Interpreter):
    """Runs a graph and keeps what passes through its taps; needs no hooks."""

    def __init__(self, graph: fx.GraphModule, kept: dict[str, Tensor]) -> None:
        super().__init__(graph)
        self.kept = kept

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module" and str(n.target).startswith("tap/"):
            # taps of layers that hand their input through share one tensor: give each its own
            result = self.kept[str(n.target).removeprefix("tap/")] = result.view_as(result)
        return result


def run_taps(module: "ImportedModule", reference: Mapping[str, Tensor]) -> TapRun:
    """Run the reference batch (N, C, H, W) and differentiate sum(logits * direction) at every tap."""
    batch, direction = reference["batch"], reference["direction"]
    activations: dict[str, Tensor] = {}
    with torch.enable_grad():
        logits = _Taps(module.trunk, activations).run(batch.clone().requires_grad_(True))
        before_head = list(activations)
        score = (logits * direction).sum()
        gradients = torch.autograd.grad(score, [activations[tap] for tap in before_head], allow_unused=True)
    with torch.no_grad():
        logits = logits.detach()
        prediction = logits if module.head is None else _Taps(module.head, activations).run(logits)
    return TapRun(
        {tap: activation.detach() for tap, activation in activations.items()},
        dict(zip(before_head, gradients, strict=True)),
        prediction,
        logits,
    )


def channels_last_taps(run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str]) -> list[str]:
    """The taps whose maps come as (N, H, W, C): channels last fits the reference, channels first does not."""
    found = []
    for tap, name in modules.items():
        activation = run.activations[name]
        if activation.dim() == 4:
            theirs, positions = reference[f"activation/{tap}"], reference[f"positions/{tap}"].long()
            first, last = (_in_keras_order(activation), activation.reshape(-1))
            if _error(last[positions], theirs) < _error(first[positions], theirs):
                found.append(tap)
    return found


def certify(run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str], transposes: int) -> Certificate:
    """Compare a run of the module with the stored reference at the output, the logits, every tap and gradient.

    Parameters
    ----------
    run : TapRun
        Of the reference batch, on the CPU, where the reference was computed.
    reference : mapping
        What `converters.tracing.reference` wrote.
    modules : mapping
        For each tap of the layer table the name of the submodule behind `tap/`.
    transposes : int
        Activations transposed at run time, to be reported.

    Raises
    ------
    ParityError
        Something differs by more than the tolerance, or a reference is constant and proves nothing.
    """
    activations = _compare_activations(run, reference, modules)
    _require_varied("the logits", reference["logits"])
    _require_close("the logits", run.logits, reference["logits"])
    _require_close("the prediction", run.prediction, reference["prediction"])
    if not torch.equal(run.logits.argmax(1), reference["logits"].argmax(1)):
        raise ParityError("the top class of the reference batch differs from the original's")
    cosines = _compare_gradients(run, reference, modules)
    worst, least = max(activations, key=activations.__getitem__), min(cosines, key=cosines.__getitem__)
    return Certificate(
        prediction=_error(run.prediction, reference["prediction"]),
        logits=_error(run.logits, reference["logits"]),
        taps=len(activations),
        worst_tap=worst,
        worst_activation=activations[worst],
        gradients=len(cosines),
        worst_gradient=least,
        worst_cosine=cosines[least],
        runtime_transposes=transposes,
        torch=torch.__version__,
    )


def _compare_activations(run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, float]:
    """Error of each tap, in the order of the computation: the first layer that differs is the one to blame."""
    errors = {}
    for tap, name in modules.items():
        theirs = reference[f"activation/{tap}"]
        ours = _in_keras_order(run.activations[name])[reference[f"positions/{tap}"].long()]
        if name in run.gradients:
            _require_varied(f"layer call {tap!r}", theirs)
        _require_close(f"layer call {tap!r}", ours, theirs)
        errors[tap] = _error(ours, theirs)
    return errors


def _compare_gradients(run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, float]:
    """Cosine at each tap, from the last to the first, as the gradient flows."""
    cosines = {}
    for tap, name in reversed(list(modules.items())):
        if f"gradient/{tap}" not in reference:
            continue
        gradient = run.gradients.get(name)
        if gradient is None:
            raise ParityError(f"layer call {tap!r}: no gradient arrives, though it does in the original")
        ours = _in_keras_order(gradient)[reference[f"positions/{tap}"].long()]
        cosines[tap] = _gradient_cosine(tap, ours, reference[f"gradient/{tap}"])
    if not cosines:
        raise ParityError("no layer call has a reference gradient: nothing was proved about gradients")
    return cosines


def _in_keras_order(tensor: Tensor) -> Tensor:
    """Flat, a map (N, C, H, W) in the order of Keras, (N, H, W, C)."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)


def _error(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _require_varied(what: str, theirs: Tensor) -> None:
    if not torch.isfinite(theirs).all():
        raise ParityError(f"{what}: the original itself gives NaN or infinity on the reference batch")
    if len(theirs) > 1 and torch.equal(theirs, theirs[:1].expand_as(theirs)):
        raise ParityError(
            f"{what}: the original gives the same value everywhere on the reference batch "
            f"({float(theirs.flatten()[0]):g}), which proves nothing; is this an untrained or dead network?"
        )


def _require_close(what: str, ours: Tensor, theirs: Tensor) -> None:
    if ours.shape != theirs.shape:
        raise ParityError(f"{what}: shape {tuple(ours.shape)} in torch, {tuple(theirs.shape)} in the original")
    bound = RTOL * theirs.abs() + ATOL * theirs.abs().max()
    if not bool(((ours - theirs).abs() <= bound).all()):
        raise ParityError(
            f"{what} differs from the original by {_error(ours, theirs):.1e} of its maximum "
            f"(allowed: {RTOL:g} of the value + {ATOL:g} of the maximum)"
        )


def _gradient_cosine(tap: str, ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.double(), theirs.double()
    if not torch.isfinite(ours).all():
        raise ParityError(f"layer call {tap!r}: NaN or infinity in the gradient")
    order = (ours - theirs).abs().argsort()
    steady = order[: len(order) - int(FLIPPED * int(theirs.count_nonzero()))]
    if theirs[steady].square().sum() >= 0.99 * theirs.square().sum():
        ours, theirs = ours[steady], theirs[steady]
    lengths = float(ours.norm()), float(theirs.norm())
    if lengths == (0.0, 0.0):
        return 1.0
    cosine = float(ours @ theirs / (ours.norm() * theirs.norm()).clamp_min(torch.finfo(torch.float64).tiny))
    if not cosine > COSINE or abs(lengths[0] - lengths[1]) > NORM * lengths[1]:
        raise ParityError(
            f"layer call {tap!r}: the gradient differs from the original's: cosine {cosine:.6f} "
            f"(expected over {COSINE}), lengths {lengths[0]:.4g} and {lengths[1]:.4g}"
        )
    return cosine
