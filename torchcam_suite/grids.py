"""Layers whose outputs are feature maps in another order: tokens of a transformer, or channels last."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from torchcam_suite.errors import LayerError

Shape = tuple[int | None, ...]

# A class token, a distillation token, and up to 16 registers (Darcet 2023) stand before the patches. Where the patches
# have to be guessed of the number of tokens alone, only what is usual is believed: a class token and 4 registers.
_MOST_PREFIX, _USUAL_PREFIX = 18, 5

# Cells of a grid are nearly square; padding and borders of few cells make up for the rest.
_MOST_DISTORTION = 1.3


class Layout(Protocol):
    """How the output of a layer is feature maps."""

    def maps(self, output: Tensor) -> Tensor:
        """Give feature maps (N, C, h, w) of the layer's output, or of its gradient."""
        ...

    def tokens(self, maps: Tensor, like: Tensor) -> Tensor:
        """Put (M, C, h, w) maps into outputs of the layer; `like`, M outputs, gives what is no part of the maps."""
        ...


@dataclass(frozen=True)
class Grid:
    """Channels come last, and the positions are the tokens of an image, row by row.

    Attributes
    ----------
    height, width : int
        Of the grid.
    prefix : int
        Tokens before those of the grid, as a class token; never part of the maps.
    flat : bool
        Whether the output is (N, prefix + height * width, C); otherwise it is (N, height, width, C).

    Examples
    --------
    >>> grid = Grid(2, 3, prefix=1)
    >>> tokens = torch.arange(7.0).reshape(1, 7, 1)
    >>> grid.maps(tokens)[0, 0]
    tensor([[1., 2., 3.],
            [4., 5., 6.]])
    >>> grid.tokens(torch.zeros(1, 1, 2, 3), like=tokens + 9).flatten()
    tensor([9., 0., 0., 0., 0., 0., 0.])
    """

    height: int
    width: int
    prefix: int = 0
    flat: bool = True

    @property
    def positions(self) -> int:
        """How many there are."""
        return self.height * self.width

    def maps(self, output: Tensor) -> Tensor:
        """Give feature maps (N, C, height, width) of outputs.

        Raises
        ------
        LayerError
            The output has another number of tokens.
        """
        wanted = (self.prefix + self.positions,) if self.flat else (self.height, self.width)
        if output.ndim != len(wanted) + 2 or output.shape[1:-1] != wanted:
            raise LayerError(
                f"the layer gives {_text(tuple(output.shape[1:]))} values, but {_text((*wanted, 'channels'))} were "
                "expected of its first call; give reshape=, a function that makes feature maps (N, C, h, w) of it"
            )
        rows = output[:, self.prefix :].unflatten(1, (self.height, self.width)) if self.flat else output
        return rows.permute(0, 3, 1, 2)

    def tokens(self, maps: Tensor, like: Tensor) -> Tensor:
        """Put (M, C, height, width) maps into outputs; the tokens before them are those of `like`, M outputs."""
        rows = maps.permute(0, 2, 3, 1)
        return torch.cat([like[:, : self.prefix], rows.flatten(1, 2)], dim=1) if self.flat else rows


@dataclass(frozen=True)
class Ambiguity:
    """The output of a layer is no feature map that can be recognised with certainty.

    Attributes
    ----------
    why : str
        A sentence about the layer, without its subject: `"gives ..."`.
    """

    why: str


