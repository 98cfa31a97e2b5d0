"""Trace a Keras checkpoint: build the inspected architecture, load its weights, write what the torch side needs."""

import importlib
from pathlib import Path
from typing import Any

import h5py

from converters.errors import CheckpointError
from converters.inspect.hdf5_scan import listed_names, private_copy, private_member
from converters.tracing import architecture, custom, export, keras_model, reference


def trace(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the structure, the weights and the reference of a Keras checkpoint; return the facts of the trace."""
    reference.run_as_written()
    model = keras_model.with_one_output(open_model(job, folder), job["output"], job["input"])
    shape = keras_model.image_shape(model, job["input_size"])
    head = keras_model.find_head(model)
    # the reference comes first: it runs the untouched model
    original = reference.KerasOriginal(model, head)
    reference.write(original, shape, raw_pixels=job["raw_pixels"], folder=folder, weights=model.count_params())
    layers = export.write(model, shape, folder)
    last = keras_model.last_layer(model) if head is None else head.name
    return {
        "keras_package": model.__class__.__module__.split(".")[0],
        "versions": keras_model.versions(),
        "model_name": model.name,
        "input_shape": list(shape),
        "head": None if original.activation is None else {"layer": last, "activation": original.activation},
        "precision": architecture.precision(job["architecture"]),
        "layers": layers,
    }


def open_model(job: dict[str, Any], folder: Path) -> Any:
    """Build the model and set its weights; its optimizer, loss and metrics are not wanted and stay in the file.

    Architecture and weights are always read apart, also where one file holds both: so what was inspected is what
    is built, and a `.keras` archive's weights go by way of the disk rather than of the memory.

    Raises
    ------
    CheckpointError
        The Keras that belongs to the file cannot build it, or the weights do not fit the architecture.
    """
    if job["format"] == "application":
        from converters.tracing import application  # it imports Keras 3

        return application.build(job)
    keras = importlib.import_module(job["flavour"])
    vouched = custom.find(job["custom"], job["custom_folder"], keras)
    # Keras' own, which files of Keras 2 name without its module
    convnext = importlib.import_module(f"{keras.__name__}.src.applications.convnext")
    objects = {"LayerScale": convnext.LayerScale} | vouched.objects
    config = architecture.prepared(job["architecture"], vouched)
    try:
        model = _build(keras, config, objects)
        if not model.built:
            model.build((None, *job["input_shape"]))
    except Exception as error:
        name, package = Path(job["source"]).name, f"{job['flavour']} {keras.__version__}"
        raise CheckpointError(f"{package} cannot build the model of {name}: {_first_line(error)}") from error
    _load_weights(model, _weights_file(job, folder), Path(job["weights"] or job["source"]).name)
    return model


def _build(keras: Any, config: dict[str, Any], objects: dict[str, Any]) -> Any:
    if keras.__name__ == "keras" and "module" not in config:
        # a Keras 3 .h5 file keeps the form of Keras 2, which only this function of Keras 3 reads
        return importlib.import_module("keras.src.legacy.saving.saving_utils").model_from_config(config, objects)
    return keras.layers.deserialize(config, custom_objects=objects)


def _weights_file(job: dict[str, Any], folder: Path) -> Path:
    """A checked copy of the weights, under a name by whose ending Keras finds the right way to read them."""
    source = Path(job["weights"] or job["source"])
    file = folder / "model.weights.h5"
    if job["format"] == "keras":
        try:
            private_member(source, "model.weights.h5", file, job["weights_sha256"])
        except KeyError:
            raise CheckpointError(f"{source.name} holds no model.weights.h5; save it again as .keras") from None
        return file
    private_copy(source, file, job["weights_sha256"])
    with h5py.File(file, "r") as opened:
        by_layer_names = bool(listed_names(opened.get("model_weights", opened), "layer_names"))
    return file.rename(folder / "weights.h5") if by_layer_names else file


def _load_weights(model: Any, file: Path, name: str) -> None:
    order = _check_shapes(model, file, name)
    try:
        model.load_weights(str(file), **({} if order else {"by_name": True}))
    except Exception as error:
        raise CheckpointError(f"{name} does not fit the architecture: {_first_line(error)}") from error


def _check_shapes(model: Any, file: Path, name: str) -> bool:
    """Compare shapes layer by layer, to name the layer that does not fit (Keras only names positions).

    Returns
    -------
    bool
        Whether the file lists the layers in the order of the model, so that Keras can pair them by position.
    """
    with h5py.File(file, "r") as opened:
        group = opened.get("model_weights", opened)
        stored = {
            layer: sorted(group[layer][weight].shape for weight in weights)
            for layer in listed_names(group, "layer_names")
            if (weights := listed_names(group[layer], "weight_names"))
        }
    wanted = {layer.name: sorted(tuple(variable.shape) for variable in layer.weights) for layer in model.layers}
    wanted = {layer: shapes for layer, shapes in wanted.items() if shapes}
    if not stored:
        return True
    for layer, shapes in wanted.items():
        if layer in stored and stored[layer] != shapes:
            raise CheckpointError(
                f"{name} does not fit the architecture: layer {layer!r} has weights of shapes "
                f"{shapes} in the architecture and {stored[layer]} in the file"
            )
    if missing := [layer for layer in wanted if layer not in stored]:
        # paired by name, Keras would leave these as they were built
        raise CheckpointError(
            f"{name} does not fit the architecture: it holds no weights for {', '.join(map(repr, missing[:4]))}"
            f"{f' and {len(missing) - 4} more layers' if len(missing) > 4 else ''}; give the weights of this model"
        )
    return list(stored) == list(wanted)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]
