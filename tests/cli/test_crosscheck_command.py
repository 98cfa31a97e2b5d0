"""`crosscheck` prints a table within 80 columns, writes its picture, and says by its status whether all is the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image
from torch import Tensor

from torchcam_suite.cam import METHODS
from torchcam_suite.cam.gradient import grad_cam

QUICK = ["--layer", "conv2d_5", "--preprocess", "unit", "--device", "cpu"]


def test_the_table_fits_and_the_status_is_0(families: Path, pictures: list[Path], run: Run) -> None:
    found = run("crosscheck", families, *pictures[:2], *QUICK)
    assert found.status == 0
    told = found.stderr.splitlines()
    assert told[0] == f"1 of {len(told)}: captum LayerGradCam beside gradcam"
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:3] == ["gradcam", "LayerGradCam", "same"] for line in lines)
    assert "FAILED" not in found.stdout


def test_files_are_written_and_named(families: Path, pictures: list[Path], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "out"
    options = ["--method", "gradcam", "--with", "captum", "--target", "1", "-o", out, "--json"]
    found = run("crosscheck", families, *pictures[:2], *QUICK, *options)
    assert found.status == 0
    about = json.loads(found.stdout)
    assert about["files"] == [str(out / "crosscheck.png"), str(out / "crosscheck.json")]
    assert {path.name for path in out.iterdir()} == {"crosscheck.png", "crosscheck.json"}
    assert json.loads((out / "crosscheck.json").read_text())["comparisons"] == about["comparisons"]
    assert [row["theirs"] for row in about["comparisons"]] == ["LayerGradCam", "Saliency"]
    assert [image["target_name"] for image in about["images"]] == ["class 1"] * 2
    with Image.open(out / "crosscheck.png") as picture:
        assert np.asarray(picture).std() > 10


def test_the_status_is_3_where_a_definition_is_not_kept(
    families: Path, pictures: list[Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(activations: Tensor, gradients: Tensor) -> Tensor:
        return 2 * grad_cam(activations, gradients)

    monkeypatch.setitem(METHODS, "gradcam", replace(METHODS["gradcam"], function=doubled))
    found = run("crosscheck", families, pictures[0], *QUICK, "--method", "gradcam", "--with", "captum")
    assert found.status == 3
    assert any(line.split()[:3] == ["gradcam", "LayerGradCam", "FAILED"] for line in found.stdout.splitlines())
    assert "gradcam beside captum LayerGradCam by 5.0e-01" in found.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--method", "Occlusion"], ["Occlusion"]),
        (["--method", "gradcam", "--slow"], ["LayerGradCam", "Saliency", "IntegratedGradients", "Occlusion"]),
    ],
)
def test_slow_methods_are_run_if_they_are_asked_for(
    families: Path, pictures: list[Path], run: Run, options: list[str], expected: list[str]
) -> None:
    found = run("crosscheck", families, pictures[0], *QUICK, *options, "--with", "captum", "--json")
    about = json.loads(found.stdout)
    assert [row["theirs"] for row in about["comparisons"]] == expected
    assert about["not_run"] == []


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_ctrl_c_prints_and_writes_what_was_compared(
    families: Path,
    pictures: list[Path],
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    json_option: list[str],
) -> None:
    def stopped(gradients: Tensor, activations: Tensor) -> Tensor:
        raise KeyboardInterrupt(gradients, activations)

    monkeypatch.setitem(METHODS, "hirescam", replace(METHODS["hirescam"], function=stopped))
    asked = ["--method", "gradcam", "--method", "hirescam", "--with", "captum", "-o", tmp_path, *json_option]
    found = run("crosscheck", families, pictures[0], *QUICK, *asked)
    assert found.status == 130
    assert found.stderr.splitlines()[-1] == "interrupted; compared until then: 1"
    written = json.loads((tmp_path / "crosscheck.json").read_text())
    assert [row["theirs"] for row in written["comparisons"]] == ["LayerGradCam"]
    assert "LayerGradCam" in found.stdout
    assert "interrupted" in found.stdout
    assert (tmp_path / "crosscheck.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--with", "keras"], "library 'keras' is not known"),
        (["--method", "lime"], "method 'lime' does not exist"),
        (["--target", "12"], "target 12 is out of range"),
    ],
)
def test_mistakes_are_explained(
    families: Path, pictures: list[Path], run: Run, options: list[str], message: str
) -> None:
    found = run("crosscheck", families, pictures[0], *QUICK, *options)
    assert found.status == 1
    assert message in found.stderr
