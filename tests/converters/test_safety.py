"""A checkpoint of a stranger's: genuine files that run code or read other files when they are loaded naively."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from stored import DATA

import converters
from converters.errors import CheckpointError, UnsafeCheckpointError
from converters.inspect import inspect
from converters.inspect.hdf5_scan import private_copy, private_member

SEQ = DATA / "keras224" / "keras224_seq.h5"
SEQ_JSON, SEQ_WEIGHTS = SEQ.with_suffix(".json"), SEQ.with_name("keras224_seq_w.h5")


@pytest.fixture(scope="session")
def malicious(written_by: Callable[[str], Path]) -> Path:
    """A folder of files that bite."""
    return written_by("malicious_checkpoints.py")


LIVE = {
    "lambda_keras.keras": "net > bite is a Lambda layer: it carries compiled Python code",
    "lambda_keras.h5": "net > bite is a Lambda layer: it carries compiled Python code",
    "lambda_tf_keras.keras": "net > bite is a Lambda layer: it carries compiled Python code",
    "lambda_tf_keras.h5": "net > bite is a Lambda layer: it carries compiled Python code",
    "import_class.keras": "net: Net comes from module 'canary_class', not from Keras",
    "tfsm_layer.keras": "net > bite is a TFSMLayer: it loads and runs a TensorFlow SavedModel",
    "lookup.keras": "net > bite is a StringLookup: it reads a vocabulary from a file",
    "link.h5": r"kernel:0 is a link to '/values' in the file '.*secret\.h5'",
    "external.h5": r"kernel:0 keeps its values in another file, '.*secret\.bin'",
    "virtual.h5": "kernel:0 is a virtual dataset, put together from other files",
}


@pytest.mark.parametrize(("name", "message"), LIVE.items(), ids=LIVE)
@pytest.mark.usefixtures("no_tensorflow")
def test_a_file_that_bites_is_refused_by_reading_alone(malicious: Path, name: str, message: str) -> None:
    # loaded naively, the very same file did it
    assert json.loads((malicious / "live.json").read_text())[name] == "bitten"
    with pytest.raises(UnsafeCheckpointError, match=f"{name} > .*{message}"):
        converters.convert(malicious / name)
    assert list((malicious / "canaries").iterdir()) == []


@pytest.mark.usefixtures("no_tensorflow")
def test_a_pickled_torch_module_is_refused_by_reading_alone(tmp_path: Path) -> None:
    script = Path(__file__).with_name("malicious_torch_module.py")
    made = subprocess.run([sys.executable, str(script), str(tmp_path)], timeout=300, capture_output=True, text=True)
    # loaded naively, the very same file did it
    assert made.stdout.split() == ["bitten"], made.stderr[-500:]
    with pytest.raises(UnsafeCheckpointError, match="net > bite is a TorchModuleWrapper: it unpickles a PyTorch"):
        converters.convert(tmp_path / "torch_module.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["torch_module.keras"]


def test_what_a_model_was_trained_with_is_left_in_the_file(
    malicious: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "import_loss.keras"
    assert json.loads((malicious / "live.json").read_text())[name] == "bitten"
    # the module that the loss is of can be imported, if anybody tries
    monkeypatch.setenv("PYTHONPATH", str(malicious))
    bundle = converters.convert(malicious / name, out=tmp_path / "bundle", cache=False)
    assert [row.name for row in bundle.layers][:1] == ["conv"]
    assert list((malicious / "canaries").iterdir()) == []


# ---------------------------------------------------------------- HDF5


def copied(folder: Path, change: Callable[[h5py.File], None]) -> Path:
    """A genuine model's file with a change inside."""
    file = Path(shutil.copy(SEQ, folder / "model.h5"))
    with h5py.File(file, "r+") as opened:
        change(opened)
    return file


def sparse(file: h5py.File) -> None:
    file.create_dataset("model_weights/bomb", (10**12,), "float32", chunks=(10**6,), compression="gzip")


def soft_link(file: h5py.File) -> None:
    file["model_weights/again"] = h5py.SoftLink("/model_weights/c1")


def cycle(file: h5py.File) -> None:
    file["model_weights/again"] = file["model_weights"]


def references(file: h5py.File) -> None:
    file.create_dataset("model_weights/other", (1,), h5py.ref_dtype)


def texts(file: h5py.File) -> None:
    file.create_dataset("model_weights/other", data=["a", "b"], dtype=h5py.string_dtype())


