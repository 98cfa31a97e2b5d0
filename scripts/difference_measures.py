"""How each difference to other libraries is measured: functions of a setting to pairs of maps."""

from collections.abc import Callable
from typing import Any

import captum.attr
import torch
import torchcam.methods
from difference_settings import Pair, Setting
from torch import Tensor, nn

from torchcam_suite import explain, load
from torchcam_suite.cam import fuse_layers

Measure = Callable[[Setting], list[Pair]]


def several(*measures: Measure) -> Measure:
    """One after the other."""
    return lambda setting: [pair for measure in measures for pair in measure(setting)]


def checked(method: str, library: str, theirs: str, what: str = "") -> Measure:
    """A row of the cross-check."""

    def measure(setting: Setting) -> list[Pair]:
        return [Pair(what or f"{library} {theirs}", *setting.crosschecked(method, library, theirs))]

    return measure


def option(method: str, name: str, first: Any, second: Any, **common: Any) -> Measure:
    """What one of our options changes."""

    def measure(setting: Setting) -> list[Pair]:
        ours, other = (setting.ours(method, **{name: value}, **common) for value in (first, second))
        return [Pair(f"ours, `{name}={first!r}` beside `{second!r}`", ours, other)]

    return measure


# ---------------------------------------------------------------- from the raw map to the picture


def no_relu(setting: Setting) -> list[Pair]:
    signed = setting.by_captum("LayerGradCam", setting.layer)
    stretched = setting.finished(signed, relu="none", normalize="minmax")
    return [Pair("its values, from minimum to maximum", setting.ours(), stretched)]


def nearest(setting: Setting) -> list[Pair]:
    maps = setting.by_captum("LayerGradCam", setting.layer).relu()
    blocks = captum.attr.LayerAttribution.interpolate(maps[:, None], tuple(setting.images.shape[2:]))[:, 0]
    return [Pair("with ReLU, interpolated by its default", setting.ours(), setting.finished(blocks))]


def minimum_and_maximum(setting: Setting) -> list[Pair]:
    ours, theirs = setting.crosschecked("gradcam", "pytorch-grad-cam", "GradCAM")
    return [
        Pair("GradCAM beside our default", setting.ours(), theirs),
        Pair("GradCAM beside `normalize='minmax'`", ours, theirs),
    ]


# ---------------------------------------------------------------- what is seen of the model


def softmax(setting: Setting) -> list[Pair]:
    return [Pair("Grad-CAM of the probability", setting.ours(), setting.ours(of="probability"))]


def in_place(setting: Setting) -> list[Pair]:
    layer, ours = setting.signed, setting.ours(layer=setting.signed, normalize="minmax")
    others = {
        "torch-cam": setting.by_torch_cam("GradCAM", layer),
        "Captum, which copies": setting.by_captum("LayerGradCam", layer),
    }
    return [
        Pair("pytorch-grad-cam", ours, setting.by_pytorch_grad_cam("GradCAM", layer)),
        *(Pair(name, ours, setting.finished(raw, normalize="minmax")) for name, raw in others.items()),
    ]


def shared_module(setting: Setting) -> list[Pair]:
    first, last = (setting.ours(layer=f"{setting.shared}#{call}", normalize="minmax") for call in (0, 1))
    layer = f"{setting.shared}#0"  # they are given the module, whatever the call
    peer = setting.by_pytorch_grad_cam("GradCAM", layer, in_place=False)
    sibling = setting.finished(setting.by_torch_cam("GradCAM", layer, in_place=False), normalize="minmax")
    return [
        Pair("pytorch-grad-cam beside our first call", first, peer),
        Pair("pytorch-grad-cam beside our last call", last, peer),
        Pair("torch-cam beside our first call", first, sibling),
        Pair("torch-cam beside our last call", last, sibling),
    ]


# ---------------------------------------------------------------- methods


