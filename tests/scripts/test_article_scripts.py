"""Each article's script goes from data to figures, and its summary tells what the files beside it hold."""

import csv
import importlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import torch
from article_sizes import SMALL
from PIL import Image
from sklearn.metrics import roc_auc_score
from test_bench import SCRIPTS

from torchcam_suite import Explanation, TcavResult, evaluate, load
from torchcam_suite.datasets import make
from torchcam_suite.demo.colours import COLOURS
from torchcam_suite.embedding import Embedding
from torchcam_suite.errors import SourceError

ARTICLES = {name: f"--quick {small}" for name, small in SMALL.items()}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def article() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS / "articles")
        yield importlib.import_module


@pytest.fixture(scope="module")
def run(
    article: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> Callable[[str], Path]:
    """Run a script once, and give the folder of its results."""
    del one_thread
    done: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            assert article(name).main([*ARTICLES[name].split(), "-o", str(out)]) == out / "summary.md"
            done[name] = out
        return done[name]

    return folder_of


def rows_of(out: Path, header: str) -> list[list[str]]:
    """The cells of the first table in the summary whose header contains a text."""
    lines = (out / "summary.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ") and header in line) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def told(out: Path, what: str, header: str = "on the test pictures") -> list[str]:
    """The row of a table that begins with a text."""
    return next(row for row in rows_of(out, header) if row[0] == what)


# ---------------------------------------------------------------- what all of them do


@pytest.mark.parametrize("name", ARTICLES)
def test_the_summary_shows_pictures_that_are_there(run: Callable[[str], Path], name: str) -> None:
    out = run(name)
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (out / "summary.md").read_text())
    assert len(shown) >= 1
    for caption, file in shown:
        assert caption
        with Image.open(out / file) as picture:
            assert min(picture.size) > 100
            assert len(set(picture.convert("L").resize((32, 32)).tobytes())) > 5  # not one colour


@pytest.mark.parametrize("name", ARTICLES)
def test_the_summary_says_what_was_run(run: Callable[[str], Path], name: str) -> None:
    text = (run(name) / "summary.md").read_text()
    pictures, tests = (re.search(rf"--{what} (\d+)", ARTICLES[name]) for what in ("pictures", "tests"))
    assert pictures is not None
    assert tests is not None
    assert f"{pictures[1]} train; {tests[1]} test" in text
    assert re.search(r"\| scale \| quick, but for size \d+, pictures \d+, tests \d+, .*explained \d+ \|", text)
    assert "| seed | 0 |" in text
    assert f"torch {torch.__version__}" in text
    assert re.search(r"\| time \| \d+ s \(draw pictures \d+ s, ", text)


@pytest.mark.parametrize(
    ("name", "file", "evaluation"),
    [
        ("vgg_gradcam_tsne", "training/model.safetensors", "evaluation"),
        ("dogs_and_cats", "training/model.safetensors", "evaluation"),
        ("tcav_colours", "training/model.safetensors", "evaluation"),
        ("xception_complementary", "ordinary/model.safetensors", "ordinary/evaluation"),
    ],
)
def test_the_accuracy_is_that_of_the_saved_model(
    run: Callable[[str], Path], name: str, file: str, evaluation: str
) -> None:
    out = run(name)
    scores = evaluate(load(out / file, device="cpu"), out / "data" / "test", mistakes=0, workers=0).scores
    assert float(told(out, "accuracy")[1]) == pytest.approx(scores.accuracy, abs=5e-5)
    assert json.loads((out / evaluation / "evaluation.json").read_text())["accuracy"] == scores.accuracy
    assert float(told(out, "accuracy by chance")[1]) == pytest.approx(1 / len(scores.class_names), abs=5e-5)


# ---------------------------------------------------------------- each by itself


