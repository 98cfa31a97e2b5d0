"""Ask others what a bundle's model computes of the stored images: ONNX Runtime, or Keras 3 on its torch backend."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from converters import confinement, errors, worker
from converters.bundle import GRAPH, PROOF, Bundle, read_structure, read_tensors
from converters.errors import CheckpointError, ParityError, TorchcamError, TracingError, UnsupportedModelError
from converters.inspect import Checkpoint, inspect
from converters.parity import ATOL, RTOL


@dataclass(frozen=True)
class SecondOpinion:
    """What another program computes of the stored images, compared with what is known of them.

    Errors are `max |theirs - known| / max |known|` of the prediction.

    Attributes
    ----------
    by : str
        The program and its version.
    images : int
        How many were compared.
    from_original : float
        Error against what the original framework computed when the bundle was made.
    from_torch : float
        Error against what the torch module computes here.
    """

    by: str
    images: int
    from_original: float
    from_torch: float

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def by_onnxruntime(bundle: Bundle) -> SecondOpinion:
    """Run the bundle's graph in ONNX Runtime, on the CPU.

    Raises
    ------
    TorchcamError
        ONNX Runtime is not installed.
    UnsupportedModelError
        It cannot run this graph.
    ParityError
        It computes something else than the original framework or the torch module.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise TorchcamError(
            f"a second opinion by onnxruntime needs ONNX Runtime, which is not installed here ({error}); "
            f"pip install 'torchcam-suite[onnxruntime]'"
        ) from error
    bundle.require_unchanged()
    read_structure(bundle.path)  # which refuses tensors that point out of the bundle
    batch = read_tensors(bundle.path / PROOF)["batch"].numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(bundle.path / GRAPH), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        rows = [session.run(None, {name: batch[i : i + 1]})[0] for i in range(len(batch))]
    except Exception as error:
        raise UnsupportedModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {bundle.path / GRAPH} ({str(error)[:300]}); "
            f"try another version of it"
        ) from error
    prediction = torch.cat([torch.from_numpy(row) for row in rows])
    return _compared(bundle, f"ONNX Runtime {onnxruntime.__version__}", prediction)


def by_keras_torch(
    bundle: Bundle, source: str | Path, weights: str | Path | None = None, *, timeout: float = worker.TIMEOUT
) -> SecondOpinion:
    """Run the checkpoint itself in Keras 3 on its torch backend, in a process of its own, on the CPU.

    Parameters
    ----------
    bundle : Bundle
        Made of that checkpoint.
    source, weights : path
        The checkpoint, as for `converters.convert`; it is inspected first, as it is there.
    timeout : float
        Seconds that the process may take.

    Raises
    ------
    CheckpointError, UnsafeCheckpointError
        The checkpoint is not the one that the bundle was made of, or cannot or must not be read.
    UnsupportedModelError
        It is of Keras 2, a graph, or has several inputs or outputs.
    TracingError
        Keras is not installed, or the process failed.
    ParityError
        It computes something else than TensorFlow did, or than the torch module does.
    """
    checkpoint = _of_keras_3(source, weights)
    made_of = bundle.manifest["source"]["sha256"]
    if checkpoint.sha256 != made_of:
        raise CheckpointError(
            f"{checkpoint.source.name} is not the checkpoint that {bundle.path.name} was made of "
            f"(SHA-256 {checkpoint.sha256[:12]}..., not {made_of[:12]}...); give that one, or convert this one"
        )
    bundle.require_unchanged()
    with tempfile.TemporaryDirectory(prefix="torchcam-suite-opinion-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(_job(checkpoint, bundle, timeout)))
        facts = _run(folder, checkpoint.source.name, timeout)
        prediction = read_tensors(folder / "opinion.safetensors")["prediction"]
    return _compared(bundle, f"Keras {facts['keras']} on torch {facts['torch']}", prediction)


def _of_keras_3(source: str | Path, weights: str | Path | None) -> Checkpoint:
    checkpoint = inspect(source, weights)
    if checkpoint.format not in {"hdf5", "json", "keras"}:
        raise UnsupportedModelError(
            f"{checkpoint.source.name} is a TensorFlow graph, which Keras on torch cannot run; ask onnxruntime"
        )
    if checkpoint.flavour != "keras":
        raise UnsupportedModelError(
            f"{checkpoint.source.name} was written by Keras {checkpoint.keras_version}, and only Keras 2 on TensorFlow "
            f"reads it as it was meant; keras-torch reads what Keras 3 wrote. Ask onnxruntime"
        )
    return checkpoint


def _job(checkpoint: Checkpoint, bundle: Bundle, timeout: float) -> dict[str, Any]:
    return worker.job(checkpoint, worker.TraceOptions()) | {
        "batch": str((bundle.path / PROOF).resolve()),
        "channels_first": checkpoint.channels_first,
        "confined": {"limits": worker.limits(checkpoint, timeout).to_json()},
    }


def _run(folder: Path, name: str, timeout: float) -> dict[str, str]:
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "converters.opinions", str(folder)]
    with (folder / "output.log").open("wb") as log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=confinement.environment(folder),
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise TracingError(f"Keras on torch took longer than {timeout:g} s for {name} and was stopped") from None
    try:
        outcome = json.loads((folder / "outcome.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        tail = (folder / "output.log").read_text(errors="replace").strip().splitlines()[-8:]
        raise TracingError(
            f"Keras on torch failed on {name} with exit status {done.returncode}. The end of its output:\n  "
            + "\n  ".join(line[:300] for line in tail)
        ) from None
    if outcome["error"] is not None:
        kind: type[TorchcamError] = getattr(errors, outcome["error"])
        raise kind(outcome["message"])
    return json.loads((folder / "facts.json").read_text())


# ---------------------------------------------------------------- comparing


def _compared(bundle: Bundle, by: str, theirs: Tensor) -> SecondOpinion:
    reference = read_tensors(bundle.path / PROOF)
    original, module = reference["prediction"], bundle.module()
    with torch.no_grad():
        ours = torch.cat([module(picture[None]) for picture in reference["batch"]])
    _require_agreement(by, theirs, "the original framework, when the bundle was made", original)
    _require_agreement(by, theirs, f"the torch module here (torch {torch.__version__})", ours)
    return SecondOpinion(by, len(theirs), _error(theirs, original), _error(theirs, ours))


def _error(theirs: Tensor, known: Tensor) -> float:
    return float((theirs - known).abs().max() / known.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _require_agreement(by: str, theirs: Tensor, whom: str, known: Tensor) -> None:
    if theirs.shape != known.shape:
        raise ParityError(f"{by} gives a prediction {tuple(theirs.shape)}, {whom}, {tuple(known.shape)}")
    bound = RTOL * known.abs() + ATOL * known.abs().max()
    if not bool(((theirs - known).abs() <= bound).all()):
        raise ParityError(
            f"{by} and {whom}, differ by {_error(theirs, known):.1e} of the maximum (allowed: {RTOL:g} of the value + "
            f"{ATOL:g} of the maximum). One of them is wrong: run torchcam-suite verify without --with, which proves "
            f"the torch module alone; if that passes, trust it, try another version of {by.split()[0]}, and report both"
        )
