"""The table of a model's layers, and how a name in it is found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import overload

from torchcam_suite.errors import LayerError
from torchcam_suite.grids import Ambiguity, Grid
from torchcam_suite.recorder import Site


@dataclass(frozen=True)
class Layer:
    """One layer of a model.

    Attributes
    ----------
    name : str
        The name by which it is asked for: Keras' own for an imported model, the dotted path in a torch module.
    class_name : str
        Its class, in the framework that it comes from.
    output_shape : tuple
        Shape of its output without the batch, of its first call: (C, h, w) for feature maps.
    sites : tuple of Site
        Where its calls are found in the module, one a call.
    grid : Grid, Ambiguity or None
        How the output is feature maps if it is tokens or has its channels last, or why that cannot be told. None for
        (C, h, w), and for what is no feature map.
    """

    name: str
    class_name: str
    output_shape: tuple[int | None, ...]
    sites: tuple[Site, ...]
    grid: Grid | Ambiguity | None = None

    @property
    def calls(self) -> int:
        """How many times the layer is called in one forward pass."""
        return len(self.sites)

    @property
    def is_spatial(self) -> bool:
        """Whether its output is a feature map with more than one position."""
        return self.map_shape is not None and self.map_shape[1:] != (1, 1)

    @property
    def map_shape(self) -> tuple[int | None, ...] | None:
        """(C, h, w) of the feature maps that its output is, or None."""
        if isinstance(self.grid, Grid):
            return self.output_shape[-1], self.grid.height, self.grid.width
        return self.output_shape if self.grid is None and len(self.output_shape) == 3 else None


class LayerTable(Sequence[Layer]):
    """The layers of a model in the order of the computation; also looked up by name.

    A layer that is called once is `"conv2d_1"`; the calls of a shared one are `"relu#0"`, `"relu#1"`, ...

    Examples
    --------
    >>> table = LayerTable([Layer("conv2d_1", "Conv2D", (8, 16, 16), (Site("conv2d_1"),))])
    >>> table["conv2d_1"].output_shape
    (8, 16, 16)
    >>> table.site("conv2d_2")
    Traceback (most recent call last):
    torchcam_suite.errors.LayerError: layer 'conv2d_2' is not in this model; did you mean 'conv2d_1'? ...
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = list(layers)
        self._by_name = {layer.name: layer for layer in layers}

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> list[Layer]: ...
    def __getitem__(self, key: int | slice | str) -> Layer | list[Layer]:
        return self._find(key)[0] if isinstance(key, str) else self._layers[key]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __contains__(self, key: object) -> bool:
        return key in self._by_name if isinstance(key, str) else key in self._layers

    def __str__(self) -> str:
        rows = [("layer", "class", "output shape", "calls")]
        rows += [(layer.name, layer.class_name, shape_text(layer), str(layer.calls)) for layer in self]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    @property
    def names(self) -> list[str]:
        """All names, in order."""
        return [layer.name for layer in self]

    @property
    def last_spatial(self) -> Layer:
        """The last layer whose output is a feature map with more than one position.

        Raises
        ------
        LayerError
            There is none.
        """
        for layer in reversed(self._layers):
            if layer.is_spatial:
                return layer
        if not self._layers:
            raise LayerError(
                "no module inside this model is called in a way that can be seen, so it has no layers; of a model that "
                "torch.jit or torch.export made, give the nn.Module that it was made of"
            )
        tokens = any(len(layer.output_shape) == 2 or layer.grid for layer in self)
        hint = "; if a layer gives tokens, name it and say how they are feature maps, reshape=" if tokens else ""
        raise LayerError(f"none of the {len(self)} layers gives feature maps (channels, height, width){hint}")

    def site(self, name: str) -> Site:
        """Where a layer, or one call of a shared layer, is found in the module.

        Raises
        ------
        LayerError
            The name is not in the model, or it has several calls and does not say which.
        """
        layer, call = self._find(name)
        if call is None and layer.calls > 1:
            raise LayerError(
                f"layer {name!r} is called {layer.calls} times; say which: '{name}#0' to '{name}#{layer.calls - 1}'"
            )
        return layer.sites[call or 0]

    def _find(self, name: str) -> tuple[Layer, int | None]:
        if name in self._by_name:
            return self._by_name[name], None
        plain, _, call = name.rpartition("#")
        if plain in self._by_name and call.isdecimal():
            layer = self._by_name[plain]
            if int(call) >= layer.calls:
                raise LayerError(
                    f"layer {plain!r} is called {layer.calls} time(s), counted from 0; there is no {name!r}"
                )
            return layer, int(call)
        raise LayerError(f"layer {name!r} is not in this model; {self._suggestion(name)}")

    def _suggestion(self, name: str) -> str:
        inside = [known for known in self.names if known.rpartition("/")[2] == name]
        near = inside or get_close_matches(name, self.names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        return f"{hint}(torchcam-suite layers MODEL, or print(model.layers), lists all {len(self)})"


def shape_text(layer: Layer) -> str:
    """The output shape as people write it.

    Examples
    --------
    >>> shape_text(Layer("conv", "Conv2D", (8, 16, 16), ()))
    '8 x 16 x 16'
    >>> shape_text(Layer("norm", "LayerNorm", (17, 64), (), Grid(4, 4, prefix=1)))
    '64 x 4 x 4 of 17 tokens'
    """
    shape = layer.map_shape or layer.output_shape
    text = " x ".join("?" if size is None else str(size) for size in shape)
    if not isinstance(layer.grid, Grid):
        return text
    return f"{text} of {layer.output_shape[0]} tokens" if layer.grid.flat else f"{text}, channels last"
