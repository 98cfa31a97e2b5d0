"""Explain images: the engine that feeds the methods and finishes their maps."""

import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from torchcam_suite import images as pictures
from torchcam_suite.cam import Chosen, finish, make_method
from torchcam_suite.cam.engine import Computed, compute
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.errors import HeadError, LayerError, SourceError, TargetError, ZeroMapWarning
from torchcam_suite.explanation import Explanation
from torchcam_suite.grids import Ambiguity, Grid, Layout, Reshape, make_reshape
from torchcam_suite.layers import shape_text
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.provenance import about_model, versions_on
from torchcam_suite.recorder import INPUT, Site
from torchcam_suite.shown_names import short_names
from torchcam_suite.targets import Target, plain

ZERO_MAP = "map is zero everywhere"


@overload
def explain(
    model: Model,
    images: Any,
    *,
    method: str = ...,
    layer: str | None = ...,
    target: Target = ...,
    batch_size: int = ...,
    reshape: Any = ...,
    progress: bool | Progress = ...,
    **options: Any,
) -> Explanation: ...
@overload
def explain(
    model: Model,
    images: Any,
    *,
    method: str = ...,
    layer: Sequence[str],
    target: Target = ...,
    batch_size: int = ...,
    reshape: Any = ...,
    progress: bool | Progress = ...,
    **options: Any,
) -> dict[str, Explanation]: ...
def explain(
    model: Model,
    images: Any,
    *,
    method: str = "gradcam",
    layer: str | Sequence[str] | None = None,
    target: Target = None,
    batch_size: int = 32,
    reshape: Any = None,
    progress: bool | Progress = False,
    **options: Any,
) -> Explanation | dict[str, Explanation]:
    """Show where a model sees its evidence for a target.

    Parameters
    ----------
    model : Model
        From `load`.
    images : as for `Model.prepare`
        Paths, PIL images, arrays, or a tensor (N, C, H, W) that is ready for the model.
    method : str
        A key of `torchcam_suite.cam.METHODS`, as "gradcam" or "scorecam": docs/methods.md leads to the formula
        and options of each, ``torchcam-suite methods`` lists them.
    layer : str or sequence of str, optional
        Names from `model.layers`, for methods that take a layer; default `model.default_layer`. A sequence is served
        by one pass.
    target : optional
        None for the top class of each image, a class number or name, one of these for each image, or a
        function of the logits (M, classes) that gives scores (M,). A binary head has classes 0 and 1: class
        1 is explained by the logit, class 0 by its negative.
    batch_size : int
        Images that are explained together.
    reshape : function, or pair of functions, optional
        Makes feature maps (N, C, h, w) of the layer's output, where it gives tokens that are not recognised as a grid.
        Methods that replace feature maps need the way back too: ``to_tokens(maps, like)`` puts maps (M, C, h, w) into
        outputs, where `like` has M outputs of the layer. See docs/transformers.md.
    progress : bool or function
        True shows a bar on stderr for methods with many forward passes; a function is called as
        ``progress(done, total)``, anew for each batch, and for each layer where feature maps are replaced.
    **options
        Of the method: its own; `of`, `relu`, `normalize` and `interpolation` of all; `chunk_size`, `precision` and
        `compile` of those with many forward passes.

    Returns
    -------
    Explanation, or dict of str to Explanation
        A dict by layer name where `layer` is a sequence.

    Raises
    ------
    LayerError, TargetError, ImageError, HeadError
        What does not fit the model.
    GradientError
        The target does not depend on the layer.
    SourceError
        `model` is no `Model`.
    UnsupportedModelError
        With ``compile=True``: there is no compiler, or it refuses the model.
    ValueError
        An unknown method or option.

    Examples
    --------
    >>> from torchcam_suite import load
    >>> from torch import nn
    >>> _ = torch.manual_seed(1)  # some random networks have no evidence for class 1, and warn of it
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    >>> explanation = explain(model, torch.rand(3, 1, 8, 8), layer="0", target=1)
    >>> explanation.maps.shape, explanation.raw.shape, explanation.targets
    (torch.Size([3, 8, 8]), torch.Size([3, 6, 6]), (1, 1, 1))
    """
    if not isinstance(model, Model):
        raise SourceError(f"explain takes a Model, not a {type(model).__name__}; open it first: load(...)")
    chosen = make_method(method, options)
    given = None if reshape is None else make_reshape(reshape)
    with reporting(method, progress) as report:
        found = _explained(chosen, model, images, layer, target, batch_size, given, report)
    for explanation in found.values():
        _warn_of_zero_maps(explanation)
    return next(iter(found.values())) if layer is None or isinstance(layer, str) else found