def x_grad_cam_of_signed_maps(setting: Setting) -> list[Pair]:
    where = {
        "behind a ReLU": (setting, setting.layer),
        "before a ReLU": (setting, setting.signed),
        "before a ReLU, each channel shifted to add up to nearly 0": (setting.centred(), setting.signed),
    }
    peers = {"pytorch-grad-cam": "XGradCAM", "torch-cam": "XGradCAM"}
    return [
        Pair(f"{library}, {what}", *one.crosschecked("xgradcam", library, name, layer=layer))
        for what, (one, layer) in where.items()
        for library, name in peers.items()
    ]


def ablation_of_signed_maps(setting: Setting) -> list[Pair]:
    peer = "ablationcam", "pytorch-grad-cam", "AblationCAM"
    layers = [layer for layer in (setting.layer, setting.signed, setting.added) if layer]
    negative = setting.crosschecked(*peer, classes=setting.least_classes)
    return [
        *(Pair(f"at `{layer}`", *setting.crosschecked(*peer, layer=layer)) for layer in layers),
        Pair(f"at `{setting.layer}`, the class of the lowest score", *negative),
    ]


def eigen_sign(setting: Setting) -> list[Pair]:
    theirs = setting.by_pytorch_grad_cam("EigenCAM", setting.layer)
    return [Pair("EigenCAM, centred", setting.ours("eigencam", normalize="minmax", center=True), theirs)]


def fused(setting: Setting) -> list[Pair]:
    layers = [setting.shallow, setting.layer]
    explained = explain(setting.model, setting.images, method="layercam", layer=layers, target=setting.classes)
    ours, raws = fuse_layers(explained).maps, [found.raw for found in explained.values()]
    mean = torch.stack([setting.ours("layercam", layer=layer, normalize="minmax") for layer in layers]).mean(dim=0)
    scaled = [raw / raw.amax(dim=(1, 2), keepdim=True).clamp(min=1e-8) for raw in raws]
    fuse = torchcam.methods.LayerCAM.fuse_cams
    return [
        Pair("pytorch-grad-cam: mean", ours, setting.finished(mean)),
        Pair("torch-cam: `fuse_cams` of raw maps", ours, setting.finished(fuse([raw.clone() for raw in raws]))),
        Pair("torch-cam: `fuse_cams` of scaled maps", ours, setting.finished(fuse(scaled))),
    ]


def guided_interpolation(setting: Setting) -> list[Pair]:
    ours, bilinear = setting.crosschecked("guidedgradcam", "captum", "GuidedGradCam")
    blocks = setting.by_captum("GuidedGradCam", setting.layer, in_place=False)
    return [
        Pair("GuidedGradCam, default", ours, setting.finished(blocks)),
        Pair("GuidedGradCam, `interpolate_mode='bilinear'`", ours, bilinear),
    ]


class _Functional(nn.Module):
    """ReLUs that are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.second(self.first(images).relu()).relu().mean(dim=(2, 3)))


class _Skipping(_Functional):
    """What goes into a ReLU also goes round it."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        return self.fc(self.second(x - 2 * self.relu(x)).mean(dim=(2, 3)))


def _guided(net: nn.Module, what: str, setting: Setting) -> Pair:
    model = load(net, input_size=tuple(setting.images.shape[1:]), device="cpu")
    ours = explain(model, setting.images, method="guidedbackprop", target=0).maps
    maps = captum.attr.GuidedBackprop(net).attribute(setting.images.clone(), target=0).abs().amax(dim=1)
    return Pair(what, ours, setting.finished(maps))


def relu_functions(setting: Setting) -> list[Pair]:
    torch.manual_seed(0)
    return [
        _guided(_Functional().eval(), "Captum, a net of two convolutions with `x.relu()`", setting),
        _guided(_Skipping().eval(), "Captum, a net with `x - 2 * relu(x)`", setting),
    ]


def finer_of_saturated(setting: Setting) -> list[Pair]:
    return several(
        checked("finercam", "pytorch-grad-cam", "FinerCAM", "pytorch-grad-cam beside `variant='official', gamma=1`"),
        checked("finercam", "torch-cam", "FinerCAM", "torch-cam beside our default"),
        option("finercam", "variant", "paper", "official"),
    )(setting)
