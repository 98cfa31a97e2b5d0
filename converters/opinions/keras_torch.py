"""Build an inspected Keras 3 checkpoint on torch, and run the stored images through it."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import torch
from keras.src.legacy.saving import saving_utils
from safetensors.torch import load_file, save_file

from converters.errors import CheckpointError, UnsupportedModelError
from converters.inspect.hdf5_scan import private_copy, private_member
from converters.tracing import architecture
from converters.tracing.custom import Vouched


def predict(job: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write `opinion.safetensors` with the prediction (N, K) of the job's images; return the versions."""
    model = _open(job, folder)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedModelError(
            f"keras-torch runs models with one input and one output, this one has {len(model.inputs)} and "
            f"{len(model.outputs)}; ask onnxruntime, which runs the graph that was chosen"
        )
    batch = load_file(job["batch"])["batch"]
    images = batch if job["channels_first"] else batch.permute(0, 2, 3, 1).contiguous()
    with torch.no_grad():
        # one at a time: a large model needs the memory of one
        rows = [torch.as_tensor(model(images[i : i + 1], training=False)) for i in range(len(images))]
    save_file({"prediction": torch.cat(rows).float().contiguous()}, folder / "opinion.safetensors")
    return {"keras": keras.__version__, "torch": torch.__version__}


def _open(job: dict[str, Any], folder: Path) -> Any:
    name = Path(job["weights"] or job["source"]).name
    config = architecture.prepared(job["architecture"], Vouched({}, {}))
    weights = _weights(job, folder)
    try:
        model = saving_utils.model_from_config(config) if "module" not in config else keras.layers.deserialize(config)
        if not model.built:
            model.build((None, *job["input_shape"]))
        model.load_weights(str(weights))
    except Exception as error:
        if isinstance(error, KeyError) and "parameter name can" in str(error):
            raise UnsupportedModelError(
                f"{Path(job['source']).name} has a layer with a dot in its name, which Keras {keras.__version__} on "
                f"torch does not take; ask onnxruntime"
            ) from error
        raise CheckpointError(
            f"Keras {keras.__version__} on torch cannot open {name}: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    return model


def _weights(job: dict[str, Any], folder: Path) -> Path:
    """A checked copy, under a name by whose ending Keras finds the right way to read it."""
    source = Path(job["weights"] or job["source"])
    if job["format"] == "keras":
        file = folder / "model.weights.h5"
        try:
            private_member(source, "model.weights.h5", file, job["weights_sha256"])
        except (KeyError, zipfile.BadZipFile):
            raise CheckpointError(f"{source.name} holds no model.weights.h5; save it again as .keras") from None
        return file
    file = folder / ("weights.h5" if job["format"] == "hdf5" else "model.weights.h5")
    private_copy(source, file, job["weights_sha256"])
    return file
