"""`map` turns a file of features into a page or a picture, and prints how good the map is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Run
from PIL import Image
from torch import nn

from torchcam_suite import explain, load
from torchcam_suite.cli.map import labels_of
from torchcam_suite.embedding import Embedding, embed, neighbour_agreement
from torchcam_suite.features import Features, features

COUNT = 24
FAST = ["--engine", "pca", "--perplexity", "4"]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Features of pictures in two class folders, by a small network of the given seed."""
    paths = []
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        name = ("cat", "dog")[i % 2]
        path = tmp_path / "pictures" / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 120, (12, 12, 3)) + (120 if name == "dog" else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        paths.append(path)

    def make(seed: int = 0, **options: Any) -> Path:
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)]
        model = load(
            nn.Sequential(*layers), input_size=12, class_names=["cat", "dog"], head="softmax", preprocessing="unit"
        )
        found = features(model, paths, **{"layers": "3"} | options)
        if seed == 0:
            explain(model, paths[:3], layer="0").save(tmp_path / "maps.npz")
        return found.save(tmp_path / f"net{seed}.npz")

    return make


def test_a_page_and_the_figures_of_quality(made: Callable[..., Path], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "map.html"
    found = run("map", made(), *FAST, "--labels", "folders", "-o", out)
    assert (found.status, found.stderr) == (0, "")
    assert '"labels": ["cat", "dog", "cat"' in out.read_text()
    lines = found.stdout.splitlines()
    assert lines[-1] == str(out)
    rows = {line.rsplit(maxsplit=1)[0].strip(): line.rsplit(maxsplit=1)[1] for line in lines[1:-1]}
    assert rows["images"] == str(COUNT)
    assert 0.5 < float(rows["trustworthiness ↑"]) <= 1
    assert {"10 nearest neighbours kept ↑", "KL divergence ↓", "label accuracy on the map ↑"} <= set(rows)
    assert max(map(len, lines[:-1])) <= 80


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_a_picture(made: Callable[..., Path], ending: str, magic: bytes, tmp_path: Path, run: Run) -> None:
    out = tmp_path / f"map.{ending}"
    options = ["--color-by", "confidence", "--style", "dots", "--layout", "grid"]
    assert run("map", made(), *FAST, *options, "-o", out).status == 0
    assert out.read_bytes().startswith(magic)


def test_json_says_how_the_map_was_made(made: Callable[..., Path], tmp_path: Path, run: Run) -> None:
    save = tmp_path / "kept.npz"
    options = ["--standardize", "--seed", "7", "--pca", "0", "--save", save, "--json"]
    found = run("map", made(), *FAST, *options, "-o", tmp_path / "map.html")
    about = json.loads(found.stdout)
    (only,) = about["maps"]
    expected = {"perplexity": 4, "seed": 7, "standardize": True, "pca": None}
    assert expected.items() <= only["options"].items()
    assert (only["layer"], about["images"], about["agreement"]) == ("3", COUNT, None)
    kept = Embedding.load(save)
    assert only["quality"] == kept.quality.to_json()
    assert kept.paths[0] == str(tmp_path / "pictures/cat/0.png")


def test_labels_come_from_a_file_by_path_or_by_name(made: Callable[..., Path], tmp_path: Path, run: Run) -> None:
    by_path = "".join(f"{tmp_path}/pictures/{('cat', 'dog')[i % 2]}/{i}.png,animal {i % 3}\n" for i in range(1, COUNT))
    (tmp_path / "paths.csv").write_text("path,label\n" + by_path)
    by_name = "".join(f"elsewhere/{i}.png;animal {i % 3}\n" for i in range(1, COUNT))
    (tmp_path / "names.csv").write_text("file;class\n" + by_name)
    for name in ("paths", "names"):
        save = tmp_path / f"{name}.npz"
        options = ["--labels", tmp_path / f"{name}.csv", "--color-by", "label", "--save", save]
        found = run("map", made(), *FAST, *options, "-o", tmp_path / "map.html")
        assert found.status == 0
        assert Embedding.load(save).labels == (None, *(f"animal {i % 3}" for i in range(1, COUNT)))
    assert "no prediction is ever a label" in found.stderr


@pytest.mark.parametrize("known", [["a/1.png"], ["b/1.png"], ["a/1.png", "b/1.png"], ["c/2.png"]])
def test_a_file_name_that_several_pictures_have_says_nothing(known: list[str], tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a/1.png", "b/1.png", "x/2.png")]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{name},of {name}\n" for name in known))
    expected = ["of a/1.png" if "a/1.png" in known else None, "of b/1.png" if "b/1.png" in known else None]
    expected.append("of c/2.png" if "c/2.png" in known else None)
    assert labels_of(str(tmp_path / "labels.csv"), paths) == expected


