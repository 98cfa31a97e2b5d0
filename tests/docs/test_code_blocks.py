"""Every code block of README and docs runs, in the order of its page.

Pages whose blocks run a script of `scripts/` are in `test_code_blocks_of_scripts.py`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from code_blocks import PAGES, ROOT, Block, blocks_of, commands_of, runs_a_script
from page_runs import NEEDS, RUN, SHOWN, PageRun, require_run, run_page
from processes import LESS_WORK, link_clone, run_process

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [command for block in BLOCKS if block.language == "sh" for command in commands_of(block.code)]
HERE = [block for page in PAGES if not runs_a_script(page) for block in blocks_of(page) if block.language in RUN]


@pytest.mark.parametrize("block", HERE, ids=str)
def test_a_block_runs(block: Block, run_of: Callable[..., PageRun]) -> None:
    require_run(block, run_of(block.page, processes=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_that_are_not_run_are_no_code(page: Path) -> None:
    unknown = [f"{block} {block.language!r}" for block in blocks_of(page) if block.language not in RUN + SHOWN]
    assert not unknown, f"fence code as {' or '.join(RUN)}, and what is none as text"


def test_there_are_pages_with_blocks() -> None:
    assert len(PAGES) > 15
    assert sum(block.language == "python" for block in BLOCKS) > 15
    assert sum(block.language == "sh" for block in BLOCKS) > 12


def test_what_is_fenced_as_text_is_no_command() -> None:
    programs = ("torchcam-suite ", "python ", "pip ", "./")
    shown = [block for block in BLOCKS if block.language == "text"]
    assert len(shown) > 5
    assert [str(block) for block in shown if block.code.startswith(programs)] == []


def test_every_smaller_work_is_that_of_a_command_that_is_there() -> None:
    words = {word for command in COMMANDS for word, _ in command.words[:2]}
    assert set(LESS_WORK) <= words


def test_every_need_is_that_of_a_block_that_is_there() -> None:
    for page, beginning in NEEDS:
        assert [block.code.startswith(beginning) for block in BLOCKS if block.page == page].count(True) == 1


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("```python\nassert 1 == 2\n```", "AssertionError"),
        ("```python\nwrong syntax\n```", "SyntaxError"),
        ("```python\nimport warnings\nwarnings.warn('odd', stacklevel=1)\n```", "odd"),
        ("```sh\ntorchcam-suite layers nothing.bundle\n```", "nothing.bundle"),
        ("```sh\ntorchcam-suite layers --no-such-option\n```", "exit status 2"),
        ("```sh\npip install '.[nothing]'\n```", "no extra nothing"),
        ("```sh\npip install 'torchcam-suite[train]'\n```", "pip install torchcam-suite[train]"),
        ("```sh\npip uninstall .\n```", "pip uninstall"),
        ("```sh\npython scripts/nothing.py\n```", "python scripts/nothing.py"),
        ("```sh\n./scripts/nothing\n```", "./scripts/nothing"),
        ("```sh\nrm -r out\n```", "rm -r out"),
        ("```sh\ntorchcam-suite methods | head\n```", "no plain command"),
        ("```yaml\na: 1\n```", "yaml"),
        ("words\n\n    indented = 1\n", "indented"),
    ],
)
def test_a_block_that_does_not_work_fails(code: str, problem: str, tmp_path: Path) -> None:
    link_clone(tmp_path)
    page = ROOT / "docs" / "made-up.md"
    run = run_page(page, tmp_path, processes=True, text=f"{code}\n\n```python\nafter = 1\n```\n")
    (outcome,) = run.outcomes.values()
    assert problem in (outcome.problem or "")
    assert "after" not in run.names


def test_an_exit_status_can_be_expected(tmp_path: Path) -> None:
    text = "```sh\ntorchcam-suite layers nothing.bundle  # exit status 1\n```"
    (outcome,) = run_page(ROOT / "docs" / "made-up.md", tmp_path, processes=True, text=text).outcomes.values()
    assert outcome.problem is None


def test_a_script_gets_the_words_of_the_page_and_then_those_of_less_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "own.py").write_text("import sys\nprint(*sys.argv[1:])\nsys.exit(len(sys.argv) - 4)\n")
    monkeypatch.setitem(LESS_WORK, "scripts/own.py", "--points 3")
    assert run_process("python", ["scripts/own.py", "--points=900"], tmp_path, 0) == "--points=900 --points 3\n"
    with pytest.raises(AssertionError, match=r"own.py --points 3: exit status -?\d+, expected 0"):
        run_process("python", ["scripts/own.py"], tmp_path, 0)


PLAN = "-m pip install --dry-run --no-deps --no-index --no-build-isolation --quiet --report"


@pytest.mark.parametrize(
    ("command", "status", "called"),
    [
        ("pip install .", 0, PLAN),
        ("python -m pip install -e .", 0, PLAN),
        (".venv/bin/python -m pip install --upgrade pip", 0, PLAN),
        ("python other.py --option", 0, "other.py --option"),
        ("pip --quiet install .", 1, ""),
        ("pip uninstall -y torch", 1, ""),
        ("python -X dev -m pip install .", 1, ""),
        ("python -mpip install .", 1, ""),
    ],
)
def test_pip_only_plans(command: str, status: int, called: str, tmp_path: Path) -> None:
    recorder = tmp_path / "recorder"
    recorder.write_text('#!/bin/sh\necho "$@"\n')
    recorder.chmod(0o755)
    link_clone(tmp_path, str(recorder))
    program, *arguments = command.split()
    printed = run_process(program, arguments, tmp_path, status)
    assert printed.startswith(called)
    assert bool(printed) == bool(called)


def test_a_block_without_what_it_needs_is_left_out_and_those_behind_it_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NEEDS, ("docs/made-up.md", "fast"), lambda: "needs a compiler")
    text = "```python\nfast = 1 / 0\n```\n\n```python\nafter = 1\n```"
    run = run_page(ROOT / "docs" / "made-up.md", tmp_path, processes=True, text=text)
    assert [outcome.left_out for outcome in run.outcomes.values()] == ["needs a compiler", None]
    assert run.names["after"] == 1


def test_no_network_is_asked(tmp_path: Path) -> None:
    text = "```python\nfrom urllib.request import urlopen\nurlopen('https://example.org', timeout=9)\n```"
    (outcome,) = run_page(ROOT / "docs" / "made-up.md", tmp_path, processes=True, text=text).outcomes.values()
    assert "Connection refused" in (outcome.problem or "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("one two  # three", [["one", "two"]]),
        ("one \\\n  --two\n\n# three\nfour", [["one", "--two"], ["four"]]),
        ("one 'two three' \"four five\"", [["one", "two three", "four five"]]),
        ("one *.png '*.png' none*", [["one", "a.png", "b.png", "*.png", "none*"]]),
        ("one --option=a,b 2.5 a\\ b", [["one", "--option=a,b", "2.5", "a b"]]),
    ],
)
def test_commands_are_read_as_the_shell_reads_them(code: str, words: list[list[str]], tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).touch()
    assert [command.arguments(tmp_path) for command in commands_of(code)] == words


@pytest.mark.parametrize("code", ["one | two", "one > two", "one; two", "one $TWO", "one 'two", "one && two"])
def test_what_is_no_plain_command_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"plain command|open quote"):
        commands_of(code)
