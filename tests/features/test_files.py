"""What is saved comes back in every format, without pickle, and other tools can read it."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from torchcam_suite.errors import MissingLibraryError, SourceError
from torchcam_suite.features import Features, files
from torchcam_suite.streaming import Unreadable

ENDINGS = [".npz", ".safetensors", ".parquet"]


@pytest.fixture(params=ENDINGS)
def ending(request: pytest.FixtureRequest) -> str:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return request.param


def make(dtype: Any = np.float32) -> Features:
    rng = np.random.default_rng(0)
    return Features(
        layers={
            "block/conv#1": rng.normal(size=(5, 12)).astype(dtype),
            "logits": rng.normal(size=(5, 3)).astype(dtype),
        },
        shapes={"block/conv#1": (3, 2, 2), "logits": (3,)},
        pool="flatten",
        ids=("a", "b", "ü/c", "image 3", '"'),
        paths=("x/a.png", "x/b.png", "ü/c.png", None, '".png'),
        logits=rng.normal(size=(5, 2)).astype(dtype),
        unreadable=(Unreadable("bad.png", "it is damaged"),),
        model={"name": "net", "fingerprint": "12ab", "class_names": None},
        versions={"torch": "2.15"},
    )


def require_equal(found: Features, expected: Features) -> None:
    assert found.to_json() == expected.to_json()
    assert isinstance(found.unreadable[0], Unreadable)
    assert found.shapes == expected.shapes
    for ours, theirs in zip(
        (*found.layers.values(), found.logits), (*expected.layers.values(), expected.logits), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_saved_is_loaded(tmp_path: Path, ending: str, dtype: Any) -> None:
    saved = make(dtype)
    path = tmp_path / "new" / f"features{ending}"
    assert saved.save(str(path)) == path
    require_equal(Features.load(str(path)), saved)
    assert list(path.parent.iterdir()) == [path]


def test_blocks_make_no_difference(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BLOCK", 100)  # two rows at a time
    saved = make()
    require_equal(Features.load(saved.save(tmp_path / f"features{ending}")), saved)


def test_mapped_arrays_are_saved(tmp_path: Path, ending: str) -> None:
    saved = make()
    for name, array in saved.layers.items():
        array.tofile(tmp_path / "rows")
        saved.layers[name] = np.memmap(tmp_path / "rows", array.dtype, "c", shape=array.shape)
        break
    require_equal(Features.load(saved.save(tmp_path / f"features{ending}")), saved)


def test_numpy_reads_npz_by_the_names_of_layers(tmp_path: Path) -> None:
    saved = make()
    with np.load(saved.save(tmp_path / "features.npz"), allow_pickle=False) as stored:
        assert sorted(stored.files) == ["features", "layers/block/conv#1", "layers/logits", "logits"]
        assert np.array_equal(stored["layers/block/conv#1"], saved["block/conv#1"])
        assert json.loads(stored["features"].tobytes()) == saved.to_json()


def test_safetensors_reads_what_is_written_by_hand(tmp_path: Path) -> None:
    saved = make()
    with safe_open(saved.save(tmp_path / "features.safetensors"), framework="pt") as stored:
        assert sorted(stored.keys()) == ["layers/block/conv#1", "layers/logits", "logits"]
        assert np.array_equal(stored.get_tensor("layers/logits").numpy(), saved["logits"])
        assert json.loads(stored.metadata()["features"]) == saved.to_json()
    assert int.from_bytes((tmp_path / "features.safetensors").read_bytes()[:8], "little") % 8 == 0


def test_parquet_is_a_table_of_images(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    saved = make()
    table = parquet.read_table(saved.save(tmp_path / "features.parquet"))
    assert table.column_names == ["id", "path", "logits", "layers/block/conv#1", "layers/logits"]
    assert tuple(table["path"].to_pylist()) == saved.paths
    assert table["layers/logits"].to_pylist() == saved["logits"].tolist()


def test_a_name_that_is_not_unicode_is_kept(tmp_path: Path, ending: str) -> None:
    odd = "caf\udce9"  # as Python has the byte E9 of a file name
    saved = replace(make(), ids=(odd, *make().ids[1:]), paths=(f"{odd}.png", *make().paths[1:]))
    require_equal(Features.load(saved.save(tmp_path / f"features{ending}")), saved)
    if ending == ".parquet":
        from pyarrow import parquet

        column = parquet.read_table(tmp_path / "features.parquet")["path"].to_pylist()
        assert column == [r"caf\udce9.png", *saved.paths[1:]]


def test_parquet_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'torchcam-suite\[parquet\]'"):
        make().save(tmp_path / "features.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["features.csv", "features", "features.npz.gz"])
def test_another_ending_is_told(tmp_path: Path, name: str) -> None:
    message = r"expected a name that ends in \.npz, \.safetensors, \.parquet"
    with pytest.raises(ValueError, match=message):
        make().save(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        Features.load(tmp_path / name)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("cut", [0, 7, 60, -40])
def test_half_a_file_is_told(tmp_path: Path, ending: str, cut: int) -> None:
    path = make().save(tmp_path / f"features{ending}")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match="holds no features, or damaged ones"):
        Features.load(path)


def test_a_missing_file_is_told(tmp_path: Path, ending: str) -> None:
    with pytest.raises(SourceError, match="no such file"):
        Features.load(tmp_path / f"features{ending}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 7}, "schema version 7; this version reads 1"),
        ({"ids": ["a"]}, "for 1 images"),
        ({"layers": [{"layer": "other", "shape": [3]}]}, "layers/other"),
        ({"layers": None}, "not iterable"),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    saved = make()
    arrays = {"logits": saved.logits} | {f"layers/{name}": array for name, array in saved.layers.items()}
    files.writer(Path("a.npz"))(tmp_path / "features.npz", arrays, saved.to_json() | change)
    with pytest.raises(SourceError, match=message):
        Features.load(tmp_path / "features.npz")


def test_pickled_arrays_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    about = np.frombuffer(json.dumps(make().to_json()).encode(), np.uint8)
    np.savez(path, features=about, logits=np.array([{}], object), allow_pickle=True)
    with zipfile.ZipFile(path) as stored:
        assert b"\x80" in stored.read("logits.npy")
    with pytest.raises(SourceError, match="holds no features, or damaged ones"):
        Features.load(path)


def test_a_full_disk_is_told_and_the_old_file_stays(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make().save(tmp_path / f"features{ending}")
    before = path.read_bytes()

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchcam_suite.explanation.os.fsync", no_space)
    with pytest.raises(SourceError, match=r"cannot write .*No space left"):
        make(np.float64).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
