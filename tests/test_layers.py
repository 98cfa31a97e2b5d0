"""The layer table: order, shapes, calls, and names that are nearly right."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from torchcam_suite import load
from torchcam_suite.errors import LayerError, SourceError
from torchcam_suite.layers import Layer, LayerTable, shape_text
from torchcam_suite.recorder import Site


def layer(name: str, *shape: int | None, calls: int = 1, class_name: str = "Conv2D") -> Layer:
    return Layer(name, class_name, shape, tuple(Site(name, call) for call in range(calls)))


TABLE = LayerTable(
    [
        layer("block5_conv1", 8, 16, 16),
        layer("block5_conv3", 8, 16, 16),
        layer("relu", 8, 16, 16, calls=3, class_name="ReLU"),
        layer("resnet/conv5_out", 4, 2, 2),
        layer("pool", 4, 1, 1),
        layer("dense", 10),
    ]
)


def test_layers_are_found_by_name_and_by_position() -> None:
    assert TABLE["block5_conv3"] is TABLE[1]
    assert TABLE["relu#2"] is TABLE["relu"]
    assert TABLE[-1].name == "dense"
    assert [found.name for found in TABLE[1:3]] == ["block5_conv3", "relu"]
    assert TABLE.names == [found.name for found in TABLE]
    assert len(TABLE) == 6


def test_membership_is_by_name_or_by_layer() -> None:
    assert "dense" in TABLE
    assert "dense_1" not in TABLE
    assert TABLE[0] in TABLE
    assert layer("other", 1) not in TABLE


def test_a_layer_that_is_called_once_needs_no_number() -> None:
    assert TABLE.site("pool") == TABLE.site("pool#0") == Site("pool", 0)


def test_the_calls_of_a_shared_layer_are_numbered() -> None:
    assert [TABLE.site(f"relu#{call}") for call in range(3)] == [Site("relu", call) for call in range(3)]
    assert TABLE["relu"].calls == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("block5_conv4", "layer 'block5_conv4' is not in this model; did you mean 'block5_conv3' or 'block5_conv1'"),
        ("conv5_out", r"did you mean 'resnet/conv5_out'\? "),
        ("zzz", r"'zzz' is not in this model; \(torchcam-suite layers MODEL, or print\(model.layers\), lists all 6\)"),
        ("relu", "'relu' is called 3 times; say which: 'relu#0' to 'relu#2'"),
        ("relu#3", r"'relu' is called 3 time\(s\), counted from 0; there is no 'relu#3'"),
        ("dense#1", r"'dense' is called 1 time\(s\), counted from 0; there is no 'dense#1'"),
        ("relu#-1", "'relu#-1' is not in this model"),
    ],
)
def test_a_wrong_name_gets_a_hint(name: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        TABLE.site(name)


def test_a_hint_names_only_layers_that_exist() -> None:
    with pytest.raises(LayerError) as caught:
        TABLE.site("dens")
    assert "did you mean 'dense'?" in str(caught.value)


def test_the_last_spatial_layer_has_more_than_one_position() -> None:
    assert TABLE.last_spatial.name == "resnet/conv5_out"
    assert [found.name for found in TABLE if found.is_spatial] == TABLE.names[:4]


@pytest.mark.parametrize(
    ("shape", "spatial"),
    [((8, 2, 1), True), ((8, 1, 2), True), ((8, 1, 1), False), ((8,), False), ((8, 4), False), ((8, None, None), True)],
)
def test_a_spatial_output_is_a_feature_map(shape: tuple[int | None, ...], spatial: bool) -> None:
    assert layer("x", *shape).is_spatial is spatial


def test_a_model_of_dense_layers_alone_has_no_last_spatial_layer() -> None:
    with pytest.raises(LayerError, match=r"none of the 1 layers gives feature maps \(channels, height, width\)"):
        _ = LayerTable([layer("dense", 10)]).last_spatial


def test_a_model_without_layers_says_where_they_may_be() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net, torch.zeros(1, 3, 8, 8))
    model = load(traced, input_size=8, preprocessing="unit", device="cpu", head="none")
    with pytest.raises(LayerError, match=r"so it has no layers; of a model that torch\.jit .* give the nn\.Module"):
        _ = model.default_layer


def test_a_scripted_module_is_refused_for_what_it_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()))
    with pytest.raises(SourceError, match=r"torch\.jit\.script made cannot be seen; give the nn\.Module"):
        load(scripted, input_size=8, preprocessing="unit", device="cpu", head="none")


def test_the_table_prints_itself_in_columns() -> None:
    lines = str(TABLE).splitlines()
    assert lines[0].split() == ["layer", "class", "output", "shape", "calls"]
    assert lines[3].split() == ["relu", "ReLU", "8", "x", "16", "x", "16", "3"]
    assert len(lines) == 1 + len(TABLE)
    assert len({line.index(word) for line, word in zip(lines, ("class", *["Conv2D"] * 2), strict=False)}) == 1


@pytest.mark.parametrize(("shape", "text"), [((8, 16, 4), "8 x 16 x 4"), ((10,), "10"), ((3, None, None), "3 x ? x ?")])
def test_shapes_are_written_as_people_write_them(shape: tuple[int | None, ...], text: str) -> None:
    assert shape_text(layer("x", *shape)) == text


# ---------------------------------------------------------------- tables of torch modules


class Shared(nn.Module):
    """One ReLU after both convolutions, the second call on smaller maps; and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.conv2 = nn.Conv2d(4, 5, 3, stride=2)
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.unused = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.fc(maps.mean(dim=(2, 3)))


def test_a_modules_layers_stand_in_the_order_of_the_computation() -> None:
    table = load(Shared(), input_size=(3, 12, 12), device="cpu").layers
    assert [(found.name, found.class_name, found.output_shape, found.calls) for found in table] == [
        ("conv1", "Conv2d", (4, 10, 10), 1),
        ("relu", "ReLU", (4, 10, 10), 2),
        ("conv2", "Conv2d", (5, 4, 4), 1),
        ("fc", "Linear", (3,), 1),
    ]


def test_the_last_call_is_the_default_of_a_shared_layer() -> None:
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), relu, relu, nn.Flatten(), nn.Linear(16, 2))
    assert load(net, input_size=4, device="cpu").default_layer == "1#1"


def test_the_default_layer_is_the_last_with_feature_maps() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = load(net, input_size=8, device="cpu")
    assert model.default_layer == "0"
    assert model.layers["0"].output_shape == (4, 6, 6)
