"""Whatever is done to a file, only the project's own errors come out.

Few and fixed examples, to be quick; `TORCHCAM_SUITE_FUZZ=2000` asks for more, and other ones each time.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import CHECKPOINTS, DATA

import converters
from converters.bundle import read_structure
from converters.errors import BundleError, TorchcamError
from converters.inspect import allowlist, files, inspect
from converters.inspect.architecture import image_input, least_values, nested_layers
from converters.inspect.scaling import takes_raw_pixels

SEQ = DATA / "keras224" / "keras224_seq.h5"
NEST_JSON = DATA / "keras224" / "keras224_nest.json"
MORE = int(os.environ.get("TORCHCAM_SUITE_FUZZ", "0"))

Damage = Callable[[bytes], bytes]


def examples(few: int) -> Callable:
    return settings(
        max_examples=MORE or few,
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def flipped(content: bytes, places: list[tuple[float, int]]) -> bytes:
    """The content with other bytes at these places, each a share of its length."""
    changed = bytearray(content)
    for share, value in places:
        changed[int(share * (len(changed) - 1))] = value
    return bytes(changed)


flips = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=40).map(
    lambda places: lambda content: flipped(content, places)
)
# HDF5 keeps what it needs to find everything else at its start
early_flips = st.lists(st.tuples(st.floats(0, 0.05), st.integers(0, 255)), min_size=1, max_size=4).map(
    lambda places: lambda content: flipped(content, places)
)
cuts = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(
    lambda ends: lambda content: content[: int(ends[0] * len(content))] + content[int(ends[1] * len(content)) :]
)
damages: st.SearchStrategy[Damage] = flips | early_flips | cuts


def outcome(act: Callable[[], object], own: type[TorchcamError] = TorchcamError) -> str:
    """Any other error goes on and fails the test."""
    try:
        act()
    except own:
        return "refused"
    return "read"


@examples(40)
@given(damage=damages)
def test_damaged_hdf5(tmp_path: Path, damage: Damage) -> None:
    file = tmp_path / "model.h5"
    file.write_bytes(damage(SEQ.read_bytes()))
    outcome(lambda: inspect(file))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A `.keras` archive."""
    file = tmp_path_factory.mktemp("archive") / "model.keras"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("metadata.json", '{"keras_version": "2.15.0"}')
        opened.writestr("config.json", SEQ.with_suffix(".json").read_bytes())
        opened.writestr("model.weights.h5", SEQ.with_name("keras224_seq_w.h5").read_bytes())
    return file.read_bytes()


@examples(60)
@given(damage=damages)
def test_a_damaged_archive(tmp_path: Path, archive: bytes, damage: Damage) -> None:
    file = tmp_path / "model.keras"
    file.write_bytes(damage(archive))
    outcome(lambda: inspect(file))


# ---------------------------------------------------------------- architectures

ARCHITECTURE = json.loads(NEST_JSON.read_text())
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["channels_first", "Lambda", "Functional", "Sequential", "function", "../x", "keras.layers", "a/b"]
    )
)
keys = st.sampled_from("class_name config module registered_name name layers input_layers batch_shape units".split())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """The path to every value in a tree of dicts and lists."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, child in children for place in ((*path, key), *places(child, (*path, key)))]


PLACES = places(ARCHITECTURE)


def judge(text: str) -> None:
    """All that `inspect` does with the text of an architecture, without a process to read its weights."""
    model = allowlist.without_training(files.parse(text, "model.json"))
    allowlist.refuse_foreign_code(model, "model.json")
    image_input(model, None)
    nested_layers(model)
    least_values(model)
    takes_raw_pixels(model)


@examples(300)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=4))
def test_a_changed_architecture(changes: list[tuple[tuple, Any]]) -> None:
    changed = json.loads(json.dumps(ARCHITECTURE))
    for path, value in changes:
        parent = changed
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    outcome(lambda: judge(json.dumps(changed)))


@examples(100)
@given(damage=flips | cuts)
def test_damaged_json(damage: Damage) -> None:
    outcome(lambda: judge(damage(NEST_JSON.read_bytes()).decode("utf-8", "replace")))


def test_the_undamaged_files_are_read(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "model.keras").write_bytes(archive)
    acts = [lambda: inspect(SEQ), lambda: inspect(tmp_path / "model.keras"), lambda: judge(NEST_JSON.read_text())]
    assert [outcome(act) for act in acts] == ["read"] * 3


# ---------------------------------------------------------------- bundles


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one's own, to damage."""
    folder = tmp_path_factory.mktemp("bundle") / "copy"
    return Path(shutil.copytree(CHECKPOINTS["seq.h5"].convert().path, folder))


def test_the_undamaged_bundle_is_read(bundle: Path) -> None:
    assert outcome(lambda: (converters.open_bundle(bundle).layers, read_structure(bundle))) == "read"


@pytest.mark.parametrize("name", ["manifest.json", "graph.onnx"])
@examples(150)
@given(damage=flips | cuts)
def test_a_damaged_bundle(bundle: Path, name: str, damage: Damage) -> None:
    whole = (bundle / name).read_bytes()
    try:
        (bundle / name).write_bytes(damage(whole))
        outcome(lambda: (converters.open_bundle(bundle).layers, read_structure(bundle)), BundleError)
    finally:
        (bundle / name).write_bytes(whole)


@examples(300)
@given(change=st.tuples(st.integers(0), values))
def test_a_changed_manifest(bundle: Path, change: tuple[int, Any]) -> None:
    whole = (bundle / "manifest.json").read_text()
    manifest = json.loads(whole)
    found = places(manifest)
    parent, path = manifest, found[change[0] % len(found)]
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = change[1]
    try:
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        outcome(lambda: converters.open_bundle(bundle).layers, BundleError)
    finally:
        (bundle / "manifest.json").write_text(whole)
