"""A trained network is one file that says all of itself; what is not such a file is refused."""

import copy
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from torchcam_suite import load
from torchcam_suite.architectures import ArticleNet, TrainedModel, build, save_trained
from torchcam_suite.architectures.trained import METADATA, open_trained
from torchcam_suite.errors import CheckpointError, SourceError

pytestmark = pytest.mark.usefixtures("one_thread")

ABOUT = TrainedModel(
    architecture="dogs-and-cats",
    classes=2,
    class_names=["cat", "dög"],
    input_size=(32, 40),
    width=0.125,
    training={"loss": "complementary", "epochs": 3, "metrics": {"val_accuracy": 0.5}, "seed": 0},
)


@pytest.fixture(scope="module")
def net() -> ArticleNet:
    torch.manual_seed(3)
    made = build("dogs-and-cats", classes=2, input_size=(32, 40), width=0.125)
    made.train()(torch.rand(4, 3, 32, 40))  # so that the statistics are not those of the beginning
    return made


@pytest.fixture
def file(net: ArticleNet, tmp_path: Path) -> Path:
    save_trained(tmp_path / "new" / "best.safetensors", net, ABOUT)
    return tmp_path / "new" / "best.safetensors"


def test_the_file_gives_back_the_network_and_what_is_known_of_it(net: ArticleNet, file: Path) -> None:
    found, about = open_trained(file)
    assert about == ABOUT
    expected = net.state_dict()
    assert {name: torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items()} == dict.fromkeys(
        expected, True
    )
    assert expected["batch_normalization.running_mean"].any()
    assert int(expected["batch_normalization.num_batches_tracked"]) == 1


def test_load_opens_it_as_a_model(net: ArticleNet, file: Path) -> None:
    model = load(file, device="cpu")
    assert (tuple(model.input), model.class_names, model.head) == ((3, 32, 40), ["cat", "dög"], "sigmoid")
    assert (model.name, model.source, model.preprocessing.name) == ("best", "best.safetensors", "unit")
    assert model.fingerprint == load(net, device="cpu").fingerprint
    x = torch.rand(2, 3, 32, 40)
    assert not model.module.training
    torch.testing.assert_close(model(x), net.eval()(x))
    assert load(str(file), class_names=["a", "b"], preprocessing="tf", device="cpu").class_names == ["a", "b"]


def test_options_of_keras_checkpoints_are_refused(file: Path) -> None:
    with pytest.raises(SourceError, match=r"weights='w.h5' belongs to a .json architecture"):
        load(file, weights="w.h5")
    with pytest.raises(SourceError, match="choose from a Keras checkpoint"):
        load(file, output="dense")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weights_are_stored_as_float32(dtype: torch.dtype, net: ArticleNet, tmp_path: Path) -> None:
    save_trained(tmp_path / "m.safetensors", copy.deepcopy(net).to(dtype), ABOUT)
    with safe_open(tmp_path / "m.safetensors", "pt") as stored:
        assert stored.get_slice("conv2d.convolution.weight").get_dtype() == "F32"
    found, _ = open_trained(tmp_path / "m.safetensors")
    torch.testing.assert_close(found.conv2d.convolution.weight, net.conv2d.convolution.weight, rtol=1e-3, atol=1e-3)