def test_dogs_and_cats_auc_and_interval_follow_from_the_saved_predictions(run: Callable[[str], Path]) -> None:
    out = run("dogs_and_cats")
    with (out / "evaluation" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    dogs = np.array([row["label"] == "dog" for row in rows])
    shares = np.array([float(row["probability of dog"]) for row in rows])
    assert len(set(shares)) > 10
    area = roc_auc_score(dogs, shares)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    ours, others = int(dogs.sum()), int((~dogs).sum())
    variance = area * (1 - area) + (ours - 1) * (first - area**2) + (others - 1) * (second - area**2)
    half = 1.959964 * math.sqrt(variance / (ours * others))
    _, value, interval = told(out, "AUC of dog")
    assert float(value) == pytest.approx(area, abs=5e-5)
    assert interval == f"{max(0, area - half):.3f} to {min(1, area + half):.3f} (Hanley-McNeil)"


def test_six_people_the_map_is_of_all_test_pictures_and_its_quality_is_told(run: Callable[[str], Path]) -> None:
    out = run("vgg_gradcam_tsne")
    embedding = Embedding.load(out / "map.npz")
    assert embedding.layer == "dense_3"
    assert embedding.points.shape == (36, 2)
    assert sorted(set(embedding.labels or ())) == sorted(path.name for path in (out / "data" / "test").iterdir())
    told_value = float(told(out, "trustworthiness", "map of 36 pictures")[1])
    assert told_value == pytest.approx(embedding.quality.trustworthiness, abs=5e-5)


def test_six_people_blocks_are_the_cells_of_the_layer(
    run: Callable[[str], Path], article: Callable[[str], ModuleType]
) -> None:
    out = run("vgg_gradcam_tsne")
    smooth = Explanation.load(out / "heat_maps.npz")
    assert smooth.layer == article("vgg_gradcam_tsne").LAYER == "block5_conv3"
    assert smooth.raw.shape == (6, 2, 2)
    expected = smooth.raw.repeat_interleave(16, 1).repeat_interleave(16, 2)
    highest = expected.amax(dim=(1, 2), keepdim=True)
    blocks = torch.where(highest > 0, expected / highest, 0)
    area = float(told(out, "Grad-CAM as blocks", "of 6 test pictures")[2])
    assert area == pytest.approx(share_on_object(blocks, out, smooth.images), abs=5e-5)


def share_on_object(maps: torch.Tensor, out: Path, images: tuple[str, ...]) -> float:
    """Mean over images of the share of a map that lies on the object, by loops in float64."""
    shares = []
    for number, image in enumerate(images):
        path = Path(image)
        mask = np.asarray(Image.open(out / "data" / "masks" / "test" / path.parent.name / path.name).convert("L")) > 127
        values = maps[number].double().numpy()
        total = sum(float(value) for value in values.flat)
        on_object = sum(float(value) for value, inside in zip(values.flat, mask.flat, strict=True) if inside)
        shares.append(on_object / total if total > 0 else 0)
    return float(np.mean(shares))


def test_tcav_has_a_row_for_each_family_and_colour(run: Callable[[str], Path]) -> None:
    out = run("tcav_colours")
    rows = rows_of(out, "TCAV score")
    families = ("ember", "ripple", "sprout")
    assert [tuple(row[:2]) for row in rows] == [(family, colour) for family in families for colour in COLOURS]
    saved = TcavResult.load(out / "tcav")
    for row, found in zip(rows, saved.rows, strict=True):
        runs = saved.scores[found.layer, found.concept, found.target]
        assert float(row[2]) == pytest.approx(float(np.mean(runs)), abs=5.1e-3)
        assert 0 <= found.score <= 1
        assert found.runs == len(runs) == 5
    assert len({row[2] for row in rows}) > 3


def test_xception_agreement_is_that_of_the_saved_maps(run: Callable[[str], Path]) -> None:
    out = run("xception_complementary")
    with np.load(out / "comparison" / "maps.npz") as stored:
        maps, columns = stored["maps"].astype(np.float64), [str(name) for name in stored["columns"]]
    assert len(columns) == 6
    rows = [row for row in rows_of(out, "Pearson") if row[1] == "all"]
    told_means = iter(rows)
    compared = 0
    for i, j in [(0, 3), (1, 4), (2, 5)]:  # the same layer of both
        figures = [
            float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
            for one, other in zip(maps[i], maps[j], strict=True)
            if np.ptp(one) > 0 and np.ptp(other) > 0
        ]
        if figures:  # a pair without any is left out
            row = next(told_means)
            names = [" ".join(columns[number].split(" · ")[:2]) for number in (i, j)]
            assert row[0] == " and ".join(names)
            assert int(row[2]) == len(figures)
            assert float(row[3].split(" ± ")[0]) == pytest.approx(np.mean(figures), abs=5.1e-3)
            assert all(-1 <= float(cell.split(" ± ")[0]) <= 1 for cell in row[3:])
            compared += 1
    assert compared > 1


def test_xception_learns_once_from_labels_and_once_from_complementary_ones(run: Callable[[str], Path]) -> None:
    out = run("xception_complementary")
    losses = {name: load_settings(out / name)["loss"] for name in ("ordinary", "complementary")}
    assert losses == {"ordinary": "cross-entropy", "complementary": "complementary"}
    with (out / "complementary" / "complementary_labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert all(row["complementary_label"] != row["label"] for row in rows)


def load_settings(folder: Path) -> dict[str, object]:
    return json.loads((folder / "training.json").read_text())["settings"]


def test_the_small_residual_network_learns_and_says_that_it_is_not_imagenets(
    run: Callable[[str], Path], article: Callable[[str], ModuleType]
) -> None:
    out = run("imagenet_resnet50")
    text = (out / "summary.md").read_text()
    assert "none of ImageNet's: trained here" in text
    assert float(told(out, "accuracy")[1]) > 0.5  # by chance 1/3
    names = [row[0] for row in rows_of(out, "maximum on the object")]
    assert len(names) == 4  # three depths and chance
    del article


# ---------------------------------------------------------------- other data and weights, and what goes wrong


def test_ones_own_pictures_train_the_same_network_as_drawn_ones_that_are_equal(
    run: Callable[[str], Path], article: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    drawn = run("dogs_and_cats")
    given = ["--data", str(drawn / "data"), "-o", str(tmp_path)]
    article("dogs_and_cats").main([*ARTICLES["dogs_and_cats"].split(), *given])
    assert f"`{drawn / 'data'}`: 20 train; 30 test (cat, dog)" in (tmp_path / "summary.md").read_text()
    assert not (tmp_path / "data").exists()
    models = [load(out / "training" / "model.safetensors", device="cpu") for out in (drawn, tmp_path)]
    assert models[0].fingerprint == models[1].fingerprint
    assert rows_of(drawn, "on the test pictures") == rows_of(tmp_path, "on the test pictures")


def test_ones_own_pictures_and_checkpoint(
    run: Callable[[str], Path], article: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    trained = run("xception_complementary")
    pictures, checkpoint = trained / "data" / "test", trained / "ordinary" / "model.safetensors"
    options = ["--quick", "--data", str(pictures), "--weights", str(checkpoint), "--explained", "4"]
    summary = article("imagenet_resnet50").main([*options, "-o", str(tmp_path)])
    text = summary.read_text()
    assert load(checkpoint, device="cpu").fingerprint[:16] in text
    assert "There are no masks" in text
    assert not (tmp_path / "data").exists()
    rows = rows_of(tmp_path, "first")
    assert len(rows) == 4
    model = load(checkpoint, device="cpu")
    for row in rows:
        with torch.inference_mode():
            shares = model.probabilities(model.prepare(pictures / row[0]))[0]
        best = int(shares.argmax())
        assert row[1] == f"{(model.class_names or [])[best]} {float(shares[best]):.2f}"


def test_pictures_of_a_set_with_splits_are_those_of_test_with_their_masks(
    article: Callable[[str], ModuleType], tmp_path: Path, data: Path
) -> None:
    drawn = make("objects", tmp_path / "drawn", train=6, test=6, size=32, workers=1)
    options = ["--quick", "--explained", "6", "--data", str(drawn), "--weights", str(data / "tcav_families/model.h5")]
    article("imagenet_resnet50").main([*options, "-o", str(tmp_path / "out")])
    shown = {row[0] for row in rows_of(tmp_path / "out", "first")}
    assert shown == {path.relative_to(drawn / "test").as_posix() for path in (drawn / "test").rglob("*.png")}
    assert "There are no masks" not in (tmp_path / "out" / "summary.md").read_text()


def test_pictures_without_a_mask_are_left_out_where_masks_are_told_of(
    article: Callable[[str], ModuleType], tmp_path: Path, data: Path
) -> None:
    drawn = make("objects", tmp_path / "drawn", train=3, test=9, size=32, workers=1)
    shutil.rmtree(drawn / "masks" / "test" / "watch")
    (drawn / "masks" / "test" / "leopard" / "0001.png").unlink()
    Image.new("L", (32, 32)).save(drawn / "masks" / "test" / "aeroplane" / "0002.png")
    options = ["--quick", "--explained", "9", "--data", str(drawn), "--weights", str(data / "tcav_families/model.h5")]
    article("imagenet_resnet50").main([*options, "-o", str(tmp_path / "out")])
    *rows, chance = rows_of(tmp_path / "out", "of the 4 with a mask")
    assert len(rows) == 3
    kept = [("aeroplane", 0), ("aeroplane", 1), ("leopard", 0), ("leopard", 2)]
    areas = [np.asarray(Image.open(drawn / f"masks/test/{label}/{index:04d}.png")) > 127 for label, index in kept]
    assert float(chance[1]) == pytest.approx(np.mean(areas), abs=0.02)  # resized for the network


def test_a_run_that_is_there_is_gone_on_with(
    run: Callable[[str], Path], article: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("dogs_and_cats")
    before = (out / "training" / "model.safetensors").read_bytes()
    accuracy = told(out, "accuracy")
    capsys.readouterr()
    article("dogs_and_cats").main([*ARTICLES["dogs_and_cats"].split(), "-o", str(out)])
    assert (out / "training" / "model.safetensors").read_bytes() == before
    assert told(out, "accuracy") == accuracy
    assert "epoch 1/1" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dogs_and_cats", "--data {folder}", "has no folder 'train'; expected train/CLASS and test/CLASS"),
        ("dogs_and_cats", "--size 8", "size=8"),
        ("tcav_colours", "--concepts {folder}/none", "none is no folder"),
        ("imagenet_resnet50", "--weights {folder}/missing.h5", "missing.h5"),
        ("imagenet_resnet50", "--weights torchvision", "the weights cannot be downloaded (<urlopen error no network>)"),
    ],
)
def test_errors_say_what_to_do_and_leave_no_summary(
    article: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: str,
    message: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    (tmp_path / "folder").mkdir()
    given = options.format(folder=tmp_path / "folder").split()
    tiny = "--quick --epochs 1 --size 32 --pictures 12 --tests 12 --width 0.1".split()
    script, out = article(name), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        article("summary").run_as_script(lambda: script.main([*tiny, *given, "-o", str(out)]))
    assert str(ended.value.code).startswith("error: ")
    assert message in str(ended.value.code)
    assert not (out / "summary.md").exists()


def test_settings_of_another_run_are_refused(run: Callable[[str], Path], article: Callable[[str], ModuleType]) -> None:
    out = run("tcav_colours")
    with pytest.raises(SourceError, match=r"holds a training with other settings"):
        article("tcav_colours").main([*ARTICLES["tcav_colours"].split(), "--batch-size", "4", "-o", str(out)])


def test_a_scale_of_nothing_is_wrong_usage(
    article: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        article("tcav_colours").main(["--quick", "--epochs", "0", "-o", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "--epochs 0; expected a number above 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ARTICLES)
def test_help_tells_both_scales(
    article: Callable[[str], ModuleType], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = article(name)
    with pytest.raises(SystemExit):
        script.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"({script.FULL.size}; with --quick {script.QUICK.size})" in text
    assert f"({script.FULL.epochs}; with --quick {script.QUICK.epochs})" in text
