"""Trace checkpoints: `python -m converters.tracing FOLDER...`, each with a `job.json`.

Into the folder of a job go `structure.onnx`, `weights.safetensors`, `reference.safetensors` and `facts.json`. The
outcome is told by `outcome.json`: `{"error": null}`, or the error's class and text.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from converters.confinement import Limits, leave_network
from converters.errors import TorchcamError, TracingError


def main() -> int:
    """Run the jobs whose folders are the arguments, one after the other; 0 if all went well."""
    return max(_run(Path(folder)) for folder in sys.argv[1:])


def _run(folder: Path) -> int:
    job = json.loads((folder / "job.json").read_text())
    isolated = _confine(job.get("confined"))
    try:
        facts = trace(job, folder) | {"without_network": isolated}
        (folder / "facts.json").write_text(json.dumps(facts))
        outcome: dict[str, str | None] = {"error": None}
    except TorchcamError as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    return 0 if outcome["error"] is None else 3


def _confine(confined: dict[str, Any] | None) -> bool:
    """Give up the network and set the limits that a job brings; whether the network is gone. Threads come later."""
    if confined is None:
        return False
    isolated = not confined["network"] and leave_network()
    Limits(**confined["limits"]).apply()
    return isolated


def trace(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the structure, the weights and the reference of a job into `folder`; return the facts of the trace."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the reference is computed on the CPU, where it is reproducible
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # oneDNN's memory pool stays resident (0.5 GB for VGG16), and its sums depend on the number of threads
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if job["flavour"] == "tf_keras":
        # so that custom layers written for tensorflow.keras are of the Keras that builds the model
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    front = "frozen" if job["format"] in {"frozen", "savedmodel"} else "checkpoint"
    try:
        module = importlib.import_module(f"converters.tracing.{front}")
    except ImportError as error:
        raise TracingError(
            f"reading a Keras checkpoint needs TensorFlow, which is not installed here ({error}); "
            f"pip install 'torchcam-suite[keras]'. A bundle that was converted elsewhere needs none of it"
        ) from error
    return module.trace(job, folder)


if __name__ == "__main__":
    sys.exit(main())
