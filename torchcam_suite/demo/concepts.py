"""Which colours separate the families of creatures: the TCAV of the demo."""

from typing import Any

import torch

from torchcam_suite.concepts import TcavResult, tcav
from torchcam_suite.datasets.creatures import FAMILIES, dataset
from torchcam_suite.demo.colours import COLOURS, pictures
from torchcam_suite.models import Model

__all__ = ["CREATURES", "LAYER", "PICTURES", "RANDOM_SETS", "ask_colours"]

#: The deepest layer whose sensitivities differ between pictures: from conv2d_5 on the model is linear.
LAYER = "conv2d_4"
PICTURES, RANDOM_SETS, CREATURES = 15, 119, 15
_CONCEPTS_SEED, _RANDOM_SEED, _CREATURES_SEED = 31, 32, 33


def ask_colours(model: Model) -> TcavResult:
    """Test six colours for each of the three families, as the article on TCAV does for its three.

    Procedural pictures of each colour are told from such of any colour, by the mean activation of each channel. The p
    values of the 18 questions are corrected by Benjamini and Hochberg's rule: of what is called significant, 5 % at
    most are expected to be wrong. Holm's, which allows hardly a single wrong one, would need three times as many random
    pictures.

    Parameters
    ----------
    model : Model
        The demo's.
    """
    creatures: dict[str, list] = {family: [] for family in FAMILIES}
    for family, picture, _ in dataset(CREATURES, _CREATURES_SEED, size=model.input.height):
        creatures[family].append(picture)
    # the same numbers in another order in memory, in which these few channels take half the time
    module: Any = model.module  # whose types know of no memory format in torch 2.8
    module.to(memory_format=torch.channels_last)
    return tcav(
        model,
        layers=LAYER,
        concepts={colour: list(pictures(colour, PICTURES, _CONCEPTS_SEED)) for colour in COLOURS},
        target=creatures,
        random=list(pictures("any", RANDOM_SETS * PICTURES, _RANDOM_SEED)),
        runs=RANDOM_SETS,
        pool="mean",
        correction="benjamini_hochberg",
        batch_size=16,
    )
