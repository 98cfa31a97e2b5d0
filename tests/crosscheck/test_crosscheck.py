"""Ours beside the other libraries: the same where the definition is the same, and nothing is left behind."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import residual, results, some_images
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import torchcam_suite
from torchcam_suite import crosscheck, explain, load
from torchcam_suite.cam import METHODS
from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.crosscheck import LIBRARIES, CrossCheck
from torchcam_suite.crosscheck.peer import Peer
from torchcam_suite.errors import LayerError, MissingLibraryError, SourceError, TargetError

SAME = {
    "captum": {
        ("gradcam", "LayerGradCam"),
        ("hirescam", "LayerGradientXActivation"),
        ("elementwisegradcam", "LayerGradientXActivation"),
        ("guidedbackprop", "GuidedBackprop"),
        ("guidedgradcam", "GuidedGradCam"),
    },
    "pytorch-grad-cam": {
        ("gradcam", "GradCAM"),
        ("xgradcam", "XGradCAM"),
        ("hirescam", "HiResCAM"),
        ("elementwisegradcam", "GradCAMElementWise"),
        ("layercam", "LayerCAM"),
        ("eigencam", "EigenCAM"),
        ("eigengradcam", "EigenGradCAM"),
        ("finercam", "FinerCAM"),
        ("guidedbackprop", "GuidedBackpropReLUModel"),
    },
    "torch-cam": {
        ("cam", "CAM"),
        ("gradcam", "GradCAM"),
        ("xgradcam", "XGradCAM"),
        ("layercam", "LayerCAM"),
        ("finercam", "FinerCAM"),
    },
}


PIXELS = ["Saliency", "IntegratedGradients", "Occlusion"]


@pytest.fixture(scope="module")
def found() -> CrossCheck:
    """All quick methods, at the third call of an in-place ReLU."""
    model = residual()
    return crosscheck(model, some_images(model), layer="relu#2", target=[3, 1])


@pytest.fixture(scope="module")
def pixels() -> CrossCheck:
    """What explains the pixels, beside Grad-CAM."""
    model = residual()
    return crosscheck(model, some_images(model), layer="relu#2", target=[3, 1], methods=PIXELS)


@pytest.mark.parametrize("library", SAME)
def test_the_same_definition_differs_by_rounding_alone(found: CrossCheck, library: str) -> None:
    got = results(found, library)
    assert {pair for pair, result in got.items() if result == "same"} == SAME[library]
    rows = [row for row in found.rows if (row.method, row.theirs) in SAME[library] and row.library == library]
    for row in rows:
        assert row.error < 1e-5
        assert row.their_maps.flatten(1).std(dim=1).min() > 1e-2
        assert row.rank_correlation == pytest.approx(1, abs=1e-3)
    assert found.failed == ()


def test_nothing_that_was_asked_is_left_out(found: CrossCheck) -> None:
    assert found.left_out == ()
    assert {row.library for row in found.rows} == set(LIBRARIES)


@pytest.mark.parametrize("name", PIXELS)
def test_another_definition_has_a_rank_correlation_an_overlap_and_a_reason(pixels: CrossCheck, name: str) -> None:
    (row,) = [row for row in pixels.rows if row.theirs == name]
    assert (row.method, row.library, row.result) == ("gradcam", "captum", "other")
    assert row.difference
    assert row.rank_correlation is not None
    assert -1 < row.rank_correlation < 0.99
    assert row.top_overlap is not None
    assert 0 <= row.top_overlap < 0.99
    assert row.their_maps.shape == (2, 16, 16)


def test_captums_input_methods_are_its_own(found: CrossCheck) -> None:
    # by hand, of a plain forward pass: the rows above could hold anything
    model = residual()
    images = some_images(model).requires_grad_()
    model.logits(images).gather(1, torch.tensor([[3], [1]])).sum().backward()
    assert images.grad is not None
    expected = images.grad.abs().amax(dim=1)
    (row,) = [row for row in found.rows if row.theirs == "Saliency"]
    torch.testing.assert_close(row.their_maps, expected / expected.amax(dim=(1, 2), keepdim=True))


def test_our_maps_are_those_of_explain(found: CrossCheck) -> None:
    model = residual()
    expected = explain(model, some_images(model), layer="relu#2", target=[3, 1])
    for row in found.rows:
        if row.method == "gradcam" and row.library != "pytorch-grad-cam":
            torch.testing.assert_close(row.our_maps, expected.maps)


def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Grad-CAM be wrong by a little at one position."""

    def function(activations: Tensor, gradients: Tensor) -> Tensor:
        raw = grad_cam(activations, gradients)
        raw[:, 0, 0] += 1e-3 * raw.abs().amax()
        return raw

    monkeypatch.setitem(METHODS, "gradcam", replace(METHODS["gradcam"], function=function))


