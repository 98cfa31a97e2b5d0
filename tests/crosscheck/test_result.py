"""The result of a cross-check as a table, as JSON and as a picture."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from nets import residual, some_images

from torchcam_suite import crosscheck
from torchcam_suite.crosscheck import LIBRARIES, CrossCheck, figure
from torchcam_suite.present.grid import Row


@pytest.fixture(scope="module")
def found() -> CrossCheck:
    """Some rows of either kind."""
    model = residual()
    methods = ["gradcam", "gradcam++", "layercam"]
    return crosscheck(model, some_images(model), layer="relu#2", target=[3, 1], methods=methods)


def test_a_map_of_zeros_proves_nothing_and_is_called_empty() -> None:
    model = residual()
    with torch.no_grad():
        model.module.get_parameter("fc.weight")[0] = -1
    found = crosscheck(
        model, some_images(model), layer="relu#2", target=0, methods=["gradcam"], libraries=["torch-cam"]
    )
    (row,) = found.rows
    assert (row.result, row.error, row.rank_correlation, row.top_overlap) == ("empty", 0, None, None)
    assert "empty" in str(found)
    assert found.failed == ()


def test_it_prints_as_tables_of_80_columns(found: CrossCheck) -> None:
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    (header,) = [line for line in lines if "captum" in line and "result" in line]
    assert header.split()[0] == "method"
    (row,) = [line for line in lines if "LayerGradCam" in line]
    method, theirs, result, error, rank, top = row.split()
    assert (method, theirs, result, rank, top) == ("gradcam", "LayerGradCam", "same", "1.00", "1.00")
    assert float(error) < 1e-5
    assert any(line.startswith("  captum Saliency beside gradcam, gradcam++, layercam: ") for line in lines)
    assert "0 failed" in repr(found)


def test_json_has_every_figure(found: CrossCheck) -> None:
    about = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert about["layer"] == "relu#2"
    assert [image["target_name"] for image in about["images"]] == ["class 3", "class 1"]
    assert len(about["comparisons"]) == len(found.rows)
    first = about["comparisons"][0]
    assert first["result"] == "same"
    assert first["error"] == found.rows[0].error == max(first["errors"])
    assert set(about["versions"]) == set(LIBRARIES)
    assert about["not_run"][0] == {"what": "captum IntegratedGradients", "asked_by": "IntegratedGradients"}


def test_the_picture_has_ours_beside_theirs(found: CrossCheck) -> None:
    picture = found.figure(cell=64)
    everything = found.figure(all_rows=True, cell=64)
    one = found.figure(images=1, cell=64)
    assert everything.width > picture.width
    assert one.height < picture.height
    assert np.asarray(picture).std() > 10


def drawn(found: CrossCheck, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[Row]:
    """The rows of pictures that are drawn."""
    seen: list[Row] = []
    monkeypatch.setattr(figure, "grid", lambda rows, **_: seen.extend(rows))
    found.figure(**options)
    return seen


def test_photographs_are_drawn_at_the_size_of_a_cell(found: CrossCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tuple(np.zeros((40, 80, 3), np.uint8) for _ in found.pictures)
    rows = drawn(replace(found, pictures=large), monkeypatch, cell=20)
    # also where there is no map: a square would make the row higher than its pictures
    assert {np.asarray(cell.picture).shape for row in rows for cell in row.cells} == {(10, 20, 3)}
    assert len({sum(bool(cell.title) for cell in row.cells) for row in rows}) > 1


def test_our_map_is_drawn_once_and_theirs_are_beside_it(found: CrossCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(found, monkeypatch, all_rows=True)
    assert [row.label for row in rows] == ["image 0", "image 1"] * 3
    titles = [[cell.title for cell in row.cells if cell.title] for row in rows[::2]]
    assert sorted(title for title, *_ in titles) == ["ours: Grad-CAM", "ours: Grad-CAM++", "ours: LayerCAM"]
    assert titles[0] == ["ours: Grad-CAM", "LayerGradCam", "Saliency", "GradCAM", "GradCAM"]
    assert [cell.subtitle.split(":")[0] for cell in rows[0].cells[1:]] == [
        *("captum", "captum", "pytorch-grad-cam", "torch-cam")
    ]
    assert [row.cells[0].subtitle for row in rows[:2]] == ["class 3", "class 1"]
    assert len({len(row.cells) for row in rows}) == 1


def test_maps_of_ours_that_differ_have_rows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual()
    found = crosscheck(model, some_images(model), layer="last", target=2, methods=["finercam"])
    ours = [row.our_maps[0] for row in found.rows if row.theirs == "FinerCAM"]
    assert (ours[0] - ours[1]).abs().max() > 0.01
    rows = drawn(found, monkeypatch, all_rows=True, images=1)
    assert [row.cells[0].title for row in rows] == ["ours: Finer-CAM"] * 2
    assert [[cell.title for cell in row.cells].count("FinerCAM") for row in rows] == [1, 1]


def test_a_picture_of_nothing_is_refused(found: CrossCheck) -> None:
    with pytest.raises(ValueError, match="nothing to draw: no method could be compared"):
        replace(found, rows=()).figure()


def test_half_precision_may_differ_by_its_rounding() -> None:
    model = residual()
    model.module.bfloat16()
    found = crosscheck(model, some_images(model), layer="last", target=1, methods=["gradcam"], libraries=["captum"])
    (row,) = [row for row in found.rows if row.theirs == "LayerGradCam"]
    assert row.tolerance == 5e-2
    assert row.result == "same"
