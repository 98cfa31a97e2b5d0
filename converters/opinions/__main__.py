"""Run a checkpoint in Keras 3 on its torch backend: `python -m converters.opinions FOLDER`, with a `job.json`.

The job is that of a trace, with `batch`, the file that holds the images. Into the folder go `opinion.safetensors`
with the `prediction`, `facts.json` with the versions, and `outcome.json`: `{"error": null}`, or its class and text.
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
    """Run the job of the folder that is the argument; 0 if all went well."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    leave_network()
    Limits(**job["confined"]["limits"]).apply()
    try:
        (folder / "facts.json").write_text(json.dumps(_predict(job, folder)))
        outcome: dict[str, str | None] = {"error": None}
    except TorchcamError as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    return 0 if outcome["error"] is None else 3


def _predict(job: dict[str, Any], folder: Path) -> dict[str, str]:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["KERAS_BACKEND"] = "torch"
    try:
        keras_torch = importlib.import_module("converters.opinions.keras_torch")
    except ImportError as error:
        raise TracingError(
            f"a second opinion by keras-torch needs Keras 3, which is not installed here ({error}); pip install keras"
        ) from error
    return keras_torch.predict(job, folder)


if __name__ == "__main__":
    sys.exit(main())
