"""A checkpoint that is damaged, or none at all, ends in an error that says what was found."""

import copy
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stored import DATA

import converters
from converters.errors import CheckpointError, TorchcamError
from converters.inspect import allowlist, belonging, files, hdf5
from converters.inspect.architecture import image_input

KERAS224 = DATA / "keras224"
SEQ, SEQ_JSON, SEQ_WEIGHTS = (KERAS224 / f"keras224_seq{end}" for end in (".h5", ".json", "_w.h5"))
WEIGHTS = hdf5.read(SEQ_WEIGHTS)

pytestmark = pytest.mark.usefixtures("no_tensorflow")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model.h5 is not a Keras checkpoint: expected HDF5 .*, found an empty file"),
        (b"weights\n1 2 3\n", r"found a file that starts with b'weights\\n'"),
        (b'{"class_name": ', r"model.h5 is not valid JSON"),
        (b'{"class_name": "Sequential"\xff}', "model.h5 is not UTF-8 text"),
        (b"{}", "has no class_name at its top: not a Keras architecture"),
        (b'{"class_name": "Sequential"}', "the architecture lists no layers"),
        (b'{"class_name": "Sequential", "config": [7]}', "the architecture lists 7; expected a layer with class_name"),
        (b'{"class_name": ["Sequential"]}', "has no class_name at its top"),
        (b'{"a": ' * 100_000, "is not valid JSON"),
    ],
    ids=["empty", "text", "half", "not utf-8", "no class", "no layers", "no layer", "class is no text", "deep"],
)
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.h5").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        converters.convert(tmp_path / "model.h5", weights=SEQ_WEIGHTS)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no such file: {tmp_path / 'none.h5'}"):
        converters.convert(tmp_path / "none.h5")
    with pytest.raises(CheckpointError, match=f"no such file: {tmp_path / 'none.h5'}"):
        converters.convert(SEQ_JSON, weights=tmp_path / "none.h5")
    with pytest.raises(CheckpointError, match=rf"{tmp_path} is a folder; expected a Keras \.h5"):
        converters.convert(tmp_path)


def test_yaml_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("backend: tensorflow\n")
    with pytest.raises(CheckpointError, match=r"YAML architecture, which is unsafe to read .* save model\.to_json\(\)"):
        converters.convert(tmp_path / "model.yaml")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_h5(tmp_path: Path, share: float) -> None:
    whole = SEQ.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut\.h5 is a damaged or truncated HDF5 file"):
        converters.convert(tmp_path / "cut.h5")
    with pytest.raises(CheckpointError, match=r"cut\.h5 is a damaged or truncated HDF5 file"):
        converters.convert(SEQ_JSON, weights=tmp_path / "cut.h5")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_keras_archive(tmp_path: Path, share: float) -> None:
    with zipfile.ZipFile(tmp_path / "whole.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        archive.writestr("config.json", SEQ_JSON.read_text())
        archive.writestr("model.weights.h5", SEQ_WEIGHTS.read_bytes())
    whole = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut\.keras is a damaged \.keras archive"):
        converters.convert(tmp_path / "cut.keras")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"photo.txt": "hello"}, "is a zip archive without config.json: no Keras model"),
        ({"config.json": "{}"}, r"is a damaged \.keras archive .*metadata\.json"),
        ({"config.json": "{", "metadata.json": "{}"}, r"config\.json of some\.keras is not valid JSON"),
        (
            {"config.json": "[]", "metadata.json": "{}"},
            r"config\.json of some\.keras should be a JSON object, found li",
        ),
    ],
    ids=["no model", "no metadata", "no json", "a list"],
)
def test_an_archive_that_is_no_model(tmp_path: Path, members: dict[str, str], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "some.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=message):
        converters.convert(tmp_path / "some.keras")


def places(node: object, path: tuple = ()) -> Iterator[tuple]:
    """The path to every value in a tree of dicts and lists."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def changed(node: Any, path: tuple, value: object) -> Any:
    """A copy in which one value is another."""
    node = copy.deepcopy(node)
    parent = node
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return node


def judge(architecture: Any) -> None:
    """All that `inspect` does with an architecture, without a process to read the weights for each."""
    model = allowlist.without_training(files.parse(json.dumps(architecture), "model.json"))
    allowlist.refuse_foreign_code(model, "model.json")
    image_input(model, None)
    belonging.check_size(model, WEIGHTS, "w.h5")
    belonging.check_names(model, "model.json", WEIGHTS, "w.h5")


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [[]], [None], {"class_name": []}], ids=repr)
def test_no_change_to_an_architecture_gives_anything_but_a_clear_error(value: object) -> None:
    architecture = json.loads(SEQ_JSON.read_text())
    outcomes = set()
    for path in places(architecture):
        try:
            judge(changed(architecture, path, value))
            outcomes.add("read")
        except TorchcamError:
            outcomes.add("refused")
    assert "refused" in outcomes
