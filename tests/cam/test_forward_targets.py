"""Methods of many passes explain functions of the logits, either side of a binary head, and batches of targets."""

from typing import Any

import pytest
import torch
from cases import toy
from torch import Tensor, nn

from torchcam_suite import Model, explain, load
from torchcam_suite.cam import METHODS

pytestmark = pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")

MANY = [name for name, method in METHODS.items() if method.cost == "many forwards"]
CHEAP = {"samples": 2, "masks": 30, "groups": 3, "channels": 4}


def raw(model: Model, images: Tensor, name: str, **arguments: Any) -> Tensor:
    method = METHODS[name]
    cheap = {option: value for option, value in CHEAP.items() if option in method.options}
    layer = "3" if method.takes_layer else None
    return explain(model, images, method=name, layer=layer, of="logit", relu="after", **cheap, **arguments).raw


@pytest.mark.parametrize("name", MANY)
def test_a_function_that_picks_a_logit_is_that_class(name: str) -> None:
    case = toy()
    expected = raw(case.model, case.images, name, target=2)
    assert expected.std() > 1e-4
    found = raw(case.model, case.images, name, target=lambda logits: logits[:, 2])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", MANY)
def test_each_image_has_its_own_target(name: str) -> None:
    case = toy()
    both = raw(case.model, case.images, name, target=[3, 1])
    for image, target in enumerate([3, 1]):
        alone = raw(case.model, case.images[image], name, target=target)
        torch.testing.assert_close(both[image], alone[0], rtol=1e-10, atol=1e-12)
    assert (both[1] - raw(case.model, case.images[1], name, target=3)[0]).abs().max() > 1e-4


# Group-CAM's masks are made of gradients, whose positive parts differ between the classes
@pytest.mark.parametrize("name", [name for name in MANY if name != "groupcam"])
def test_class_0_of_a_binary_head_is_minus_class_1(name: str) -> None:
    torch.manual_seed(4)
    net = nn.Sequential(*toy().model.module[:7], nn.Linear(60, 1).double())
    model = load(net, input_size=(3, 16, 12), preprocessing="unit", head="sigmoid", device="cpu")
    images = toy().images
    options = {"variant": "keep-learning"} if name == "scorecam" else {}
    no, yes = (raw(model, images, name, target=target, **options) for target in (0, 1))
    assert yes.std() > 1e-4
    torch.testing.assert_close(no, -yes, rtol=1e-10, atol=1e-12)
