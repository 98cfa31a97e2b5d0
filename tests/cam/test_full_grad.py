"""FullGrad: input and biases together make the logit, in any net that is piecewise linear."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cases import Case, array
from reference_gradient import full_gradients
from torch import Tensor, nn
from torch.nn import functional as F

from torchcam_suite import explain, load
from torchcam_suite.cam import full_grad
from torchcam_suite.cam.biases import bias_of, spatial_biases
from torchcam_suite.recorder import INPUT, Recorder, Site


class Residual(nn.Module):
    """BatchNorm, in-place ReLUs, a shared convolution, a skip connection, pooling, and a branch that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.plain = nn.BatchNorm2d(6, affine=False)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.side = nn.Conv2d(6, 2, 1)
        self.fc = nn.Linear(4, 3)
        self.kept: Tensor | None = None
        for norm in (self.norm, self.plain):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu_(self.norm(self.stem(images)))
        self.kept = self.side(x)
        x = torch.relu_(self.shared(x) + x)
        x = F.max_pool2d(self.plain(F.relu(self.shared(x), inplace=True)), 2)
        return self.fc(self.up(x).relu_().mean(dim=(2, 3)))


def residual() -> Residual:
    torch.manual_seed(2)
    return Residual().double().eval()


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_gradients_of_the_input_and_of_all_biases_add_up_to_the_logit() -> None:
    net, images = residual(), pictures(2, 3, 8, 10)
    biases = spatial_biases(net, images, net)
    assert list(biases) == [
        Site("norm"), Site("side"), Site("shared", 0), Site("shared", 1), Site("plain"), Site("up")
    ]  # fmt: skip
    with Recorder(net, [INPUT, *biases], gradients=True) as recorder:
        logits = recorder.run(net, images)
        gradients = recorder.gradients(logits[:, 1].sum(), optional=biases)
    assert Site("side") not in gradients
    parts = [(images * gradients[INPUT]).sum(dim=(1, 2, 3))]
    parts += [(gradients[site] * bias).sum(dim=(1, 2, 3)) for site, bias in biases.items() if site in gradients]
    parts.append(net.fc.bias[1].detach().expand(2))  # a dense layer's bias has no place in the image
    logit = logits[:, 1].detach()
    torch.testing.assert_close(torch.stack(parts).sum(dim=0), logit, rtol=1e-10, atol=1e-10)
    assert min(float(part.abs().min()) for part in parts) > 1e-4 * float(logit.abs().max())


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_what_is_explained_is_what_was_proved_complete(variant: str) -> None:
    net, images = residual(), pictures(2, 3, 8, 10)
    model = load(net, input_size=(3, 8, 10), preprocessing="unit", head="none", device="cpu")
    found = explain(model, images, method="fullgrad", target=1, variant=variant)
    assert found.layer == "input"
    biases = spatial_biases(net, images, net)
    with Recorder(net, [INPUT, *biases], gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(net, images)[:, 1].sum(), optional=biases)
    products = [gradients[site] * bias for site, bias in biases.items() if site in gradients]
    torch.testing.assert_close(found.raw, full_grad(images, gradients[INPUT], products, variant=variant))
    assert found.raw.std() > 0.1
    assert found.maps.amin(dim=(1, 2)).tolist() == [0.0, 0.0]


def test_the_reference_of_the_table_is_complete_too() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).double()
    net[1].running_mean.normal_()
    model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    case = Case(model, "1", pictures(1, 1, 8, 8), [1])
    gradient, biases, logit = full_gradients(case, case.picture(0), 1)
    total = (gradient * case.picture(0)).sum() + sum(bias.sum() for bias in biases) + float(net[4].bias[1].detach())
    np.testing.assert_allclose(total, logit, rtol=1e-10)


def test_the_bias_of_a_layer_with_its_channels_last_is_no_bias_of_its_rows() -> None:
    """As many rows as channels: 4 x 4 positions of 4 channels."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.dense = nn.Conv2d(3, 4, 2, stride=2), nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.dense(self.norm(self.conv(images).permute(0, 2, 3, 1))).mean(dim=(1, 2))

    net = Last()
    assert list(spatial_biases(net, torch.rand(1, 3, 8, 8), net)) == [Site("conv")]


class LowRank(nn.Module):
    """A convolution with a change of low rank, that shows weight and bias of the convolution as its own."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer, self.down, self.up = layer, nn.Conv2d(3, 1, 3, bias=False), nn.Conv2d(1, 4, 1, bias=False)

    @property
    def bias(self) -> Tensor | None:
        return self.layer.bias

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images) + self.up(self.down(images))


def test_the_bias_that_a_wrapper_shows_is_counted_once() -> None:
    net = nn.Sequential(LowRank(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    assert list(spatial_biases(net, torch.rand(1, 3, 8, 8), net)) == [Site("0.layer"), Site("2")]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "BatchNorm": lambda: nn.BatchNorm2d(4, eps=0.1),
    "BatchNorm without weights": lambda: nn.BatchNorm2d(4, affine=False),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_bias_is_what_a_layer_gives_for_nothing(name: str) -> None:
    torch.manual_seed(0)
    part = LAYERS[name]().double()
    with torch.no_grad():
        for tensor in part.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2)
    found = bias_of(part.eval())
    assert found is not None
    expected = array(part(torch.zeros(1, 4, 5, 5, dtype=torch.float64)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[:, None, None].expand(4, 5, 5), expected)


@pytest.mark.parametrize(
    "part", [nn.Conv2d(4, 4, 3, bias=False), nn.ReLU(), nn.Linear(4, 4), nn.MaxPool2d(2)], ids=lambda part: str(part)
)
def test_other_layers_have_no_bias_in_the_image(part: nn.Module) -> None:
    assert bias_of(part) is None


def test_a_batch_norm_without_statistics_has_only_its_own_bias() -> None:
    part = nn.BatchNorm2d(2, track_running_stats=False)
    nn.init.constant_(part.bias, 3.0)
    bias = bias_of(part)
    assert bias is not None
    assert bias.tolist() == [3.0, 3.0]


def test_weak_channels_stay_weak_in_the_official_variant_only() -> None:
    images = gradient = torch.zeros(1, 1, 1, 2)
    products = [torch.tensor([[[[4.0, 0.0]], [[0.0, -0.1]]]])]
    assert full_grad(images, gradient, products).flatten().tolist() == pytest.approx([1.0, 0.025])
    assert full_grad(images, gradient, products, variant="paper").flatten().tolist() == [1.0, 1.0]


def test_small_maps_are_upsampled() -> None:
    images = gradient = torch.zeros(1, 1, 1, 4)
    found = full_grad(images, gradient, [torch.tensor([[[[0.0, -2.0]]]])])
    assert found.tolist() == [[[0.0, 0.25, 0.75, 1.0]]]


def test_half_precision_is_summed_in_float32() -> None:
    images, gradient, product = (pictures(1, 3, 8, 8).bfloat16() + shift for shift in (0, 1, 2))
    found = full_grad(images, gradient, [product])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), full_grad(images.double(), gradient.double(), [product.double()]))
