"""Ask other libraries the same question, and compare the answers."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchcam_suite import images as pictures
from torchcam_suite.cam import METHODS, finish, make_method
from torchcam_suite.crosscheck import by_captum, by_pytorch_grad_cam, by_torch_cam
from torchcam_suite.crosscheck.peer import ANY, NotComparable, Peer
from torchcam_suite.crosscheck.result import Comparison, CrossCheck
from torchcam_suite.crosscheck.subject import Subject, make_subject
from torchcam_suite.errors import MissingLibraryError, SourceError, TorchcamError
from torchcam_suite.explain import explain
from torchcam_suite.explanation import Explanation
from torchcam_suite.metrics.agreement import rank_correlations, relative_errors, top_overlaps
from torchcam_suite.models import Model
from torchcam_suite.progress import progress_bar
from torchcam_suite.recorder import Recorder
from torchcam_suite.targets import Target, Targets, resolve


class Library(NamedTuple):
    """Where a library comes from, and what it computes."""

    module: str
    package: str
    peers: list[Peer]


LIBRARIES = {
    "captum": Library("captum", "captum", by_captum.PEERS),
    "pytorch-grad-cam": Library("pytorch_grad_cam", "grad-cam", by_pytorch_grad_cam.PEERS),
    "torch-cam": Library("torchcam", "torchcam", by_torch_cam.PEERS),
}

SLOW = "many forwards"
BESIDE_ANY = "gradcam"
ROUNDING_OF_HALF = {torch.bfloat16: 5e-2, torch.float16: 1e-2}  # 8 and 11 bits


def crosscheck(
    model: Model,
    images: Any,
    *,
    layer: str | None = None,
    target: Target = None,
    methods: Sequence[str] | str | None = None,
    libraries: Sequence[str] | str | None = None,
    progress: bool = False,
) -> CrossCheck:
    """Ask Captum, pytorch-grad-cam and torch-cam the same question, and compare the answers.

    Where a method has the same definition there, the difference has to be rounding. Where it has another one, the rank
    correlation and the overlap of the highest 20 % of the pixels say how far apart the two are, and a picture shows it;
    docs/differences.md explains each difference. Captum's Saliency, Integrated Gradients and Occlusion explain the
    pixels and have no counterpart here: they stand beside each method that is named, or beside Grad-CAM.

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
        Keys of `torchcam_suite.cam.METHODS`. Default: all but those of many forward passes.
        Captum's Occlusion (some 200 passes) and Integrated Gradients (50) run in any case.
    libraries : sequence of {"captum", "pytorch-grad-cam", "torch-cam"}, optional
        Whom to ask. Default: all that are installed.
    progress : bool
        Whether a bar on stderr shows how far it is.

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
        An unknown method or library.

    Examples
    --------
    >>> from torch import nn
    >>> from torchcam_suite import load
    >>> _ = torch.manual_seed(1)
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    >>> found = crosscheck(model, torch.rand(3, 1, 8, 8), target=1, methods=["gradcam"], libraries=["captum"])
    >>> [(row.theirs, row.result) for row in found.rows]
    [('LayerGradCam', 'same'), ('Saliency', 'other'), ('IntegratedGradients', 'other'), ('Occlusion', 'other')]
    """
    if not isinstance(model, Model):
        raise SourceError(f"crosscheck takes a Model, not a {type(model).__name__}; open it first: load(...)")
    libraries = [libraries] if isinstance(libraries, str) else libraries
    asked = _installed(libraries)
    wanted = _peers(asked, methods)
    layer = layer or model.default_layer
    prepared = model.prepare(images)
    if model.layers[layer].map_shape is None:
        explain(model, prepared[:1], layer=layer)  # says why it cannot
    with Recorder(model.module) as recorder:
        logits = recorder.run(model.logits, prepared)
    targets = resolve(target, logits, model.class_names)
    run = _Run(model, prepared, layer, targets, logits.shape[1])
    with progress_bar("crosscheck") if progress else nullcontext() as bar:
        for number, (library, peer, method) in enumerate(wanted):
            run.compare(library, peer, method)
            if bar is not None:
                bar(number + 1, len(wanted))
    return CrossCheck(
        rows=tuple(run.rows),
        left_out=tuple(dict.fromkeys(run.left_out)),
        model=model.name,
        layer=layer,
        images=_names(images, len(prepared)),
        target_names=targets.names,
        versions={name: _version(name) for name in (asked if libraries else LIBRARIES)},
        pictures=_seen(model, images, prepared),
    )


@dataclass
class _Run:
    """One question, and the answers so far."""

    model: Model
    images: Tensor
    layer: str
    targets: Targets
    logits: int
    rows: list[Comparison] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    _ours: dict[tuple[str, str], Explanation | TorchcamError] = field(default_factory=dict)

    def compare(self, library: str, peer: Peer, method: str) -> None:
        """Add a row, or say why there is none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other libraries; an empty map is told by the row
            ours = self._explained(method, peer)
            if isinstance(ours, TorchcamError):
                self.left_out.append((method, str(ours)))
                return
            try:
                self.rows.append(self._compared(library, peer, ours))
            except NotComparable as reason:
                self.left_out.append((f"{library} {peer.name}", str(reason)))
            except Exception as error:  # whatever another library raises is no reason to lose the other rows
                self.left_out.append((f"{library} {peer.name}", f"{type(error).__name__}: {error}"))

    def _explained(self, method: str, peer: Peer) -> Explanation | TorchcamError:
        key = method, repr(peer.options)
        if key not in self._ours:
            try:
                self._ours[key] = explain(
                    self.model,
                    self.images,
                    method=method,
                    layer=self.layer if METHODS[method].takes_layer else None,
                    target=self._target,
                    batch_size=len(self.images),
                    **peer.options,
                )
            except TorchcamError as error:
                self._ours[key] = error
        return self._ours[key]

    @property
    def _target(self) -> Target:
        return self.targets.function if self.targets.classes is None else self.targets.classes

    def _compared(self, library: str, peer: Peer, ours: Explanation) -> Comparison:
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
            torch.manual_seed(0)  # for methods that draw noise
            theirs = peer.compute(self._subject()).detach().to(self.images.device)
            difference = peer.difference if isinstance(peer.difference, str) else peer.difference(self._subject())
        found: Tensor = getattr(ours, peer.compared)
        errors = relative_errors(found, theirs)
        if peer.either_sign:
            turned = relative_errors(found, -theirs)
            signs = [1 if error <= other else -1 for error, other in zip(errors, turned, strict=True)]
            theirs = theirs * torch.tensor(signs, device=theirs.device)[:, None, None]
            errors = tuple(map(min, errors, turned))
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
            tolerance=max(peer.rounding, ROUNDING_OF_HALF.get(self.images.dtype, 0)),
            errors=errors,
            rank_correlations=rank_correlations(our_maps, their_maps),
            top_overlaps=top_overlaps(our_maps, their_maps),
            our_maps=our_maps,
            their_maps=their_maps,
        )

    def _subject(self) -> Subject:
        # a fresh one for each: some change the module that they explain
        return make_subject(self.model, self.layer, self.images, self.targets, self.logits)


