"""Run the code blocks of a page, one after the other, in a folder with what the pages name."""

import io
import os
import shutil
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from code_blocks import Block, Command, blocks_of, commands_of
from original_sets import in_place_of_a_download
from processes import LeftOutError, has_less_work, run_process

from torchcam_suite.cam import METHODS
from torchcam_suite.cli import main
from torchcam_suite.errors import AssumptionWarning, ConceptWarning, ZeroMapWarning

RUN = ("python", "sh")
# Sphinx itself checks its directives
SHOWN = ("text", "json", "csv", "{toctree}", "{eval-rst}")
# What torchvision calls to fetch a data set
DOWNLOADS = ("torchvision.datasets.mnist", "torchvision.datasets.utils")


def why_not_compiled() -> str | None:
    """Why torch.compile cannot work on this machine."""
    if shutil.which("g++") is None:
        return "torch.compile needs g++ on a CPU, and there is none"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"torch.compile needs {header}, which is not there"


# What a block needs that a machine may lack: page and beginning of the block to what says why it cannot run
NEEDS: dict[tuple[str, str], Callable[[], str | None]] = {
    ("docs/speed.md", 'explain(model, images, method="scorecam", compile=True)'): why_not_compiled,
}


class NotCoveredError(Exception):
    """A block that nothing here can run."""


@dataclass
class Outcome:
    """What came of a block.

    Attributes
    ----------
    printed : str
        On stdout, but for what processes of their own print.
    problem : str or None
        Why it failed, as a traceback.
    left_out : str or None
        Why it, or a command of it, cannot be run on this machine.
    """

    printed: str = ""
    problem: str | None = None
    left_out: str | None = None


@dataclass
class PageRun:
    """A page that was run.

    Attributes
    ----------
    folder : Path
        Where; what the examples wrote is there.
    processes : bool
        Whether commands that need a process of their own were run too.
    names : dict of str to object
        What the examples in Python left.
    outcomes : dict of Block to Outcome
    """

    folder: Path
    processes: bool
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    outcomes: dict[Block, Outcome] = field(default_factory=dict)

    def printed(self, language: str) -> str:
        """What the blocks of a language printed, one after the other."""
        self.require()
        return "".join(outcome.printed for block, outcome in self.outcomes.items() if block.language == language)

    def require(self) -> None:
        """Raise what went wrong."""
        for block, outcome in self.outcomes.items():
            if outcome.problem is not None:
                raise AssertionError(f"{block}\n{outcome.problem}")


def run_page(page: Path, folder: Path, *, processes: bool, text: str | None = None) -> PageRun:
    """Run the blocks of a page until one fails.

    Parameters
    ----------
    page : Path
        The page.
    folder : Path
        The current folder of the blocks.
    processes : bool
        Run commands that need a process of their own too: pip and the scripts.
    text : str, optional
        In place of what the page has.
    """
    run = PageRun(folder, processes)
    with _surroundings(folder):
        for block in blocks_of(page, text):
            outcome = run.outcomes[block] = Outcome()
            printed = io.StringIO()
            try:
                with redirect_stdout(printed), redirect_stderr(io.StringIO()):
                    _run_block(block, run)
            except LeftOutError as reason:
                outcome.left_out = str(reason)
            except (Exception, SystemExit):
                outcome.problem = traceback.format_exc()
                break
            finally:
                outcome.printed = printed.getvalue()
    return run


def require_run(block: Block, run: PageRun) -> None:
    """Fail the test of a block, or skip it, with what the run of its page says of it."""
    if block not in run.outcomes:
        pytest.fail(f"{next(reversed(run.outcomes))} failed before it")
    outcome = run.outcomes[block]
    if outcome.problem is not None:
        pytest.fail(f"{block}\n{outcome.problem}", pytrace=False)
    if outcome.left_out is not None:
        pytest.skip(outcome.left_out)


# A terminal of 80 columns; a network that is refused at once; and a compiler that starts no processes of its own, which
# take longer to start than the small models of the pages to compile
_NOWHERE = "http://127.0.0.1:9"
_ENVIRONMENT = {
    "COLUMNS": "80",
    "http_proxy": _NOWHERE,
    "https_proxy": _NOWHERE,
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}


@contextmanager
def _surroundings(folder: Path) -> Iterator[None]:
    """What blocks see; nothing that they change stays. Warnings of ours, which small data deserve, are let through."""
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        stack.enter_context(mock.patch.dict(METHODS))
        stack.enter_context(mock.patch.dict(os.environ, _ENVIRONMENT))
        for module in DOWNLOADS:
            stack.enter_context(mock.patch(f"{module}.download_and_extract_archive", in_place_of_a_download))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        for category in (ZeroMapWarning, AssumptionWarning, ConceptWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", message="perplexity")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="onnx2torch")
        # torch 2.11 imports a module of its own that it calls deprecated
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _run_block(block: Block, run: PageRun) -> None:
    for (page, beginning), reason in NEEDS.items():
        if block.page == page and block.code.startswith(beginning) and (why := reason()) is not None:
            raise LeftOutError(why)
    if block.language == "python":
        torch.manual_seed(0)
        # empty lines before it, so that a traceback has the page's line numbers
        exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec"), run.names)  # noqa: S102 - our own pages
    elif block.language == "sh":
        for command in commands_of(block.code):
            _run_command(command, run)
    elif block.language not in SHOWN:
        known = ", ".join((*RUN, *SHOWN))
        raise NotCoveredError(f"a block of the language {block.language!r}; expected one of {known}")


def _run_command(command: Command, run: PageRun) -> None:
    program, *arguments = command.arguments(run.folder)
    if program == "torchcam-suite":
        status, said = _run_ours(arguments)
        assert status == command.status, f"exit status {status}, expected {command.status}: {said}"
    elif not (has_less_work(program, arguments) or _installs_ours(program, arguments)):
        raise NotCoveredError(f"{program} {' '.join(arguments)}")
    elif run.processes:
        run_process(program, arguments, run.folder, command.status)


def _installs_ours(program: str, arguments: Sequence[str]) -> bool:
    """Whether it is `pip install` of the clone; no package index has this package."""
    return program == "pip" and arguments[:1] == ["install"] and all(what[:2] in (".", ".[") for what in arguments[1:])


def _run_ours(arguments: list[str]) -> tuple[int, str]:
    """Run our own command in this process, since the imports of a new one take as long as most commands.

    Gives the exit status, and what was said on stderr.
    """
    said = io.StringIO()
    with mock.patch.object(sys, "argv", ["torchcam-suite", *arguments]), redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()
