"""Commands of a page that need a process of their own: `pip`, `python scripts/...`, and `./scripts/...`.

They are run with the words of the page, and behind them those of `LESS_WORK`, in a folder that looks like a clone: the
files of the repository are links, and in front of PATH there is a `.venv/bin` whose Python is the one of the tests, but
lets pip only plan what it would install.
"""

import importlib.util
import json
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from code_blocks import ROOT

SMALL: dict[str, str] = runpy.run_path(str(ROOT / "tests" / "scripts" / "article_sizes.py"))["SMALL"]

# What stands behind the page's words so that a command ends in seconds; of an option the last value counts. The model
# of the benchmarks is a small one, and in the place of ResNet50, whose weights would be downloaded, stands another.
LESS_WORK = {
    "./scripts/demo": "",
    "./scripts/test": "tests/test_layers.py",
    "scripts/bench_cam.py": "--model squeezenet1_1 --size 32 --grad-batch 1 --repeats 1",
    "scripts/bench_embed.py": "--points 120 --features 70 --rounds 1",
    "scripts/bench_features.py": "--model squeezenet1_1 --images 2 --batch 2 --size 64 --picture 64 64 --repeats 1",
    "scripts/bench_tcav.py": "--quick --no-memory --no-passes --rounds 1",
    **{f"scripts/articles/{name}.py": small for name, small in SMALL.items()},
    "scripts/articles/imagenet_resnet50.py": "--weights model.bundle --explained 2",
}

_LINKED = ("LICENSE", "README.md", "converters", "pyproject.toml", "scripts", "setup.cfg", "tests", "torchcam_suite")
_PYTHON = """#!/bin/sh
# nothing is installed: pip plans it, and notes the plan; anything else that could be pip is refused
case "$*" in
  "-m pip install "*)
    shift 3
    set -- -m pip install --dry-run --no-deps --no-index --no-build-isolation --quiet --report "{plans}/$$.json" "$@" ;;
  *pip*)
    echo "refused, as it may install something: python $*" >&2
    exit 1 ;;
esac
exec {python} "$@"
"""
_PIP = """#!/bin/sh
exec "{bin}/python" -m pip "$@"
"""
_COMMAND = """#!/bin/sh
exec {python} -c 'from torchcam_suite.cli import main; main()' "$@"
"""


class LeftOutError(Exception):
    """What a command or a block needs is not on this machine."""


def link_clone(folder: Path, python: str = sys.executable) -> None:
    """Make a folder look like a clone of the repository, whose `.venv` leads to a Python but can install nothing."""
    for name in _LINKED:
        (folder / name).symlink_to(ROOT / name)
    programs, plans = folder / ".venv" / "bin", folder / ".venv" / "plans"
    programs.mkdir(parents=True)
    plans.mkdir()
    for name, text in (("python", _PYTHON), ("pip", _PIP), ("torchcam-suite", _COMMAND)):
        (programs / name).write_text(text.format(python=shlex.quote(python), bin=programs, plans=plans))
        (programs / name).chmod(0o755)


def has_less_work(program: str, arguments: Sequence[str]) -> bool:
    """Whether `LESS_WORK` has a line for a command."""
    return _name(program, arguments) in LESS_WORK


def run_process(program: str, arguments: Sequence[str], folder: Path, status: int) -> str:
    """Run a command in a folder that `link_clone` prepared.

    Returns
    -------
    str
        What it printed.

    Raises
    ------
    LeftOutError
        It would install something, and there is nothing to plan that with.
    AssertionError
        It ended with another exit status than `status`, or asked for extras that are not there.
    """
    if program in ("pip", "./scripts/demo", "./scripts/test") and importlib.util.find_spec("setuptools") is None:
        raise LeftOutError("what pip would install is planned by setuptools, which is not installed")
    words = [program, *arguments, *LESS_WORK.get(_name(program, arguments), "").split()]
    done = subprocess.run(
        words, cwd=folder, env=_environment(folder), capture_output=True, text=True, timeout=300, check=False
    )
    said = f"{shlex.join(words)}: exit status {done.returncode}, expected {status}"
    assert done.returncode == status, f"{said}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    _require_extras(folder)
    return done.stdout


def _name(program: str, arguments: Sequence[str]) -> str:
    return arguments[0] if program == "python" and arguments else program


def _environment(folder: Path) -> dict[str, str]:
    """That of the tests, but for what pytest notes there for itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # once more, for a pip that is found in another way than by this PATH
    only_planned = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1"} | only_planned


def _require_extras(folder: Path) -> None:
    """What pip would install has the extras that it was asked for; pip itself only warns."""
    for file in (folder / ".venv" / "plans").glob("*.json"):
        for planned in json.loads(file.read_text(encoding="utf-8"))["install"]:
            unknown = set(planned.get("requested_extras", ())) - set(planned["metadata"].get("provides_extra", ()))
            assert not unknown, f"setup.cfg has no extra {', '.join(sorted(unknown))}"
        file.unlink()
