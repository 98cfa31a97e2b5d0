"""Exit statuses, help, and where what is printed."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points, version
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from commands import Run
from safetensors.numpy import load_file, save_file

from converters import convert
from torchcam_suite.cli import app, main
from torchcam_suite.cli.options import parse_target
from torchcam_suite.errors import TargetError

COMMANDS = ["convert", "verify", "layers", "methods", "explain", "score-maps", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_eighty_columns_and_shows_an_example(command: str, run: Run) -> None:
    found = run(command, "--help")
    assert found.status == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert "…" not in found.stdout
    assert f"Example:  torchcam-suite {command}" in found.stdout
    assert run(command, "-h") == found


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_the_help_is_one_that_the_command_takes(command: str, run: Run) -> None:
    text = run(command, "--help").stdout
    example = re.search(r"Example:  torchcam-suite (.*?)\n\s*\n", text, re.DOTALL)
    assert example is not None
    name, *arguments = shlex.split(example[1])
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = group.commands[name].make_context(name, arguments)
    assert any(value for value in context.params.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_the_help_is_not_broken_in_the_middle_of_a_word(command: str, run: Run) -> None:
    lines = run(command, "--help").stdout.split("Options")[0].splitlines()
    paragraph_ends = [i for i, line in enumerate(lines) if not line.strip()]
    for first, last in pairwise(paragraph_ends):
        # a line that ends early inside a paragraph was wrapped twice, by the author and by the terminal
        for line, after in zip(lines[first + 1 : last - 1], lines[first + 2 : last], strict=True):
            room = 78 - len(line.rstrip())
            assert room < 25 or len(after.split()[0]) > room


def test_all_commands_are_listed(run: Run) -> None:
    found = run("--help")
    assert found.status == 0
    assert [name for name in COMMANDS if re.search(rf"^│ {name} ", found.stdout, re.MULTILINE)] == COMMANDS


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"{version('torchcam-suite')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: torchcam-suite"),
        (["explode"], "No such command 'explode'"),
        (["layers"], "Missing argument"),
        (["layers", "model.h5", "--layers"], "No such option"),
        (["explain", "model.h5", "cat.png"], "'--out'"),
        (["explain", "model.h5", "cat.png", "-o", "out", "--strength", "2"], "--strength"),
        (["explain", "model.h5", "cat.png", "-o", "out", "--chunk-size", "many"], "--chunk-size"),
    ],
)
def test_wrong_usage_has_status_2(arguments: list[str], message: str, run: Run) -> None:
    found = run(*arguments)
    assert found.status == 2
    assert message in " ".join((found.stdout if not arguments else found.stderr).replace("│", " ").split())
    assert arguments == [] or found.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layers", "none.h5"], "none.h5"),
        (["layers", "model"], "'model' is nothing that can be opened; expected a Keras checkpoint (.h5, .keras"),
        (["layers", "model.h5", "--input-size", "big"], "--input-size 'big'; expected 224, or height x width"),
        (["convert", "none.keras"], "none.keras"),
        (["convert", "model.h5", "--preprocess", "imagenet"], "preprocessing 'imagenet' is not known; expected one of"),
        (["verify", "none"], "none is not a bundle: it has no manifest.json"),
        (["explain", "m.h5", "a.png", "-o", "o", "--colormap", "rainbows"], "rainbows"),
        (["explain", "m.h5", "a.png", "-o", "o", "--variant", "paper"], "--variant is no option of gradcam"),
        (["layers", "[m].h5"], "no such file: [m].h5"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_status_1(
    arguments: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert found.status == 1
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_square_brackets_in_a_message_are_printed(run: Run) -> None:
    found = run("layers", "[bold]model[/bold]")
    assert "'[bold]model[/bold]' is nothing that can be opened" in found.stderr


@pytest.mark.parametrize(
    ("text", "names", "target"),
    [
        (None, ["cat"], None),
        ("cat", ["cat", "dog"], "cat"),
        ("bird", None, "bird"),
        ("1", ["cat", "dog"], 1),
        ("-1", ["cat", "dog"], -1),
        ("1", ["0", "1"], 1),
        ("10", ["1", "10", "2"], "10"),
        ("2", ["1", "10", "2"], 2),
    ],
)
def test_a_target_is_a_number_or_a_name(text: str | None, names: list[str] | None, target: int | str | None) -> None:
    assert parse_target(text, names) == target


def test_a_target_that_is_the_number_of_one_class_and_the_name_of_another_is_refused() -> None:
    with pytest.raises(TargetError, match=r"--target 1 is the number of class '10' and the name of class number 0; "):
        parse_target("1", ["1", "10", "2"])


@pytest.fixture
def damaged_bundle(families: Path, tmp_path: Path) -> Path:
    """A bundle whose weights are not those that its certificate speaks of."""
    folder = tmp_path / "families.bundle"
    convert(families, out=folder)
    weights = load_file(folder / "weights.safetensors")
    save_file({name: array * 1.01 for name, array in weights.items()}, folder / "weights.safetensors")
    return folder


def test_a_failed_proof_of_parity_has_status_3(damaged_bundle: Path, shell: Run) -> None:
    found = shell("verify", damaged_bundle, "--json")
    assert found.status == 3
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["verify", "none"], 1), (["explode"], 2)])
def test_the_statuses_reach_the_shell(arguments: list[str], status: int, shell: Run) -> None:
    found = shell(*arguments)
    assert found.status == status
    assert "Traceback" not in found.stderr
    assert bool(found.stdout) is (status == 0)


def test_a_name_that_is_not_utf_8_is_printed_as_it_is(data: Path, tmp_path: Path) -> None:
    written = tmp_path / os.fsdecode(b"caf\xe9.npz")
    code = "from torchcam_suite.cli import main; main()"
    arguments = ["features", data / "tcav_families/model.h5", data / "tcav_families/images", "-o", written]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, env=strict, timeout=300)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, os.fsencode(written))
    assert written.exists()


def test_the_console_script_is_this_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="torchcam-suite")
    assert script.load() is main
