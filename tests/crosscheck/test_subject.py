"""What other libraries get to explain is the model, but not the model itself."""

from pathlib import Path

import pytest
import torch
from nets import residual, some_images
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from torchcam_suite import Model, activations, load
from torchcam_suite.crosscheck.subject import Subject, make_subject
from torchcam_suite.recorder import Recorder
from torchcam_suite.targets import Target, resolve


def subject(model: Model, layer: str, target: Target = 1) -> Subject:
    images = some_images(model)
    with torch.no_grad():
        logits = model.logits(images)
    targets = resolve(target, logits, model.class_names)
    return make_subject(model, layer, images, targets, logits.shape[1])


def gradients(model: Model, layer: str, target: int) -> Tensor:
    """By our recorder, of the logit."""
    site = model.layers.site(layer)
    with Recorder(model.module, [site], gradients=True) as recorder:
        return recorder.gradients(recorder.run(model.logits, some_images(model))[:, target].sum())[site]


@pytest.mark.parametrize("layer", ["stem", "bn", "relu#0", "relu#1", "relu#2", "last"])
def test_the_layer_that_is_meant_is_seen_with_its_gradient(layer: str) -> None:
    model = residual()
    found, gradient = subject(model, layer).recorded()
    expected = activations(model, some_images(model), layer)[layer]
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient, gradients(model, layer, 1))


def test_an_imported_model_gives_its_logits(data: Path) -> None:
    model = load(data / "tcav_families/model.h5", preprocessing="unit", device="cpu")
    one = subject(model, "conv2d_5")
    torch.testing.assert_close(one.module(one.images), model.logits(some_images(model)), rtol=0, atol=0)
    assert (one.module(one.images) < 0).any()
    torch.testing.assert_close(one.recorded()[1], gradients(model, "conv2d_5", 1))


def test_tokens_are_seen_as_feature_maps() -> None:
    torch.manual_seed(0)
    net = VisionTransformer(image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16)
    net.heads = nn.Sequential(nn.Linear(8, 3))
    with torch.no_grad():
        net.heads[0].weight.normal_()
    model = load(net, input_size=16, device="cpu")
    layer = "encoder.layers.encoder_layer_1.ln_1"
    found, gradient = subject(model, layer).recorded()
    tokens = activations(model, some_images(model), layer)[layer]
    assert tokens.shape == (2, 17, 8)
    torch.testing.assert_close(found, tokens[:, 1:].transpose(1, 2).reshape(2, 8, 4, 4))
    expected = gradients(model, layer, 1)[:, 1:].transpose(1, 2).reshape(2, 8, 4, 4)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient, expected)


def test_both_sides_of_a_single_logit_are_columns() -> None:
    model = residual(classes=1)
    one = subject(model, "last", [0, 1])
    logits = model.logits(some_images(model))
    torch.testing.assert_close(one.module(one.images), torch.cat([-logits, logits], dim=1))
    assert (one.classes, one.is_plain) == ([0, 1], False)


def test_a_function_is_the_only_column() -> None:
    model = residual()
    one = subject(model, "last", lambda logits: logits[:, 2] - logits[:, 1])
    logits = model.logits(some_images(model))
    torch.testing.assert_close(one.scores(), logits[:, 2] - logits[:, 1])
    assert (one.classes, one.is_plain) == ([0, 0], False)


def test_what_is_done_to_the_copy_is_not_done_to_the_model() -> None:
    model = residual()
    before = model.logits(some_images(model)).detach()
    weight = model.module.get_parameter("fc.weight")
    one = subject(model, "relu#1")
    one.module.copied.bn = nn.Identity()
    one.module.copied.train()
    one.module.requires_grad_(True)
    one.scores().sum().backward()
    one.layer.register_forward_hook(lambda *_: torch.zeros(2, 8, 16, 16))
    assert one.module(one.images).shape == before.shape
    assert weight.grad is None
    torch.testing.assert_close(model.logits(some_images(model)), before, rtol=0, atol=0)


def test_weights_are_shared_not_copied() -> None:
    model = residual()
    one = subject(model, "last")
    ours = {tensor.data_ptr() for tensor in model.module.state_dict().values()}
    assert {tensor.data_ptr() for tensor in one.module.state_dict().values()} == ours
    assert not any(weight.requires_grad for weight in one.module.parameters())


def test_a_model_that_keeps_its_last_result_can_be_copied() -> None:
    model = residual()
    model.logits(some_images(model))
    kept = model.module.kept
    assert isinstance(kept, Tensor)
    assert kept.grad_fn is not None
    assert subject(model, "last").scores().shape == (2,)
