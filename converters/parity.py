"""The comparison of the torch module with what the original framework computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from converters import samples
from converters.certificate import Certificate
from converters.errors import ParityError

if TYPE_CHECKING:
    from converters.module import ImportedModule

RTOL, ATOL = 1e-4, 1e-5  # |ours - theirs| <= RTOL |theirs| + ATOL max |theirs|
# Where a picture needs more, how far the rounding of float32 moves the torch module itself is measured by running that
# picture in float64; that of one picture does not bound that of another. The original's rounding is of the same size.
# More than MOST_ROUNDING of the maximum is granted to nobody.
ROUNDING, MOST_ROUNDING = 3, 1e-4
# A gradient that only rounding makes, as that of the maximum that a softmax written out takes off: by its own size, the
# activation could not change the score by more than this part of it.
NO_GRADIENT = 1e-6
COSINE = 0.9999  # of the gradients at a tap
NORM = 1e-2  # relative difference of their lengths


@dataclass(frozen=True)
class TapRun:
    """What a run of the reference batch gave at every tap, by the name of its submodule; and output and logits.

    Attributes
    ----------
    activations, channels_last : dict of Tensor (N, S)
        Values at the reference's positions, taking a map as (N, C, H, W), and taking it as (N, H, W, C).
    gradients : dict of Tensor (M, B) or None
        Sketches for the pictures that the reference has differentiated, of the taps before the head whose gradient it
        has; None where no gradient arrived.
    before_head : set of str
        The taps that lead to the logits.
    prediction, logits : Tensor (N, K)
        What the module gives.
    """

    activations: dict[str, Tensor]
    channels_last: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    before_head: set[str]
    prediction: Tensor
    logits: Tensor


class _Taps(fx.Interpreter):
    """Runs a graph and shows what passes through its taps to `see(name, activation)`; needs no hooks."""

    def __init__(self, graph: fx.GraphModule, see: Callable[[str, Tensor], Tensor]) -> None:
        super().__init__(graph)
        self.see = see

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module" and str(n.target).startswith("tap/"):
            result = self.see(str(n.target).removeprefix("tap/"), result)
        return result


def run_taps(module: "ImportedModule", reference: Mapping[str, Tensor], modules: Mapping[str, str]) -> TapRun:
    """Run the reference batch (N, C, H, W) and differentiate sum(logits * direction) at every tap.

    The pictures run one at a time, and what is compared is taken from each tensor as it passes by, so that a large
    model needs the memory of one. `modules` gives the name of the submodule behind `tap/` of each tap.
    """
    tap_of = {name: tap for tap, name in modules.items()}
    recording = _Recording(
        positions={name: reference[f"positions/{tap}"].long() for name, tap in tap_of.items()},
        wanted={
            name: len(reference[f"gradient/{tap}"]) for name, tap in tap_of.items() if f"gradient/{tap}" in reference
        },
        pictures=len(reference["batch"]),
    )
    outputs = [
        recording.run(module, reference["batch"][i : i + 1], reference["direction"][i : i + 1], i)
        for i in range(recording.pictures)
    ]
    return TapRun(
        recording.activations,
        recording.channels_last,
        {name: rows if recording.arrived[name] == len(rows) else None for name, rows in recording.gradients.items()},
        recording.before_head,
        torch.cat([prediction for prediction, _ in outputs]),
        torch.cat([logits for _, logits in outputs]),
    )


class _Recording:
    """What is kept of a run, for all pictures.

    The room for it is taken before the run: small tensors that are made between large ones, and stay, would keep the
    memory of the large ones from being used again (4 GB more for an EfficientNetB7).
    """

    def __init__(self, positions: Mapping[str, Tensor], wanted: Mapping[str, int], pictures: int) -> None:
        self.positions = positions
        self.pictures = pictures
        # NaN agrees with nothing: a tap that is not reached fails the proof
        self.activations = {
            name: torch.full((pictures, len(at)), torch.nan, device="cpu") for name, at in positions.items()
        }
        self.channels_last = {
            name: torch.full((pictures, len(at)), torch.nan, device="cpu") for name, at in positions.items()
        }
        self.gradients = {name: torch.zeros(count, samples.BUCKETS, device="cpu") for name, count in wanted.items()}
        self.arrived = dict.fromkeys(wanted, 0)
        self.before_head: set[str] = set()

    def run(self, module: "ImportedModule", picture: Tensor, direction: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Run the `i`-th picture (1, C, H, W), forward and backward; its prediction and logits."""
        with torch.enable_grad():
            logits = _Taps(module.trunk, lambda name, value: self._see(name, value, i, trunk=True)).run(picture)
            if logits.requires_grad:
                (logits * direction.to(logits.device)).sum().backward()
        with torch.no_grad():
            logits = prediction = logits.detach()
            if module.head is not None:
                prediction = _Taps(module.head, lambda name, value: self._see(name, value, i, trunk=False)).run(logits)
        return prediction.cpu(), logits.cpu()

    def _see(self, name: str, activation: Tensor, i: int, *, trunk: bool) -> Tensor:
        if name not in self.positions:
            return activation
        if trunk:
            self.before_head.add(name)
        flat, chosen = activation.detach().reshape(-1), self.positions[name].to(activation.device)
        if not len(chosen) or int(chosen[-1]) < len(flat):
            self.activations[name][i] = flat[_channels_first_positions(chosen, activation.shape)]
            self.channels_last[name][i] = flat[chosen]
        if name not in self.gradients or i >= len(self.gradients[name]):
            return activation
        # each tap gets a tensor of its own, also behind a layer that hands its input through; what comes before
        # the first one that is wanted runs without autograd. Not by view_as: its gradient has other strides, with
        # which batch_norm of torch 2.15 gives a wrong gradient of a single picture
        own = torch.ops.aten.alias(activation) if activation.requires_grad else activation.detach().requires_grad_()
        own.register_hook(lambda gradient: self._keep_gradient(name, gradient, i))
        return own

    def _keep_gradient(self, name: str, gradient: Tensor, i: int) -> None:
        flat = _in_keras_order(gradient).detach().float().cpu().numpy()
        self.gradients[name][i] = torch.from_numpy(samples.sketch(flat))
        self.arrived[name] += 1


