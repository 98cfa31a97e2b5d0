"""RISE: the input under random masks."""

from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from torchcam_suite.cam.bounds import require_between, require_count
from torchcam_suite.cam.method import Rules, method
from torchcam_suite.cam.requests import ScoreInputs
from torchcam_suite.cam.saliency_map import at_least_float32, upsample
from torchcam_suite.cam.score import image_size

# so many masks are summed at a time: few enough for the memory, enough to keep a GPU busy
_SUMMED_TOGETHER = 64


@method(
    "rise",
    "RISE",
    "random masks weighted by the score of the image that they leave",
    source="Petsiuk et al. 2018, arXiv:1806.07421",
    cost="many forwards",
    rules=Rules("probability", "none", "minmax"),
)
def rise(
    images: Tensor, *, masks: int = 4000, grid: int = 7, p: float = 0.5, seed: int = 0
) -> Generator[ScoreInputs, Tensor, Tensor]:
    r"""RISE: the mean of random masks, weighted by the score of the image under each.

    .. math::

        M_{ij} = \frac{1}{n \, p} \sum_{s=1}^{n} \mathrm{score}(X \circ H_s) \, H_{sij}, \qquad E[H_{sij}] = p

    A mask is a grid of cells that are 1 with probability p and 0 otherwise, upsampled bilinearly to one cell more than
    the image, and cut out at a random offset. It takes no layer and needs nothing of the model but its scores.

    It is an estimate: with n masks its noise falls as 1 / sqrt(n). The paper takes 4,000 masks (VGG16) or 8,000
    (ResNet50), a grid of 7 x 7 and p = 0.5. Values are scores, so the map is scaled by its minimum and maximum, and no
    ReLU is applied. All images are seen through the same masks.

    Parameters
    ----------
    images : Tensor
        X, (N, c, H, W), the model's input; "masked" means multiplied, so zero is the model's zero.
    masks : int
        n, the forward passes an image.
    grid : int
        Cells a side.
    p : float
        Share of the cells that are kept, over 0.
    seed : int
        Of the masks, which are the same on every device.

    Yields
    ------
    ScoreInputs
        The masked images, to be scored by a probability.

    Returns
    -------
    Tensor
        M, (N, H, W), at the input's resolution.

    Raises
    ------
    ValueError
        An option that does not fit.

    References
    ----------
    Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018,
    arXiv:1806.07421, equation 6 and section 3.2.
    """
    require_count("masks", masks)
    require_count("grid", grid)
    require_between("p", p, 1e-6, 1)
    drawn = draw_masks(masks, grid, p, seed, images)

    def build(numbers: Tensor) -> Tensor:
        return images[numbers // masks] * drawn.build(numbers % masks)[:, None].to(images.dtype)

    owner = torch.arange(len(images), device=images.device).repeat_interleave(masks)
    found = yield ScoreInputs(owner, build)
    scores = found.view(len(images), masks)
    total = torch.zeros(len(images), *image_size(images), device=images.device, dtype=scores.dtype)
    for numbers in torch.arange(masks, device=images.device).split(_SUMMED_TOGETHER):
        total += torch.einsum("nm,mij->nij", scores[:, numbers], drawn.build(numbers).to(scores.dtype))
    return total / (masks * p)


class Masks(NamedTuple):
    """Random masks of which only the cells and offsets are kept; a chunk of them is built when it is needed.

    Attributes
    ----------
    cells : Tensor
        (n, grid, grid), 0 or 1.
    down, along : Tensor
        (n,) long, where the image is cut out.
    size : tuple of int
        Height and width of the image.
    """

    cells: Tensor
    down: Tensor
    along: Tensor
    size: tuple[int, int]

    def build(self, numbers: Tensor) -> Tensor:
        """The masks (m, H, W) of the given numbers (m,)."""
        grid = self.cells.shape[1]
        height, width = self.size
        # one cell more than the image needs, so that a shifted grid still covers it
        larger = ((grid + 1) * -(-height // grid), (grid + 1) * -(-width // grid))
        maps = upsample(self.cells[numbers, None], larger)[:, 0]
        rows = self.down[numbers, None] + torch.arange(height, device=maps.device)
        columns = self.along[numbers, None] + torch.arange(width, device=maps.device)
        which = torch.arange(len(numbers), device=maps.device)
        return maps[which[:, None, None], rows[:, :, None], columns[:, None, :]]


def draw_masks(count: int, grid: int, p: float, seed: int, images: Tensor) -> Masks:
    """Draw cells and offsets on the CPU, so that a seed gives the same masks everywhere, and move them to the images.

    Drawn in this order: uniform numbers (n, grid, grid), of which those below p are kept, then the offsets down (n,)
    and along (n,), each less than a cell.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(count, grid, grid, generator=generator, dtype=torch.float32, device="cpu") < p
    height, width = image_size(images)
    down, along = (
        torch.randint(-(-side // grid), (count,), generator=generator, device="cpu") for side in (height, width)
    )
    device, dtype = images.device, at_least_float32(images[:0]).dtype
    return Masks(cells.to(device, dtype), down.to(device), along.to(device), (height, width))
