"""Start the tracing process and turn whatever happens to it into an answer or a clear error."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters import errors
from converters.errors import TorchcamError, TracingError
from converters.inspect import Checkpoint

TIMEOUT = 900.0  # seconds; ResNet50 takes about 20


def trace(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    input_size: tuple[int, int] | None,
    timeout: float = TIMEOUT,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Trace a checkpoint in a process of its own, into `folder`; call `meanwhile` while TensorFlow starts.

    Returns
    -------
    dict
        The facts of the trace (layers, head, versions). The folder then holds `structure.onnx`,
        `weights.safetensors` and `reference.safetensors`.

    Raises
    ------
    TorchcamError
        What the process found wrong with the checkpoint, in its own words.
    TracingError
        The process crashed, was killed, ran out of memory or out of time; with the tail of its output.
    """
    job = {
        "source": str(checkpoint.source.resolve()),
        "weights": None if checkpoint.weights is None else str(checkpoint.weights.resolve()),
        "format": checkpoint.format,
        "flavour": checkpoint.flavour,
        "input_shape": list(checkpoint.input_shape),
        "input_size": None if input_size is None else list(input_size),
        "raw_pixels": checkpoint.takes_raw_pixels,
    }
    (folder / "job.json").write_text(json.dumps(job))
    # -P: the current folder may be that of a downloaded checkpoint, with a tensorflow.py of its own
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "converters.tracing", str(folder)]
    _run(command, folder, timeout, checkpoint.source.name, meanwhile)
    return json.loads((folder / "facts.json").read_text())


def _run(command: list[str], folder: Path, timeout: float, name: str, meanwhile: Callable[[], None]) -> None:
    log = folder / "trace.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            meanwhile()
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TracingError(
                f"tracing {name} took longer than {timeout:g} s and was stopped; allow it more, by timeout= or "
                f"torchcam-suite convert --timeout. {_tail(log)}"
            ) from None
        finally:
            # also on KeyboardInterrupt: the process never outlives the call
            process.kill()
            process.wait()
    outcome = _outcome(folder)
    if outcome is None or (code != 0 and outcome["error"] is None):
        raise TracingError(f"tracing {name} failed: the TensorFlow process {_how_it_ended(code)}. {_tail(log)}")
    if outcome["error"] is not None:
        kind: type[TorchcamError] = getattr(errors, outcome["error"])
        raise kind(outcome["message"])


def _outcome(folder: Path) -> dict[str, Any] | None:
    """What the process says about itself; None if it ended before it could, or while it wrote."""
    try:
        return json.loads((folder / "outcome.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed by the system, most likely for want of memory"
    if code < 0:
        return f"crashed with {signal.Signals(-code).name}"
    return f"ended with exit status {code} and gave no result"


def _tail(log: Path, lines: int = 20) -> str:
    text = [line[:300] for line in log.read_text(errors="replace").strip().splitlines()[-lines:]]
    return "It printed nothing." if not text else "The end of its output:\n  " + "\n  ".join(text)