def _explained(
    chosen: Chosen,
    model: Model,
    images: Any,
    layer: str | Sequence[str] | None,
    target: Target,
    batch_size: int,
    reshape: Reshape | None,
    report: Progress | None,
) -> dict[str, Explanation]:
    """Explanations by layer, batch by batch."""
    sites = _sites(chosen, model, layer, reshape)
    layouts = _layouts(model, sites, reshape)
    places = {site: name for name, site in sites.items()}
    batches = _batches(images, batch_size)
    targets = _targets_of(batches, target)
    parts: dict[str, list[Explanation]] = {name: [] for name in sites}
    done = 0
    for batch, wanted in zip(batches, targets, strict=True):
        prepared = model.prepare(batch)
        with torch.inference_mode(False):
            computed = compute(chosen, model, prepared, places, wanted, report, layouts)
        named = _image_names(batch, done, len(prepared))
        for name, site in sites.items():
            parts[name].append(_explanation(model, chosen, reshape, name, computed, site, prepared, named))
        done += len(prepared)
    return {name: _joined(found) for name, found in parts.items()}


def _sites(chosen: Chosen, model: Model, layer: str | Sequence[str] | None, reshape: Reshape | None) -> dict[str, Site]:
    """Where the method looks, by the names that the explanations get."""
    if not chosen.method.takes_layer:
        if layer is not None or reshape is not None:
            given = "reshape=" if layer is None else repr(layer)
            raise LayerError(
                f"{chosen.method.name} explains the input and takes no layer, but got {given}; leave it out"
            )
        return {"input": INPUT}
    names = [model.default_layer] if layer is None else _names_of(layer, model)
    return {name: model.layers.site(name) if reshape else _spatial_site(model, name) for name in names}


def _names_of(layer: Any, model: Model) -> list[str]:
    names = [layer] if isinstance(layer, str) or not isinstance(layer, Iterable) else list(layer)
    if not names:
        raise LayerError(f"no layer was given; name at least one, as {model.default_layer!r}")
    for name in names:
        if not isinstance(name, str):
            raise LayerError(f"layer {name!r:.80} is no name; expected one of model.layers, as {model.default_layer!r}")
    return names


def _spatial_site(model: Model, name: str) -> Site:
    site, layer = model.layers.site(name), model.layers[name]
    if layer.map_shape is not None:
        return site
    what = layer.grid.why if isinstance(layer.grid, Ambiguity) else f"gives {shape_text(layer)} values an image"
    raise LayerError(
        f"layer {name!r} {what}; a class activation map needs feature maps (channels x height x width), as "
        f"{model.default_layer!r} gives{_OR_RESHAPE if len(layer.output_shape) > 1 else ''}"
    )


_OR_RESHAPE = ", or reshape=, a function that makes feature maps (N, C, h, w) of the layer's output"


def _layouts(model: Model, sites: dict[str, Site], reshape: Reshape | None) -> dict[Site, Layout]:
    """How the outputs of the layers are feature maps, where they are none."""
    if reshape is not None:
        return dict.fromkeys(sites.values(), reshape)
    grids = {site: model.layers[name].grid for name, site in sites.items() if site != INPUT}
    return {site: grid for site, grid in grids.items() if isinstance(grid, Grid)}


