"""A method of another library beside one of ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchcam_suite.cam.gradient import x_grad_cam
from torchcam_suite.cam.guided_relu import GuidedReLU
from torchcam_suite.crosscheck.subject import Subject

ANY = ""


@dataclass(frozen=True)
class Peer:
    """A method of another library beside one of ours.

    Attributes
    ----------
    name : str
        As the library calls it, with the settings that matter.
    ours : str
        A key of `torchcam_suite.cam.METHODS`, or `ANY` for one that stands beside whatever is asked for.
    compute : function
        A subject to maps: (N, h, w) where `compared` is "raw", (N, H, W) where it is "maps".
    options : dict
        Of our method.
    compared : {"raw", "maps"}
        Which attribute of our `Explanation` is the same thing.
    either_sign : bool
        Whether the sign is arbitrary; the one that is nearer to ours is taken.
    rounding : float
        The largest error, relative to the largest value, that sums in another order may make in float32.
    difference : str, or function of the subject
        What is defined in another way; empty where the definition is the same, so that only rounding may differ.
    added : float
        What the library adds to the largest value of a map, by which it divides twice.
    cost : {"quick", "slow"}
        Slow is what takes tens of passes an image: it is run where it is asked for.
    """

    name: str
    ours: str
    compute: Callable[[Subject], Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    compared: Literal["raw", "maps"] = "raw"
    either_sign: bool = False
    rounding: float = 1e-4
    difference: str | Callable[[Subject], str] = ""
    added: float = 0.0
    cost: Literal["quick", "slow"] = "quick"


def sums_that_cancel(added: float) -> Callable[[Subject], str]:
    """Tell of channels that add up to nearly nothing, by whose sum XGrad-CAM divides.

    Parameters
    ----------
    added : float
        What the other library adds to each sum.

    Returns
    -------
    function of the subject
        The difference that this makes; empty where no channel does.
    """

    def difference(subject: Subject) -> str:
        activations, gradients = subject.recorded()
        total, size = activations.sum(dim=(2, 3)), activations.abs().sum(dim=(2, 3))
        cancel = (total.abs() < 1e-3 * size) & (size > 0)
        # how far the added number moves the map, by each channel
        weights = torch.where(total != 0, (gradients * activations).sum(dim=(2, 3)) / total, 0)
        moved = (weights * added / torch.where(total != 0, total, 1)).abs() * activations.abs().amax(dim=(2, 3))
        largest = x_grad_cam(activations, gradients).abs().amax(dim=(1, 2))
        channels = int((cancel | (moved > 2e-5 * largest[:, None])).sum())
        if not channels:
            return ""
        return f"it divides by sums of {channels} channels that are nearly zero, with a small number added to them"

    return difference


def relus_of_no_module(subject: Subject) -> str:
    """Tell of ReLUs that are no `nn.ReLU`, to which other libraries do not apply the guided rule.

    Returns
    -------
    str
        The difference that this makes; empty where there is none.
    """
    calls: list[nn.Module] = []
    modules = [part for part in subject.module.modules() if isinstance(part, nn.ReLU)]
    handles = [part.register_forward_hook(lambda part, *_: calls.append(part)) for part in modules]
    with torch.no_grad(), GuidedReLU() as guided:
        subject.module(subject.images[:1])
    for handle in handles:
        handle.remove()
    if guided.count == len(calls):
        return ""
    return f"it guides nn.ReLU modules alone; {guided.count - len(calls)} of {guided.count} ReLUs are none"
