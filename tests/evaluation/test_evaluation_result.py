"""A result prints in 80 columns, and its files hold what it holds."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation.colours import NAMES, colour_model, painted
from evaluation.results import drawn, result_of

from torchcam_suite import load
from torchcam_suite.errors import SourceError
from torchcam_suite.evaluate import evaluate
from torchcam_suite.evaluation import EvaluationResult
from torchcam_suite.evaluation.document import MOST_POINTS
from torchcam_suite.evaluation.result import Data
from torchcam_suite.streaming import Unreadable

PLOTS = ["confusion.png", "roc.png", "precision-recall.png", "reliability.png", "mistakes.png"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    """Two mistakes among eleven pictures of three classes."""
    folder = painted(
        tmp_path_factory.mktemp("pictures"),
        {("red", "red"): 3, ("green", "green"): 2, ("green", "red"): 1, ("blue", "blue"): 4, ("blue", "green"): 1},
    )
    return evaluate(colour_model(), folder)


# ---------------------------------------------------------------- text


def test_the_table_says_the_figures(found: EvaluationResult) -> None:
    lines = str(found).splitlines()
    words = [line.split() for line in lines]
    assert lines[0].endswith(": 11 images")
    assert ["accuracy", "0.818", "95", "%:", "0.523", "to", "0.949", "(Wilson)"] in words
    (red,) = [line for line in words if line[:2] == ["red", "3"] and len(line) == 8]
    scores = found.scores
    assert red[2:6] == [f"{value:.3f}" for value in (0.75, 1, 6 / 7, scores.aucs[0].value)]
    assert ["green", "1", "2", "0"] in words  # a row of the confusion matrix
    assert f"calibration error  {scores.reliability.ece:.3f}  {scores.reliability.name}" in lines
    mistake = found.mistakes[0]
    shown = [
        f"{mistake.label}/{Path(mistake.path).name}",
        mistake.label,
        mistake.prediction,
        f"{mistake.confidence:.3f}",
    ]
    assert shown in words


def test_a_binary_head_has_one_auc_with_both_errors() -> None:
    found = result_of([0, 0, 1, 1, 1, 0], [[-1], [0.5], [1], [0.2], [2], [-2]], ("cat", "dog"))
    text, auc = str(found), found.scores.aucs[1]
    assert f"AUC of dog         {auc.value:.3f}" in text
    assert f"{auc.delong:.3f}  DeLong; Hanley-McNeil {auc.hanley_mcneil:.3f}" in text
    assert "from it on, dog is predicted" in text
    assert "95 % DeLong" not in text


NAMES_OF_ALL_KINDS = (
    "[red]",
    "a name that is much longer than its column has room for, with words",
    "ünïcode 猫",
    "_x",
)


def test_a_class_has_one_line() -> None:
    names = (NAMES_OF_ALL_KINDS[1], *(f"class_{index}" for index in range(11)))
    lines = str(drawn(400, names)).split("\n\n")[2].splitlines()
    assert len(lines) == 1 + len(names)
    assert "…" in lines[1]


@pytest.mark.parametrize("classes", [2, 3, 4, 8, 9, 30])
def test_the_table_fits_eighty_columns(classes: int) -> None:
    names = (*NAMES_OF_ALL_KINDS, *(f"class_{index}" for index in range(30)))[:classes]
    notes = ("a note " * 30, "/a/path/without/any/space" * 8)
    text = str(drawn(400, names, notes=notes))
    assert max(map(len, text.splitlines())) <= 80
    assert "[red]" in text
    assert ("confusion matrix, true classes down" in text) == (classes <= 8)
    assert ("most frequent mistakes:" in text) == (classes > 8)
    assert ("the 20 classes of 30 with the lowest F1" in text) == (classes == 30)


def test_what_is_not_defined_is_a_dash() -> None:
    text = str(result_of([0, 0], [[1.0, 0, 0], [2, 0, 0]], ("ant", "bee", "cat")))
    (bee,) = [line.split() for line in text.splitlines() if line.startswith("bee") and "-" in line]
    assert bee == ["bee", "0", "-", "-", "-", "-", "-", "-"]
    assert "nan" not in text


def test_a_name_that_is_not_utf_8_can_be_printed_and_saved(tmp_path: Path) -> None:
    found = result_of([0, 1], np.eye(2), ("caf\udce9", "dog"), notes=("caf\udce9",))
    assert "caf\\udce9" in str(found)
    str(found).encode()
    found.save(tmp_path, plots=False)
    assert "caf\\udce9" in (tmp_path / "predictions.csv").read_text(encoding="utf-8")
    assert found.plot("confusion").mode == "RGB"


# ---------------------------------------------------------------- files


def test_the_files_are_written_and_nothing_else(found: EvaluationResult, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    written = found.save(out)
    assert [path.name for path in written] == ["evaluation.json", "predictions.csv", *PLOTS]
    assert sorted(out.iterdir()) == sorted(written)


def test_the_predictions_are_a_row_a_picture(found: EvaluationResult, tmp_path: Path) -> None:
    found.save(tmp_path, plots=False)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(found.paths)
    assert [row["label"] for row in rows] == [NAMES[label] for label in found.scores.labels]
    assert [row["prediction"] for row in rows] == [NAMES[index] for index in found.scores.predictions]
    shares = [[float(row[f"probability of {name}"]) for name in NAMES] for row in rows]
    np.testing.assert_allclose(shares, found.scores.probabilities, rtol=1e-8)


def test_the_json_file_holds_every_figure(found: EvaluationResult, tmp_path: Path) -> None:
    found.save(tmp_path, plots=False)
    about = json.loads((tmp_path / "evaluation.json").read_text())
    scores = found.scores
    assert about == json.loads(json.dumps(found.to_json()))
    assert about["accuracy"] == scores.accuracy
    assert about["confusion_matrix"] == scores.confusion.tolist()
    assert about["class_names"] == list(NAMES)
    assert [row["auc"]["value"] for row in about["classes"]] == [auc.value for auc in scores.aucs.values()]
    assert about["classes"][1]["auc"]["interval_95_delong"] == pytest.approx(scores.aucs[1].interval())
    assert about["calibration"]["ece"] == scores.reliability.ece
    assert [curve["name"] for curve in about["curves"]] == list(NAMES)
    assert [mistake["path"] for mistake in about["mistakes"]] == [mistake.path for mistake in found.mistakes]
    assert about["model"]["fingerprint"] == found.model["fingerprint"]
    assert about["heat_maps"] == {"method": "gradcam", "layer": "maps"}


def test_what_is_not_defined_is_null_in_json(tmp_path: Path) -> None:
    found = result_of([0, 0], [[1.0, 0, 0], [2, 0, 0]], ("ant", "bee", "cat"))
    assert math.isnan(found.scores.macro_auc)
    about = found.to_json()
    assert about["macro_auc"] is None
    assert about["classes"][1]["recall"] is None
    found.save(tmp_path, plots=False)
    assert "NaN" not in (tmp_path / "evaluation.json").read_text()


def test_long_curves_are_thinned_to_their_ends_and_what_lies_evenly_between() -> None:
    found = drawn(3000, ("cat", "dog"))
    (curve,) = found.to_json()["curves"]
    hits = curve["roc"]["true_positive_rate"]
    assert len(hits) == MOST_POINTS < curve["roc"]["of_points"]
    assert (hits[0], hits[-1]) == (0, 1)
    assert np.trapezoid(hits, curve["roc"]["false_positive_rate"]) == pytest.approx(
        found.scores.aucs[1].value, abs=1e-3
    )


def test_what_was_left_out_is_in_the_file() -> None:
    data = Data(
        *("/data", "folder", "sorted order", "assumed", {"ant": 3, "eel": 2}),
        *(("eel",), (Unreadable("/data/ant/1.png", "damaged"),), 4),
    )
    about = result_of([0, 1], np.eye(2), ("ant", "bee"), data=data).to_json()["data"]
    assert about == {
        "source": "/data",
        "kind": "folder",
        "labels": {"ant": 3, "eel": 2},
        "rule": "sorted order",
        "assumption": "assumed",
        "unknown_labels": {"eel": 2},
        "unreadable": [{"path": "/data/ant/1.png", "reason": "damaged"}],
        "ignored_files": 4,
    }


def test_without_mistakes_there_is_no_sheet(tmp_path: Path) -> None:
    written = result_of([0, 1], np.eye(2), ("cat", "dog")).save(tmp_path)
    assert [path.name for path in written] == ["evaluation.json", "predictions.csv", *PLOTS[:-1]]


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with pytest.raises(SourceError, match="cannot write to /dev/null/out"):
        result_of([0, 1], np.eye(2), ("cat", "dog")).save("/dev/null/out", plots=False)


def test_a_result_is_called_by_its_accuracy(found: EvaluationResult) -> None:
    assert repr(found) == "EvaluationResult('ColourNet' on 11 images: accuracy 0.818)"
    assert len(found) == 11


def test_the_model_is_described_as_in_an_explanation(found: EvaluationResult) -> None:
    model = load(colour_model().module, input_size=12, preprocessing="unit", class_names=NAMES, device="cpu")
    assert found.model["fingerprint"] == model.fingerprint
    assert found.model["preprocessing"]["name"] == "unit"
    assert set(found.versions) == {"torchcam_suite", "python", "torch", "numpy", "device"}
