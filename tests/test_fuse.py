"""A fused model explains as the whole one does, at the layers that were kept, and says what became of the others."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchcam_suite import Model, activations, explain, load
from torchcam_suite.errors import LayerError


class Residual(nn.Module):
    """One block, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)) + x)


class Net(nn.Module):
    """A shared block inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.block, self.drop, self.top = Residual(), nn.Dropout(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.drop(self.block(self.block(self.stem(x))).mean((2, 3))))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(5)
    net = Net()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return load(net, input_size=(3, 12, 14), device="cpu", class_names="abcd")


@pytest.fixture(scope="module")
def families(data: Path) -> Model:
    return load(data / "tcav_families/model.h5", preprocessing="unit", device="cpu")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 12, 14, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")  # some target has no evidence
@pytest.mark.parametrize(
    ("layer", "method"),
    [
        ("stem.1", "gradcam"),
        ("block#0", "gradcam"),
        ("block.conv#1", "gradcam"),
        ("stem.1", "scorecam"),
        ("block#1", "scorecam"),
    ],
)
def test_a_fused_module_explains_as_the_whole_one(model: Model, images: Tensor, layer: str, method: str) -> None:
    whole, fused = model, model.fuse(keep=layer)
    deviation = 0.0
    for target in range(4):
        ours, theirs = (explain(each, images, method=method, layer=layer, target=target) for each in (fused, whole))
        deviation = max(deviation, float(theirs.maps.std()))
        torch.testing.assert_close(ours.maps, theirs.maps, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.raw, theirs.raw, rtol=1e-5, atol=1e-5 * float(theirs.raw.abs().max()))
        torch.testing.assert_close(ours.scores, theirs.scores)
    assert deviation > 0.05


def test_a_fused_import_explains_as_the_whole_one(families: Model, data: Path) -> None:
    pictures = sorted((data / "tcav_families/images").glob("*.png"))
    layers = ["conv2d_2", "max_pooling2d_3"]
    ours, theirs = (explain(each, pictures, layer=layers) for each in (families.fuse(keep=layers), families))
    for layer in layers:
        assert theirs[layer].maps.std() > 0.01
        torch.testing.assert_close(ours[layer].maps, theirs[layer].maps, rtol=1e-5, atol=1e-5)
    assert ours[layers[0]].targets == theirs[layers[0]].targets


def test_a_fused_model_says_of_itself_what_the_whole_one_does(families: Model) -> None:
    ours = families.fuse()
    for name in ("input", "preprocessing", "head", "name", "class_names", "source", "fingerprint", "default_layer"):
        assert getattr(ours, name) == getattr(families, name), name
    x = torch.rand(2, *families.input)
    torch.testing.assert_close(ours.probabilities(x), families.probabilities(x), rtol=1e-5, atol=1e-6)
    assert ours.probabilities(x).std() > 0


def test_without_a_wish_the_default_layer_is_kept(model: Model, images: Tensor) -> None:
    ours = model.fuse()
    assert ours.layers.names == [model.default_layer] == ["block#1"]
    torch.testing.assert_close(explain(ours, images).maps, explain(model, images).maps, rtol=1e-5, atol=1e-5)


def test_all_calls_of_a_layer_are_kept_under_their_names(model: Model, images: Tensor) -> None:
    ours = model.fuse(keep=["block.relu", "stem.2"])
    assert ours.layers.names == ["stem.2", "block.relu"]
    assert ours.layers["block.relu"].calls == 2
    names = ["stem.2", "block.relu#0", "block.relu#1"]
    found, expected = activations(ours, images, names), activations(model, images, names)
    assert all(expected[name].std() > 0.01 for name in names)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_was_fused_away_says_how_to_keep_it(model: Model, images: Tensor) -> None:
    ours = model.fuse(keep="stem.2")
    message = r"layer 'stem.1' was fused away, with all but 'stem.2'; keep it: model.fuse\(keep=\['stem.1', ...\]\)"
    with pytest.raises(LayerError, match=message):
        explain(ours, images, layer="stem.1")
    with pytest.raises(LayerError, match=r"layer 'block#0' was fused away"):
        ours.layers.site("block#0")
    with pytest.raises(LayerError, match=r"layer 'stem.9' is not in this model; did you mean"):
        ours.layers.site("stem.9")


def test_an_unknown_layer_cannot_be_kept(model: Model) -> None:
    with pytest.raises(LayerError, match=r"layer 'steam.1' is not in this model; did you mean"):
        model.fuse(keep=["steam.1"])


def test_the_whole_model_stays_as_it_was(model: Model, images: Tensor) -> None:
    state = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    names, expected, fingerprint = model.layers.names, model(images), model.fingerprint
    ours = model.fuse(keep="stem.1")
    ours.module.double()
    assert ours(images.double()).dtype == torch.float64
    assert torch.equal(model(images), expected)
    assert model.layers.names == names
    assert model.fingerprint == fingerprint == ours.fingerprint
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.module.state_dict().items())
    assert not any("tap" in name for name, _ in model.module.named_modules())


def test_weights_that_do_not_change_are_shared(model: Model) -> None:
    ours = model.fuse()
    top = next(part for part in ours.module.modules() if isinstance(part, nn.Linear))
    assert top.weight.data_ptr() == model.module.get_submodule("top").weight.data_ptr()


def test_a_fused_model_is_copied_and_runs_in_inference_mode(model: Model, images: Tensor) -> None:
    with torch.inference_mode():
        ours = model.fuse(keep="block")
        outputs = ours(images)
        map_inside = explain(ours, images, layer="block#0").maps
    torch.testing.assert_close(outputs.clone(), model(images), rtol=1e-5, atol=1e-5)
    assert torch.equal(copy.deepcopy(ours)(images), outputs)
    torch.testing.assert_close(map_inside, explain(model, images, layer="block#0").maps, rtol=1e-5, atol=1e-5)


def test_a_fused_model_is_fused_again(model: Model, images: Tensor) -> None:
    twice = model.fuse(keep=["stem.2", "block"]).fuse(keep="block#1")
    assert twice.layers.names == ["block#1"]
    torch.testing.assert_close(twice(images), model(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(LayerError, match=r"'stem\.2' was fused away"):
        twice.layers.site("stem.2")


def test_a_network_without_maps_needs_a_name() -> None:
    flat = load(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), input_size=(3, 2, 2), device="cpu")
    with pytest.raises(LayerError, match="none of the 2 layers gives feature maps"):
        flat.fuse()
    assert flat.fuse(keep="1").layers.names == ["1"]
