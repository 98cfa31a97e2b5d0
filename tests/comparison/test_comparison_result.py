"""A comparison prints within 80 columns, and saves its figures, maps and pictures whole."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison.stairs import painted, stairs
from PIL import Image

from torchcam_suite.compare import compare
from torchcam_suite.comparison import MEASURES, Comparison
from torchcam_suite.errors import MissingLibraryError, SourceError, ZeroMapWarning
from torchcam_suite.explanation import Explanation
from torchcam_suite.present import score_plots

pytestmark = pytest.mark.usefixtures("one_thread")
LONG = "a_model_with_a_name_that_is_far_too_long_for_any_table"
FILES = ["comparison.json", "maps.npz", "grid.png", "agreement.png"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two models, of which one is wrong about four of six images, at three depths by two methods: twelve columns."""
    models = {"right": stairs(), LONG: stairs([1, 0, 2], seed=1, size=48)}
    asked = {"layers": ["shallow", "conv2", "deep"], "methods": ["gradcam", "layercam"]}
    return compare(models, painted(tmp_path_factory.mktemp("pictures")), **asked)


def test_the_table_fits(found: Comparison) -> None:
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "2 models, 12 columns, 6 images; maps compared at 32 x 32"
    assert ["1", "right", "shallow", "conv1", "Grad-CAM"] in [line.split() for line in lines]
    assert "right: 6 of 6 right" in lines
    assert "the 15 of 66 pairs" in " ".join(lines)
    assert {"all", "both right", "one right", "shuffled"} <= {line[6:16].strip() for line in lines}


def test_names_that_leave_no_room_are_folded(tmp_path: Path) -> None:
    """Long names that differ in their middle cannot be cut."""
    names = [f"trained_on_the_labels_of_run_{number}_and_evaluated_in_the_evening_of_that_day" for number in (1, 2)]
    models = dict(zip(names, (stairs(), stairs([1, 0, 2], seed=1)), strict=True))
    asked = {"layers": ["0.3333333333333333", "deep"], "methods": ["gradcam", "elementwisegradcam"]}
    text = str(compare(models, painted(tmp_path, 1), **asked))
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert f"6 {names[1]} · 0.3333333333333333: conv2 · Element-wise Grad-CAM" in joined
    assert f"{names[0]}: 3 of 3 right" in joined
    assert f"{names[1]}: 1 of 3 right" in joined


def test_the_table_has_the_means(found: Comparison) -> None:
    pair = min(found.figures.pairs, key=lambda pair: found.between(*pair).measures["pearson"].mean or 0)
    line = next(line for line in str(found).splitlines() if line.startswith(f"{pair[0] + 1}-{pair[1] + 1} "))
    estimates = [found.between(*pair).measures[name] for name in MEASURES]
    expected = " ".join(f"{one.mean:.2f} ±{(one.high - one.low) / 2:.2f}" for one in estimates)
    assert line.split()[1:] == ["all", "6", *expected.split()]


def test_maps_without_evidence_are_counted_and_named(tmp_path: Path) -> None:
    paths = sorted(painted(tmp_path).rglob("*.png"))
    models = {"red": stairs(), "blue": stairs([2, 1, 0], class_names=["blue", "green", "red"], seed=1)}
    with torch.no_grad():
        # channel 0 of the last map vanishes where there is little red
        models["red"].module.conv3.bias[0] = -0.4  # type: ignore[index, union-attr, operator]
    with pytest.warns(ZeroMapWarning) as warned:
        result = compare(models, paths, layers=["deep"], methods=["hirescam"], target="red")
    assert [str(one.message) for one in warned] == [
        "red: hirescam at 'pool3': no evidence for the target in blue/0.png, blue/1.png, green/0.png, green/1.png; the "
        "map is zero everywhere"
    ]
    row = result.between(0, 1)
    assert 0 < row.constant < 6
    assert row.images == 6 - row.constant
    assert f"left out of their pairs: {row.constant} of column 1" in " ".join(str(result).split())