@dataclass(frozen=True)
class Reshape:
    """How the user says that outputs are feature maps.

    Attributes
    ----------
    to_maps : function
        Outputs, of N images, to (N, C, h, w). It rearranges and leaves out, nothing else: gradients go through it too.
    to_tokens : function, optional
        ``to_tokens(maps, like)``, the way back: (M, C, h, w) and M outputs of the layer to M outputs.
    """

    to_maps: Callable[[Tensor], Tensor]
    to_tokens: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def name(self) -> str:
        """How it is called in results."""
        return getattr(self.to_maps, "__name__", type(self.to_maps).__name__)

    def maps(self, output: Tensor) -> Tensor:
        """Give feature maps (N, C, h, w) of outputs.

        Raises
        ------
        LayerError
            The function gives something else.
        """
        maps = self.to_maps(output)
        if isinstance(maps, Tensor) and maps.ndim == 4:
            return maps
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise LayerError(
            f"reshape= gave {found} of outputs of shape {tuple(output.shape)}; expected feature maps (N, C, h, w), as "
            "of lambda tokens: tokens[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)"
        )

    def tokens(self, maps: Tensor, like: Tensor) -> Tensor:
        """Put maps into outputs.

        Raises
        ------
        LayerError
            There is no function for the way back, or it does not undo the other.
        """
        if self.to_tokens is None:
            raise LayerError(
                "this method replaces feature maps, so it needs the way back too: reshape=(to_maps, to_tokens), where "
                "to_tokens(maps, like) puts maps (M, C, h, w) into outputs; `like` has M outputs of the layer"
            )
        back = self.to_tokens(self.maps(like), like)
        if not isinstance(back, Tensor) or back.shape != like.shape or not torch.equal(back, like):
            raise LayerError(
                "reshape=(to_maps, to_tokens): to_tokens(to_maps(outputs), outputs) is not the outputs again; expected "
                "a function that undoes the first, and takes from its second argument what is no part of the maps"
            )
        return self.to_tokens(maps, like)


def make_reshape(given: Any) -> Reshape:
    """Take what the user gave as `reshape=`: a function, or a pair of functions.

    Raises
    ------
    ValueError
        It is something else.
    """
    functions = (given,) if callable(given) else tuple(given) if isinstance(given, Sequence) else ()
    if len(functions) not in (1, 2) or not all(map(callable, functions)):
        raise ValueError(
            f"reshape={given!r:.80}; expected a function that makes feature maps (N, C, h, w) of a layer's output, or "
            "a pair of functions, there and back"
        )
    return Reshape(*functions)


# ---------------------------------------------------------------- recognising


class Output(NamedTuple):
    """What is known of a layer's output.

    Attributes
    ----------
    shape : tuple
        Without the batch.
    channels_last : bool or None
        What the layer itself tells of an output of three axes; None where it tells nothing.
    """

    shape: Shape
    channels_last: bool | None = None


def channels_last(module: nn.Module) -> bool | None:
    """Whether a module works on the last axis, as far as its class tells.

    Examples
    --------
    >>> channels_last(nn.Linear(3, 4)), channels_last(nn.Conv2d(3, 4, 1)), channels_last(nn.ReLU())
    (True, False, None)
    """
    # not the subclasses: torchvision's LayerNorm2d is one, and puts the channels first again
    if type(module) is nn.Linear or (type(module) is nn.LayerNorm and len(module.normalized_shape) == 1):
        return True
    layers = nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d
    norms = nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d
    return False if isinstance(module, (*layers, *norms)) else None


