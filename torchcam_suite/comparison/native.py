"""A Keras checkpoint that runs in Keras itself, to stand beside the imported one."""

from collections.abc import Mapping, Sequence
from inspect import isgeneratorfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchcam_suite.cam import METHODS, Chosen, Method, finish
from torchcam_suite.comparison.pictures import class_count
from torchcam_suite.errors import GradientError, HeadError, LayerError, SourceError, TargetError
from torchcam_suite.explain import ZERO_MAP
from torchcam_suite.explanation import Explanation
from torchcam_suite.grids import Grid
from torchcam_suite.models import Model
from torchcam_suite.provenance import about_model, versions
from torchcam_suite.sources import load
from torchcam_suite.targets import Target, resolve

if TYPE_CHECKING:
    from converters.native import NativeImage, NativeRun

# converters is imported where it is used, as everywhere in this package

PREFIX = "keras:"
_TAKEN = {"activations", "gradients"}


class NativeKeras:
    """A Keras checkpoint whose maps and predictions Keras computes, in a process of its own.

    Made by `load_native`. Forward pass and gradients are those of Keras and of TensorFlow's GradientTape; a method is
    the same pure function of them that an imported model gets. What is known of the model (its input, preprocessing,
    class names, and the table in which layers are found) is that of the imported one.

    Attributes
    ----------
    model : Model
        The imported checkpoint.
    name : str
        For titles.
    """

    def __init__(self, model: Model, checkpoint: Any, options: Any, timeout: float | None) -> None:
        self.model = model
        self.name = f"{model.name} in Keras"
        self._checkpoint, self._options, self._timeout = checkpoint, options, timeout

    def __repr__(self) -> str:
        return f"NativeKeras({self.model.name!r}, {self._checkpoint.flavour})"

    def explain(
        self, images: Tensor, chosen: Sequence[Chosen], layers: Sequence[str], target: Target
    ) -> tuple[Tensor, Tensor, dict[tuple[str, str], Explanation]]:
        """Explain a batch by several methods at several layers, in one run.

        Parameters
        ----------
        images : Tensor
            (N, C, H, W), ready for the model.
        chosen : sequence of Chosen
            Methods that `require_native` lets through, with their options.
        layers : sequence of str
            Names from `model.layers`.
        target : as for `torchcam_suite.explain`
            But no function.

        Returns
        -------
        Tensor, Tensor
            (N, K) each, Keras' own prediction, and its logits.
        dict of (str, str) to Explanation
            By method and layer.
        """
        from converters.native import run_natively
        from converters.worker import TIMEOUT

        taps = {layer: self._tap(layer) for layer in layers}
        run: dict[str, Any] = {"of": sorted({one.of for one in chosen}), "options": self._options}
        timeout = TIMEOUT + 10 * len(images) if self._timeout is None else self._timeout
        run |= {"classes": self._classes(target, len(images)), "timeout": timeout}
        pixels = images.detach().float().cpu().numpy()
        with run_natively(self._checkpoint, pixels, list(taps.values()), **run) as done:
            found = _maps(done, chosen, taps, self.model)
        prediction, logits = torch.cat(found.predictions), torch.cat(found.logits)
        resolved = resolve(found.targets, logits, self.model.class_names)
        explanations = {}
        for (method, layer), parts in found.raw.items():
            one = next(one for one in chosen if one.method.name == method)
            scores = resolved.score(logits, self.model.to_probabilities, one.of)
            explanations[method, layer] = self._explanation(
                torch.cat(parts), one, layer, resolved.names, found.targets, scores, prediction, done.versions
            )
        return prediction, logits, explanations

    def _tap(self, layer: str) -> str:
        self.model.layers.site(layer)
        return layer if layer not in self.model.layers.names else f"{layer}#0"

    def _classes(self, target: Target, count: int) -> list[int] | None:
        if target is None:
            return None
        if callable(target):
            raise TargetError(
                f"{self.name} runs in a process of its own, to which a function cannot be sent; give classes as the "
                "target"
            )
        unknown = torch.zeros(count, class_count(self.model), device="cpu")
        classes = resolve(target, unknown, self.model.class_names).classes
        return None if classes is None else classes.tolist()

    def _explanation(
        self,
        raw: Tensor,
        chosen: Chosen,
        layer: str,
        names: tuple[str, ...],
        targets: list[int],
        scores: Tensor,
        prediction: Tensor,
        packages: Mapping[str, str],
    ) -> Explanation:
        rules: dict[str, Any] = {"relu": chosen.relu, "normalize": chosen.normalize}
        finished = finish(raw, self.model.input[1:], interpolation=chosen.interpolation, **rules)
        return Explanation(
            maps=finished.maps,
            raw=finished.raw,
            targets=tuple(targets),
            target_names=names,
            scores=scores,
            probabilities=probability_of(prediction, targets) if self.model.head != "none" else None,
            flags=tuple((ZERO_MAP,) if zero else () for zero in finished.zero.tolist()),
            layer=layer,
            method=chosen.method.name,
            options=chosen.options,
            of=chosen.of,
            details={},
            model=about_model(self.model) | {"name": self.name, "framework": self._checkpoint.flavour},
            versions=versions() | dict(packages) | {"device": "cpu"},
            images=tuple(f"image {i}" for i in range(len(raw))),
        )


