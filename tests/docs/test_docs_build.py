"""The documentation builds without a warning, without a network and without TensorFlow, and has what is public."""

import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from code_blocks import ROOT

import converters
import torchcam_suite
from torchcam_suite import (
    architectures,
    cam,
    comparison,
    concepts,
    crosscheck,
    datasets,
    embedding,
    errors,
    evaluation,
    features,
    training,
)

pytest.importorskip("sphinx", reason="the documentation is built by Sphinx, extra docs")
pytest.importorskip("myst_parser", reason="its pages are Markdown, extra docs")
pytest.importorskip("furo", reason="its theme is furo, extra docs")

BUILD = """
import socket, sys

def refuse(*_):
    raise OSError("the build asked for the network")

socket.socket.connect = socket.getaddrinfo = refuse
from sphinx.cmd.build import main

status = main(["-q", "-E", "-W", "--keep-going", "-d", sys.argv[3], sys.argv[1], sys.argv[2]])
heavy = {"tensorflow", "keras", "tf_keras"} & set(sys.modules)
sys.exit(f"the build imported {heavy}" if heavy else status)
"""
# what is documented under the name of the module itself, or is a table beside the functions
BESIDE = {"cam": {"VARIANTS", "ScoreCam", "ScoreCamVariant"}, "crosscheck": {"LIBRARIES"}, "embedding": {"ENGINES"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    command = [sys.executable, "-c", BUILD, str(ROOT / "docs"), str(folder / "html"), str(folder / "doctrees")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def documented(built: Path) -> set[str]:
    """The full names of everything in the reference."""
    # four lines of text, then compressed lines: name, domain:role, priority, address, title
    packed = (built / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = [line.split() for line in zlib.decompress(packed).decode().splitlines()]
    return {entry[0] for entry in entries if entry[1].startswith("py:")}


def test_every_page_is_built(built: Path) -> None:
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts]
    assert len(pages) > 20
    assert [page for page in pages if not (built / page.with_suffix(".html")).is_file()] == []


def test_formulas_are_formulas(built: Path) -> None:
    page = (built / "methods" / "gradient.html").read_text(encoding="utf-8")
    assert r"M_{ij} = \sum_k w_k A_{kij}" in page
    assert "$$" not in page


def test_attributes_that_share_a_line_are_all_named(built: Path) -> None:
    page = (built / "reference" / "models.html").read_text(encoding="utf-8")
    for name in ("mean", "std"):  # of Preprocessing, "mean, std : tuple of float"
        assert f"<strong>{name}</strong> (<em>tuple" in page


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("torchcam_suite", torchcam_suite.__all__),
        ("cam", cam.__all__),
        ("concepts", concepts.__all__),
        ("crosscheck", sys.modules[crosscheck.__module__.rpartition(".")[0]].__all__),
        ("embedding", embedding.__all__),
        ("errors", errors.__all__),
        ("evaluation", evaluation.__all__),
        ("features", sys.modules[features.__module__.rpartition(".")[0]].__all__),
        ("converters", converters.__all__),
        ("architectures", architectures.__all__),
        ("comparison", comparison.__all__),
        ("datasets", datasets.__all__),
        ("training", training.__all__),
    ],
)
def test_what_is_public_is_in_the_reference(name: str, public: list[str], documented: set[str]) -> None:
    shown = {full.rpartition(".")[2] for full in documented}
    assert set(public) - BESIDE.get(name, set()) <= shown
    assert not BESIDE.get(name, set()) & shown


def test_methods_of_classes_are_in_the_reference(documented: set[str]) -> None:
    assert {"torchcam_suite.Model.fuse", "torchcam_suite.Explanation.save"} <= documented
