"""`explain` writes what it says, prints data on stdout, and everything else on stderr."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Run
from PIL import Image

from torchcam_suite import Explanation, explain, load
from torchcam_suite.architectures import TrainedModel, build, save_trained
from torchcam_suite.present.comparison import compare


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "new" / "out"


def opened(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_every_file_that_is_named_exists_and_opens(families: Path, pictures: list[Path], out: Path, run: Run) -> None:
    methods, layers = ("gradcam", "scorecam"), ("conv2d_5", "activation_3")
    asked = [*(x for m in methods for x in ("--method", m)), *(x for one in layers for x in ("--layer", one))]
    found = run("explain", families, *pictures, *asked, "--preprocess", "unit", "-o", out, "--json")
    assert found.status == 0
    about = json.loads(found.stdout)
    assert found.stderr == ""
    assert sorted(about["files"]) == sorted(map(str, out.iterdir()))
    assert about["files"][0] == str(out / "comparison.png")
    for path in map(Path, about["files"]):
        if path.suffix == ".png":
            assert opened(path).std() > 0
        elif path.suffix == ".npz":
            assert len(Explanation.load(path)) == len(pictures)
    assert json.loads((out / "explanation.json").read_text()) == about["explanations"]
    assert [(one["method"], one["layer"]) for one in about["explanations"]] == [
        (method, layer) for method in methods for layer in layers
    ]
    overlays = {f"{p.stem}_{m}_{layer}.png" for p in pictures for m in methods for layer in layers}
    assert overlays < {path.name for path in out.iterdir()}


@pytest.mark.parametrize("command", ["explain", "score-maps"])
def test_a_method_that_does_not_suit_costs_nobody_elses_work(
    families: Path, pictures: list[Path], tmp_path: Path, run: Run, command: str
) -> None:
    methods = ["--method", "gradcam", "--method", "cam", "--layer", "conv2d_1"]
    written = tmp_path / ("out" if command == "explain" else "scores.csv")
    found = run(command, families, *pictures[:1], *methods, "--preprocess", "unit", "-o", written)
    assert found.status == 1
    assert "left out cam: layer 'conv2d_1': CAM needs nothing behind the layer but global average" in found.stderr
    assert "gradcam" in found.stdout
    assert written.exists()
    alone = run(command, families, *pictures[:1], *methods[2:], "--preprocess", "unit", "-o", tmp_path / "other")
    assert (alone.status, alone.stdout) == (1, "")
    assert "error: layer 'conv2d_1': CAM needs nothing behind the layer" in alone.stderr


@pytest.fixture
def pooled(tmp_path: Path) -> Path:
    """A network that ends in global average pooling and one dense layer."""
    torch.manual_seed(0)
    net = build("xception", classes=3, input_size=(96, 96), width=0.05)
    about = TrainedModel("xception", 3, ["ember", "ripple", "sprout"], (96, 96), 0.05, "unit")
    save_trained(tmp_path / "pooled.safetensors", net, about)
    return tmp_path / "pooled.safetensors"


def test_a_layer_that_does_not_suit_costs_the_method_no_other_layer(
    pooled: Path, pictures: list[Path], out: Path, run: Run
) -> None:
    last, middle = "block14_sepconv2_act", "block4_sepconv2_bn"
    asked = ["--method", "gradcam", "--method", "cam", "--layer", middle, "--layer", last, "--target", 1]
    found = run("explain", pooled, *pictures[:2], *asked, "-o", out, "--json")
    assert found.status == 1
    said = [line for line in found.stderr.splitlines() if "left out" in line]
    assert len(said) == 1
    assert said[0].startswith(f"left out cam at {middle}: layer {middle!r}: CAM needs nothing behind the layer")
    *whole, refused = json.loads(found.stdout)["explanations"]
    pairs = [("gradcam", middle), ("gradcam", last), ("cam", last)]
    assert [(one["method"], one["layer"]) for one in whole] == pairs
    assert (refused["method"], refused["layer"], refused["images"]) == ("cam", middle, [])
    assert refused["left_out"].startswith(f"layer {middle!r}: CAM needs nothing behind")
    assert json.loads((out / "explanation.json").read_text()) == [*whole, refused]
    assert {path.name for path in out.glob("*.npz")} == {f"{method}_{layer}.npz" for method, layer in pairs}
    expected = explain(load(pooled, device="cpu"), pictures[:2], method="cam", layer=last, target=1)
    assert expected.raw.std() > 0
    torch.testing.assert_close(Explanation.load(out / f"cam_{last}.npz").raw, expected.raw)


def test_a_wrong_name_of_one_layer_is_told_before_the_work(
    pooled: Path, pictures: list[Path], out: Path, run: Run
) -> None:
    layers = ["--layer", "block4_sepconv2_bn", "--layer", "block4_sepconv9_bn"]
    found = run("explain", pooled, pictures[0], "--method", "gradcam", "--method", "rise", *layers, "-o", out)
    assert (found.status, found.stdout) == (1, "")
    assert found.stderr.startswith("error: layer 'block4_sepconv9_bn' is not in this model; did you mean")
    assert not out.exists()


def test_the_maps_are_those_of_the_library(families: Path, pictures: list[Path], out: Path, run: Run) -> None:
    options = ["--target", "1", "--of", "probability", "--relu", "after", "--layer", "conv2d_5"]
    run("explain", families, *pictures, *options, "--preprocess", "unit", "-o", out)
    written = Explanation.load(out / "gradcam_conv2d_5.npz")
    model = load(families, preprocessing="unit", device="cpu")
    expected = explain(model, pictures, layer="conv2d_5", target=1, of="probability", relu="after")
    assert expected.raw.std() > 0
    torch.testing.assert_close(written.maps, expected.maps.cpu(), atol=1e-4, rtol=0)
    assert written.options == expected.options
    assert written.images == tuple(map(str, pictures))
    assert written.targets == (1,) * len(pictures)


def test_the_table_has_a_row_an_image_and_method(families: Path, pictures: list[Path], out: Path, run: Run) -> None:
    found = run("explain", families, *pictures[:2], "--preprocess", "unit", "--classes", "fire,grass,water", "-o", out)
    assert found.status == 0
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["image", "method", "layer", "target", "score", "probability"]
    model = load(families, preprocessing="unit", class_names=["fire", "grass", "water"], device="cpu")
    expected = explain(model, pictures[:2])
    assert expected.probabilities is not None
    for i, line in enumerate(lines[1:3]):
        image, method, layer, target, score, probability = line.split()
        assert (image, method, layer) == (pictures[i].name, "gradcam", "max_pooling2d_3")
        assert target == expected.target_names[i]
        assert float(score) == pytest.approx(float(expected.scores[i]), rel=1e-3)
        assert float(probability) == pytest.approx(float(expected.probabilities[i]), abs=1e-3)
    assert lines[-1] == str(out / "comparison.png")
    assert "files in" in found.stderr


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_assumed_preprocessing_is_noted_on_stderr_alone(
    json_option: list[str], families: Path, pictures: list[Path], out: Path, run: Run
) -> None:
    found = run("explain", families, pictures[0], "-o", out, *json_option)
    assert found.status == 0
    assert found.stderr.startswith("note: model.h5 does not say how its images were scaled; assuming 'unit'")
    assert "assuming" not in found.stdout
    if json_option:
        assert json.loads(found.stdout)["explanations"][0]["model"]["preprocessing"]["name"] == "unit"


def test_a_map_without_evidence_is_noted_on_stderr(families: Path, tmp_path: Path, out: Path, run: Run) -> None:
    model = load(families, preprocessing="unit", device="cpu")
    black = Image.new("RGB", (64, 64))
    with pytest.warns(UserWarning, match="zero everywhere"):
        flags = [explain(model, black, layer="conv2d_1", target=target).flags[0] for target in range(3)]
    target = next(i for i, flag in enumerate(flags) if flag)
    black.save(tmp_path / "black.png")
    options = ["--layer", "conv2d_1", "--target", target, "--preprocess", "unit"]
    found = run("explain", families, tmp_path / "black.png", *options, "-o", out, "--json")
    assert found.status == 0
    assert found.stderr.startswith("note: gradcam at 'conv2d_1': no evidence for the target in black.png; the map is")
    assert json.loads(found.stdout)["explanations"][0]["images"][0]["flags"] == ["map is zero everywhere"]


@pytest.mark.parametrize(
    "names",
    [
        ["a/cat.png", "b/cat.png"],
        ["a/cat.png", "b/cat.png", "0-cat.png", "cat-0.png"],
        ["a b.png", "a-b.png"],
        ["cat.png", "cat.bmp"],
    ],
)
def test_pictures_of_one_name_get_files_of_their_own(
    names: list[str], families: Path, tmp_path: Path, out: Path, run: Run
) -> None:
    paths = [tmp_path / name for name in names]
    for seed, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    run("explain", families, *paths, "--preprocess", "unit", "-o", out)
    overlays = [opened(path) for path in out.glob("*_gradcam_*.png")]
    assert len(overlays) == len(names)
    for i, first in enumerate(overlays):
        assert not any(np.array_equal(first, second) for second in overlays[:i])


def test_pictures_of_one_name_are_told_apart_by_their_folders(
    families: Path, tmp_path: Path, out: Path, run: Run
) -> None:
    for name in ("a/cat.png", "b/cat.png", "b/dog.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), "red").save(tmp_path / name)
    found = run("explain", families, *sorted(tmp_path.glob("?/*.png")), "--preprocess", "unit", "-o", out)
    assert [line.split()[0] for line in found.stdout.splitlines()[1:4]] == ["a/cat.png", "b/cat.png", "dog.png"]


def test_a_method_named_twice_is_run_once(families: Path, pictures: list[Path], out: Path, run: Run) -> None:
    twice = ["--method", "gradcam", "--method", "gradcam", "--layer", "conv2d_5", "--layer", "conv2d_5"]
    found = run("explain", families, pictures[0], *twice, "--preprocess", "unit", "-o", out, "--json")
    about: dict[str, Any] = json.loads(found.stdout)
    assert len(about["explanations"]) == 1
    assert len(set(about["files"])) == len(about["files"])


def test_strength_0_shows_the_picture_and_1_the_map(families: Path, tmp_path: Path, out: Path, run: Run) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "noise.png")
    shown = {}
    for strength in ("0", "1"):
        options = ["--strength", strength, "--colormap", "viridis", "--preprocess", "unit"]
        run("explain", families, tmp_path / "noise.png", *options, "-o", out)
        shown[strength] = opened(out / "noise_gradcam_max_pooling2d_3.png")
    assert np.array_equal(shown["0"], picture)
    assert not np.array_equal(shown["1"], picture)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv2d_9"], "layer 'conv2d_9' is not in this model; did you mean"),
        (["--layer", "dense_1"], "layer 'dense_1' gives 3 values an image"),
        (["--target", "3"], "target 3 is out of range: this model has 3 classes, 0 to 2"),
        (["--target", "-1"], "target -1 is out of range"),
        (["--target", "cat"], "target 'cat' is a name, but this model has no class names"),
        (["--target", "fir", "--classes", "fire,grass,water"], "did you mean 'fire'?"),
        (["--classes", "fire,grass"], "2 class names for a model with 3 classes"),
        (["--method", "gradcamp"], "method 'gradcamp' does not exist; did you mean 'gradcam'?"),
        (["--of", "logits"], "of='logits'; expected one of logit, probability"),
        (["--interpolation", "cubic"], "interpolation='cubic'; expected one of bilinear, nearest"),
        (["--device", "gpu"], "device 'gpu'"),
    ],
)
def test_what_does_not_fit_the_model_is_told_and_nothing_is_written(
    arguments: list[str], message: str, families: Path, pictures: list[Path], out: Path, run: Run
) -> None:
    found = run("explain", families, pictures[0], *arguments, "--preprocess", "unit", "-o", out)
    assert found.status == 1
    assert found.stdout == ""
    assert message in found.stderr
    assert not out.exists()


@pytest.mark.parametrize("kind", ["missing", "text"])
def test_a_picture_that_is_none_is_told(kind: str, families: Path, tmp_path: Path, out: Path, run: Run) -> None:
    path = tmp_path / "cat.png"
    if kind == "text":
        path.write_text("not a picture")
    found = run("explain", families, path, "--preprocess", "unit", "-o", out)
    assert found.status == 1
    assert ("no such image file" if kind == "missing" else "is not an image that Pillow knows") in found.stderr


@pytest.mark.parametrize("command", ["explain", "score-maps", "crosscheck"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(command: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("in the way")
    # neither of them is there: what is told first would be that
    found = run(command, tmp_path / "model.h5", tmp_path / "cat.png", "-o", tmp_path / "file" / "out")
    assert found.status == 1
    assert "cannot write" in found.stderr
    assert f"{tmp_path / 'file'} is a file, not a folder" in " ".join(found.stderr.split())
    assert (tmp_path / "file").read_text() == "in the way"


def test_no_picture_is_overwritten(families: Path, tmp_path: Path, run: Run) -> None:
    """The second time, the pictures that the first wrote are among those that are given."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cat.png")
    for status in (0, 1):
        before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
        found = run("explain", families, *sorted(before), "--preprocess", "unit", "-o", tmp_path)
        assert found.status == status
        assert {path: path.read_bytes() for path in before} == before
    assert "comparison.png is one of the pictures and would be overwritten; choose another" in found.stderr


