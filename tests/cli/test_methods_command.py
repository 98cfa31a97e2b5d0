"""`methods` lists every method, and `explain --option` takes every option of every method."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from commands import Run
from PIL import Image

from torchcam_suite.cam import METHODS
from torchcam_suite.cli.method_options import parse_value, type_text


def test_every_method_is_listed_within_eighty_columns(run: Run) -> None:
    found = run("methods")
    assert found.status == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    words = [line.split() for line in found.stdout.splitlines()]
    assert {line[0] for line in words if line} >= set(METHODS)
    assert [" ".join(line) for line in words if line and line[-1].endswith(":") and len(line) == 2] == [
        "one forward:",
        "one backward:",
        "several backwards:",
        "many forwards:",
    ]
    row = next(line for line in found.stdout.splitlines() if line.split()[:1] == ["guidedgradcam"])
    assert row.rstrip().endswith("layer, ReLU")
    assert "GAP head" in found.stderr


def test_json_says_all_about_each(run: Run) -> None:
    found = run("methods", "--json")
    listed = {entry["name"]: entry for entry in json.loads(found.stdout)}
    assert set(listed) == set(METHODS)
    assert found.stderr == ""
    assert listed["sscam"] == {
        "name": "sscam",
        "title": "SS-CAM",
        "summary": METHODS["sscam"].summary,
        "source": "Wang et al. 2020, arXiv:2006.14255",
        "cost": "many forwards",
        "needs": ["layer", "head"],
        "options": listed["sscam"]["options"],
    }
    options = listed["sscam"]["options"]
    assert tuple(options) == METHODS["sscam"].options
    assert options["noise"] == {"type": "activation or input", "default": "activation"}
    assert options["samples"] == {"type": "a whole number", "default": 10}
    assert options["of"] == {"type": "logit or probability", "default": "probability"}
    assert listed["gradcam"]["needs"] == ["layer"]
    assert listed["rise"]["needs"] == ["head"]
    assert listed["cam"]["needs"] == ["layer", "GAP head"]


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("true", bool, True),
        ("No", bool, False),
        ("auto", int | Literal["auto"], "auto"),
        ("8", int | Literal["auto"], 8),
        ("none", int | None, None),
        ("input", Literal["activation", "input"], "input"),
        ("2", Literal[1, 2], 2),
    ],
)
def test_a_text_becomes_a_value_of_the_type(text: str, type_: Any, value: Any) -> None:
    found = parse_value("x", text, type_)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "type_", "expected"),
    [
        ("3.5", int, "a whole number"),
        ("ten", float, "a number"),
        ("maybe", bool, "true or false"),
        ("all", int | Literal["auto"], "a whole number or auto"),
        ("noise", Literal["activation", "input"], "activation or input"),
        ("", int | None, "a whole number or none"),
    ],
)
def test_a_text_of_another_type_is_refused(text: str, type_: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"--option x={text}; expected {expected}$"):
        parse_value("x", text, type_)


def test_the_type_of_every_option_of_every_method_has_a_name() -> None:
    for method in METHODS.values():
        assert list(method.option_types) == list(method.options)
        for type_ in method.option_types.values():
            assert "<" not in type_text(type_)
            assert "Literal" not in type_text(type_)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Noise of 64 x 64."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return path


def test_methods_without_a_layer_stand_beside_methods_with_one(
    families: Path, picture: Path, tmp_path: Path, run: Run
) -> None:
    asked = ["--method", "gradcam", "--method", "rise", "--method", "sscam", "--layer", "conv2d_5"]
    options = ["--option", "masks=20", "--option", "samples=2", "--option", "seed=3", "--of", "probability"]
    found = run("explain", families, picture, *asked, *options, "--preprocess", "unit", "-o", tmp_path / "o", "--json")
    assert found.status == 0, found.stderr
    about = json.loads(found.stdout)["explanations"]
    assert [(one["method"], one["layer"]) for one in about] == [
        ("gradcam", "conv2d_5"),
        ("rise", "input"),
        ("sscam", "conv2d_5"),
    ]
    assert about[1]["options"]["masks"] == 20
    assert (about[2]["options"]["samples"], about[2]["options"]["seed"]) == (2, 3)
    assert all(one["of"] == "probability" for one in about)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "cam"])
def test_every_method_explains_a_picture(name: str, families: Path, picture: Path, tmp_path: Path, run: Run) -> None:
    cheap = [f"{key}={value}" for key, value in CHEAP.items() if key in METHODS[name].options]
    given = [word for text in cheap for word in ("--option", text)]
    command = ["explain", families, picture, "--method", name, *given, "--preprocess", "unit", "-o", tmp_path / "o"]
    found = run(*command)
    assert found.status == 0, found.stderr
    assert (tmp_path / "o" / "comparison.png").is_file()


CHEAP = {"samples": 2, "masks": 10, "groups": 4, "channels": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "samples"], "--option samples; expected name=value, as in --option samples=20"),
        (["--option", "samples=3"], "--option samples is no option of gradcam; there are of, relu"),
        (["--chunk-size", "3"], "--chunk-size is no option of gradcam"),
        (["--method", "sscam", "--option", "samples=x"], "--option samples=x; expected a whole number"),
        (["--method", "sscam", "--option", "noise=x"], "--option noise=x; expected activation or input"),
        (["--method", "sscam", "--option", "seed=1", "--option", "seed=2"], "--option seed is given twice"),
        (["--method", "gradcam", "--of", "logit", "--option", "of=logit"], "--option of and --of say the same"),
        (["--method", "rise", "--layer", "conv2d_5"], "rise explains the input and takes no layer"),
        (["--method", "rise", "--option", "masks=0"], "masks=0; expected a whole number of at least 1"),
        (["--method", "sscan", "--option", "samples=3"], "method 'sscan' does not exist; did you mean 'sscam'?"),
    ],
)
def test_an_option_that_does_not_fit_is_told(
    arguments: list[str], message: str, families: Path, picture: Path, tmp_path: Path, run: Run
) -> None:
    found = run("explain", families, picture, *arguments, "--preprocess", "unit", "-o", tmp_path / "out")
    assert found.status == 1
    assert message in found.stderr
    assert not (tmp_path / "out").exists()
