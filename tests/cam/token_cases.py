"""Models whose layers give tokens or channels last, as cases for the float64 references of the methods."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from cases import Array, Case
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from torchcam_suite import Model, load


@dataclass(frozen=True)
class TokenCase(Case):
    """A case whose layer gives tokens; the references see them as feature maps (C, h, w).

    Attributes
    ----------
    grid : tuple of int
        Height and width.
    prefix : int
        Tokens before those of the grid.
    flat : bool
        Whether the layer gives (N, T, C); otherwise (N, h, w, C).
    """

    grid: tuple[int, int]
    prefix: int
    flat: bool = True

    def activations(self, picture: Array) -> Array:
        return self._maps(super().activations(picture))

    def gradient(self, picture: Array, value: Callable[[Tensor], Tensor]) -> Array:
        return self._maps(super().gradient(picture, value))

    def logits_from(self, picture: Array, features: Array) -> Array:
        output = super().activations(picture).reshape(-1, features.shape[0])  # (T, C)
        for k in range(features.shape[0]):
            for i in range(self.grid[0]):
                for j in range(self.grid[1]):
                    output[self.prefix + i * self.grid[1] + j, k] = features[k, i, j]
        return super().logits_from(picture, output if self.flat else output.reshape(*self.grid, -1))

    def _maps(self, output: Array) -> Array:
        """(1, T, C) or (h, w, C) to (C, h, w)."""
        tokens = output.reshape(-1, output.shape[-1])
        maps = np.zeros((tokens.shape[1], *self.grid))
        for k in range(len(maps)):
            for i in range(self.grid[0]):
                for j in range(self.grid[1]):
                    maps[k, i, j] = tokens[self.prefix + i * self.grid[1] + j, k]
        return maps


def pictures(model: Model, count: int = 2) -> Tensor:
    """Random ones."""
    return torch.rand(count, *model.input, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def opened(net: nn.Module, height: int = 32, width: int = 32) -> Model:
    """Load a net in float64; its normalizations get weights, without which all channels of a token sum up to zero."""
    for part in net.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
    return load(net.double(), input_size=(3, height, width), preprocessing="unit", head="softmax", device="cpu")


def small_vit(size: int = 16, *, width: int = 12, classes: int = 4) -> VisionTransformer:
    """torchvision's ViT of two blocks and patches of 8 x 8, its head not zero, as it begins."""
    torch.manual_seed(5)
    net = VisionTransformer(size, 8, 2, 2, width, 2 * width, num_classes=classes)
    nn.init.normal_(net.heads.head.weight)
    return net


def small_swin(**options: bool) -> SwinTransformer:
    """torchvision's Swin of two stages, on pictures of 32 x 32."""
    torch.manual_seed(6)
    net = SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=4, **options)
    nn.init.normal_(net.head.weight)
    return net


class Patches(nn.Module):
    """A transformer of PyTorch's own layers on pictures of any shape, with a class and a distillation token.

    Parameters
    ----------
    batch_first : bool
        Otherwise the layers see (T, N, C).
    pooled : bool
        Whether the mean of all tokens is classified; otherwise that of the two.
    convolution : bool
        Whether a convolution makes tokens of patches; otherwise a dense layer.
    """

    def __init__(self, *, batch_first: bool = True, pooled: bool = False, convolution: bool = True) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.batch_first, self.pooled = batch_first, pooled
        self.embed = nn.Conv2d(3, 10, 8, stride=8) if convolution else nn.Linear(192, 10)
        self.tokens = nn.Parameter(torch.randn(1, 2, 10))
        options = {"dropout": 0.0, "activation": nn.ReLU(), "batch_first": batch_first, "norm_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(10, 2, 16, **options) for _ in range(2))
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 4)

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.embed, nn.Conv2d):
            x = self.embed(images).flatten(2).transpose(1, 2)
        else:
            x = self.embed(nn.functional.unfold(images, 8, stride=8).transpose(1, 2))
        x = torch.cat(
            [self.tokens.expand(len(x), -1, -1), x + torch.linspace(0, 1, x.shape[1], dtype=x.dtype)[:, None]], dim=1
        )
        x = x if self.batch_first else x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x if self.batch_first else x.transpose(0, 1))
        return self.head((x if self.pooled else x[:, :2]).mean(dim=1))


def vit() -> TokenCase:
    """Class token; 2 x 2 patches."""
    model = opened(small_vit(), 16, 16)
    return TokenCase(model, "encoder.layers.encoder_layer_1.ln_1", pictures(model), [1, 3], (2, 2), 1)


def patches() -> TokenCase:
    """Two more tokens; 3 x 2 patches of a picture that is not square."""
    model = opened(Patches(), 24, 16)
    return TokenCase(model, "blocks.1.norm1", pictures(model), [1, 3], (3, 2), 2)


def swin() -> TokenCase:
    """Channels last, 4 x 4 positions."""
    model = opened(small_swin())
    return TokenCase(model, "features.3.0.norm1", pictures(model), [2, 1], (4, 4), 0, flat=False)
