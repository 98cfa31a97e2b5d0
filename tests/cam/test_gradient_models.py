"""The gradient family on whole models: torchvision's ResNet-18 with its in-place ReLUs, and an imported Keras model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import GuidedBackprop, GuidedGradCam
from cases import toy
from pytorch_grad_cam import GradCAMElementWise, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from torchcam_suite import Model, explain, load
from torchcam_suite.cam import METHODS
from torchcam_suite.recorder import Recorder

pytestmark = [
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
    # of onnx2torch, for any UpSampling2D; the certificate proves that it is not so here
    pytest.mark.filterwarnings("ignore:Pytorch's nearest neighbor interpolation:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning"),
]

AT_A_LAYER = (
    "gradcam++", "smoothgradcam++", "hirescam", "elementwisegradcam", "xgradcam", "layercam", "eigencam",
    "eigengradcam", "finercam", "guidedgradcam",
)  # fmt: skip
AT_THE_INPUT = ("fullgrad", "guidedbackprop")
FEWER: dict[str, dict[str, Any]] = {"smoothgradcam++": {"samples": 2}}


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def imported(data: Path) -> Model:
    """An imported Keras model with BatchNormalization, separable convolutions, an Add and a softmax of five."""
    return load(data / "keras224/keras224_func.h5", preprocessing="unit", device="cpu")


@pytest.fixture(scope="module")
def resnet() -> Model:
    """torchvision's ResNet-18, its BatchNorm statistics set by a few batches, so that it tells images apart."""
    torch.manual_seed(0)
    net = torchvision.models.resnet18(weights=None)
    for seed in range(3):
        net(seeded(8, 3, 64, 64, seed=seed))
    return load(net, input_size=64, device="cpu")


LAYERS = {"imported": ["relu6", "act1"], "resnet": ["layer4", "layer2"]}


def state_of(module: nn.Module) -> tuple[Any, ...]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        sum(len(getattr(part, name)) for part in module.modules() for name in hooks),
        [part.training for part in module.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in module.parameters()],
        [type(part) for part in module.modules()],
    )