def load_native(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    input: str | None = None,
    output: str | None = None,
    custom: Sequence[str] = (),
    timeout: float | None = None,
    **options: Any,
) -> NativeKeras:
    """Open a Keras checkpoint that is to run in Keras itself; it is imported as well.

    The checkpoint is inspected before anything of it runs, and runs confined, as when it is converted.

    Parameters
    ----------
    source : path or str
        A Keras checkpoint (`.h5`, `.hdf5`, `.keras`, or `.json` with `weights`), or `"keras.applications:NAME"`.
    weights, input, output, custom
        As for `torchcam_suite.load`.
    timeout : float, optional
        Seconds that a run may take; default: as a conversion, and 10 for each image.
    **options
        The other options of `torchcam_suite.load`.

    Raises
    ------
    TorchcamError
        It is unsafe, damaged, or no Keras checkpoint.
    """
    from converters import is_bundle, worker
    from converters.native import inspect_native

    if not isinstance(source, str | Path) or str(source).startswith("torchvision:") or is_bundle(Path(source)):
        raise SourceError(
            f"{source!r:.80} cannot run in Keras: expected a Keras checkpoint (.h5, .keras, or .json with weights), "
            "the one that a bundle was made of"
        )
    checkpoint = inspect_native(source, weights, custom=custom, input=input)
    model = load(source, weights=weights, input=input, output=output, custom=custom, **options)
    traced = worker.TraceOptions(model.input[1:], input, output, tuple(custom))
    return NativeKeras(model, checkpoint, traced, timeout)


def runs_natively(method: Method) -> bool:
    """Whether a method is a function of activations and gradients alone, which is what a native run gives."""
    return method.takes_layer and set(method.takes) <= _TAKEN and not isgeneratorfunction(method.function)


def require_native(title: str, chosen: Sequence[Chosen], model: Model) -> None:
    """Refuse what a native run does not give.

    Raises
    ------
    SourceError
        A method that needs more than one forward and one backward pass.
    HeadError
        A probability is differentiated, but the model has none.
    """
    for one in chosen:
        if not runs_natively(one.method):
            known = ", ".join(name for name, method in METHODS.items() if runs_natively(method))
            raise SourceError(
                f"{one.method.name} asks for more than the activations and gradients of one pass, which is what "
                f"{title!r} gives from Keras; choose among {known}, or leave the {PREFIX} model out"
            )
        if one.of == "probability" and model.head == "none":
            raise HeadError(f"{title!r} ends in no softmax or sigmoid, so it gives no probability; leave of= out")


def probability_of(prediction: Tensor, classes: Sequence[int]) -> Tensor:
    """Probability (N,) of a class of each image; of one column, class 0 has the rest."""
    full = torch.cat([1 - prediction, prediction], dim=1) if prediction.shape[1] == 1 else prediction
    return full.gather(1, torch.tensor(list(classes), device="cpu")[:, None])[:, 0]


class _Found(NamedTuple):
    """What was read of a run."""

    predictions: list[Tensor]
    logits: list[Tensor]
    targets: list[int]
    raw: dict[tuple[str, str], list[Tensor]]


def _maps(run: "NativeRun", chosen: Sequence[Chosen], taps: Mapping[str, str], model: Model) -> _Found:
    """Apply the methods to one image after the other: all feature maps together would fill the memory."""
    found = _Found([], [], [], {(one.method.name, layer): [] for one in chosen for layer in taps})
    for image in run.images:
        found.predictions.append(torch.from_numpy(image.prediction))
        found.logits.append(torch.from_numpy(image.logits))
        found.targets.append(image.target)
        for one in chosen:
            for layer, tap in taps.items():
                found.raw[one.method.name, layer].append(_raw(image, one, model, layer, tap))
    return found


def _raw(image: "NativeImage", chosen: Chosen, model: Model, layer: str, tap: str) -> Tensor:
    if tap not in image.activations:
        raise LayerError(f"layer {layer!r} was not reached before the logits in Keras; choose one before the head")
    given = {"activations": image.activations[tap]}
    if "gradients" in chosen.method.takes:
        if (chosen.of, tap) not in image.gradients:
            raise GradientError(f"no gradient arrives at layer {layer!r} in Keras: the score does not depend on it")
        given["gradients"] = image.gradients[chosen.of, tap]
    grid = model.layers[layer].grid
    return chosen.method.function(*(_as_maps(given[name], grid) for name in chosen.method.takes), **chosen.own)


def _as_maps(values: np.ndarray, grid: Any) -> Tensor:
    """Keras has its channels last; tokens are laid on their grid."""
    tensor = torch.from_numpy(values)
    if isinstance(grid, Grid) and tensor.ndim == 3:
        return grid.maps(tensor)
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