def _before_scaling(errors: tuple[float, ...], raw: Tensor) -> tuple[float, ...]:
    """Errors of maps scaled by minimum and maximum, as shares of the largest value before.

    Where a map is nearly constant, that scaling turns its last digits into the whole range.
    """
    rectified = raw.relu().flatten(1)
    largest, smallest = rectified.amax(dim=1), rectified.amin(dim=1)
    spans = torch.where(largest > 0, (largest - smallest) / largest, 1)
    return tuple(error * span for error, span in zip(errors, spans.tolist(), strict=True))


def _installed(libraries: Sequence[str] | None) -> list[str]:
    for name in libraries or ():
        if name not in LIBRARIES:
            raise ValueError(f"library {name!r} is not known; expected one of {', '.join(LIBRARIES)}")
    missing = [name for name in libraries or LIBRARIES if find_spec(LIBRARIES[name].module) is None]
    found = [name for name in libraries or LIBRARIES if name not in missing]
    if not found or (libraries and missing):
        packages = " ".join(LIBRARIES[name].package for name in missing)
        raise MissingLibraryError(
            f"{' and '.join(missing)} cannot be asked, because it is not installed: pip install {packages}, or all "
            "with pip install 'torchcam-suite[crosscheck]'"
        )
    return found


def _peers(libraries: Sequence[str], methods: Sequence[str] | str | None) -> list[tuple[str, Peer, str]]:
    """Library, its method, and ours."""
    named = [] if methods is None or methods == "all" else [methods] if isinstance(methods, str) else list(methods)
    for name in named:
        make_method(name, {})  # says so, and which are near, where one does not exist
    wanted = named or [name for name, method in METHODS.items() if methods == "all" or method.cost != SLOW]
    beside_any = named or [BESIDE_ANY]
    return [
        (library, peer, method)
        for library in libraries
        for peer in LIBRARIES[library].peers
        for method in (beside_any if peer.ours == ANY else [peer.ours])
        if method in wanted
    ]


def _version(library: str) -> str | None:
    try:
        return version(LIBRARIES[library].package)
    except PackageNotFoundError:
        return None


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
