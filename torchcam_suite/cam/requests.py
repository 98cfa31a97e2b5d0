"""What a method may ask of the model, beside what was recorded of one pass.

A method yields a request and is sent the answer; what all layers ask at the same time is answered together. Requests
that are equal are answered once.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchcam_suite.cam.method import Raw


@dataclass(frozen=True, eq=False)
class ScoreInputs:
    """Ask for the score of the target for M inputs, as images under masks. The answer is a tensor (M,).

    Attributes
    ----------
    owner : Tensor
        (M,) long, the image of the batch that an input was made of, whose target is scored.
    build : function
        Numbers (m,) out of 0 to M - 1, long, to inputs (m, c, H, W). Called for one chunk after the other, so that no
        more than one chunk is ever in memory.
    """

    owner: Tensor
    build: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ScoreFeatures:
    """Ask for the score of the target where the layer's feature maps are replaced. The answer is a tensor (M,).

    Attributes
    ----------
    owner : Tensor
        (M,) long, ascending, the image that goes through the other parts of the model.
    build : function
        Numbers (m,) out of 0 to M - 1, long, to feature maps (m, C, h, w).
    """

    owner: Tensor
    build: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Gradient:
    """Ask for the gradient at the layer, (N, C, h, w), of something else than the target's score.

    Attributes
    ----------
    objective : function
        Logits (N, classes) and classes (N,) to values (N,); comparable, as a frozen dataclass, so that one backward
        pass serves all layers.
    """

    objective: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Record:
    """Ask for activations and gradients, both (N, C, h, w), of changed images.

    Attributes
    ----------
    change : function
        Images (N, c, H, W) to images; comparable, as a frozen dataclass, so that one pass serves all layers.
    """

    change: Callable[[Tensor], Tensor]


Request = ScoreInputs | ScoreFeatures | Gradient | Record
Steps = Generator[Request, Any, Tensor | Raw]