def _channels_first_positions(positions: Tensor, shape: torch.Size) -> Tensor:
    """Positions in flat (H, W, C) tensors, as Keras has them, as positions in flat (C, H, W) ones.

    There are several of one picture where its windows are put into the batch.
    """
    if len(shape) != 4:
        return positions
    _, channels, height, width = shape
    size = channels * height * width
    inside = positions % max(size, 1)
    return positions - inside + inside % channels * (height * width) + inside // channels


def channels_last_taps(run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str]) -> list[str]:
    """The taps whose maps come as (N, H, W, C): channels last fits the reference, channels first does not."""
    return [
        tap
        for tap, name in modules.items()
        if _error(run.channels_last[name], reference[f"activation/{tap}"])
        < _error(run.activations[name], reference[f"activation/{tap}"])
    ]


def run_exactly(
    module: "ImportedModule", reference: Mapping[str, Tensor], modules: Mapping[str, str], picture: int
) -> TapRun:
    """Run one picture of the reference batch in float64, forward only; `module` is changed to float64."""
    forward = {name: tensor for name, tensor in reference.items() if not name.startswith("gradient/")}
    one = {name: reference[name][picture : picture + 1] for name in ("batch", "direction")}
    return run_taps(module.double(), forward | one | {"batch": one["batch"].double()}, modules)


