"""What several test files share: the test data, one conversion cache, and the models too large to store."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from converters import worker

DATA = Path(__file__).parent / "data"

# The search for doctests imports every module. It takes conftest.py for one, of which there can be only one of a name;
# and what writes graphs in a process of its own imports TensorFlow, which must not share a process with torch.
collect_ignore_glob = ["*conftest.py", "*graphs.py"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the stored checkpoints and of what their own frameworks computed."""
    return DATA


@pytest.fixture(scope="session", autouse=True)
def conversion_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Each checkpoint is converted once in a session, and the user's own cache is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TORCHCAM_SUITE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real checkpoints of other people, which are not part of this repository."""
    folder = Path(os.environ.get("TORCHCAM_SUITE_REAL", Path(__file__).parents[2] / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real checkpoints in {folder}; TORCHCAM_SUITE_REAL names their folder")
    return folder


@pytest.fixture(scope="session")
def xception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Architecture and weights of the article's Xception; its 84 MB of weights are drawn from their recipe."""
    folder = DATA / "xception"
    weights = tmp_path_factory.mktemp("xception") / "weights.h5"
    subprocess.run([sys.executable, str(folder / "build_weights.py"), str(weights)], check=True, timeout=300)
    return folder / "model.json", weights


@pytest.fixture(scope="session")
def written_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run a script of tests/converters, which may import TensorFlow, and give the folder that it filled."""

    def run(script: str) -> Path:
        folder = tmp_path_factory.mktemp(Path(script).stem)
        command = [sys.executable, str(Path(__file__).parent / "converters" / script), str(folder)]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
        return folder

    return run


@pytest.fixture(scope="session")
def fresh(written_by: Callable[[str], Path]) -> Path:
    """A folder of checkpoints that today's Keras 3 and Keras 2 wrote."""
    return written_by("keras_checkpoints.py")


@pytest.fixture(scope="session")
def graphs(written_by: Callable[[str], Path]) -> Path:
    """A folder of frozen graphs and SavedModels, honest and malicious."""
    return written_by("graphs.py")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Matrices of a few dozen rows take longer with several threads, many times longer beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C counts, which a process in the background of a script is started to ignore."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the TensorFlow process is asked for: the answer has to come from reading alone."""

    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("the TensorFlow process was started")

    monkeypatch.setattr(worker, "trace", refuse)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORCHCAM_SUITE_CACHE", str(folder))
    return folder