def find_grids(outputs: Sequence[Output], size: tuple[int, int]) -> list[Grid | Ambiguity | None]:
    """Recognise the layers of a model that give tokens or channels last.

    Tokens (T, C) are a grid if a layer before gave feature maps of as many positions, or a few fewer (the others are a
    prefix); else if square patches of the image come to as many, or a few fewer. Outputs of three axes are channels
    last if the layer's class says so, or, in a model that has such layers, if the sizes fit the shape of the image
    better that way.

    Parameters
    ----------
    outputs : sequence of Output
        Of all layers, in the order of the computation.
    size : tuple of int
        Height and width of the image.

    Returns
    -------
    list
        For each layer a `Grid`; None for feature maps (C, h, w) and for what is no feature map; an `Ambiguity` where
        that cannot be told.

    Examples
    --------
    >>> vit = [Output((64, 4, 4), False), Output((17, 64)), Output((10,))]
    >>> find_grids(vit, (32, 32))
    [None, Grid(height=4, width=4, prefix=1, flat=True), None]
    """
    mixed = any(output.channels_last for output in outputs if len(output.shape) == 3)
    sizes: set[tuple[int, int]] = set()
    counts: set[int] = set()
    flattened: set[Shape] = set()
    found: list[Grid | Ambiguity | None] = []
    for shape, last in outputs:
        known = tuple(axis for axis in shape if axis is not None)
        grid: Grid | Ambiguity | None = None
        if len(shape) == len(known) == 2 and last is not False:
            grid = _grid_of_tokens(known[0], sizes, size)
            if isinstance(grid, Grid) and not last and known in flattened and known[0] != known[1]:
                what = f"{known[0]} channels of {known[1]} positions"
                grid = Ambiguity(f"gives {_text(known)} values, which seem to be {what}")
        elif len(shape) == len(known) == 3:
            grid = _grid_of_map(known, last, size, mixed, counts)
            if grid is None:
                sizes.add((known[1], known[2]))
                flattened.add((known[0], known[1] * known[2]))
        if isinstance(grid, Grid):
            sizes.add((grid.height, grid.width))
            counts.update(known[:1] if grid.flat else ())
        found.append(grid)
    return found


def _grid_of_tokens(count: int, sizes: set[tuple[int, int]], size: tuple[int, int]) -> Grid | Ambiguity | None:
    grids = [Grid(*found, prefix) for found, prefix in _fitting(sorted(sizes), count, _MOST_PREFIX)]
    grids = grids or [Grid(*found, prefix) for found, prefix in _fitting(_patches(size), count, _USUAL_PREFIX)]
    if len(grids) < 2:
        return grids[0] if grids else None
    readings = " or ".join(f"{grid.height} x {grid.width} and {grid.prefix} more" for grid in grids)
    return Ambiguity(f"gives {count} tokens, which may be {readings}")


def _fitting(sizes: Sequence[tuple[int, int]], count: int, most_prefix: int) -> Iterator[tuple[tuple[int, int], int]]:
    for height, width in sizes:
        positions = height * width
        prefix = count - positions
        # a prefix longer than the grid is none
        if positions > 1 and 0 <= prefix <= min(most_prefix, positions - 1):
            yield (height, width), prefix


def _patches(size: tuple[int, int]) -> list[tuple[int, int]]:
    """All grids of square patches."""
    common = gcd(*size)
    return [(size[0] // side, size[1] // side) for side in range(1, common + 1) if common % side == 0]


def _grid_of_map(
    shape: tuple[int, ...], channels_last: bool | None, size: tuple[int, int], mixed: bool, counts: set[int]
) -> Grid | Ambiguity | None:
    a, b, c = shape
    if channels_last is None and b in counts:
        return Ambiguity(f"gives {_text(shape)} values, which seem to be those of {b} tokens in each of {a} heads")
    if channels_last is False or not mixed or (not channels_last and b == c == 1):
        return None
    first, last = _distortion((b, c), size), _distortion((a, b), size)
    if not channels_last and abs(first - last) < 0.01:
        return Ambiguity(
            f"gives {_text(shape)} values, which may be channels x height x width or height x width x channels"
        )
    is_last = channels_last or last < first
    if (last if is_last else first) < _MOST_DISTORTION:
        return Grid(a, b, flat=False) if is_last else None
    grid = shape[:2] if is_last else shape[1:]
    return Ambiguity(
        f"gives {_text(shape)} values, whose {_text(grid)} positions are no grid over an image of {_text(size)}"
    )


def _distortion(grid: tuple[int, int], size: tuple[int, int]) -> float:
    """How much longer a cell of the grid is than wide, or wider than long."""
    ratio = (size[0] / grid[0]) / (size[1] / grid[1])
    return max(ratio, 1 / ratio)


def _text(sizes: Sequence[int | str | None]) -> str:
    return " x ".join(map(str, sizes))
