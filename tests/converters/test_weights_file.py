"""What `weights_file` writes is what safetensors reads."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from converters import weights_file


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    kernel = random.standard_normal((3, 3, 4, 8)).astype(np.float32)
    return {
        "kernel": kernel,
        "transposed": kernel.transpose(3, 2, 0, 1),
        "every second": kernel[::2],
        "half": kernel.astype(np.float16)[:1, :1, :1, :3],
        "double": kernel.astype(np.float64),
        "shape": np.array([-1, 8]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def test_safetensors_reads_it(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    weights_file.write(arrays, tmp_path / "w.safetensors")
    loaded = load_file(tmp_path / "w.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_every_array_begins_where_its_dtype_wants_it(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    weights_file.write(arrays, tmp_path / "w.safetensors")
    places = weights_file.places(tmp_path / "w.safetensors")
    assert len(places) == len(arrays)
    assert all(place.offset % place.dtype.itemsize == 0 for place in places.values())


def test_whole_cache_lines_begin_at_one(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    weights_file.write(arrays, tmp_path / "w.safetensors")
    mapped = weights_file.mapped(tmp_path / "w.safetensors")
    whole = [name for name, array in arrays.items() if array.nbytes % 64 == 0 and array.size]
    assert set(whole) == {"kernel", "transposed", "every second", "double"}
    assert all(mapped[name].ctypes.data % 64 == 0 for name in whole)


def test_mapped_arrays_are_those_of_the_file(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "w.safetensors")
    mapped = weights_file.mapped(tmp_path / "w.safetensors")
    assert mapped.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array)
        assert not mapped[name].flags.writeable
