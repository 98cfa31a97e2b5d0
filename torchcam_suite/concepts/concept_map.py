"""Where in an image a concept speaks: the direction of its CAV, position by position."""

from typing import Any, Literal

import torch
from torch import Tensor

from torchcam_suite.cam import finish
from torchcam_suite.concepts.application import require_model
from torchcam_suite.concepts.picture_sets import given
from torchcam_suite.concepts.result import TcavResult
from torchcam_suite.errors import LayerError
from torchcam_suite.explain import ZERO_MAP
from torchcam_suite.explanation import Explanation
from torchcam_suite.grids import Grid
from torchcam_suite.layers import Layer, shape_text
from torchcam_suite.models import Model
from torchcam_suite.recorder import Recorder
from torchcam_suite.streaming import stream
from torchcam_suite.targets import Target, part_of, resolve


def concept_map(
    result: TcavResult,
    model: Model,
    images: Any,
    concept: str,
    *,
    layer: str | None = None,
    target: Target = None,
    of: Literal["presence", "sensitivity"] = "presence",
    batch_size: int = 32,
) -> Explanation:
    """Show where the activations point to a concept, or where pointing there would raise the target's score.

    With the mean CAV v of the runs, the value at a position is ``sum_c a[c, y, x] v[c, y, x]`` for `presence`, which
    adds up to the projection of the activations on v; and ``sum_c g[c, y, x] v[c, y, x]`` with the gradient g of the
    target's logit for `sensitivity`, which adds up to the sensitivity along v (that of a table, the mean over the CAVs
    of the runs, is a little nearer to 0). A CAV of pooled features has the same weights at each position, and the
    presence is then positions times the projection. Tokens beside the grid, as a class token, are in the CAV of a
    flattened layer and not in the map.

    Parameters
    ----------
    result : TcavResult
        Of `tcav`, also one that was loaded.
    model : Model
        The one that the CAVs were trained on.
    images : as for `Model.prepare`
    concept : str
    layer : str, optional
        May be left out if there is one. It must give feature maps.
    target : as for `torchcam_suite.explain`
        For `sensitivity`.

    Returns
    -------
    Explanation
        `maps` (N, H, W) in [0, 1]: what speaks for the concept, as a share of the largest value of the image; `raw`
        (N, h, w) with its sign; `scores` (N,), the sum over positions.

    Raises
    ------
    ConceptError
        The CAVs are those of another model, or the concept is not among them.
    LayerError
        The layer gives no feature maps.
    """
    if of not in {"presence", "sensitivity"}:
        raise ValueError(f"of={of!r}; expected 'presence' or 'sensitivity'")
    require_model(result, model)
    layer = result.layer(layer)
    spatial = _require_maps(model.layers[layer])
    direction = torch.as_tensor(result.cav(concept, layer), dtype=torch.float32, device=model.device)
    pictures = given(images, "the images")
    raw, names = [], list[str]()
    for batch in stream(model, pictures.items, batch_size=batch_size):
        wanted = part_of(target, batch.positions)
        values, chosen = _values(model, batch.images, layer, wanted, gradients=of == "sensitivity")
        raw.append((_maps(values.float(), spatial) * _weights(direction, spatial)).sum(1))
        names += chosen
    whole = torch.cat(raw)
    finished = finish(whole, (model.input.height, model.input.width))
    return Explanation(
        maps=finished.maps,
        raw=whole,
        targets=None,
        target_names=tuple(names),
        scores=whole.sum(dim=(1, 2)),
        probabilities=None,
        flags=tuple((ZERO_MAP,) if zero else () for zero in finished.zero.tolist()),
        layer=layer,
        method=f"concept {concept}",
        options={"concept": concept, "of": of} | result.settings["probe"],
        of="function",
        details={},
        model=result.model,
        versions=result.versions,
        images=pictures.names,
    )


def _require_maps(layer: Layer) -> Layer:
    if layer.map_shape is None:
        raise LayerError(
            f"layer {layer.name!r} gives {shape_text(layer)} values an image; a concept map needs feature maps "
            f"(channels x height x width)"
        )
    return layer


def _values(
    model: Model, images: Tensor, layer: str, target: Target, *, gradients: bool
) -> tuple[Tensor, tuple[str, ...]]:
    """What is weighted, of the shape of the layer's output, and how each image's target is called."""
    site = model.layers.site(layer)
    with torch.inference_mode(False), Recorder(model.module, [site], gradients=gradients) as recorder:
        logits = recorder.run(model.logits, images)
        targets = resolve(target, logits.detach(), model.class_names)
        if not gradients:
            return recorder.activations[site], targets.names
        score = targets.score(logits, model.to_probabilities, "logit").sum()
        return recorder.gradients(score)[site], targets.names


def _maps(output: Tensor, layer: Layer) -> Tensor:
    return layer.grid.maps(output) if isinstance(layer.grid, Grid) else output


def _weights(direction: Tensor, layer: Layer) -> Tensor:
    """The CAV as weights (1, C, h, w) or (1, C, 1, 1)."""
    return direction[None, :, None, None] if direction.ndim == 1 else _maps(direction[None], layer)
