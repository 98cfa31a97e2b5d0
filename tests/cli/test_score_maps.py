"""`score-maps` prints methods x metrics, and writes a line for each picture, method and layer."""

import csv
import json
from pathlib import Path

import pytest
import torch
from commands import Run

from torchcam_suite import explain, load
from torchcam_suite.demo import ASSETS, sample_images
from torchcam_suite.metrics.faithfulness import score_maps

DEMO = [ASSETS / "model.json", "--weights", ASSETS / "weights.h5", "--preprocess", "unit"]
MASKS = ["--masks", ASSETS / "samples"]


def scores(about: dict) -> dict[tuple[str, str], dict[str, float]]:
    """Mean by figure, by method and layer."""
    return {
        (row["method"], row["layer"]): {figure["name"].split("[")[0]: figure["mean"] for figure in row["figures"]}
        for row in about["scores"]
    }


def test_grad_cam_is_better_than_chance_on_the_demo(run: Run) -> None:
    methods = ["--method", "gradcam", "--method", "randommap"]
    metrics = [part for name in ("insertion", "pointing", "energy") for part in ("--metric", name)]
    found = run("score-maps", *DEMO, *sample_images(), *methods, *metrics, "--layer", "conv2d_5", *MASKS, "--json")
    assert found.status == 0
    about = scores(json.loads(found.stdout))
    ours, chance = about["gradcam", "conv2d_5"], about["randommap", "conv2d_5"]
    assert ours["insertion_auc"] > chance["insertion_auc"] + 0.05
    assert ours["pointing_game"] > chance["pointing_game"] + 0.3
    assert ours["energy_in_mask"] > chance["energy_in_mask"] + 0.1


def test_each_method_has_a_row_at_each_layer_that_it_takes(
    families: Path, pictures: list[Path], tmp_path: Path, run: Run
) -> None:
    options = ["--method", "gradcam", "--method", "fullgrad", "--layer", "conv2d_5", "--layer", "conv2d_1"]
    asked = [*options, "--metric", "confidence", "--preprocess", "unit", "-o", tmp_path / "scores.csv"]
    found = run("score-maps", families, *pictures[:2], *asked)
    assert found.status == 0
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = [(row["method"], row["layer"]) for row in csv.DictReader(file)]
    expected = [("gradcam", "conv2d_5"), ("gradcam", "conv2d_1"), ("fullgrad", "input")]
    assert rows == [row for row in expected for _ in range(2)]
    assert [line.split() for line in found.stdout.splitlines()[:2]] == [
        list(part) for part in zip(*expected, strict=True)
    ]


def test_the_file_has_the_values_of_the_library(families: Path, pictures: list[Path], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "scores.csv"
    options = ["--target", "1", "--metric", "deletion", "--metric", "confidence", "--preprocess", "unit", "-o", out]
    found = run("score-maps", families, *pictures[:3], *options)
    assert found.status == 0
    assert found.stdout.splitlines()[-1] == str(out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    model = load(families, preprocessing="unit", device="cpu")
    made = explain(model, pictures[:3], target=1)
    figures = score_maps(model, pictures[:3], made, metrics=["deletion", "confidence"])
    assert len(rows) == 3
    assert list(rows[0]) == ["image", "method", "layer", "target", *(figure.name for figure in figures)]
    for i, row in enumerate(rows):
        assert [row[name] for name in ("image", "method", "layer", "target")] == [
            str(pictures[i]),
            "gradcam",
            made.layer,
            "class 1",
        ]
        for figure in figures:
            assert float(row[figure.name]) == pytest.approx(float(figure.values[i]), abs=1e-3)
    assert list(tmp_path.rglob("*")) == [out.parent, out]


def test_the_table_fits_eighty_columns_and_says_which_way_is_better(run: Run) -> None:
    methods = [part for name in ("gradcam", "randommap", "hirescam", "layercam") for part in ("--method", name)]
    metrics = [part for name in ("confidence", "deletion", "pointing") for part in ("--metric", name)]
    found = run("score-maps", *DEMO, *sample_images()[:2], *methods, *metrics, *MASKS)
    assert found.status == 0
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    headers = [line.split() for line in lines if "cam" in line]
    assert [name for header in headers for name in header] == ["gradcam", "randommap", "hirescam", "layercam"]
    text = " ".join(found.stdout.split())
    for name in ("average_drop[image*map,%] ↓", "deletion_auc[zero,steps=50] ↓", "pointing_game[no tolerance] ↑"):
        assert text.count(name) == len(headers)
    shown = next(line for line in lines if line.startswith("deletion_auc"))
    assert shown.count("±") == len(headers[0])
    assert "mean ± standard deviation over 2 pictures" in " ".join(found.stderr.split())


def test_options_reach_the_method(families: Path, pictures: list[Path], run: Run) -> None:
    means = []
    for seed in ("0", "0", "1"):
        asked = ["--method", "randommap", "--option", f"seed={seed}", "--metric", "deletion", "--preprocess", "unit"]
        found = run("score-maps", families, pictures[0], *asked, "--json")
        means.append(json.loads(found.stdout)["scores"][0]["figures"][0]["mean"])
    assert means[0] == means[1] != means[2]


def test_a_single_picture_has_no_spread(families: Path, pictures: list[Path], run: Run) -> None:
    found = run("score-maps", families, pictures[0], "--metric", "deletion", "--preprocess", "unit")
    assert found.status == 0
    assert "±" not in found.stdout
    assert float(found.stdout.split()[-1]) > 0


def test_json_is_all_of_it(families: Path, pictures: list[Path], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "scores.csv"
    asked = ["--method", "gradcam", "--metric", "sensitivity", "--layer", "conv2d_5", "--preprocess", "unit"]
    found = run("score-maps", families, *pictures[:2], *asked, "-o", out, "--json")
    assert found.stderr == ""
    about = json.loads(found.stdout)
    assert about["file"] == str(out)
    (row,) = about["scores"]
    assert row["images"] == [str(path) for path in pictures[:2]]
    (figure,) = row["figures"]
    assert figure["name"] == "max_sensitivity[radius=0.02,samples=10]"
    assert figure["better"] == "lower"
    assert figure["mean"] == pytest.approx(sum(figure["values"]) / 2)
    assert figure["spread"] == pytest.approx(float(torch.tensor(figure["values"]).std()), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "inserton"], "metric 'inserton' does not exist; did you mean 'insertion'?"),
        (["--metric", "energy"], "metric 'energy' asks where the object is; give the masks"),
        (["--option", "samples=3"], "samples"),
        (["--method", "gradcamp"], "method 'gradcamp' does not exist; did you mean 'gradcam'?"),
        (["--masks", "nowhere"], "no such folder of masks: nowhere"),
        (["--layer", "conv2d_9"], "layer 'conv2d_9' is not in this model"),
        (["-o", "/dev/null/scores.csv"], "cannot write /dev/null/scores.csv"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str], message: str, families: Path, pictures: list[Path], run: Run
) -> None:
    found = run("score-maps", families, pictures[0], *arguments, "--preprocess", "unit")
    assert found.status == 1
    assert found.stdout == ""
    assert message in " ".join(found.stderr.split())
