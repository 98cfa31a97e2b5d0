"""`compare` explains every image by every model, layer and method, and tells right answers from wrong ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison.stairs import COLOURS, Stairs, paint, painted, stairs
from PIL import Image

from torchcam_suite import Model, explain, load
from torchcam_suite.compare import compare
from torchcam_suite.comparison import assembly
from torchcam_suite.errors import AssumptionWarning, ImageError, LayerError, SourceError, TargetError
from torchcam_suite.images import Preprocessing
from torchcam_suite.labelled_images import labelled_folder
from torchcam_suite.metrics.agreement import correlations

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders, two pictures a colour."""
    return painted(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """One that is always right, and one that takes red for green and green for red."""
    return {"right": stairs(), "swapped": stairs([1, 0, 2], seed=1, size=48)}


def test_columns_are_the_maps_of_explain(folder: Path, models: dict[str, Model]) -> None:
    asked = {"layers": ["shallow", "deep"], "methods": ["gradcam", "layercam"]}
    found = compare(models, folder, **asked)
    named = [(one.model, one.asked, one.layer, one.method) for one in found.columns]
    assert named == [
        (model, asked_for, layer, method)
        for model in models
        for asked_for, layer in (("shallow", "conv1"), ("deep", "pool3"))
        for method in ("gradcam", "layercam")
    ]
    paths = sorted(folder.rglob("*.png"))
    assert found.images == tuple(str(path) for path in sorted(paths, key=lambda path: path.parent.name))
    expected = explain(models["swapped"], list(found.images), method="layercam", layer="conv1")
    column = found.explanations["swapped", "conv1", "layercam"]
    torch.testing.assert_close(column.maps, expected.maps)
    assert column.images == found.images
    assert column.model["fingerprint"] == models["swapped"].fingerprint


def test_maps_of_different_sizes_are_compared_at_the_smallest(folder: Path, models: dict[str, Model]) -> None:
    found = compare(models, folder)
    assert found.size == (32, 32)
    assert [column.explanation.maps.shape[1] for column in found.columns] == [32, 48]
    one = found.columns[0].explanation.maps
    other = torch.nn.functional.interpolate(found.columns[1].explanation.maps[:, None], (32, 32), mode="bilinear")
    np.testing.assert_allclose(found.figures.values[0, 0], correlations(one, other[:, 0]), atol=1e-6)


def test_right_and_wrong_are_told_apart(folder: Path, models: dict[str, Model]) -> None:
    found = compare(models, folder)
    assert found.labels == ("blue",) * 2 + ("green",) * 2 + ("red",) * 2
    assert found.predictions["right"].right == (True,) * 6
    assert found.predictions["swapped"].right == (True, True, False, False, False, False)
    assert found.predictions["swapped"].names == ("blue", "blue", "red", "red", "green", "green")
    rows = {group: found.between(0, 1, group) for group in ("all", "both right", "both wrong", "one right")}
    assert {group: row.images for group, row in rows.items()} == {
        "all": 6,
        "both right": 2,
        "both wrong": 0,
        "one right": 4,
    }
    values = found.figures.values[0, 0]
    assert rows["both right"].measures["pearson"].mean == pytest.approx(values[:2].mean())
    assert rows["one right"].measures["pearson"].mean == pytest.approx(values[2:].mean())
    assert rows["both wrong"].measures["pearson"].mean is None


def test_class_names_in_another_order_are_the_same_classes(folder: Path) -> None:
    models = {"one": stairs(), "other": stairs([2, 1, 0], class_names=["blue", "green", "red"])}
    found = compare(models, folder, target="green")
    assert found.predictions["other"].right == (True,) * 6
    assert [set(column.explanation.targets) for column in found.columns] == [{1}, {1}]
    assert not found.notes or all("same weights" in note for note in found.notes)
    assert any("number their classes differently" in note for note in compare(models, folder, target=0).notes)


def test_the_true_class_can_be_explained(folder: Path, models: dict[str, Model]) -> None:
    found = compare(models, folder, target="label")
    assert found.columns[1].explanation.target_names == found.labels
    top = compare(models, folder)
    assert top.columns[1].explanation.target_names == top.predictions["swapped"].names


@pytest.mark.parametrize("as_numbers", [False, True])
def test_labels_can_be_given(folder: Path, models: dict[str, Model], as_numbers: bool) -> None:
    paths = sorted((folder / "red").iterdir())
    labels: list[Any] = [0, 2] if as_numbers else ["red", "blue"]
    found = compare(models, paths, labels=labels)
    assert found.predictions["right"].right == (True, False)


def test_pictures_come_in_many_forms(folder: Path, models: dict[str, Model]) -> None:
    paths = sorted((folder / "red").iterdir())
    arrays = [np.asarray(Image.open(path)) for path in paths]
    plain = compare(models, folder / "red")
    assert plain.labels is None
    assert [row.group for row in plain.agreement] == ["all", "shuffled"]
    for images in (paths, arrays, [Image.fromarray(array) for array in arrays], np.stack(arrays)):
        found = compare(models, images)
        np.testing.assert_allclose(found.figures.values, plain.figures.values, atol=1e-6)
    labelled = compare(models, labelled_folder(folder))
    assert (
        labelled.labels
        == compare(models, [folder / "blue", folder / "green", folder / "red"][:1] * 0 + [folder]).labels
    )


def test_a_tensor_is_taken_as_it_is() -> None:
    models = [stairs(), stairs(seed=1)]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = compare(models, images, layers=["conv1"], target=0)
    assert found.images == ("image 0", "image 1", "image 2")
    torch.testing.assert_close(found.columns[1].maps, explain(models[1], images, layer="conv1", target=0).maps)
    assert found.pictures[0].shape == (32, 32, 3)


def test_models_with_the_same_name_are_numbered(folder: Path) -> None:
    found = compare([stairs(), stairs(seed=1)], folder / "red")
    assert list(found.predictions) == ["Stairs (1)", "Stairs (2)"]
    assert list(compare([("a", stairs()), stairs(seed=1)], folder / "red").predictions) == ["a", "Stairs"]


def test_a_crop_is_compared_where_both_look(tmp_path: Path) -> None:
    paths = [paint(tmp_path / f"{i}.png", colour, seed=i, size=(64, 48)) for i, colour in enumerate(COLOURS)]
    middle = Preprocessing("middle", scale=1 / 255, central=0.75)
    models = {"whole": stairs(), "middle": stairs(preprocessing=middle)}
    found = compare(models, paths, layers=["conv1"], target="red")
    assert all(picture.shape == (36, 36, 3) for picture in found.pictures.values())
    cut = [Image.open(path).crop((14, 6, 50, 42)) for path in paths]
    np.testing.assert_allclose(
        found.columns[1].maps, explain(stairs(), cut, layer="conv1", target="red").maps, atol=1e-6
    )
    uncut = correlations(found.columns[0].explanation.maps, found.columns[1].explanation.maps)
    assert found.between(0, 1).measures["pearson"].mean > np.mean(uncut) + 0.1


def test_options_belong_to_their_method(folder: Path) -> None:
    options = {"scorecam": {"variant": "logit", "chunk_size": 4}}
    found = compare(stairs(), folder / "red", methods=["gradcam", "scorecam"], method_options=options)
    assert found.columns[1].explanation.options["variant"] == "logit"


def test_a_method_without_a_layer_has_one_column(folder: Path) -> None:
    asked = {"layers": ["conv1", "conv2"], "methods": ["gradcam", "rise"], "method_options": {"rise": {"masks": 20}}}
    found = compare(stairs(), folder / "red", **asked)
    assert [(one.layer, one.method) for one in found.columns] == [
        ("conv1", "gradcam"),
        ("conv2", "gradcam"),
        ("input", "rise"),
    ]


def test_layers_can_be_named_for_each_model(folder: Path) -> None:
    models = {"one": stairs(), "other": stairs(seed=1)}
    found = compare(models, folder / "red", layers={"one": ["conv1", "conv2"], "other": "deep"})
    assert [one.layer for one in found.columns] == ["conv1", "conv2", "pool3"]


@pytest.mark.parametrize(("central", "expected"), [(None, 1), (0.9, 7)])
def test_no_picture_is_opened_for_each_model(
    folder: Path, central: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is drawn; where a model crops, the sizes of all six are needed."""
    opened: list[Path] = []
    read = assembly.open_picture
    monkeypatch.setattr(assembly, "open_picture", lambda source: opened.append(source) or read(source))
    cropping = Preprocessing("own", scale=1 / 255, central=central)
    compare({"one": stairs(), "other": stairs(seed=1, preprocessing=cropping)}, folder, drawn=1)
    assert len(opened) == expected


def test_a_limit_takes_images_evenly(folder: Path, models: dict[str, Model]) -> None:
    found = compare(models, folder, limit=3, drawn=2)
    assert found.labels == ("blue", "green", "red")
    assert list(found.pictures) == [0, 2]


def test_one_image_has_no_interval_and_nothing_is_shuffled(folder: Path, models: dict[str, Model]) -> None:
    found = compare(models, folder / "red" / "0.png")
    assert found.groups == ["all"]
    assert found.between(0, 1).measures["iou"].low is None


def test_a_head_without_probabilities_has_a_class(folder: Path) -> None:
    found = compare({"logits": stairs(head="none"), "right": stairs(seed=1)}, folder)
    assert found.predictions["logits"].probabilities is None
    assert found.predictions["logits"].right == (True,) * 6


def test_a_binary_head_is_told_by_its_sign(folder: Path) -> None:
    class RedOrNot(Stairs):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return logits[:, :1] - logits[:, 2:]

    names = {"class_names": ["blue", "red"], "preprocessing": "unit", "device": "cpu"}
    two = load(RedOrNot(), input_size=32, **names)
    found = compare(
        {"one": two, "other": load(RedOrNot(seed=1), input_size=32, **names)}, [folder / "blue", folder / "red"]
    )
    assert found.predictions["one"].names == ("blue", "blue", "red", "red")
    assert min(found.predictions["one"].probabilities) > 0.5


def test_models_are_left_as_they_were(folder: Path) -> None:
    models = [stairs(), stairs(seed=1)]
    models[0].module.train()
    compare(models, folder / "red", methods=["gradcam", "scorecam"])
    assert models[0].module.training
    for model in models:
        assert all(not part._forward_hooks for part in model.module.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.module.parameters())


def test_progress_counts_methods_of_models(folder: Path, models: dict[str, Model]) -> None:
    reports: list[tuple[int, int]] = []
    compare(models, folder, methods=["gradcam", "eigencam"], progress=lambda *report: reports.append(report))
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


# ---------------------------------------------------------------- what is noted and refused


def test_the_same_weights_are_noticed(folder: Path) -> None:
    net = Stairs()
    one = load(net, input_size=32, preprocessing="unit", class_names=list(COLOURS), device="cpu")
    other = load(net, input_size=32, preprocessing="unit", class_names=list(COLOURS), device="cpu")
    assert compare({"one": one, "other": other}, folder).notes == (
        "one · pool3 · Grad-CAM and other: the same weights; maps differ by 0e+00 of their maximum",
    )


def test_different_classes_are_noted(folder: Path) -> None:
    models = {"one": stairs(), "other": stairs(class_names=["sky", "sea", "sun"])}
    with pytest.warns(AssumptionWarning, match="no labels for other"):
        found = compare(models, folder)
    assert found.labels is None
    assert any("different class names: one: 'red'" in note for note in found.notes)


def test_a_class_is_the_same_however_its_accents_are_written(folder: Path) -> None:
    names = {title: ["rot", name, "blau"] for title, name in (("one", "gru\u0308n"), ("other", "gr\u00fcn"))}
    models = {title: stairs(class_names=given, seed=seed) for seed, (title, given) in enumerate(names.items())}
    found = compare(models, sorted((folder / "green").iterdir()), target="gr\u00fcn", labels=["gru\u0308n"] * 2)
    assert [said.right for said in found.predictions.values()] == [(True, True)] * 2
    assert not any("class names" in note for note in found.notes)


def test_class_folders_of_a_nameless_model_are_taken_in_order(folder: Path) -> None:
    models = {"one": stairs([2, 1, 0], class_names=None), "other": stairs(seed=1)}
    with pytest.warns(AssumptionWarning, match="sorted order"):
        found = compare(models, folder)
    assert found.predictions["one"].right == (True,) * 6


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_limit_takes_the_targets_of_its_images(kind: Any, folder: Path, models: dict[str, Model]) -> None:
    targets = [0, 1, 2, 2, 1, 0]
    every = compare(models, folder, target=kind(targets))
    found = compare(models, folder, target=kind(targets), limit=3)
    chosen = [0, 2, 5]
    assert found.images == tuple(every.images[i] for i in chosen)
    for column, whole in zip(found.columns, every.columns, strict=True):
        assert column.explanation.targets == tuple(targets[i] for i in chosen) == (0, 2, 0)
        torch.testing.assert_close(column.explanation.raw, whole.explanation.raw[chosen])


@pytest.mark.parametrize(("limit", "expected"), [(2, ("blue", "red")), (1, ("blue",))])
def test_classes_that_a_limit_leaves_out_are_counted(folder: Path, limit: int, expected: tuple[str, ...]) -> None:
    models = {"one": stairs([2, 1, 0], class_names=None), "other": stairs(seed=1)}
    with pytest.warns(AssumptionWarning, match="sorted order.*0 = blue, 1 = green, 2 = red"):
        found = compare(models, folder, limit=limit)
    assert found.labels == expected
    assert found.predictions["one"].right == (True,) * limit


def test_a_class_folder_without_pictures_is_a_class(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blue").mkdir()
    for colour in ("green", "red"):
        (tmp_path / colour).symlink_to(folder / colour)
    models = {"one": stairs([2, 1, 0], class_names=None), "other": stairs(seed=1)}
    with pytest.warns(AssumptionWarning, match="sorted order"):
        found = compare(models, tmp_path)
    assert found.predictions["one"].right == (True,) * 4


def _of(**changed: Any) -> dict[str, Any]:
    return {"models": {"one": stairs(), "other": stairs(seed=1)}, "images": None} | changed


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"models": []}, ValueError, "no models"),
        ({"models": ["model.h5"]}, SourceError, "takes models, not str; open them first"),
        ({"models": {"one": stairs()}}, ValueError, "nothing to compare"),
        ({"layers": []}, ValueError, "no layers were given"),
        ({"layers": ["conv1", "conv1"]}, ValueError, "asked for twice"),
        ({"layers": [1.5]}, LayerError, "between 0"),
        ({"layers": ["conv8"]}, LayerError, "did you mean"),
        ({"layers": {"one": "deep"}}, ValueError, "layers are given for 'one'"),
        ({"layers": {"one": "deep", "other": []}}, ValueError, "no layers were given for 'other'"),
        ({"layers": ["conv8", "deep"]}, LayerError, "in 'one': layer 'conv8' is not in .*, nor in the other models"),
        ({"methods": []}, ValueError, "no methods"),
        ({"methods": ["rise"], "layers": ["conv1"]}, ValueError, r"'rise': no layer is taken, but got \['conv1'\]"),
        ({"methods": ["gradcam", "gradcam"]}, ValueError, "method 'gradcam' is asked for twice"),
        ({"methods": "gradcamm"}, ValueError, "did you mean 'gradcam'"),
        ({"method_options": {"rise": {}}}, ValueError, "method_options has 'rise'"),
        ({"method_options": {"gradcam": {"masks": 3}}}, ValueError, "no option 'masks'"),
        ({"target": "sky"}, TargetError, "one: target 'sky' is no class"),
        ({"target": "label"}, TargetError, "there are no labels"),
        ({"target": [0]}, TargetError, "1 targets for 2 images"),
        ({"labels": ["red"]}, SourceError, "1 labels for 2 images"),
        ({"labels": ["red", "sky"]}, SourceError, "one: 1 picture with a label that is no class"),
        ({"images": "nowhere"}, ImageError, "no such image file or folder"),
        ({"images": []}, ImageError, "no images were given"),
        ({"images": torch.rand(1, 3, 8, 8)}, ImageError, "the model takes"),
        ({"limit": 0}, ValueError, "limit=0"),
        ({"limit": 1, "target": [0]}, TargetError, "1 targets for 2 images, of which limit=1 chooses some; give one"),
        ({"drawn": 0}, ValueError, "drawn=0"),
        ({"seed": -1}, ValueError, "seed=-1; expected at least 0"),
    ],
)
def test_mistakes_are_explained(folder: Path, changed: dict, error: type[Exception], message: str) -> None:
    arguments = _of(**({"images": folder / "red"} | changed))
    with pytest.raises(error, match=message):
        compare(arguments.pop("models"), arguments.pop("images"), **arguments)


def test_a_model_is_not_compared_with_itself(folder: Path) -> None:
    model = stairs()
    with pytest.raises(ValueError, match="given twice"):
        compare([model, model], folder)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no picture in it"):
        compare(stairs(), tmp_path, layers=["conv1", "conv2"])


def test_nan_is_refused(folder: Path) -> None:
    broken = stairs()
    with torch.no_grad():
        broken.module.conv1.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(ImageError, match="NaN or infinity"):
        compare({"one": stairs(), "broken": broken}, folder)
