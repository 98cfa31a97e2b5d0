"""Xception (Chollet 2017, fig. 5), as `keras.applications` builds it, with another head."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from torchcam_suite.architectures.keras_layers import (
    Add,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    MaxPooling2D,
    SeparableConv2D,
    batch_normalization,
)
from torchcam_suite.architectures.net import ArticleNet, NamedLayers, scaled


class Block(NamedTuple):
    """Separable convolutions with a shortcut around them.

    Attributes
    ----------
    number : int
        In the names of its layers.
    filters : tuple of int
        Channels of each separable convolution.
    rectified : bool
        Whether an activation comes before the first one too.
    halving : int or None
        The block ends in a pooling of stride 2, and its shortcut is the convolution of stride 2 of this number.
    """

    number: int
    filters: tuple[int, ...]
    rectified: bool = True
    halving: int | None = None


_ENTRY = (
    Block(2, (128, 128), rectified=False, halving=1),
    Block(3, (256, 256), halving=2),
    Block(4, (728, 728), halving=3),
)
_MIDDLE = tuple(Block(number, (728, 728, 728)) for number in range(5, 13))
BLOCKS = (*_ENTRY, *_MIDDLE, Block(13, (728, 1024), halving=4))
_STEM, _TOP = ((32, 2), (64, 1)), (1536, 2048)  # filters and strides of block 1; filters of block 14


class Xception(ArticleNet):
    """The network; for its parameters see `ArticleNet`."""

    def __init__(self, layers: NamedLayers, **facts: Any) -> None:
        super().__init__(layers, **facts)
        self._chains = {
            number: [name for name in self.layer_names if name.startswith(f"block{number}_")] for number in range(1, 15)
        }

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, classes)."""
        maps = self._chain(images, 1)
        for number, block in enumerate(BLOCKS, start=1):
            maps = self._block(maps, number, block)
        vectors = self.get_submodule("global_average_pooling2d_1")(self._chain(maps, 14))
        return self.get_submodule("predictions")(vectors)

    def _chain(self, maps: Tensor, number: int) -> Tensor:
        for name in self._chains[number]:
            maps = self.get_submodule(name)(maps)
        return maps

    def _block(self, maps: Tensor, number: int, block: Block) -> Tensor:
        branch, shortcut = self._chain(maps, block.number), maps
        if block.halving is not None:
            shortcut = self.get_submodule(f"conv2d_{block.halving}")(shortcut)
            shortcut = self.get_submodule(f"batch_normalization_{block.halving}")(shortcut)
        return self.get_submodule(f"add_{number}")(branch, shortcut)


def xception(classes: int, input_size: tuple[int, int], width: float) -> NamedLayers:  # noqa: ARG001 - of any size
    """The layers of Xception, in the order of Keras."""
    channels = 3
    for i, (filters, strides) in enumerate(_STEM, start=1):
        yield from _stem(f"block1_conv{i}", channels, scaled(filters, width), strides)
        channels = scaled(filters, width)
    for number, block in enumerate(BLOCKS, start=1):
        yield from _layers_of(block, channels, width)
        yield f"add_{number}", Add()
        channels = scaled(block.filters[-1], width)
    for i, filters in enumerate(_TOP, start=1):
        yield from _separable(f"block14_sepconv{i}", channels, scaled(filters, width))
        yield f"block14_sepconv{i}_act", nn.ReLU()
        channels = scaled(filters, width)
    yield "global_average_pooling2d_1", GlobalAveragePooling2D()
    yield "predictions", Dense(channels, classes)


def _stem(name: str, channels: int, filters: int, strides: int) -> NamedLayers:
    yield name, Conv2D(channels, filters, 3, strides=strides, padding="valid", use_bias=False)
    yield f"{name}_bn", batch_normalization(filters)
    yield f"{name}_act", nn.ReLU()


def _layers_of(block: Block, channels: int, width: float) -> NamedLayers:
    inputs, end = channels, scaled(block.filters[-1], width)
    for i, filters in enumerate((scaled(each, width) for each in block.filters), start=1):
        name = f"block{block.number}_sepconv{i}"
        if block.rectified or i > 1:
            yield f"{name}_act", nn.ReLU()
        yield from _separable(name, inputs, filters)
        inputs = filters
    if block.halving is not None:
        yield f"conv2d_{block.halving}", Conv2D(channels, end, 1, strides=2, use_bias=False)
        yield f"block{block.number}_pool", MaxPooling2D(3, 2, "same")
        yield f"batch_normalization_{block.halving}", batch_normalization(end)


def _separable(name: str, channels: int, filters: int) -> NamedLayers:
    yield name, SeparableConv2D(channels, filters, 3)
    yield f"{name}_bn", batch_normalization(filters)
