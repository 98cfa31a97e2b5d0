"""Each page of the documentation is run once in a session, in a folder of its own with what the pages name.

In every folder:

| name | what it is |
|---|---|
| `model.json`, `weights.h5` | the Keras classifier of `tests/data/dogcat_a`, a single sigmoid; at 64 x 64, for speed |
| `model.bundle` | the same, converted |
| `cat.jpg`, `dog.jpg` | two of its pictures |
| `masks` | a mask for each of the two |
| `test_pictures` | its eight pictures and their mirror images, in the folders `cat` and `dog` |
| `labels.csv` | paths and labels of `test_pictures` |
| `model.h5`, `labels.txt` | the Keras classifier of `tests/data/tcav_families`: fire, grass, water, 64 x 64, softmax |
| `pictures` | its pictures of classes and concepts |
| `scripts`, ... | the repository, as links, and a `.venv` that can install nothing: `processes.py` |

What a single page names beside these is in `stand_ins.py`. A page that makes one of these itself says so at its top:
`<!-- run: without model.bundle -->`.
"""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from code_blocks import ROOT
from page_runs import PageRun, run_page
from PIL import Image
from processes import link_clone
from stand_ins import STAND_INS

from converters import convert

NAMES = ("cat", "dog")


@pytest.fixture(scope="session")
def provided(data: Path, conversion_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that each page gets a copy of."""
    assert conversion_cache.is_dir()
    folder = tmp_path_factory.mktemp("provided")
    shutil.copy(data / "dogcat_a" / "weights.h5", folder)
    (folder / "model.json").write_text(smaller((data / "dogcat_a" / "model.json").read_text()))
    for name in ("model.h5", "labels.txt"):
        shutil.copy(data / "tcav_families" / name, folder)
    (folder / "pictures").symlink_to(data / "tcav_families" / "pictures")
    convert(
        folder / "model.json",
        weights=folder / "weights.h5",
        out=folder / "model.bundle",
        preprocessing="unit",
        class_names=NAMES,
    )
    write_pictures(folder, data)
    return folder


def smaller(architecture: str) -> str:
    """The same classifier for smaller pictures: behind global average pooling the weights are those of any size."""
    whole = "[null, 150, 150, 3]"
    assert architecture.count(whole) == 1
    return architecture.replace(whole, "[null, 64, 64, 3]")


def write_pictures(folder: Path, data: Path) -> None:
    """Write the pictures of cats and dogs, masks of two, and a list of labels."""
    with np.load(data / "dogcat_a" / "inputs.npz") as stored:
        pixels, labels = (stored["x"] * 255).round().astype(np.uint8), stored["label"]
    rows = []
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / "test_pictures" / NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        for suffix, seen in (("", picture), ("_mirrored", picture[:, ::-1])):
            Image.fromarray(np.ascontiguousarray(seen)).save(place / f"{number}{suffix}.png")
            rows.append((f"{place.relative_to(folder)}/{number}{suffix}.png", NAMES[label]))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    (folder / "masks").mkdir()
    middle = np.zeros(pixels.shape[1:3], np.uint8)
    middle[30:120, 30:120] = 255
    for label, name in enumerate(NAMES):
        Image.fromarray(pixels[list(labels).index(label)]).save(folder / f"{name}.jpg", quality=95)
        Image.fromarray(middle).save(folder / "masks" / f"{name}.png")


@pytest.fixture(scope="session")
def run_of(provided: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PageRun]:
    """Give the run of a page by its path, with `processes=True` that of its scripts too.

    The page is run when it is first asked for, and once more if its scripts are first asked for later.
    """
    runs: dict[str, PageRun] = {}

    def run(name: str, *, processes: bool = False) -> PageRun:
        if name not in runs or (processes and not runs[name].processes):
            page = ROOT / name
            folder = tmp_path_factory.mktemp(page.stem) / "here"
            left_out = re.findall(r"<!-- run: without (\S+) -->", page.read_text(encoding="utf-8"))
            assert all((provided / name).exists() for name in left_out), f"{name} leaves out what is not there"
            shutil.copytree(provided, folder, symlinks=True, ignore=shutil.ignore_patterns(*left_out))
            link_clone(folder)
            STAND_INS.get(name, lambda _: None)(folder)
            runs[name] = run_page(page, folder, processes=processes)
        return runs[name]

    return run