def require_maps(raw: Tensor) -> None:
    assert raw.isfinite().all()
    # a random network may have no evidence for a class in one of the images
    assert raw.std() > 1e-3 * raw.abs().max() > 0


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", AT_A_LAYER)
def test_a_list_of_layers_gives_what_each_gives_alone(method: str, kind: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(kind)
    images, options = seeded(2, *model.input, seed=7), {"method": method, "target": [1, 3], **FEWER.get(method, {})}
    before = state_of(model.module)
    together = explain(model, images, layer=LAYERS[kind], relu="after", **options)
    assert state_of(model.module) == before
    for layer, found in together.items():
        require_maps(found.raw)
        assert found.maps.shape == (2, *model.input[1:])
        alone = explain(model, images, layer=layer, relu="after", **options)
        torch.testing.assert_close(found.raw, alone.raw, rtol=1e-4, atol=1e-4 * float(alone.raw.abs().max()))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", AT_THE_INPUT)
def test_without_a_layer_the_input_is_explained(method: str, kind: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(kind)
    before = state_of(model.module)
    found = explain(model, seeded(2, *model.input, seed=7), method=method, target=[1, 3])
    assert state_of(model.module) == before
    assert (found.layer, tuple(found.raw.shape)) == ("input", (2, *model.input[1:]))
    require_maps(found.raw)


@pytest.mark.parametrize("method", ["layercam", "smoothgradcam++", "finercam", "fullgrad", "guidedgradcam", "cam"])
def test_a_frozen_model_in_inference_mode_works_as_well(resnet: Model, method: str) -> None:
    images, options = seeded(1, 3, 64, 64, seed=7), {"method": method, "target": 1, **FEWER.get(method, {})}
    expected = explain(resnet, images, **options).raw
    resnet.module.requires_grad_(False)
    try:
        with torch.inference_mode():
            found = explain(resnet, images, **options).raw
    finally:
        resnet.module.requires_grad_(True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", [*AT_A_LAYER, *AT_THE_INPUT, "cam"])
def test_a_bfloat16_model_gives_nearly_the_same_map(method: str) -> None:
    maps, images = [], toy().images
    for dtype in (torch.bfloat16, torch.float64):
        case = toy(dtype, pooled=method == "cam")
        layer = None if method in AT_THE_INPUT else case.layer
        found = explain(case.model, images, method=method, layer=layer, target=2, relu="after", **FEWER.get(method, {}))
        maps.append(found.raw.double())
    require_maps(maps[1])
    cosine = torch.nn.functional.cosine_similarity(maps[0].flatten(), maps[1].flatten(), dim=0)
    assert cosine > 0.95


@pytest.mark.parametrize("method", ["gradcam++", "hirescam", "layercam", "xgradcam", "elementwisegradcam", "finercam"])
def test_one_backward_pass_serves_all_layers(resnet: Model, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, plain = [], Recorder.gradients

    def counted(recorder: Recorder, score: Tensor, **options: Any) -> Any:
        passes.append(score)
        return plain(recorder, score, **options)

    monkeypatch.setattr(Recorder, "gradients", counted)
    explain(resnet, seeded(1, 3, 64, 64), method=method, layer=["layer2", "layer3", "layer4"], target=1)
    assert len(passes) == 1
    assert METHODS[method].cost == "one backward"


def test_cam_is_the_dense_weights_of_resnet(resnet: Model) -> None:
    images, targets = seeded(2, 3, 64, 64, seed=7), [5, 400]
    found = explain(resnet, images, method="cam", layer="layer4", target=targets)
    net, kept = resnet.module, []
    with net.get_submodule("layer4").register_forward_hook(lambda *args: kept.append(args[2])), torch.no_grad():
        net(images)
    expected = torch.einsum("nk,nkij->nij", net.fc.weight[targets].detach(), kept[0])
    require_maps(found.raw)
    torch.testing.assert_close(found.raw, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "theirs", "tolerance"),
    [
        ("hirescam", HiResCAM, 1e-4),
        ("elementwisegradcam", GradCAMElementWise, 1e-4),
        ("layercam", LayerCAM, 1e-4),
        ("xgradcam", XGradCAM, 1e-3),
    ],
)
def test_pytorch_grad_cam_gives_the_same_raw_map(resnet: Model, method: str, theirs: type, tolerance: float) -> None:
    images = seeded(2, 3, 64, 64, seed=7)
    found = explain(resnet, images, method=method, layer="layer2", target=[5, 400], relu="after")
    with theirs(model=resnet.module, target_layers=[resnet.module.get_submodule("layer2")]) as peer:
        peer(images, [ClassifierOutputTarget(5), ClassifierOutputTarget(400)])
        kept = peer.activations_and_grads
        arrays = [kept.activations[0].numpy(), kept.gradients[0].numpy()]
        expected = peer.get_cam_image(images, None, None, *arrays, False)
    require_maps(torch.from_numpy(expected))
    np.testing.assert_allclose(found.raw, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_captum_gives_the_same_guided_maps_of_resnet(resnet: Model) -> None:
    images, targets = seeded(2, 3, 64, 64, seed=7), torch.tensor([5, 400])
    torch.manual_seed(0)
    net = torchvision.models.resnet18(weights=None)
    net.load_state_dict(resnet.module.state_dict())
    net.eval()
    for part in net.modules():
        if isinstance(part, nn.ReLU):  # which Captum's hooks do not bear
            part.inplace = False
    plain = load(net, input_size=64, device="cpu")
    found = explain(resnet, images, method="guidedbackprop", target=targets)
    torch.testing.assert_close(found.raw, explain(plain, images, method="guidedbackprop", target=targets).raw)
    expected = GuidedBackprop(net).attribute(images.clone().requires_grad_(), targets).detach().abs().amax(dim=1)
    require_maps(expected)
    torch.testing.assert_close(found.raw, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    both = explain(resnet, images, method="guidedgradcam", layer="layer4", target=targets)
    theirs = GuidedGradCam(net, net.layer4).attribute(
        images.clone().requires_grad_(), targets, interpolate_mode="bilinear"
    )
    require_maps(both.raw)
    expected = theirs.detach().abs().amax(dim=1)
    torch.testing.assert_close(both.raw, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