def plug_in(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4,))
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (0,))
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file["model_weights"].id, b"packed", h5py.h5t.IEEE_F32LE, space, plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sparse, r"bomb declares 4,000,000,000,000 bytes of values and holds 0"),
        (soft_link, "again is a link to '/model_weights/c1'; Keras writes no links"),
        (references, "other holds object values instead of numbers"),
        (texts, "other holds object values instead of numbers"),
        (plug_in, "packed is packed by filter 32001, a plug-in"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.usefixtures("no_tensorflow")
def test_hdf5_that_is_more_than_weights_is_refused(
    tmp_path: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    source = copied(tmp_path, change)
    with pytest.raises(UnsafeCheckpointError, match=message):
        converters.convert(source)
    with pytest.raises(UnsafeCheckpointError, match=message):
        converters.convert(SEQ_JSON, weights=source)


def test_a_group_inside_itself_is_read_once(tmp_path: Path) -> None:
    assert inspect(copied(tmp_path, cycle)).values == inspect(SEQ).values > 1000


@pytest.mark.parametrize("pack", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_the_weights_inside_an_archive_are_read_too(tmp_path: Path, pack: int) -> None:
    archive = archived(tmp_path, {"model.weights.h5": copied(tmp_path, soft_link).read_bytes()}, pack)
    with pytest.raises(UnsafeCheckpointError, match=r"model\.weights\.h5 of model\.keras > .* is a link to"):
        inspect(archive)
    honest = archived(tmp_path, {"model.weights.h5": SEQ_WEIGHTS.read_bytes()}, pack)
    assert inspect(honest).values == inspect(SEQ).values


def test_the_worker_takes_only_the_file_that_was_inspected(tmp_path: Path) -> None:
    source = Path(shutil.copy(SEQ, tmp_path / "model.h5"))
    (digest,) = inspect(source).file_hashes
    private_copy(source, tmp_path / "copy.h5", digest)
    assert (tmp_path / "copy.h5").read_bytes() == SEQ.read_bytes()
    shutil.copy(SEQ_WEIGHTS, source)
    with pytest.raises(CheckpointError, match=r"model\.h5 was changed while it was read"):
        private_copy(source, tmp_path / "second.h5", digest)
    archive = archived(tmp_path, {"model.weights.h5": SEQ_WEIGHTS.read_bytes()})
    with pytest.raises(CheckpointError, match=r"model\.keras was changed while it was read"):
        private_member(archive, "model.weights.h5", tmp_path / "third.h5", digest)


def test_the_worker_judges_its_own_copy_again(tmp_path: Path) -> None:
    source = copied(tmp_path, soft_link)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(UnsafeCheckpointError, match="is a link to"):
        private_copy(source, tmp_path / "copy.h5", digest)


# ---------------------------------------------------------------- archives


def archived(folder: Path, members: dict[str, bytes], pack: int = zipfile.ZIP_STORED) -> Path:
    """A `.keras` archive of a small genuine architecture, with other members added."""
    file = folder / "model.keras"
    whole = {"metadata.json": b'{"keras_version": "2.15.0"}', "config.json": SEQ_JSON.read_bytes()} | members
    with zipfile.ZipFile(file, "w", pack) as archive:
        for name, content in whole.items():
            archive.writestr(name, content)
    return file


@pytest.mark.parametrize(
    "name",
    ["../escape", "/etc/passwd", "assets/../../escape", "C:/escape", "assets\\..\\escape"],
)
def test_a_member_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeCheckpointError, match="is a path that leads out of the archive's folder"):
        inspect(archived(tmp_path, {name: b""}))


def test_a_member_that_is_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("model.weights.h5")
    link.external_attr = 0o120777 << 16
    file = archived(tmp_path, {})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeCheckpointError, match="is a symbolic link"):
        inspect(file)


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    file = archived(tmp_path, {})
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsafeCheckpointError, match="1 of them twice"):
        inspect(file)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = archived(tmp_path, {})
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("model.weights.h5", "w") as member:
        for _ in range(400):
            member.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(UnsafeCheckpointError, match=r"claims to unpack to 419,430,400: a zip bomb"):
        inspect(file)


def test_a_config_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    config = b'{"class_name": "Sequential", "x": "' + b" " * (20 << 20) + b'"}'
    with pytest.raises(UnsafeCheckpointError, match=r"config\.json of .* is larger than 16 MB"):
        inspect(archived(tmp_path, {"config.json": config}, zipfile.ZIP_DEFLATED))