def test_photographs_are_not_all_kept_as_they_are(
    families: Path, tmp_path: Path, out: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    command, sizes = import_module("torchcam_suite.cli.explain"), []

    def draw(shown: list[np.ndarray], *arguments: Any, **options: Any) -> Image.Image:
        sizes.extend(picture.shape for picture in shown)
        return compare(shown, *arguments, **options)

    monkeypatch.setattr(command, "compare", draw)
    run("explain", families, tmp_path / "photo.png", "--preprocess", "unit", "-o", out)
    assert sizes == [(128, 256, 3)]
    assert opened(out / "photo_gradcam_max_pooling2d_3.png").shape == (300, 600, 3)
    assert opened(out / "comparison.png").shape[0] > 128


def test_stdout_of_the_process_is_pure_json(families: Path, pictures: list[Path], out: Path, shell: Run) -> None:
    found = shell("explain", families, pictures[0], "--method", "scorecam", "-o", out, "--json")
    assert found.status == 0
    assert json.loads(found.stdout)["files"]
    assert len(found.stderr.splitlines()) == 1


def test_the_grid_has_as_many_rows_as_a_viewer_opens(
    families: Path, pictures: list[Path], out: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("torchcam_suite.cli.explain"), "_MOST_ROWS", 2)
    found = run("explain", families, *pictures[:3], "--preprocess", "unit", "-o", out)
    assert found.status == 0
    assert "comparison.png shows the first 2 of 3 pictures\n" in found.stderr
    assert len(list(out.glob("*_gradcam_*.png"))) == 3
    two = opened(out / "comparison.png").shape[0]
    run("explain", families, *pictures[:2], "--preprocess", "unit", "-o", out)
    assert opened(out / "comparison.png").shape[0] == two
