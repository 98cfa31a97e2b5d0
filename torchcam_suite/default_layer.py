"""The layer that is explained where none is named."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from torchcam_suite.grids import Grid
from torchcam_suite.layers import Layer, LayerTable
from torchcam_suite.recorder import Recorder

# As many as a transformer has behind its last attention, and the one before that: the first pass finds it.
_AT_ONCE = 4


def find_default_layer(
    layers: LayerTable, module: nn.Module, logits: Callable[[Tensor], Tensor], image: Tensor
) -> Layer:
    """Find the last layer whose positions all count for the logits.

    In a convolutional net that is the last one with a spatial output, and no pass is run. A transformer whose class
    token alone is classified goes on after its last attention, where the tokens of the image do not matter any more:
    its default is the last normalization before that, as `ln_1` of torchvision's last block.

    Parameters
    ----------
    layers : LayerTable
        Of the model.
    module : nn.Module
        The model.
    logits : function
        Images to logits.
    image : Tensor
        (1, c, H, W), any.

    Raises
    ------
    LayerError
        No layer gives feature maps.
    """
    last = layers.last_spatial
    if not isinstance(last.grid, Grid):
        return last
    # Inside a block, only normalizations see all that the block is given.
    norms = [layer for layer in layers if layer.is_spatial and layer.grid and "norm" in layer.class_name.lower()]
    candidates = list(dict.fromkeys([last, *reversed(norms)])) if norms else []
    for first in range(0, len(candidates), _AT_ONCE):
        some = candidates[first : first + _AT_ONCE]
        for layer, counts in zip(some, _counting(module, logits, image, some), strict=True):
            if counts:
                return layer
    maps = [layer for layer in layers if layer.is_spatial and layer.grid is None]
    return maps[-1] if maps else last


def _counting(
    module: nn.Module, logits: Callable[[Tensor], Tensor], image: Tensor, layers: Sequence[Layer]
) -> list[bool]:
    """Whether the logits depend on the positions of each layer's last call; one pass, with a copy of the image each."""

    def spoil(number: int, grid: Grid, output: Tensor) -> Tensor:
        # NaN goes on even through a head of zero weights, with which torchvision's ViT begins, where a gradient ends
        spoilt, own = output.clone(), output[number : number + 1]
        spoilt[number : number + 1] = grid.tokens(torch.full_like(grid.maps(own), torch.nan), own)
        return spoilt

    replace = {
        layer.sites[-1]: partial(spoil, number, layer.grid)
        for number, layer in enumerate(layers)
        if isinstance(layer.grid, Grid)
    }
    with Recorder(module, replace=replace) as recorder:
        return recorder.run(logits, image.repeat(len(layers), 1, 1, 1)).isnan().any(dim=1).tolist()
