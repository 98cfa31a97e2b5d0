"""Ask other libraries the same question, and compare the answers."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchcam_suite import images as pictures
from torchcam_suite.cam import METHODS, finish
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.crosscheck.libraries import LIBRARIES, Pairing, choose_peers, installed, version_of
from torchcam_suite.crosscheck.peer import Peer
from torchcam_suite.crosscheck.result import Comparison, CrossCheck, Interrupted
from torchcam_suite.crosscheck.subject import NotComparable, Subject, make_subject
from torchcam_suite.errors import SourceError, TorchcamError
from torchcam_suite.explain import explain
from torchcam_suite.explanation import Explanation
from torchcam_suite.grids import Reshape, make_reshape
from torchcam_suite.metrics.agreement import rank_correlations, relative_errors, top_overlaps
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.recorder import Recorder
from torchcam_suite.targets import Target, Targets, resolve

ROUNDING_OF_HALF = {torch.bfloat16: 5e-2, torch.float16: 1e-2}  # 8 and 11 bits


def crosscheck(
    model: Model,
    images: Any,
    *,
    layer: str | None = None,
    target: Target = None,
    methods: Sequence[str] | str | None = None,
    libraries: Sequence[str] | str | None = None,
    slow: bool = False,
    reshape: Any = None,
    progress: bool | Progress = False,
) -> CrossCheck:
    """Ask Captum, pytorch-grad-cam and torch-cam the same question, and compare the answers.

    Where a method has the same definition there, the difference has to be rounding. Where it has another one, the rank
    correlation and the overlap of the highest 20 % of the pixels say how far apart the two are, and a picture shows it;
    docs/differences.md explains each difference. Captum's Saliency, IntegratedGradients and Occlusion explain the
    pixels and have no counterpart here: they stand beside each of our methods that is named, or beside Grad-CAM.

    The other libraries explain a copy of the module that shares its weights, so that nothing of theirs is left on it:
    no hooks, no gradients, no exchanged layers.

    Parameters
    ----------
    model : Model
        From `load`.
    images : as for `Model.prepare`
        A few; they are explained together.
    layer : str, optional
        A name from `model.layers`; default `model.default_layer`.
    target : as for `torchcam_suite.explain`
        What is explained.
    methods : sequence of str or "all", optional
        Keys of `torchcam_suite.cam.METHODS`, or "Saliency", "IntegratedGradients" and "Occlusion". Default: all that
        are quick.
    libraries : sequence of {"captum", "pytorch-grad-cam", "torch-cam"}, optional
        Whom to ask. Default: all that are installed.
    slow : bool
        Whether methods of tens to thousands of passes an image run though they are not named: IntegratedGradients (50)
        and Occlusion (some 230), and those beside Score-CAM, Ablation-CAM, SS-CAM and IS-CAM.
    reshape : as for `torchcam_suite.explain`, optional
        How the layer's output is feature maps. The other libraries see these too, if the function does no more than
        rearrange and leave out.
    progress : bool or function
        True says on stderr what is being compared, by a bar in a terminal, else by a line each; a function is called
        as ``progress(done, total)`` before each method of another library, and at the end.

    Returns
    -------
    CrossCheck
        Prints as a table; `failed` has what differs by more than rounding: 1e-4 of the largest value (1e-3 in
        Ablation-CAM, made of small differences of scores, and in guided gradients, which go through all layers), in
        half precision 1e-2 (fp16) and 5e-2 (bf16).

    Raises
    ------
    MissingLibraryError
        A library that was named, or each of them, is not installed.
    LayerError, TargetError, ImageError
        What does not fit the model.
    ValueError
        An unknown method or library, or a `reshape` that is no function.
    Interrupted
        Ctrl-C; its `found` has what was compared until then.

    Examples
    --------
    >>> from torch import nn
    >>> from torchcam_suite import load
    >>> _ = torch.manual_seed(1)
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    >>> found = crosscheck(model, torch.rand(3, 1, 8, 8), target=1, methods=["gradcam"], libraries=["captum"])
    >>> [(row.theirs, row.result) for row in found.rows]
    [('LayerGradCam', 'same'), ('Saliency', 'other')]
    """
    if not isinstance(model, Model):
        raise SourceError(f"crosscheck takes a Model, not a {type(model).__name__}; open it first: load(...)")
    libraries = [libraries] if isinstance(libraries, str) else libraries
    asked = installed(libraries)
    wanted, left = choose_peers(asked, methods, slow=slow)
    run = _prepared(model, images, layer or model.default_layer, target, reshape)

    versions = {name: version_of(name) for name in (asked if libraries else LIBRARIES)}
    try:
        run.compare_all(wanted, progress)
    except KeyboardInterrupt as stop:
        raise Interrupted(_found(run, images, left, versions)) from stop
    return _found(run, images, left, versions)


def _prepared(model: Model, images: Any, layer: str, target: Target, reshape: Any) -> "_Run":
    given = None if reshape is None else make_reshape(reshape)
    prepared = model.prepare(images)
    if given is not None or model.layers[layer].map_shape is None:
        explain(model, prepared[:1], method="randommap", layer=layer, reshape=reshape)  # says why it cannot
    with Recorder(model.module) as recorder:
        logits = recorder.run(model.logits, prepared)
    return _Run(model, prepared, layer, given, resolve(target, logits, model.class_names), logits.shape[1])


def _found(run: "_Run", images: Any, left: Sequence[Pairing], versions: dict[str, str | None]) -> CrossCheck:
    return CrossCheck(
        rows=tuple(run.rows),
        left_out=tuple(dict.fromkeys(run.left_out)),
        not_run=tuple((one.theirs, one.asked_by) for one in left),
        model=run.model.name,
        layer=run.layer,
        reshape=None if run.reshape is None else run.reshape.name,
        images=_names(images, len(run.images)),
        target_names=run.targets.names,
        versions=versions,
        pictures=_seen(run.model, images, run.images),
    )


@dataclass
class _Run:
    """One question, and the answers so far."""

    model: Model
    images: Tensor
    layer: str
    reshape: Reshape | None
    targets: Targets
    logits: int
    rows: list[Comparison] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    _ours: dict[tuple[str, str], Explanation | TorchcamError] = field(default_factory=dict)
    _theirs: dict[tuple[str, str, str], tuple[Tensor, str]] = field(default_factory=dict)

    def compare_all(self, wanted: Sequence[Pairing], progress: bool | Progress) -> None:
        """Add a row for each, or say why there is none."""
        reached = 0
        try:
            for reached, pairing in enumerate(wanted):
                with _announced(pairing, reached, len(wanted), progress):
                    self._compare(pairing)
        except KeyboardInterrupt:
            self.left_out += [(one.theirs, "interrupted") for one in wanted[reached:]]
            raise
        if callable(progress):
            progress(len(wanted), len(wanted))

    def _compare(self, pairing: Pairing) -> None:
        library, peer, method = pairing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other libraries; an empty map is told by the row
            ours = self._explained(method, peer)
            if isinstance(ours, TorchcamError):
                self.left_out.append((method, str(ours)))
                return
            try:
                self.rows.append(self._compared(library, peer, ours))
            except NotComparable as reason:
                self.left_out.append((pairing.theirs, str(reason)))
            except Exception as error:  # whatever another library raises is no reason to lose the other rows
                self.left_out.append((pairing.theirs, f"{type(error).__name__}: {error}".removesuffix(": ")))

    def _explained(self, method: str, peer: Peer) -> Explanation | TorchcamError:
        key = method, repr(peer.options)
        if key not in self._ours:
            where = {"layer": self.layer, "reshape": self._functions} if METHODS[method].takes_layer else {}
            try:
                self._ours[key] = explain(
                    self.model,
                    self.images,
                    method=method,
                    target=self._target,
                    batch_size=len(self.images),
                    **where,
                    **peer.options,
                )
            except TorchcamError as error:
                self._ours[key] = error
        return self._ours[key]

    @property
    def _target(self) -> Target:
        return self.targets.function if self.targets.classes is None else self.targets.classes

    @property
    def _functions(self) -> Any:
        """As the user gave them."""
        given = self.reshape
        if given is None:
            return None
        return given.to_maps if given.to_tokens is None else (given.to_maps, given.to_tokens)

    def _compared(self, library: str, peer: Peer, ours: Explanation) -> Comparison:
        theirs, difference = self._computed(library, peer)
        found: Tensor = getattr(ours, peer.compared)
        errors = relative_errors(found, theirs)
        if peer.either_sign:
            turned = relative_errors(found, -theirs)
            signs = [1 if error <= other else -1 for error, other in zip(errors, turned, strict=True)]
            theirs = theirs * torch.tensor(signs, device=theirs.device)[:, None, None]
            errors = tuple(map(min, errors, turned))
        tolerance = max(peer.rounding, ROUNDING_OF_HALF.get(self.images.dtype, 0))
        difference = difference or _too_small(ours.raw, peer.added, tolerance)
        if peer.options.get("normalize") == "minmax":
            errors = _before_scaling(errors, ours.raw)
        size = (self.images.shape[2], self.images.shape[3])
        their_maps = finish(theirs, size, relu="before", normalize="max").maps
        our_maps = finish(found, size, relu="before", normalize="max").maps
        return Comparison(
            method=ours.method,
            options=dict(peer.options),
            library=library,
            theirs=peer.name,
            difference=difference,
            tolerance=tolerance,
            errors=errors,
            rank_correlations=rank_correlations(our_maps, their_maps),
            top_overlaps=top_overlaps(our_maps, their_maps),
            our_maps=our_maps,
            their_maps=their_maps,
        )

    def _computed(self, library: str, peer: Peer) -> tuple[Tensor, str]:
        """Their maps, and what is defined in another way; once where they stand beside several methods of ours."""
        key = library, peer.name, peer.ours
        if key not in self._theirs:
            with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
                torch.manual_seed(0)  # for methods that draw noise
                maps = peer.compute(self._subject()).detach().to(self.images.device)
                told = peer.difference if isinstance(peer.difference, str) else peer.difference(self._subject())
            self._theirs[key] = maps, told
        return self._theirs[key]

    def _subject(self) -> Subject:
        # a fresh one for each: some change the module that they explain
        return make_subject(self.model, self.layer, self.images, self.targets, self.logits, self.reshape)


@contextmanager
def _announced(pairing: Pairing, done: int, total: int, progress: bool | Progress) -> Iterator[None]:
    """Say what is being compared, where that is wanted."""
    if progress is True and not sys.stderr.isatty():
        print(f"{done + 1} of {total}: {pairing}", file=sys.stderr, flush=True)
    with reporting(pairing.theirs, progress) as report:
        if report is not None:
            report(done, total)
        yield


def _before_scaling(errors: tuple[float, ...], raw: Tensor) -> tuple[float, ...]:
    """Errors of maps scaled by minimum and maximum, as shares of the largest value before.

    Where a map is nearly constant, that scaling turns its last digits into the whole range.
    """
    rectified = raw.relu().flatten(1)
    largest, smallest = rectified.amax(dim=1), rectified.amin(dim=1)
    spans = torch.where(largest > 0, (largest - smallest) / largest, 1)
    return tuple(error * span for error, span in zip(errors, spans.tolist(), strict=True))


def _too_small(raw: Tensor, added: float, tolerance: float) -> str:
    """Tell of maps whose largest value is so small that what is added to it counts."""
    rectified = raw.relu().flatten(1)
    spans = rectified.amax(dim=1) - rectified.amin(dim=1)
    # the second division makes up for what the first one lost, down to maps that are far below what is added
    if not bool(((spans > 0) & (added * (1 + added / spans) > tolerance / 2)).any()):
        return ""
    number = f"{added:.0e}".replace("e-0", "e-")
    return f"{number} is added to the largest value by which it divides a map, and here that value is not much larger"


def _names(images: Any, count: int) -> tuple[str, ...]:
    listed = [None] * count if isinstance(images, Tensor) else pictures.as_list(images)
    return tuple(str(item) if isinstance(item, str | Path) else f"image {i}" for i, item in enumerate(listed))


def _seen(model: Model, images: Any, prepared: Tensor) -> tuple[np.ndarray, ...]:
    if not isinstance(images, Tensor):
        opened = [pictures.open_picture(item) for item in pictures.as_list(images)]
        return tuple(np.asarray(pictures.region(picture, model.preprocessing)) for picture in opened)
    return tuple(_as_picture(image) for image in prepared)


def _as_picture(image: Tensor) -> np.ndarray:
    """What a tensor that was ready for the model shows: its range is not known, so it is stretched to 0 to 255."""
    channels = image if len(image) == 3 else image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    low, high = channels.amin(), channels.amax()
    unit = (channels - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny)
    return np.asarray((unit.float() * 255).round().byte().permute(1, 2, 0).cpu())
