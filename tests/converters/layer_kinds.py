"""Write and trace a checkpoint of each layer kind: `python layer_kinds.py PACKAGE FOLDER [WORDS...]`.

Started as a process of its own for each Keras package, because TensorFlow and torch do not live in one. Each kind of
`layer_table` gets a folder: the checkpoint, `expected.npz` (images `x` (N, H, W, C), Keras' predictions `y` and the
shape of each layer's output), and what `converters.tracing` makes of it. WORDS choose the kinds that hold one of them.
"""

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from layer_kind import STEM, Kind
from layer_table import KINDS

from converters import worker
from converters.errors import TorchcamError
from converters.inspect import Checkpoint, inspect
from converters.tracing import __main__ as tracing


def main() -> None:
    """Write and trace the kinds of the package and into the folder that are the arguments."""
    package, folder, *words = sys.argv[1:]
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"}
    keras = importlib.import_module(package)
    folders = [
        write(keras, number, kind, Path(folder))
        for number, kind in enumerate(KINDS)
        if package in kind.packages and (not words or any(word in kind.name for word in words))
    ]
    for path in folders:
        trace(path)


def folder_of(folder: Path, package: str, number: int) -> Path:
    """Where the kind of that number in the table is written."""
    return folder / f"{package}_{number}"


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint that was written there."""
    return next(path for path in folder.iterdir() if path.suffix in {".h5", ".keras"} and path.stem == "model")


def read_checkpoint(folder: Path) -> Checkpoint:
    """What the inspection of the checkpoint found, without inspecting it again."""
    fields = json.loads((folder / "checkpoint.json").read_text())
    paths = {name: None if fields[name] is None else Path(fields[name]) for name in ("source", "weights")}
    return Checkpoint(**fields | paths | {"input_shape": tuple(fields["input_shape"])})


def write(keras: Any, number: int, kind: Kind, folder: Path) -> Path:
    """Write one kind's checkpoint and the expected numbers."""
    folder = folder_of(folder, keras.__name__, number)
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(number)
    model = kind.build(keras) if kind.whole else classifier(keras, kind)
    randomise(model)
    checkpoint = folder / ("model.keras" if keras.__name__ == "keras" else "model.h5")
    model.save(checkpoint)
    # Normalization computes with what it made of its weights when they were loaded
    model = keras.models.load_model(checkpoint, compile=False)
    shape = model.inputs[0].shape[1:]
    x = np.random.default_rng(1).uniform(0, 1, (5, *shape)).astype("float32")
    np.savez(folder / "expected.npz", x=x, y=predictions(keras, kind, model, x))
    shapes = {layer.name: list(layer.output.shape[1:]) for layer in model.layers[1:] if has_a_tap(layer)}
    (folder / "shapes.json").write_text(json.dumps(shapes))
    return folder


def trace(folder: Path) -> None:
    """Inspect and trace the checkpoint of one kind; `outcome.json` tells of an error, as the worker's does."""
    outcome: dict[str, str | None] = {"error": None}
    try:
        checkpoint = inspect(checkpoint_in(folder))
        (folder / "checkpoint.json").write_text(json.dumps(asdict(checkpoint), default=str))
        facts = tracing.trace(worker.job(checkpoint, worker.TraceOptions()), folder)
        (folder / "facts.json").write_text(json.dumps(facts))
    except TorchcamError as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    (folder / "outcome.json").write_text(json.dumps(outcome))


def classifier(keras: Any, kind: Kind) -> Any:
    """A convolution, the kind, and a dense softmax that sees every value of the kind's output apart."""
    images = keras.Input((9, 10, 3))
    maps = kind.build(keras, keras.layers.Conv2D(STEM, 3, padding="same", name="stem")(images))
    flat = maps if len(maps.shape) == 2 else keras.layers.Flatten(name="flat")(maps)
    return keras.Model(images, keras.layers.Dense(3, activation="softmax", name="head")(flat))


def has_a_tap(layer: Any) -> bool:
    """Whether the layer was called once, gives one output, and is no function of Keras 2, which may have no tap."""
    once = len(layer._inbound_nodes) == 1 and not isinstance(layer.output, list)
    return once and type(layer).__name__ not in {"TFOpLambda", "SlicingOpLambda"}


def randomise(model: Any) -> None:
    """Give every weight a value of its own, the statistics of BatchNormalization included."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if "float" not in str(variable.dtype):
            continue
        values = random.normal(0, 0.3, tuple(variable.shape))
        if "kernel" in variable.name:
            values *= 3 / np.sqrt(np.prod(variable.shape[:-1]))  # or the last softmax is all zeros and ones
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)


def predictions(keras: Any, kind: Kind, model: Any, x: np.ndarray) -> np.ndarray:
    """What Keras computes of the images, of the twin with the same weights if there is one."""
    if kind.twin is not None:
        twin = kind.twin(keras)
        twin.set_weights(model.get_weights())
        model, x = twin, x.transpose(0, 2, 3, 1)
    return np.asarray(model(x, training=False), np.float32)


if __name__ == "__main__":
    main()
