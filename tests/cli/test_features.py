"""`features` writes rows of pictures and folders, lists what is broken, and says where the file is."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image

from torchcam_suite import load
from torchcam_suite.features import Features, features

UNIT = ["--preprocess", "unit", "--device", "cpu"]


@pytest.fixture
def folder(pictures: list[Path], tmp_path: Path) -> Path:
    """Four pictures in folders, one of them broken."""
    root = tmp_path / "pictures"
    for name, picture in zip(("a/1.png", "a/2.png", "b/1.png"), pictures, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture.read_bytes())
    (root / "b/0.png").write_bytes(b"junk")
    return root


def test_the_file_has_the_rows_of_the_library(families: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "features.safetensors"
    layers = ["--layer", "conv2d_5", "--layer", "conv2d_1"]
    found = run("features", families, folder, *layers, "--pool", "mean", *UNIT, "-o", out)
    assert found.status == 0
    assert found.stdout.splitlines()[-1] == str(out)
    model = load(families, preprocessing="unit", device="cpu")
    paths = [folder / name for name in ("a/1.png", "a/2.png", "b/1.png")]
    expected = features(model, paths, ["conv2d_5", "conv2d_1"], pool="mean")
    written = Features.load(out)
    assert list(written.layers) == ["conv2d_5", "conv2d_1"]
    for name in expected.layers:
        np.testing.assert_allclose(written[name], expected[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(written.logits, expected.logits, rtol=1e-4, atol=1e-6)
    assert written.paths == expected.paths
    assert written.ids == ("a/1", "2", "b/1")
    assert list(out.parent.iterdir()) == [out]


def test_broken_pictures_are_listed_and_counted(families: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    found = run("features", families, folder, *UNIT, "-o", tmp_path / "features.npz")
    assert found.status == 0
    lines = found.stderr.splitlines()
    assert lines[0].startswith(f"left out: {folder / 'b/0.png'} is not an image that Pillow knows")
    assert lines[1:] == ["one picture cannot be read", "3 of 4 pictures; written:"]
    assert max(map(len, found.stdout.splitlines()[:-1])) <= 80


def test_of_many_broken_pictures_the_first_are_listed(families: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    for i in range(30):
        (folder / f"c{i}.png").write_bytes(b"junk")
    found = run("features", families, folder, *UNIT, "-o", tmp_path / "features.npz")
    assert found.stderr.count("left out: ") == 20
    assert "31 pictures cannot be read (11 more are listed in the file)" in found.stderr
    assert len(Features.load(tmp_path / "features.npz").unreadable) == 31


def test_strict_stops_at_a_broken_picture(families: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    found = run("features", families, folder, *UNIT, "--strict", "-o", tmp_path / "features.npz")
    assert (found.status, found.stdout) == (1, "")
    assert found.stderr.startswith(f"error: {folder / 'b/0.png'} is not an image")
    assert not (tmp_path / "features.npz").exists()


def test_json_is_all_but_the_arrays(families: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "features.npz"
    found = run("features", families, folder / "a", *UNIT, "-o", out, "--json")
    assert (found.status, found.stderr) == (0, "")
    assert json.loads(found.stdout) == {"file": str(out)} | Features.load(out).to_json()


def test_the_file_is_in_the_working_folder_unless_said_otherwise(
    families: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("features", families, folder / "a", *UNIT).stdout.splitlines()[-1] == "features.npz"
    assert len(Features.load(tmp_path / "features.npz")) == 2


def test_a_folder_for_results_is_used_again(families: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    arguments = ["features", families, folder, *UNIT, "--folder", tmp_path / "kept", "-o"]
    run(*arguments, tmp_path / "first.npz")
    (kept,) = (tmp_path / "kept").iterdir()
    before = {file: file.stat().st_mtime_ns for file in kept.iterdir()}
    run(*arguments, tmp_path / "second.npz")
    assert {file: file.stat().st_mtime_ns for file in kept.iterdir()} == before
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    Image.new("RGB", (64, 64)).save(folder / "a/2.png")
    run(*arguments, tmp_path / "third.npz")
    assert len(list((tmp_path / "kept").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "features.csv"], "expected a name that ends in .npz, .safetensors, .parquet"),
        (["--pool", "sum"], "--pool sum does not exist; expected one of flatten, mean, max"),
        (["--layer", "conv2d_9"], "layer 'conv2d_9' is not in this model"),
        (["-o", "/dev/null/features.npz"], "cannot write /dev/null/features.npz"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str],
    message: str,
    families: Path,
    folder: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("features", families, folder / "a", *UNIT, *arguments)
    assert (found.status, found.stdout) == (1, "")
    assert message in " ".join(found.stderr.split())
    assert list(tmp_path.iterdir()) == [folder]


def test_an_empty_folder_is_told_before_the_model_is_opened(tmp_path: Path, run: Run) -> None:
    found = run("features", "none.h5", tmp_path)
    assert (found.status, found.stdout) == (1, "")
    assert f"{tmp_path} has no picture in it" in found.stderr


def test_help_fits_eighty_columns_and_shows_an_example(run: Run) -> None:
    found = run("features", "--help")
    assert found.status == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert "Example:  torchcam-suite features" in found.stdout