def test_a_wrong_map_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong(monkeypatch)
    model = residual()
    found = crosscheck(model, some_images(model), layer="relu#2", target=1, libraries=["captum", "torch-cam"])
    failed = {(row.library, row.theirs) for row in found.failed}
    assert ("captum", "LayerGradCam") in failed
    assert {row.method for row in found.failed} == {"gradcam"}
    assert results(found, "captum")["hirescam", "LayerGradientXActivation"] == "same"
    assert "FAILED" in str(found)


@pytest.mark.parametrize("target", [0, 1])
def test_a_single_logit_head_is_explained_on_either_side(target: int) -> None:
    model = residual(classes=1)
    found = crosscheck(model, some_images(model), layer="last", target=target, methods=["gradcam", "hirescam"])
    rows = [row for row in found.rows if row.same_definition]
    assert len(rows) == 5
    assert {row.result for row in rows} == {"same"}


def difference(logits: Tensor) -> Tensor:
    """Of two classes."""
    return logits[:, 3] - 2 * logits[:, 0]


def test_a_function_is_explained_by_all() -> None:
    model = residual()
    found = crosscheck(model, some_images(model), layer="last", target=difference, methods=["gradcam", "hirescam"])
    rows = [row for row in found.rows if row.same_definition]
    assert len(rows) == 5
    assert {row.result for row in rows} == {"same"}
    assert found.target_names == ("difference", "difference")


def test_an_imported_model_is_explained_by_all(data: Path) -> None:
    model = load(data / "tcav_families/model.h5", preprocessing="unit", device="cpu")
    pictures = sorted((data / "tcav_families/images").glob("*.png"))[:2]
    found = crosscheck(model, pictures, layer="conv2d_5", methods=["gradcam", "hirescam", "elementwisegradcam"])
    rows = [row for row in found.rows if row.same_definition]
    assert len(rows) == 7
    assert {row.result for row in rows} == {"same"}
    assert found.images == tuple(map(str, pictures))
    assert [picture.shape for picture in found.pictures] == [(64, 64, 3)] * 2


def test_methods_of_many_passes_are_compared_when_they_are_named() -> None:
    model = residual()
    found = crosscheck(model, some_images(model), layer="relu#2", target=1, methods=["scorecam", "ablationcam"])
    theirs = {(row.library, row.theirs): row for row in found.rows}
    assert {row.method for row in found.rows} == {"scorecam", "ablationcam"}
    for library in ("pytorch-grad-cam", "torch-cam"):
        row = theirs[library, "ScoreCAM"]
        assert row.result == "other"
        assert row.rank_correlation is not None
        assert row.rank_correlation > 0.9
    assert ("captum", "Saliency") in theirs


@pytest.mark.parametrize(
    ("layer", "target", "difference"),
    [
        ("relu#2", 1, ""),
        ("relu#2", 0, "it divides by the score itself"),
        ("last", 1, "where the smallest activation is not 0"),
    ],
)
def test_ablation_is_the_same_where_the_score_is_positive_and_nothing_activates_at_0(
    layer: str, target: int, difference: str
) -> None:
    model = residual()
    with torch.no_grad():
        model.module.get_parameter("fc.bias").copy_(torch.tensor([-20.0, 20, 0, 0, 0]))
    found = crosscheck(
        model, some_images(model), layer=layer, target=target, methods=["ablationcam"], libraries=["pytorch-grad-cam"]
    )
    (row,) = found.rows
    assert row.difference.startswith(difference)
    assert row.result == ("other" if difference else "same")


