"""`evaluate` prints the figures of labelled pictures, and writes files and plots."""

import csv
import json
from pathlib import Path

import pytest
from commands import Run
from PIL import Image

from torchcam_suite.demo import ASSETS, sample_images

DEMO = [ASSETS / "model.json", "--weights", ASSETS / "weights.h5", "--preprocess", "unit"]
NAMED = [*DEMO, "--classes", ASSETS / "class_names.txt"]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """The demo's six samples in class folders, one of them in the wrong one."""
    for path in sample_images():
        family = "sprout" if path.stem == "ember_2" else path.stem.split("_")[0]
        (tmp_path / "samples" / family).mkdir(parents=True, exist_ok=True)
        (tmp_path / "samples" / family / path.name).symlink_to(path)
    return tmp_path / "samples"


def test_the_table_is_printed_in_eighty_columns(samples: Path, run: Run) -> None:
    found = run("evaluate", *NAMED, samples)
    assert found.status == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    words = [line.split() for line in found.stdout.splitlines()]
    assert ["accuracy", "0.833", "95", "%:", "0.436", "to", "0.970", "(Wilson)"] in words
    assert ["sprout/ember_2.png", "sprout", "ember"] in [line[:3] for line in words]
    assert found.stderr == ""


def test_the_files_are_written_and_named(samples: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    found = run("evaluate", *NAMED, samples, "-o", out, "--bins", 5, "--binning", "equal count")
    assert found.status == 0
    names = ["evaluation.json", "predictions.csv", "confusion.png", "roc.png", "precision-recall.png"]
    names += ["reliability.png", "mistakes.png"]
    assert [line.removeprefix("written: ") for line in found.stderr.splitlines()] == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    for name in names[2:]:
        with Image.open(out / name) as picture:
            picture.load()
    about = json.loads((out / "evaluation.json").read_text())
    assert about["images"] == 6
    assert about["heat_maps"] == {"method": "gradcam", "layer": "conv2d_5"}
    assert about["calibration"]["name"].startswith("ece[predicted class,equal count,")
    with (out / "predictions.csv").open(newline="") as file:
        wrong = [row["path"] for row in csv.DictReader(file) if row["label"] != row["prediction"]]
    assert wrong == [str(samples / "sprout" / "ember_2.png")]


@pytest.mark.parametrize("inside", ["out", "ember/out"])
def test_plots_are_not_written_among_the_pictures(inside: str, samples: Path, run: Run) -> None:
    found = run("evaluate", *NAMED, samples, "-o", samples / inside)
    assert found.status == 1
    assert "whose folders are classes" in found.stderr
    assert not (samples / inside).exists()


def test_a_csv_file_with_its_own_columns_is_read(tmp_path: Path, run: Run) -> None:
    lines = ["picture_of\tspecies", *(f"{path.name}\t{path.stem.split('_')[0]}" for path in sample_images())]
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    columns = ["--path-column", "picture_of", "--label-column", "species", "--delimiter", "\\t"]
    asked = [*columns, "--root", sample_images()[0].parent, "--no-plots", "-o", tmp_path / "out", "--json"]
    found = run("evaluate", *NAMED, tmp_path / "list.tsv", *asked)
    assert found.status == 0
    about = json.loads(found.stdout)
    assert (about["accuracy"], about["macro_auc"], about["mistakes"]) == (1, 1, [])
    assert about["files"] == [str(tmp_path / "out" / name) for name in ("evaluation.json", "predictions.csv")]


def test_broken_pictures_are_counted_and_no_failure_unless_asked(samples: Path, run: Run) -> None:
    (samples / "ember" / "broken.png").write_bytes(b"")
    found = run("evaluate", *NAMED, samples)
    assert found.status == 0
    assert "could not be scored: 1 of 7 pictures" in " ".join(found.stdout.split())
    found = run("evaluate", *NAMED, samples, "--strict")
    assert found.status == 1
    assert "broken.png is not an image" in " ".join(found.stderr.split())


def test_what_was_assumed_is_said_once(samples: Path, run: Run) -> None:
    found = run("evaluate", *DEMO, samples, "--mistakes", 0)
    said = "labels are taken in sorted order as Keras and torchvision do: 0 = ember, 1 = ripple, 2 = sprout"
    assert said in " ".join(found.stdout.split())
    assert found.stderr == ""
    found = run("evaluate", *DEMO, samples, "--mistakes", 0, "--json")
    assert said in " ".join(found.stderr.split())
    assert json.loads(found.stdout)["data"]["assumption"].startswith("the model has no class names")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "0.4"], "threshold=0.4 for 3 classes"),
        (["--method", "gradcamp"], "method 'gradcamp' does not exist; did you mean 'gradcam'?"),
        (["--layer", "conv2d_9"], "layer 'conv2d_9' is not in this model"),
        (["--binning", "uniform"], "expected at least 1 bin of 'equal width' or 'equal count'"),
        (["--label-column", "species"], "label_column is for a CSV file"),
        (["--classes", "a,b,c"], "no label is a class name of this model"),
        (["--no-plots", "-o", "/dev/null/out"], "cannot write to /dev/null/out"),
    ],
)
def test_what_does_not_fit_is_told(arguments: list[str], message: str, samples: Path, run: Run) -> None:
    model = DEMO if "--classes" in arguments else NAMED
    found = run("evaluate", *model, samples, *arguments)
    assert found.status == 1
    assert found.stdout == ""
    assert message in " ".join(found.stderr.split())


def test_a_folder_that_does_not_exist_is_told_before_the_model_is_opened(tmp_path: Path, run: Run) -> None:
    found = run("evaluate", "nowhere.h5", tmp_path / "none")
    assert found.status == 1
    assert "no such folder or file" in " ".join(found.stderr.split())