def test_matrices_are_symmetric(found: Comparison) -> None:
    matrix = found.matrix("pearson")
    assert matrix.shape == (12, 12)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[2, 5] == found.between(5, 2).measures["pearson"].mean
    assert np.isnan(np.diag(found.matrix("iou", "shuffled"))).all()
    assert np.isnan(found.matrix("ssim", "both wrong")[0, 6])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: found.matrix("cosine"), "measure 'cosine' does not exist; there are pearson"),
        (lambda found: found.between(0, 12), "there are columns 0 to 11"),
        (lambda found: found.between(0, 1, "none"), "groups 'all', 'both right'"),
        (lambda found: found.plot("pie"), "plot 'pie' does not exist; there are 'grid', 'agreement'"),
    ],
)
def test_mistakes_are_explained(found: Comparison, ask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(found)  # type: ignore[operator]


def test_files_are_written(found: Comparison, tmp_path: Path) -> None:
    written = found.save(tmp_path / "new" / "out")
    assert [path.name for path in written] == FILES
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(FILES)
    about = json.loads(written[0].read_text())
    assert about == json.loads(json.dumps(found.to_json()))
    assert about["models"][LONG]["images_right"] == 2
    assert [column["layer"] for column in about["columns"][:3]] == ["conv1", "conv1", "conv2"]
    row = next(one for one in about["agreement"] if one["columns"] == [0, 6] and one["group"] == "one right")
    assert row["images"] == 4
    assert row["pearson"]["mean"] == found.between(0, 6, "one right").measures["pearson"].mean
    assert about["images"][2]["predictions"][LONG] | {"probability": 0} == {
        "class": 0,
        "name": "red",
        "probability": 0,
        "right": False,
    }


def test_maps_are_kept_without_pickle(found: Comparison, tmp_path: Path) -> None:
    found.save(tmp_path, plots=False)
    assert not (tmp_path / "agreement.png").exists()
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as stored:
        assert stored["maps"].shape == (12, 6, 32, 32)
        np.testing.assert_array_equal(stored["maps"][7], found.columns[7].maps)
        np.testing.assert_array_equal(stored["raw_7"], found.columns[7].explanation.raw)
        np.testing.assert_array_equal(stored["agreement"], found.figures.values)
        assert stored["columns"][0] == "right · conv1 · Grad-CAM"
        assert tuple(stored["images"]) == found.images


def test_explanations_can_be_kept(found: Comparison, tmp_path: Path) -> None:
    explanation = found.explanations["right", "conv2", "layercam"]
    torch.testing.assert_close(Explanation.load(explanation.save(tmp_path / "one.npz")).maps, explanation.maps)


def test_a_missing_library_is_told_before_anything_is_written(
    found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_plots, "find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match="matplotlib"):
        found.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(found.save(tmp_path / "out", plots=False)) == 3


def test_a_folder_that_cannot_be_written_is_told(found: Comparison, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot write to"):
        found.save(tmp_path / "file" / "out", plots=False)


# ---------------------------------------------------------------- pictures


def test_the_grid_has_a_column_a_map_and_frames_what_is_wrong(found: Comparison) -> None:
    picture = np.asarray(found.plot("grid"))
    assert picture.shape[1] > 13 * 160
    red = (picture == (200, 30, 30)).all(axis=2)
    middle = picture.shape[1] // 2
    assert red[:, middle + 60 :].sum() > 4 * 6 * 4 * 100  # six frames in each of four rows
    assert not red[:, : middle - 60].any()


def test_the_grid_shows_the_images_that_were_asked_for(tmp_path: Path) -> None:
    models = {"one": stairs(), "other": stairs(seed=1)}
    few, all_ = (compare(models, painted(tmp_path), drawn=drawn).plot("grid") for drawn in (2, 6))
    assert few.width == all_.width
    assert few.height < all_.height / 2


def test_the_matrices_are_drawn_for_each_group(found: Comparison) -> None:
    with_groups = found.plot("agreement")
    alone = compare({"one": stairs(), "other": stairs(seed=1)}, torch.rand(2, 3, 32, 32)).plot("agreement")
    assert with_groups.width > with_groups.height
    assert np.asarray(with_groups).std() > 20
    assert alone.height < with_groups.height / 2


def test_names_with_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    models = {"$one$ [x]": stairs(), "ß_{2}": stairs(seed=1)}
    found = compare(models, painted(tmp_path, 1))
    assert isinstance(found.plot("agreement"), Image.Image)
    assert isinstance(found.plot("grid"), Image.Image)
    assert "$one$ [x]" in str(found)