class Functional(nn.Module):
    """Half of its ReLUs are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(nn.functional.relu(self.relu(self.conv(images)) - 0.2).mean(dim=(2, 3)))


@pytest.mark.parametrize("library", ["captum", "pytorch-grad-cam"])
def test_relus_that_the_others_do_not_guide_are_told(library: str) -> None:
    torch.manual_seed(0)
    model = load(Functional(), input_size=(3, 12, 12), device="cpu")
    found = crosscheck(
        model, some_images(model), layer="conv", target=2, methods=["guidedbackprop"], libraries=[library]
    )
    row = found.rows[0]
    assert row.difference == "it guides nn.ReLU modules alone; 1 of 2 ReLUs are none"
    assert row.result == "other"


def test_sums_that_nearly_cancel_are_told() -> None:
    model = residual()
    images = some_images(model)
    with torch.no_grad():
        mean = torchcam_suite.activations(model, images, "last")["last"].mean(dim=(0, 2, 3))
        model.module.get_parameter("last.bias").sub_(mean)
    found = crosscheck(model, images[:1], layer="last", target=2, methods=["xgradcam"], libraries=["torch-cam"])
    (signed,) = found.rows
    assert signed.result == "same"
    single = torchcam_suite.activations(model, images[:1], "last")["last"].mean(dim=(0, 2, 3))
    with torch.no_grad():
        model.module.get_parameter("last.bias").sub_(single * (1 - 1e-5))
    found = crosscheck(model, images[:1], layer="last", target=2, methods=["xgradcam"], libraries=["torch-cam"])
    (cancelling,) = found.rows
    assert cancelling.difference.startswith("it divides by sums of 12 channels that are nearly zero")
    assert cancelling.result == "other"


def test_small_sums_are_told_though_they_do_not_cancel() -> None:
    model = residual()
    with torch.no_grad():  # a channel of 1e-8 everywhere counts as much as the others
        model.module.get_parameter("fc.weight").mul_(1e8)
        model.module.get_parameter("last.weight").mul_(1e-8)
        model.module.get_parameter("last.bias").fill_(1e-8)
    images = some_images(model)
    found = crosscheck(model, images, layer="relu#2", target=2, methods=["xgradcam"])
    for row in found.rows:
        if row.theirs == "XGradCAM":
            assert row.error > row.tolerance
            assert "channels that are nearly zero, with a small number added to them" in row.difference
            assert row.result == "other"


@pytest.mark.parametrize(("scale", "result"), [(1.0, "same"), (1e-6, "same"), (1e-14, "other")])
def test_what_is_added_to_the_largest_value_of_a_small_map_is_told(scale: float, result: str) -> None:
    """As small as the gradients of a probability are."""

    def scaled(logits: torch.Tensor) -> torch.Tensor:
        return scale * logits[:, 3]

    model = residual()
    methods = ["gradcam", "hirescam", "layercam"]
    found = crosscheck(
        model, some_images(model), layer="relu#2", target=scaled, methods=methods, libraries=["pytorch-grad-cam"]
    )
    assert [(row.method, row.result) for row in found.rows] == [(method, result) for method in methods]
    for row in found.rows:
        assert (row.error > row.tolerance) == (result == "other")
        assert row.difference.startswith("1e-7 is added to the largest value") == (result == "other")


def test_a_nearly_constant_map_is_judged_before_it_is_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1 + noise of 1e-6: stretched to [0, 1], the noise is all there is
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    noise = 1 + 1e-6 * torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(4))

    def function(activations: Tensor, gradients: Tensor) -> Tensor:
        return noise + 0 * (activations.sum() + gradients.sum())

    monkeypatch.setitem(METHODS, "gradcam", replace(METHODS["gradcam"], function=function))
    unlike = Peer("Unlike", "gradcam", lambda _: noise.flip(2) * 0 + 0.5, {"normalize": "minmax"}, "maps")
    monkeypatch.setitem(LIBRARIES, "torch-cam", LIBRARIES["torch-cam"]._replace(peers=[unlike]))
    (row,) = crosscheck(residual(), images, layer="relu#0", target=1, libraries=["torch-cam"]).rows
    assert row.error < 2e-6
    assert row.result == "same"


def test_components_of_equal_strength_are_told() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(32, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None, None])
    model = load(net, input_size=(3, 4, 4), device="cpu")
    first = torch.tensor([1.0, -1, 1, -1]).repeat(4, 1)
    images = torch.stack([first, first.T, first])[None]
    found = crosscheck(model, images, layer="0", target=1, methods=["eigencam"], libraries=["pytorch-grad-cam"])
    (row,) = found.rows
    assert row.difference == "the first two components are equally strong, so that rounding chooses the first"


def test_a_vision_transformer_is_explained_by_all() -> None:
    torch.manual_seed(0)
    net = VisionTransformer(image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16)
    net.heads = nn.Sequential(nn.Linear(8, 3))
    with torch.no_grad():
        net.heads[0].weight.normal_()
    model = load(net, input_size=16, device="cpu")
    layer = "encoder.layers.encoder_layer_1.ln_1"
    found = crosscheck(model, some_images(model), layer=layer, target=1, methods=["gradcam", "hirescam", "layercam"])
    rows = [row for row in found.rows if row.same_definition]
    assert len(rows) == 7
    assert {row.result for row in rows} == {"same"}
    assert found.left_out == ()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_changes_nothing(found: CrossCheck, mode: Any) -> None:
    model = residual()
    images = some_images(model)
    with mode():
        inside = crosscheck(model, images, layer="relu#2", target=[3, 1], methods=["gradcam"], libraries=["captum"])
    expected = {row.theirs: row for row in found.rows if row.library == "captum" and row.method == "gradcam"}
    assert len(inside.rows) == 2
    for row in inside.rows:
        torch.testing.assert_close(row.their_maps, expected[row.theirs].their_maps)


# ---------------------------------------------------------------- errors


def test_a_library_that_is_missing_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARIES:
        gone = LIBRARIES[name]._replace(module=f"no_{name.replace('-', '_')}", package=f"no-{name}")
        monkeypatch.setitem(LIBRARIES, name, gone)
    model = residual()
    with pytest.raises(MissingLibraryError, match=r"captum .* not installed: .*'torchcam-suite\[crosscheck\]'"):
        crosscheck(model, some_images(model), libraries=["captum"])
    with pytest.raises(MissingLibraryError, match="captum and pytorch-grad-cam and torch-cam cannot be asked"):
        crosscheck(model, some_images(model))


def test_a_library_that_is_missing_is_left_out_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = LIBRARIES["torch-cam"]._replace(module="no_torch_cam", package="no-torch-cam")
    monkeypatch.setitem(LIBRARIES, "torch-cam", gone)
    model = residual()
    found = crosscheck(model, some_images(model), layer="last", target=1, methods=["hirescam"])
    assert found.versions["torch-cam"] is None
    assert {row.library for row in found.rows} == {"captum", "pytorch-grad-cam"}
    assert "torch-cam is not installed" in str(found)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"libraries": ["keras"]}, ValueError, "library 'keras' is not known; expected one of captum, pytorch-grad"),
        ({"methods": ["lime"]}, ValueError, "'lime' does not exist; .*gradcam.*; beside any of these, Saliency, Int"),
        ({"reshape": "tokens"}, ValueError, "reshape='tokens'; expected a function"),
        ({"reshape": lambda maps: maps[0]}, LayerError, r"reshape= gave \(12, 7, 7\) of outputs of shape"),
        ({"layer": "nothing"}, LayerError, "layer 'nothing' is not in this model"),
        ({"layer": "fc"}, LayerError, "layer 'fc' gives 5 values an image; a class activation map needs feature maps"),
        ({"target": 7}, TargetError, "target 7 is out of range"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    model = residual()
    with pytest.raises(error, match=message):
        crosscheck(model, some_images(model), **arguments)


def test_a_plain_module_is_refused() -> None:
    with pytest.raises(SourceError, match="crosscheck takes a Model, not a Identity; open it first"):
        torchcam_suite.crosscheck(nn.Identity(), torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]


def test_other_libraries_are_imported_when_they_are_asked() -> None:
    code = "import sys, torchcam_suite.cli; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    assert "torchcam_suite" in loaded
    assert not loaded & {"captum", "pytorch_grad_cam", "torchcam", "matplotlib", "sklearn"}
