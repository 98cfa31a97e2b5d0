"""Maps that know nothing: what any method has to be better than."""

import hashlib
from typing import Literal

import torch
from torch import Tensor

from torchcam_suite.cam.method import Rules, method
from torchcam_suite.cam.saliency_map import at_least_float32
from torchcam_suite.cam.score import require_batch

Resolution = Literal["layer", "input"]


@method(
    "randommap",
    "Random map",
    "uniform noise, the baseline of every comparison",
    source="none",
    cost="one forward",
    rules=Rules("logit", "none", "minmax"),
)
def random_map(activations: Tensor, images: Tensor, *, resolution: Resolution = "layer", seed: int = 0) -> Tensor:
    r"""Uniform random numbers as a map: a baseline for figures of faithfulness and localisation.

    .. math::

        M_{ij} \sim U(0, 1)

    At the layer's resolution the map is as smooth as those of class activation maps of this layer, which is the fair
    comparison; at the input's it is white noise. Each image has a map of its own, drawn from the seed and the image's
    values, so that it does not depend on the rest of the batch.

    Parameters
    ----------
    activations : Tensor
        A, (N, C, h, w); only its size matters.
    images : Tensor
        X, (N, c, H, W), the model's input.
    resolution : {"layer", "input"}
        Of the map.
    seed : int
        Another seed gives other maps.

    Returns
    -------
    Tensor
        (N, h, w) or (N, H, W), float32 or wider, from 0 to 1.

    Raises
    ------
    LayerError
        The activations are not feature maps.
    ValueError
        The shapes do not fit.
    """
    require_batch(activations, images)
    size = (activations if resolution == "layer" else images).shape[2:]
    drawn = torch.stack([_uniform(size, _seed_of(image, seed)) for image in images])
    return drawn.to(images.device, at_least_float32(activations).dtype)


def _uniform(size: torch.Size, seed: int) -> Tensor:
    # whatever the default dtype and device are: each draws other numbers
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator, dtype=torch.float32, device="cpu")


def _seed_of(image: Tensor, seed: int) -> int:
    values = image.detach().cpu().contiguous().view(torch.uint8).numpy()
    return int.from_bytes(hashlib.blake2b(values.tobytes() + str(seed).encode(), digest_size=7).digest())
