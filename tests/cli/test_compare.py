"""`compare` opens any number of models, prints how far their maps agree, and writes figures and pictures."""

import json
from pathlib import Path

import pytest
from commands import Run
from PIL import Image

from torchcam_suite.architectures import TrainedModel, build, save_trained
from torchcam_suite.demo import ASSETS, sample_images

DEMO = f"{ASSETS / 'model.json'}+{ASSETS / 'weights.h5'}"
QUICK = ["--preprocess", "unit", "--device", "cpu"]


@pytest.fixture
def both(families: Path, pictures: list[Path]) -> list[object]:
    """Two models of three classes, and two pictures of the first."""
    return [f"families={families}", f"demo={DEMO}", "--images", pictures[0], "--images", pictures[2], *QUICK]


def test_the_table_is_printed_in_eighty_columns(both: list[object], run: Run) -> None:
    found = run("compare", *both, "--layer", "shallow", "--layer", "deep", "--classes", "fire,grass,water")
    assert found.status == 0
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "2 models, 4 columns, 2 images; maps compared at 64 x 64"
    assert ["4", "demo", "deep", "conv2d_5", "Grad-CAM"] in [line.split() for line in lines]
    assert found.stderr == ""


def test_files_are_written_and_named(both: list[object], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "out"
    options = ["--method", "gradcam", "--method", "eigencam", "--target", "1", "--drawn", "1", "-o", out]
    found = run("compare", *both, *options, "--json")
    assert found.status == 0
    about = json.loads(found.stdout)
    names = ["comparison.json", "maps.npz", "grid.png", "agreement.png"]
    assert about["files"] == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert [(one["model"], one["method"]) for one in about["columns"]] == [
        (model, method) for model in ("families", "demo") for method in ("gradcam", "eigencam")
    ]
    assert json.loads((out / "comparison.json").read_text())["agreement"] == about["agreement"]
    for name in names[2:]:
        with Image.open(out / name) as picture:
            picture.load()


def test_files_of_one_name_are_called_by_their_folders(pictures: list[Path], tmp_path: Path, run: Run) -> None:
    for folder in ("ordinary", "complementary"):
        net = build("families", classes=3, input_size=(16, 16), width=0.1)
        about = TrainedModel("families", 3, ["a", "b", "c"], (16, 16), 0.1)
        save_trained(tmp_path / folder / "model.safetensors", net, about)
    models = [tmp_path / folder / "model.safetensors" for folder in ("ordinary", "complementary")]
    layers = ["--layer", "ordinary/model=conv2d_2", "--layer", "complementary/model=conv2d_1"]
    found = run("compare", *models, "--images", pictures[0], *layers, "--device", "cpu", "--json")
    columns = json.loads(found.stdout)["columns"]
    assert [(one["model"], one["layer"]) for one in columns] == [
        ("ordinary/model", "conv2d_2"),
        ("complementary/model", "conv2d_1"),
    ]
    found = run("compare", models[0], models[0], "--images", pictures[0], "--device", "cpu", "--json")
    assert [one["model"] for one in json.loads(found.stdout)["columns"]] == ["model (1)", "model (2)"]


def test_class_folders_tell_right_from_wrong(families: Path, tmp_path: Path, run: Run) -> None:
    for path in sample_images():
        family = {"ember": "fire", "sprout": "grass", "ripple": "water"}[path.stem.split("_")[0]]
        (tmp_path / family).mkdir(exist_ok=True)
        (tmp_path / family / path.name).symlink_to(path)
    options = ["--images", tmp_path, "--classes", "fire,grass,water", "--limit", "3", *QUICK]
    found = run("compare", f"families={families}", f"demo={DEMO}", *options, "--json")
    about = json.loads(found.stdout)
    assert [one["label"] for one in about["images"]] == ["fire", "grass", "water"]
    assert about["models"]["demo"]["images_right"] == 3


def test_options_can_be_given_for_each_model(both: list[object], run: Run) -> None:
    # the second of two values is that of the second model
    changed = [*both[:-4], "--preprocess", "unit", "--preprocess", "raw", "--device", "cpu", "--json"]
    layers = ["--layer", "families=conv2d_3", "--layer", "demo=conv2d_2"]
    about = json.loads(run("compare", *changed, *layers).stdout)
    assert [about["models"][name]["preprocessing"]["name"] for name in ("families", "demo")] == ["unit", "raw"]
    assert [column["layer"] for column in about["columns"]] == ["conv2d_3", "conv2d_2"]


def test_a_checkpoint_runs_in_keras_beside_its_import(families: Path, pictures: list[Path], run: Run) -> None:
    found = run("compare", families, f"keras:{families}", "--images", pictures[0], *QUICK, "--json")
    assert found.status == 0, found.stderr
    about = json.loads(found.stdout)
    assert list(about["models"]) == ["model", "model in Keras"]
    assert about["agreement"][0]["pearson"]["mean"] > 0.9999
    one, other = (about["images"][0]["predictions"][name] for name in about["models"])
    assert one["class"] == other["class"]
    assert one["probability"] == pytest.approx(other["probability"], rel=1e-4)
    assert about["models"]["model in Keras"]["framework"] == "tf_keras"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "conv9"], "layer 'conv9' is not in this model; "),
        (["--layer", "conv2d_6"], "is not in"),
        (["--layer", "2.5"], "between 0"),
        (["--layer", "vgg=conv2d_1"], "no model is called 'vgg'; there are families, demo"),
        (["--method", "lime"], "method 'lime' does not exist"),
        (["--option", "masks=3"], "no option of gradcam"),
        (["--target", "label"], "there are no labels"),
        (["--preprocess", "unit", "--preprocess", "raw"], "--preprocess is given 3 times for 2 models"),
        (["--images", "nowhere.png"], "nowhere.png"),
        (["-o", __file__], "is a file; name a folder"),
        (["--method", "rise", "--layer", "deep"], "'rise': no layer is taken"),
    ],
)
def test_mistakes_are_explained(both: list[object], options: list[str], message: str, run: Run) -> None:
    found = run("compare", *both, *options)
    assert found.status == 1
    assert message in found.stderr
    assert found.stdout == ""


def test_images_are_needed(families: Path, run: Run) -> None:
    assert run("compare", families).status == 2
