"""The result of a cross-check as a table, as JSON and as a picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import residual, some_images

from torchcam_suite import crosscheck
from torchcam_suite.crosscheck import LIBRARIES, CrossCheck


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
    assert any(line.startswith("  captum Occlusion beside gradcam: ") for line in lines)
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


def test_the_picture_has_ours_beside_theirs(found: CrossCheck) -> None:
    picture = found.figure(cell=64)
    everything = found.figure(all_rows=True, cell=64)
    one = found.figure(images=1, cell=64)
    assert everything.height > picture.height
    assert one.width < picture.width
    assert np.asarray(picture).std() > 10


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
