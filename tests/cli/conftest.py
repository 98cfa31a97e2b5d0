"""The command line as a shell sees it: status, stdout, stderr."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Ran, Run

from torchcam_suite.cli import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process, in a terminal of 80 columns without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def run_it(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["torchcam-suite", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return Ran(int(caught.value.code or 0), *capfd.readouterr())

    return run_it


@pytest.fixture
def shell() -> Run:
    """Run the command line in a process of its own."""

    def run_it(*arguments: object) -> Ran:
        code = "from torchcam_suite.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        return Ran(done.returncode, done.stdout, done.stderr)

    return run_it


@pytest.fixture
def families(data: Path) -> Path:
    """A Keras checkpoint of three classes, 3 x 64 x 64."""
    return data / "tcav_families/model.h5"


@pytest.fixture
def pictures(data: Path) -> list[Path]:
    """Pictures of its classes."""
    return sorted((data / "tcav_families/images").glob("*.png"))