def test_two_models_side_by_side(made: Callable[..., Path], tmp_path: Path, run: Run) -> None:
    first, second, out = made(), made(1), tmp_path / "map.html"
    found = run("map", first, *FAST, "--beside", second, "-o", out)
    assert found.status == 0
    assert "net0 beside net1" in out.read_text()
    kept = []
    for file in (first, second):
        run("map", file, *FAST, "--save", tmp_path / "kept.npz", "-o", out)
        kept.append(Embedding.load(tmp_path / "kept.npz").neighbours)
    agreement = neighbour_agreement(*kept)
    assert found.stdout.splitlines()[-3:-1] == [
        f"10 nearest in the features in common: {agreement.overlap:.3f} (chance {agreement.chance_overlap:.3f})",
        f"Jaccard index of them: {agreement.jaccard:.3f} (chance {agreement.chance_jaccard:.3f})",
    ]


def test_heat_maps_are_shown_where_there_are_any(made: Callable[..., Path], tmp_path: Path, run: Run) -> None:
    out = tmp_path / "map.html"
    features = made()
    assert run("map", features, *FAST, "--heat-maps", tmp_path / "maps.npz", "-o", out).status == 0
    assert f'"of": {json.dumps([0, 1, 2, *[-1] * (COUNT - 3)])}' in out.read_text()


def test_no_picture_has_the_heat_map_of_another_of_its_name(tmp_path: Path, run: Run) -> None:
    paths = [tmp_path / name / f"{i}.png" for name in ("cat", "dog") for i in range(4)]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (12, 12), (30 * i, 10, 200)).save(path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 2))
    model = load(net, input_size=12, head="softmax", preprocessing="unit")
    saved = features(model, paths, "2").save(tmp_path / "features.npz")
    explain(model, paths[:2], layer="0").save(tmp_path / "maps.npz")
    out = tmp_path / "map.html"
    options = ["--engine", "pca", "--perplexity", "2", "--heat-maps", tmp_path / "maps.npz"]
    assert run("map", saved, *options, "-o", out).status == 0
    assert f'"of": {json.dumps([0, 1, *[-1] * 6])}' in out.read_text()


@pytest.mark.parametrize("other", [1, 2, 3, 4])
def test_few_labels_may_be_neighbours_on_the_map_alone(
    other: int, made: Callable[..., Path], tmp_path: Path, run: Run
) -> None:
    random = np.random.default_rng(8).standard_normal((COUNT, 30)).astype(np.float32)
    features = replace(Features.load(made()), layers={"3": random}, shapes={"3": (30,)}).save(tmp_path / "random.npz")
    (tmp_path / "labels.csv").write_text(f"path,label\n0.png,cat\n{other}.png,cat\n")
    found = embed(random, engine="pca", perplexity=4, labels=["cat" if i in (0, other) else None for i in range(COUNT)])
    figures = found.quality.label_accuracy, found.quality.label_accuracy_in_features
    shown = ["-" if figure is None else f"{figure:.3f}" for figure in figures]
    assert shown in (["1.000", "-"], ["-", "1.000"], ["1.000", "1.000"], ["-", "-"])
    done = run("map", features, *FAST, "--labels", tmp_path / "labels.csv", "-o", tmp_path / "map.html")
    assert done.status == 0
    rows = [line.split()[-1] for line in done.stdout.splitlines() if "label accuracy" in line or "in the fea" in line]
    assert rows == ([] if shown == ["-", "-"] else shown)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "map.svg"], "-o map.svg; expected a name that ends in .html, .png, .pdf"),
        (["-o", "map.png", "--beside", "x.npz"], "--beside is for pages: name a file -o map.html"),
        (["-o", "map.pdf", "--heat-maps", "x.npz"], "--heat-maps is for pages"),
        (["-o", "map.html", "--style", "dots"], "--style and --layout are for pictures"),
        (["-o", "map.png", "--style", "points"], "--style 'points'; expected one of pictures, dots, text"),
        (["-o", "map.png", "--color-by", "size"], "--color-by 'size'; expected one of label"),
        (["-o", "map.png", "--color-by", "label"], "--color-by label needs --labels"),
        (["-o", "map.html", "--engine", "tsne"], "engine 'tsne' is not known"),
        (["-o", "map.html", "--layer", "9"], "layer '9' is not among these features; there are: 3"),
        (["-o", "map.html", "--labels", "absent.csv"], "cannot read absent.csv"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    made: Callable[..., Path],
    options: list[str],
    message: str,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = made()
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    found = run("map", features, *options)
    assert found.status == 1
    assert message in found.stderr
    assert set(tmp_path.iterdir()) == before


def test_a_file_that_holds_no_features_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "features.npz").write_text("nothing")
    found = run("map", tmp_path / "features.npz", "-o", tmp_path / "map.html")
    assert found.status == 1
    assert "features.npz" in found.stderr