def test_the_opened_network_does_not_depend_on_the_file(file: Path) -> None:
    found, _ = open_trained(file)
    before = found.conv2d.convolution.weight.clone()
    size = file.stat().st_size
    with file.open("rb+") as opened:
        opened.write(b"\xff" * size)
    assert torch.equal(found.conv2d.convolution.weight, before)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "families"},
            "the network has architecture 'dogs-and-cats', and its description says 'families'",
        ),
        ({"classes": 3}, "the network has classes 2, and its description says 3"),
        ({"input_size": (40, 32)}, r"the network has input_size \(32, 40\), and"),
        ({"width": 1.0}, "the network has width 0.125, and its description says 1.0"),
        ({"class_names": ["cat"]}, "1 class names for 2 classes"),
        ({"class_names": ["cat", ""]}, "class_names is .*; expected a list of names"),
        ({"preprocessing": "zero"}, "preprocessing 'zero' is not known; expected one of"),
        ({"training": {"loss": float("nan")}}, "expected what JSON holds, without NaN"),
        ({"training": {"net": torch.nn.ReLU()}}, "expected what JSON holds, without NaN"),
        ({"training": {"log": "x" * (1 << 20)}}, "its description has 1,048,.* characters; at most 1,048,576 are read"),
    ],
)
def test_a_description_that_is_not_of_the_network(
    changes: dict[str, Any], message: str, net: ArticleNet, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        save_trained(tmp_path / "m.safetensors", net, replace(ABOUT, **changes))
    assert list(tmp_path.iterdir()) == []


def test_only_networks_of_the_articles_are_written_and_under_the_right_ending(net: ArticleNet, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found Sequential; of a compiled or distributed one, give the module inside"):
        save_trained(tmp_path / "m.safetensors", torch.nn.Sequential(net), ABOUT)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"m.pt should end in .safetensors"):
        save_trained(tmp_path / "m.pt", net, ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_could_not_be_written_leaves_the_old_one(
    net: ArticleNet, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save_trained(file, net, replace(ABOUT, class_names=["x", "y"]))
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


# ---------------------------------------------------------------- reading what is not such a file


def rewritten(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header; the weights stay."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def described(file: Path, **changes: Any) -> None:
    """Change entries of the description; None takes one out."""

    def change(header: dict[str, Any]) -> None:
        entries = json.loads(header["__metadata__"][METADATA]) | changes
        kept = {name: value for name, value in entries.items() if value is not None}
        header["__metadata__"][METADATA] = json.dumps(kept)

    rewritten(file, change)


def test_the_helpers_of_these_tests_leave_a_good_file_good(file: Path) -> None:
    described(file, class_names=["a", "b"])
    assert open_trained(file)[1].class_names == ["a", "b"]


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
def test_a_truncated_file(share: float, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"best.safetensors is a damaged or truncated safetensors file"):
        load(file, device="cpu")


def test_a_safetensors_file_of_others(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "bert.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"bert.safetensors does not say which network its weights are of"):
        load(tmp_path / "bert.safetensors", device="cpu")
    save_file({"a": torch.zeros(2)}, tmp_path / "bert.safetensors")
    with pytest.raises(CheckpointError, match=r"bert.safetensors does not say which network its weights are of"):
        load(tmp_path / "bert.safetensors", device="cpu")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file: .*none.safetensors"):
        load(tmp_path / "none.safetensors", device="cpu")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"no such file: .*folder.safetensors"):
        load(tmp_path / "folder.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "was written in another form than 1"),
        ({"width": None}, "its description should have architecture, classes, class_names,"),
        ({"more": 1}, "its description should have architecture, classes, class_names,"),
        ({"architecture": "resnet"}, "architecture 'resnet' is not known"),
        ({"architecture": ["vgg"]}, r"architecture is \['vgg'\]; expected a name"),
        ({"classes": True}, "classes is True; expected a whole number"),
        ({"classes": 3, "class_names": ["a", "b", "c"]}, "tells two classes apart"),
        ({"class_names": ["a"]}, "1 class names for 2 classes"),
        ({"class_names": ["a", 2]}, "expected a list of names"),
        ({"class_names": ["a", "b" * 256]}, "expected a list of names"),
        ({"input_size": 32}, r"input_size is 32; expected \[height, width\]"),
        ({"input_size": [32, 10**9]}, "each from 4 to 4096 pixels"),
        ({"width": 1e9}, "width=1000000000.0; expected a number above 0"),
        ({"width": "1"}, "width is '1'; expected a number"),
        ({"preprocessing": "zero"}, "preprocessing 'zero' is not known"),
        ({"training": []}, r"training is \[\]; expected an object"),
        ({"training": {"log": "x" * (1 << 20)}}, "characters; at most 1,048,576 are read"),
    ],
)
def test_a_description_that_is_none(changes: dict[str, Any], message: str, file: Path) -> None:
    described(file, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(file, device="cpu")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": NaN}', "[" * 100_000])
def test_a_description_that_is_no_json(text: str, file: Path) -> None:
    rewritten(file, lambda header: header["__metadata__"].update({METADATA: text}))
    with pytest.raises(CheckpointError, match=r"the description in best.safetensors"):
        load(file, device="cpu")


def test_weights_of_other_shapes_are_refused_before_memory_is_taken(file: Path) -> None:
    described(file, width=8.0)
    with pytest.raises(
        CheckpointError, match=r"F32 of shape \(4, 3, 3, 3\); the dogs-and-cats .* F32 of shape \(256, 3, 3, 3\)"
    ):
        load(file, device="cpu")


def test_missing_and_additional_weights(net: ArticleNet, tmp_path: Path, file: Path) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    lacking = {name: tensor for name, tensor in state.items() if name != "conv2d.convolution.bias"}
    cases = [
        (lacking, "lacks 'conv2d.convolution.bias'"),
        (state | {"more": torch.zeros(1)}, "holds besides 'more'"),
        (state | {"conv2d.convolution.bias": torch.zeros(4, dtype=torch.float16)}, "'conv2d.convolution.bias' is F16"),
    ]
    for tensors, message in cases:
        save_file(tensors, tmp_path / "m.safetensors", metadata)
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path / "m.safetensors", device="cpu")


def test_overlapping_weights_are_refused(file: Path) -> None:
    def overlap(header: dict[str, Any]) -> None:
        header["conv2d.convolution.bias"]["data_offsets"] = header["conv2d_1.convolution.bias"]["data_offsets"]

    rewritten(file, overlap)
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        load(file, device="cpu")