def _batches(images: Any, size: int) -> list[Any]:
    if size < 1:
        raise ValueError(f"batch_size={size}; expected at least 1")
    sources = images if isinstance(images, Tensor) else pictures.as_list(images)
    if isinstance(sources, Tensor) and sources.ndim != 4:
        return [sources[None] if sources.ndim == 3 else sources]
    # no image at all is one empty batch, which the model refuses
    return [sources[i : i + size] for i in range(0, max(1, len(sources)), size)]


def _targets_of(batches: list[Any], target: Target) -> list[Target]:
    """What is asked of each batch: its share of a sequence, and all of anything else."""
    target = plain(target)
    if isinstance(target, str) or not isinstance(target, Sequence):
        return [target] * len(batches)
    count = sum(map(len, batches))
    if len(target) != count:
        raise TargetError(f"{len(target)} targets for {count} images; give one for all, or one an image")
    shares = iter(target)
    return [list(islice(shares, len(batch))) for batch in batches]


def _image_names(batch: Any, start: int, count: int) -> tuple[str, ...]:
    items = [None] * count if isinstance(batch, Tensor) else batch
    return tuple(str(item) if isinstance(item, str | Path) else f"image {start + i}" for i, item in enumerate(items))


def _explanation(
    model: Model,
    chosen: Chosen,
    reshape: Reshape | None,
    layer: str,
    computed: Computed,
    site: Site,
    images: Tensor,
    names: tuple[str, ...],
) -> Explanation:
    finished = finish(
        computed.raw[site],
        (images.shape[2], images.shape[3]),
        relu=chosen.relu,
        normalize=chosen.normalize,
        interpolation=chosen.interpolation,
    )
    targets = computed.targets
    return Explanation(
        maps=finished.maps,
        raw=finished.raw,
        targets=None if targets.classes is None else tuple(targets.classes.tolist()),
        target_names=targets.names,
        scores=computed.scores,
        probabilities=_probabilities(model, computed),
        flags=tuple((ZERO_MAP,) if zero else () for zero in finished.zero.tolist()),
        layer=layer,
        method=chosen.method.name,
        options=chosen.options | ({} if reshape is None else {"reshape": reshape.name}),
        of="function" if targets.classes is None else chosen.of,
        details=computed.counts[site] | ({} if computed.chunk_size is None else {"chunk_size": computed.chunk_size}),
        model=about_model(model),
        versions=versions_on(model.device),
        images=names,
    )


def _probabilities(model: Model, computed: Computed) -> Tensor | None:
    if computed.targets.classes is None:
        return None
    try:
        return computed.targets.score(computed.logits, model.to_probabilities, "probability")
    except HeadError:
        return None


def _joined(parts: list[Explanation]) -> Explanation:
    """One explanation of several batches."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    tensors = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("maps", "raw", "scores", "probabilities")
        if getattr(first, name) is not None
    }
    tuples = {
        name: sum((getattr(part, name) for part in parts), ())
        for name in ("targets", "target_names", "flags", "images")
        if getattr(first, name) is not None
    }
    # memory may have run out in one of them
    join = {"chunk_size": min}
    details = {name: join.get(name, sum)(part.details[name] for part in parts) for name in first.details}
    return Explanation(**{**first.__dict__, **tensors, **tuples, "details": details})


def _warn_of_zero_maps(explanation: Explanation) -> None:
    shown = zip(short_names(explanation.images), explanation.flags, strict=True)
    zero = [name for name, flags in shown if ZERO_MAP in flags]
    if zero:
        warnings.warn(
            f"{explanation.method} at {explanation.layer!r}: no evidence for the target in {', '.join(zero[:4])}"
            f"{f' and {len(zero) - 4} more' if len(zero) > 4 else ''}; the map is zero everywhere",
            ZeroMapWarning,
            stacklevel=3,  # explain and this function are not who is to blame
        )
