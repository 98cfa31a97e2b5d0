"""Read an HDF5 checkpoint by way of a small process with limits; see `hdf5_scan` for what it does."""

import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from converters import confinement, errors
from converters.errors import CheckpointError, TorchcamError

TIMEOUT = 120.0  # seconds; reading takes 0.3


@dataclass(frozen=True)
class Hdf5Facts:
    """What an HDF5 file holds.

    Attributes
    ----------
    model_config, keras_version : str or None
        As the file says.
    layers : tuple of (name, names of its weights)
        In the order of the file; None where a listed layer is not there. Empty in the layout of Keras 3.
    layers_of_keras_3 : tuple of str or None
        Names of the layers with weights, nested models opened, in the layout of Keras 3; None in the older one.
    values : int
        Number of values in all its datasets.
    """

    model_config: str | None
    keras_version: str | None
    layers: tuple[tuple[str, tuple[str, ...] | None], ...]
    layers_of_keras_3: tuple[str, ...] | None
    values: int


def read(path: Path, member: str | None = None) -> Hdf5Facts:
    """Check an HDF5 file, or one inside a zip archive, and tell what it holds.

    Raises
    ------
    CheckpointError
        Damaged, or so made that reading it crashes or does not end.
    UnsafeCheckpointError
        It refers to other files, or declares more than it holds.
    """
    where = path.name if member is None else f"{member} of {path.name}"
    # -P: the current folder may be that of a downloaded checkpoint, with an h5py.py of its own
    command = [sys.executable, "-P", "-m", "converters.inspect.hdf5_scan", str(path.resolve())]
    with tempfile.TemporaryDirectory(prefix="torchcam-suite-scan-") as folder:
        environment = confinement.environment(Path(folder)) | {"OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command + ([] if member is None else [member]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=folder,
                env=environment,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CheckpointError(f"{where} is a damaged HDF5 file (reading it does not end); get it again") from None
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise CheckpointError(
            f"{where} is a damaged HDF5 file (reading it {_how_it_ended(done.returncode)}); get it again"
        ) from None
    if result["error"] is not None:
        kind: type[TorchcamError] = getattr(errors, result["error"])
        raise kind(result["message"])
    facts = result["facts"]
    layers = tuple((name, None if weights is None else tuple(weights)) for name, weights in facts["layers"])
    keras_3 = facts["layers_of_keras_3"]
    return Hdf5Facts(
        facts["model_config"],
        facts["keras_version"],
        layers,
        None if keras_3 is None else tuple(keras_3),
        result["values"],
    )


def _how_it_ended(code: int) -> str:
    # a process without a Python traceback to read: what is left to say is how it died
    return f"crashed with {signal.Signals(-code).name}" if code < 0 else f"failed with exit status {code}"
