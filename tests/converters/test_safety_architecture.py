"""What an architecture names, and files of other libraries: refused by reading alone."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import DATA

import converters
from converters.errors import CheckpointError, UnsafeCheckpointError
from converters.inspect import inspect

SEQ = DATA / "keras224" / "keras224_seq.h5"
SEQ_JSON, SEQ_WEIGHTS = SEQ.with_suffix(".json"), SEQ.with_name("keras224_seq_w.h5")


def changed(folder: Path, change: Callable[[dict], None]) -> Path:
    """A genuine architecture with a change."""
    architecture = json.loads(SEQ_JSON.read_text())
    change(architecture)
    (folder / "model.json").write_text(json.dumps(architecture))
    return folder / "model.json"


def first_layer(**values: Any) -> Callable[[dict], None]:
    return lambda architecture: architecture["config"]["layers"][0]["config"].update(values)


def function(module: str | None, name: str, registered: str | None = None) -> dict:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered or name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_layer(activation=function("keras.utils", "get_file")), "'get_file' comes from module 'keras.utils'"),
        (
            first_layer(activation=function("keras.config", "enable_unsafe_deserialization")),
            "comes from module 'keras.config'",
        ),
        (first_layer(activation=function("os", "system")), "'system' comes from module 'os'"),
        (first_layer(activation=function("builtins", "relu", "os>system")), r"registered as 'os>system'"),
        (first_layer(activation=function("keras.activations", "get")), "'get' .* is no activation"),
        (first_layer(kernel_initializer={"class_name": "__lambda__", "config": {"value": "4w=="}}), "Lambda layer"),
        (first_layer(kernel_initializer={"class_name": "__typespec__", "config": []}), "names a class of any module"),
        (
            first_layer(mean={"class_name": "__numpy__", "config": {"value": [0], "dtype": "object"}}),
            "array of 'object'",
        ),
        (first_layer(kernel_regularizer="deserialize"), "kernel_regularizer 'deserialize' is none of Keras' own"),
        (first_layer(mean="/etc/passwd"), "mean '/etc/passwd' looks like the path of a file"),
        (first_layer(mean="~/.ssh/id_rsa"), "looks like the path of a file"),
        (first_layer(mean="assets/../../secret"), "looks like the path of a file"),
        (first_layer(mean="file://server/share"), "looks like the path of a file"),
        (first_layer(mean="C:\\secret"), "looks like the path of a file"),
        (first_layer(name="../escape"), r"name '\.\./escape' looks like the path"),
        (first_layer(name="a\nb"), r"the name 'a\\nb' holds characters of no Keras name"),
        (first_layer(name='a"b'), "holds characters of no Keras name"),
        (first_layer(name="a\x00b"), "holds characters of no Keras name"),
        (first_layer(filters=10**9), "filters is 1,000,000,000, more than any layer"),
        (first_layer(filters=1e9), r"filters is 1,000,000,000\.0, more than any layer"),
        (first_layer(kernel_size=[3.0, 1e300]), "kernel_size is .*, more than any layer"),
        (first_layer(filters="1000000000"), "filters is the text '1000000000'; expected a number"),
        (first_layer(kernel_size=[-(10**9), 1]), "kernel_size is -1,000,000,000"),
    ],
    ids=lambda value: value.split(" ")[-1] if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("no_tensorflow")
def test_an_architecture_that_names_what_is_not_its_own(
    tmp_path: Path, change: Callable[[dict], None], message: str
) -> None:
    with pytest.raises(UnsafeCheckpointError, match=message):
        converters.convert(changed(tmp_path, change), weights=SEQ_WEIGHTS)


@pytest.mark.parametrize("filters", [1_600_000, 1.6e6])
def test_an_architecture_far_larger_than_its_weights_is_refused(tmp_path: Path, filters: float) -> None:
    with pytest.raises(CheckpointError, match=r"needs at least 14,400,000 weights, .* holds 1,682 in all"):
        inspect(changed(tmp_path, first_layer(filters=filters)), SEQ_WEIGHTS)


def test_an_archive_without_weights_is_refused_by_reading(tmp_path: Path) -> None:
    # its layers could be of any size
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as opened:
        opened.writestr("metadata.json", '{"keras_version": "2.15.0"}')
        opened.write(changed(tmp_path, first_layer(filters=1_600_000)), "config.json")
    with pytest.raises(CheckpointError, match=r"model\.keras holds no model\.weights\.h5; save it again as \.keras"):
        inspect(tmp_path / "model.keras")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": ' + "9" * 5000 + "}"])
def test_numbers_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        inspect(tmp_path / "model.json", SEQ_WEIGHTS)


@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_bottomless_json(tmp_path: Path, depth: int) -> None:
    (tmp_path / "model.json").write_text('{"class_name": "Sequential", "config": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        inspect(tmp_path / "model.json", SEQ_WEIGHTS)


def test_what_the_user_vouches_for_is_let_through(tmp_path: Path) -> None:
    def change(architecture: dict) -> None:
        layers = architecture["config"]["layers"]
        layers[0]["config"]["activation"] = "steep"
        layers.insert(1, {"class_name": "Scale", "module": "their.code", "config": {"name": "scale"}})
        layers.insert(2, {"class_name": "Lambda", "config": {"name": "half", "function": ["4w==", None, None]}})

    source = changed(tmp_path, change)
    names = {"steep", "Scale", "Lambda:half"}
    assert inspect(source, SEQ_WEIGHTS, names).input_shape == (16, 16, 3)
    for name in names:
        with pytest.raises(UnsafeCheckpointError, match=name.rsplit(":", 1)[-1]):
            inspect(source, SEQ_WEIGHTS, names - {name})
    with pytest.raises(UnsafeCheckpointError, match="half is a Lambda layer"):
        inspect(source, SEQ_WEIGHTS, {*names, "Lambda:other", "Lambda"} - {"Lambda:half"})


# ---------------------------------------------------------------- files of other libraries


class Bite:
    """Writes a canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.canary, "bitten")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "plain pickle"])
def test_a_pickled_torch_file_is_refused(tmp_path: Path, old: bool) -> None:
    import torch

    canary, source = tmp_path / "canary", tmp_path / "model.pt"
    torch.save(Bite(canary), source, _use_new_zipfile_serialization=not old)
    torch.load(source, weights_only=False)
    assert canary.exists()
    canary.unlink()
    with pytest.raises(UnsafeCheckpointError, match=r"model\.pt holds pickled Python objects"):
        converters.convert(source)
    assert not canary.exists()


def test_a_numpy_file_of_objects_is_refused(tmp_path: Path) -> None:
    canary, source = tmp_path / "canary", tmp_path / "model.npy"
    np.save(source, np.array([Bite(canary)], object), allow_pickle=True)
    np.load(source, allow_pickle=True)
    assert canary.exists()
    canary.unlink()
    with pytest.raises(UnsafeCheckpointError, match=r"model\.npy is a NumPy file of pickled objects"):
        converters.convert(source)
    assert not canary.exists()
