"""The layers of a fused model: those that were kept, and a clear word about the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torchcam_suite.errors import LayerError
from torchcam_suite.layers import Layer, LayerTable
from torchcam_suite.recorder import Site


class FusedLayerTable(LayerTable):
    """The kept layers of a fused model, by the names that they have in the whole one.

    Parameters
    ----------
    layers : sequence of Layer
        What was kept.
    whole : LayerTable
        The layers of the model before it was fused.
    """

    def __init__(self, layers: Sequence[Layer], whole: LayerTable) -> None:
        super().__init__(layers)
        self._whole = whole

    def _find(self, name: str) -> tuple[Layer, int | None]:
        try:
            return super()._find(name)
        except LayerError:
            self._whole._find(name)  # which says so if the whole model does not have it either
        raise LayerError(
            f"layer {name!r} was fused away, with all but {', '.join(map(repr, self.names))}; keep it: "
            f"model.fuse(keep=[{name!r}, ...]) on the model before it was fused"
        )


def kept_layers(whole: LayerTable, names: Sequence[str]) -> list[Layer]:
    """The layers to keep, in the order of the model: all calls of a layer, or for `name#call` that call alone.

    Raises
    ------
    LayerError
        A name is not in the model.
    """
    calls: dict[str, set[int]] = {}
    for name in names:
        layer, call = whole._find(name)
        calls.setdefault(layer.name, set()).update(range(layer.calls) if call is None else [call])
    return [kept for layer in whole if layer.name in calls for kept in _kept(layer, sorted(calls[layer.name]))]


def _kept(layer: Layer, calls: Sequence[int]) -> list[Layer]:
    if len(calls) == layer.calls:
        return [layer]
    return [replace(layer, name=f"{layer.name}#{call}", sites=(layer.sites[call],)) for call in calls]


def moved(layers: Sequence[Layer], new_site: Callable[[Site], Site]) -> list[Layer]:
    """The same layers, found at other places."""
    return [replace(layer, sites=tuple(map(new_site, layer.sites))) for layer in layers]
