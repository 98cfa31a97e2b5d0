"""Trace one checkpoint: read the job, write the ONNX structure, the weights and the reference.

The outcome is told by `outcome.json` in the job's folder: `{"error": null}`, or the error's class and text.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from converters.errors import TorchcamError, TracingError


def main() -> int:
    """Run the job whose folder is the first argument."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    try:
        _trace(job, folder)
        outcome: dict[str, str | None] = {"error": None}
    except TorchcamError as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    return 0 if outcome["error"] is None else 3


def _trace(job: dict[str, Any], folder: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the reference is computed on the CPU, where it is reproducible
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # oneDNN's memory pool stays resident (0.5 GB for VGG16), and its sums depend on the number of threads
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        from converters.tracing import export, keras_model, reference
    except ImportError as error:
        raise TracingError(
            f"reading a Keras checkpoint needs TensorFlow, which is not installed here ({error}); "
            f"pip install 'torchcam-suite[keras]'. A bundle that was converted elsewhere needs none of it"
        ) from error

    model = keras_model.open_model(job)
    shape = keras_model.image_shape(model, job["input_size"])
    head = keras_model.find_head(model)
    # the reference comes first: it runs the untouched model in eager mode
    reference.write(model, shape, head, raw_pixels=job["raw_pixels"], folder=folder)
    layers = export.write(model, shape, folder)
    facts = {
        "keras_package": model.__class__.__module__.split(".")[0],
        "versions": keras_model.versions(),
        "model_name": model.name,
        "input_shape": list(shape),
        "head": None if head is None else {"layer": head.name, "activation": head.activation},
        "layers": layers,
    }
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    sys.exit(main())
