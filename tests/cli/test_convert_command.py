"""`convert` and `verify` write, prove and prove again; `layers` lists."""

import json
from pathlib import Path

import pytest
from commands import Run

from converters import open_bundle


def test_convert_writes_a_bundle_and_prints_its_proof(families: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "families.bundle"
    found = run("convert", families, "-o", folder, "--preprocess", "tf", "--classes", "fire, grass,water")
    assert found.status == 0
    assert found.stdout.splitlines()[-1] == str(folder)
    assert "largest error of the logits" in found.stdout
    bundle = open_bundle(folder)
    assert bundle.manifest["preprocessing"] == "tf"
    assert bundle.manifest["class_names"] == ["fire", "grass", "water"]


def test_convert_json_is_pure_json(families: Path, tmp_path: Path, run: Run) -> None:
    found = run("convert", families, "--out", tmp_path / "b", "--json")
    about = json.loads(found.stdout)
    assert open_bundle(about["bundle"]).certificate.to_json() == about["certificate"]
    assert 0 < about["certificate"]["prediction"] < 1e-4
    assert about["certificate"]["taps"] == 17


def test_convert_without_out_keeps_the_bundle_in_the_cache(families: Path, conversion_cache: Path, run: Run) -> None:
    about = json.loads(run("convert", families, "--json").stdout)
    assert conversion_cache in Path(about["bundle"]).parents


def test_convert_replaces_nothing(families: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    found = run("convert", families, "-o", tmp_path)
    assert found.status == 1
    assert "exists already; choose another folder or remove it first" in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_class_names_are_read_from_a_file(families: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "names.txt").write_text("fire\n\ngrass \nwater\n")
    run("convert", families, "-o", tmp_path / "b", "--classes", tmp_path / "names.txt")
    assert open_bundle(tmp_path / "b").manifest["class_names"] == ["fire", "grass", "water"]


def test_verify_proves_a_bundle_again(families: Path, tmp_path: Path, run: Run) -> None:
    run("convert", families, "-o", tmp_path / "b")
    found = run("verify", tmp_path / "b", "--json")
    assert found.status == 0
    again, stored = json.loads(found.stdout), open_bundle(tmp_path / "b").certificate.to_json()
    assert again.keys() == stored.keys()
    assert again["taps"] == stored["taps"]
    assert again["worst_cosine"] == pytest.approx(stored["worst_cosine"], abs=1e-5)
    assert "least agreement of" in run("verify", tmp_path / "b").stdout


def test_layers_prints_one_row_a_layer_and_marks_the_default(families: Path, run: Run) -> None:
    found = run("layers", families)
    assert found.status == 0
    rows = [line.split() for line in found.stdout.splitlines()]
    assert rows[1] == ["conv2d_1", "Conv2D", "16", "x", "64", "x", "64", "1"]
    assert [row[0] for row in rows if row[-1] == "default"] == ["max_pooling2d_3"]
    assert len(rows) == 1 + 17
    assert "17 layers; input 3 x 64 x 64; head softmax" in found.stderr


def test_layers_json_is_pure_json(families: Path, run: Run) -> None:
    about = json.loads(run("layers", families, "--json").stdout)
    assert about["default"] == "max_pooling2d_3"
    shapes = {"output_shape": [16, 64, 64], "map_shape": [16, 64, 64]}
    assert about["layers"][0] == {"name": "conv2d_1", "class": "Conv2D", **shapes, "calls": 1}
    assert len(about["layers"]) == 17


def test_layers_lists_a_torchvision_model_and_says_that_its_weights_are_random(run: Run) -> None:
    found = run("layers", "torchvision:resnet18", "--input-size", "64x96", "--json")
    about = {row["name"]: row for row in json.loads(found.stdout)["layers"]}
    assert about["layer4"]["output_shape"] == [512, 2, 3]
    assert found.stderr.startswith("note: torchvision:resnet18 has random weights")
    assert len(found.stderr.splitlines()) == 1


def test_layers_reads_architecture_and_weights(data: Path, run: Run) -> None:
    folder = data / "dogcat_a"
    found = run("layers", folder / "model.json", "--weights", folder / "weights.h5", "--json")
    assert json.loads(found.stdout)["default"] == "batch_normalization_7"


def test_no_cache_keeps_nothing(data: Path, conversion_cache: Path, run: Run) -> None:
    before = sorted(conversion_cache.rglob("*"))
    found = run("layers", data / "keras224/keras224_seq.h5", "--no-cache", "--json")
    assert json.loads(found.stdout)["default"] == "c1"
    assert sorted(conversion_cache.rglob("*")) == before