def certify(
    run: TapRun,
    reference: Mapping[str, Tensor],
    modules: Mapping[str, str],
    transposes: int,
    exact: Callable[[int], TapRun] | None = None,
) -> Certificate:
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
    exact : callable, optional
        Gives the run of one picture in float64 (`run_exactly`), by its index. Asked only of pictures that do not keep
        the tolerance for float32, as in networks of several hundred layers.

    Raises
    ------
    ParityError
        Something differs by more than the tolerance, or a reference is constant and proves nothing.
    """
    rounding = _Rounding(run, exact)
    activations = _compare_activations(run, reference, modules, rounding)
    _require_varied("the logits", reference["logits"])
    _require_close("the logits", run.logits, reference["logits"], rounding.of(lambda one: one.logits))
    _require_close("the prediction", run.prediction, reference["prediction"], rounding.of(lambda one: one.prediction))
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
        rounding=rounding.granted,
        torch=torch.__version__,
    )


class _Rounding:
    """How far a run in float32 is from one in float64; that one is made of the pictures that need it."""

    def __init__(self, run: TapRun, exact: Callable[[int], TapRun] | None) -> None:
        self._run = run
        self._exact = None if exact is None else cache(exact)
        self.granted = 0.0

    def of(self, part: Callable[[TapRun], Tensor]) -> Callable[[int], float]:
        """For a part (N, ...) of the run, what is granted to a picture for rounding: `ROUNDING` times its own."""
        return partial(self._granted, part)

    def _granted(self, part: Callable[[TapRun], Tensor], picture: int) -> float:
        if self._exact is None:
            return 0.0
        ours = part(self._run)
        largest = float(ours.abs().max())
        distance = float((ours[picture] - part(self._exact(picture))[0]).abs().max())
        share = min(ROUNDING * distance / max(largest, 1e-30), MOST_ROUNDING)
        self.granted = max(self.granted, share)
        return share * largest


def _compare_activations(
    run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str], rounding: _Rounding
) -> dict[str, float]:
    """Error of each tap, in the order of the computation: the first layer that differs is the one to blame."""
    errors = {}
    for tap, name in modules.items():
        theirs = reference[f"activation/{tap}"]
        ours = run.activations[name]
        if name in run.before_head:
            _require_varied(f"layer call {tap!r}", theirs)
        _require_close(f"layer call {tap!r}", ours, theirs, rounding.of(partial(_activation, name)))
        errors[tap] = _error(ours, theirs)
    return errors


def _activation(name: str, run: TapRun) -> Tensor:
    return run.activations[name]


def _compare_gradients(run: TapRun, reference: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, float]:
    """Cosine at each tap, from the last to the first, as the gradient flows."""
    cosines = {}
    score = float((reference["logits"] * reference["direction"]).abs().max())
    for tap, name in reversed(list(modules.items())):
        if f"gradient/{tap}" not in reference:
            continue
        ours = run.gradients.get(name)
        if ours is None:
            raise ParityError(f"layer call {tap!r}: no gradient arrives, though it does in the original")
        largest = float(reference[f"activation/{tap}"].abs().max())
        nothing = NO_GRADIENT * score / largest if largest else 0.0
        cosines[tap] = _gradient_cosine(tap, ours.flatten(), reference[f"gradient/{tap}"].flatten(), nothing)
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


def _require_close(what: str, ours: Tensor, theirs: Tensor, rounding: Callable[[int], float]) -> None:
    """`rounding` gives what is granted beside the tolerance to a picture, by its index."""
    if ours.shape != theirs.shape:
        raise ParityError(f"{what}: shape {tuple(ours.shape)} in torch, {tuple(theirs.shape)} in the original")
    excess = ((ours - theirs).abs() - RTOL * theirs.abs()).flatten(1).amax(1) - ATOL * theirs.abs().max()
    for picture in (~(excess <= 0)).nonzero().flatten().tolist():
        granted = rounding(picture)
        if not float(excess[picture]) <= granted:
            share = granted / float(theirs.abs().max().clamp_min(torch.finfo(torch.float32).tiny))
            also = f" + {share:.0e} of the maximum for the rounding of float32" if granted else ""
            raise ParityError(
                f"{what} differs from the original by {_error(ours, theirs):.1e} of its maximum "
                f"(allowed: {RTOL:g} of the value + {ATOL:g} of the maximum{also})"
            )


def _gradient_cosine(tap: str, ours: Tensor, theirs: Tensor, nothing: float) -> float:
    """Lengths of up to `nothing` on both sides are rounding, whose direction means nothing."""
    ours, theirs = ours.double(), theirs.double()
    if not torch.isfinite(ours).all():
        raise ParityError(f"layer call {tap!r}: NaN or infinity in the gradient")
    lengths = float(ours.norm()), float(theirs.norm())
    if lengths == (0.0, 0.0):
        return 1.0
    cosine = float(ours @ theirs / (ours.norm() * theirs.norm()).clamp_min(torch.finfo(torch.float64).tiny))
    agree = cosine > COSINE and abs(lengths[0] - lengths[1]) <= NORM * lengths[1]
    if not agree and max(lengths) <= nothing:
        return 1.0
    if not agree:
        raise ParityError(
            f"layer call {tap!r}: the gradient differs from the original's: cosine {cosine:.6f} "
            f"(expected over {COSINE}), lengths {lengths[0]:.4g} and {lengths[1]:.4g}"
        )
    return cosine
