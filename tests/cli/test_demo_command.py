"""`demo` imports its classifier, explains its samples, and finds the creatures."""

import json
import time
from pathlib import Path

import numpy as np
from commands import Run
from PIL import Image

from torchcam_suite.demo import LAYERS, sample_images


def share_of_the_creature(image: Path) -> float:
    """What a map that points anywhere would score."""
    with Image.open(image.with_name(f"{image.stem}_mask.png")) as mask:
        return float((np.asarray(mask.convert("L")) > 127).mean())


def test_the_demo_is_quick_and_finds_the_creatures(tmp_path: Path, shell: Run) -> None:
    start = time.perf_counter()
    found = shell("demo", "-o", tmp_path / "demo", "--json")
    assert time.perf_counter() - start < 60
    assert found.status == 0
    about = json.loads(found.stdout)
    files = [Path(path) for path in about["files"]]
    assert sorted(files) == sorted((tmp_path / "demo").iterdir())
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
    rows = {(row["method"], row["layer"]): row["hits"] / row["images"] for row in about["pointing_game"]}
    assert set(rows) == {(method, layer) for method in ("gradcam", "scorecam") for layer in LAYERS.values()}
    chance = float(np.mean([share_of_the_creature(image) for image in sample_images()]))
    assert 0.02 < chance < 0.5
    for method in ("gradcam", "scorecam"):
        assert rows[method, LAYERS["deep"]] > 2 * chance


def test_the_demo_prints_a_table_and_where_the_pictures_are(tmp_path: Path, run: Run) -> None:
    found = run("demo", "-o", tmp_path / "demo")
    assert found.status == 0
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["depth", "layer", "Grad-CAM", "Score-CAM"]
    assert [line.split()[0] for line in lines[1:4]] == list(LAYERS)
    assert all(Path(line).is_file() for line in lines[-2:])
    assert "pictures classified right" in found.stderr


def test_every_sample_has_a_mask_of_its_size() -> None:
    images = sample_images()
    assert len(images) >= 6
    for image in images:
        with Image.open(image) as picture, Image.open(image.with_name(f"{image.stem}_mask.png")) as mask:
            assert picture.size == mask.size
