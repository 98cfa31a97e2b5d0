"""Group-CAM: groups of channels, weighted by gradients, as masks over a blurred background."""

from collections.abc import Generator

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcam_suite.cam.bounds import require_between, require_count
from torchcam_suite.cam.method import Raw, Rules, method
from torchcam_suite.cam.requests import ScoreInputs
from torchcam_suite.cam.saliency_map import at_least_float32, upsample
from torchcam_suite.cam.score import image_size, is_constant, require_batch, to_unit_range

# of the authors' code
_BLUR_SIGMA, _BLUR_RADIUS = 50.0, 25


@method(
    "groupcam",
    "Group-CAM",
    "groups of Grad-CAM's channels weighted by the score of the image that they keep sharp",
    source="Zhang et al. 2021, arXiv:2103.13859",
    cost="many forwards",
    rules=Rules("probability", "after", "minmax"),
)
def group_cam(
    activations: Tensor, gradients: Tensor, images: Tensor, *, groups: int = 32, percentile: float = 70.0
) -> Generator[ScoreInputs, Tensor, Raw]:
    r"""Group-CAM before its ReLU: masks from groups of channels, weighted by the score that they keep.

    .. math::

        m_g = \mathrm{denoise}\Big(\mathrm{ReLU}\Big(\sum_{k \in g} w_k A_k\Big)\Big), \qquad
        H_g = \mathrm{minmax}(\mathrm{Up}(m_g)), \\
        M = \sum_g \big(\mathrm{score}(X \circ H_g + B \circ (1 - H_g)) - \mathrm{score}(B)\big) H_g

    with w the channel weights of Grad-CAM, groups of neighbouring channels, a denoising that sets all values up to the
    percentile of the group's map to zero, and B the image blurred by a Gaussian (51 x 51, sigma 50; a smaller window
    where the image is smaller). Gradients are those of the logit; scores are probabilities.

    A group whose mask is constant is left out, as in the authors' code. Neighbouring channels have nothing in common,
    so the map depends on their order. It approximates Score-CAM with few passes.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w).
    gradients : Tensor
        dy/dA, of the same shape.
    images : Tensor
        X, (N, c, H, W), the model's input.
    groups : int
        How many; with fewer channels than groups, each channel is one.
    percentile : float
        0 to 100; 0 sets only the smallest value to zero.

    Yields
    ------
    ScoreInputs
        The masked images, and the blurred ones.

    Returns
    -------
    Raw
        M, (N, h, w), signed, at the layer's resolution: the sum of upsampled maps is the upsampled sum. Counts
        `groups` and `groups_skipped`, which needed no forward pass.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        Shapes or options that do not fit.

    References
    ----------
    Zhang, Rao and Yang, Group-CAM: Group Score-Weighted Visual Explanations for Deep Convolutional Networks, 2021,
    arXiv:2103.13859; the authors' code at https://github.com/wofmanaf/Group-CAM.
    """
    require_count("groups", groups)
    require_between("percentile", percentile, 0, 100)
    require_batch(activations, images)
    maps = _denoised(_grouped(activations, gradients, groups), percentile)
    background = blur(images)
    # column 0 is the score of the background
    queued = F.pad(~is_constant(maps), (1, 0), value=True)
    owner, column = queued.nonzero().unbind(dim=1)

    def build(numbers: Tensor) -> Tensor:
        image, group = owner[numbers], column[numbers]
        masks = to_unit_range(upsample(maps[image, group - 1][:, None], image_size(images))[:, 0])
        kept = torch.where((group > 0)[:, None, None], masks, 0)[:, None].to(images.dtype)
        return images[image] * kept + background[image] * (1 - kept)

    found = yield ScoreInputs(owner, build)
    scores = found.new_zeros(queued.shape).index_put((owner, column), found).to(maps.dtype)
    gains = torch.where(queued, scores - scores[:, :1], 0)[:, 1:]
    raw = torch.stack([_weighted(one, gain, image_size(images)) for one, gain in zip(maps, gains, strict=True)])
    return Raw(raw, {"groups": maps.shape[:2].numel(), "groups_skipped": queued.numel() - len(owner)})


def blur(images: Tensor) -> Tensor:
    """Blur (N, c, H, W) images by a Gaussian of sigma 50 in a window of 51 x 51, or of what a smaller image has."""
    for dim in (2, 3):
        radius = min(_BLUR_RADIUS, images.shape[dim] - 1)
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        line = (-(offsets**2) / (2 * _BLUR_SIGMA**2)).exp()
        kernel = (line / line.sum()).view((1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1))
        padding = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        kernel = kernel.expand(images.shape[1], -1, -1, -1)
        images = F.conv2d(F.pad(images, padding, mode="reflect"), kernel, groups=images.shape[1])
    return images


def _grouped(activations: Tensor, gradients: Tensor, groups: int) -> Tensor:
    """(N, C, h, w) to (N, G, h, w): Grad-CAM of each group of neighbouring channels."""
    activations, gradients = at_least_float32(activations), at_least_float32(gradients)
    weighted = gradients.mean(dim=(2, 3), keepdim=True) * activations
    # the sizes of torch.chunk, as in the authors' code: fewer groups where the channels do not fill them
    parts = weighted.chunk(groups, dim=1)
    return torch.stack([part.sum(dim=1) for part in parts], dim=1).relu()


def _denoised(maps: Tensor, percentile: float) -> Tensor:
    """Set all values of each (h, w) map up to its percentile to zero."""
    # torch.quantile refuses more than 16 million values
    ordered = maps.flatten(2).sort(dim=2).values
    place = percentile / 100 * (ordered.shape[2] - 1)
    below, above = ordered[:, :, int(place)], ordered[:, :, min(int(place) + 1, ordered.shape[2] - 1)]
    threshold = torch.lerp(below, above, place - int(place))
    return torch.where(maps > threshold[:, :, None, None], maps, 0)


def _weighted(maps: Tensor, gains: Tensor, size: tuple[int, int]) -> Tensor:
    """Sum of the (G, h, w) maps of an image, each scaled as its mask is."""
    masks = upsample(maps[:, None], size)[:, 0]
    low = masks.amin(dim=(1, 2), keepdim=True)
    span = masks.amax(dim=(1, 2), keepdim=True) - low
    return torch.einsum("g,gij->ij", gains, torch.where(span > 0, (maps - low) / span, 0))
