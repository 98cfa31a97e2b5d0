"""Differences to other libraries that are no maps: what they leave on a model, and what they do without evidence."""

import copy
import io
from contextlib import redirect_stderr

import pytorch_grad_cam
import torch
import torchcam.methods
from difference_settings import Setting
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from torchcam_suite import explain, load


def left_behind(setting: Setting) -> list[str]:
    """Of a model in the middle of training."""
    found = []
    for name in ("pytorch-grad-cam", "torchcam_suite"):
        module = copy.deepcopy(setting.model.module).train()
        if name == "pytorch-grad-cam":
            _pytorch_grad_cam(setting, module)
        else:
            model = load(module, input_size=tuple(setting.images.shape[1:]), device="cpu")
            module.train()  # which load has ended
            explain(model, setting.images[:1], layer=setting.layer, target=0)
        weights, parts = list(module.parameters()), list(module.modules())
        gradients = sum(weight.grad is not None for weight in weights)
        training = sum(part.training for part in parts)
        found.append(
            f"{name}: {gradients} of {len(weights)} parameters have a `.grad`, {training} of {len(parts)} modules are "
            "still in training mode"
        )
    return found


def no_evidence(setting: Setting) -> list[str]:
    """Of a class whose logit falls with every activation."""
    module = copy.deepcopy(setting.model.module)
    with torch.no_grad():
        module.fc.weight[0] = -module.fc.weight[0].abs()
    with torchcam.methods.GradCAM(module, setting.layer) as extractor:
        sibling = extractor([0], module(setting.images[:1]))[0]
    maps = {"pytorch-grad-cam": _pytorch_grad_cam(setting, module), "torch-cam": sibling}
    return [
        f"{name} GradCAM: values from {float(found.min()):g} to {float(found.max()):g}, and no warning"
        for name, found in maps.items()
    ]


def half_precision(setting: Setting) -> list[str]:
    """Of a model in bfloat16."""
    module = copy.deepcopy(setting.model.module).bfloat16()
    try:
        _pytorch_grad_cam(setting, module, setting.images.bfloat16())
    except TypeError as error:
        return [f"pytorch-grad-cam GradCAM: `TypeError: {error}`"]
    return ["pytorch-grad-cam GradCAM: no error"]


def _pytorch_grad_cam(setting: Setting, module: nn.Module, images: Tensor | None = None) -> Tensor:
    given = setting.images if images is None else images
    with (
        redirect_stderr(io.StringIO()),
        pytorch_grad_cam.GradCAM(module, [module.get_submodule(setting.layer)]) as extractor,
    ):
        return torch.from_numpy(extractor(given[:1], [ClassifierOutputTarget(0)]))
