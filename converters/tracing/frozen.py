"""Trace a frozen graph or a SavedModel: write what the torch side needs, as for a Keras checkpoint.

The graph is read once more here, and checked once more: what was inspected is what runs. Nothing is restored or
initialised by the model's own ops; see `converters.tracing.variables`.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from converters import weights_file
from converters.errors import UnsupportedModelError
from converters.tracing import export, keras_model, reference
from converters.tracing.flat_graph import flatten, full_name
from converters.tracing.free_batch import free_batch
from converters.tracing.graph_original import GraphOriginal, Session, Untouched
from converters.tracing.graph_source import Source, import_graph, open_source
from converters.tracing.grouped import without_groups
from converters.tracing.inference_graph import drop_unread, feed_images, set_weights_apart
from converters.tracing.scopes import Boundary, layer_boundaries

_HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_SHAPE_ONLY = frozenset({"Identity", "Reshape", "Squeeze"})


def trace(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the structure, the weights and the reference of a graph; return the facts of the trace.

    Raises
    ------
    TorchcamError
        The graph is unsafe, damaged, or nothing that can be converted; input or output cannot be told.
    """
    source = open_source(job)
    shape = _image_shape(source, job["input_size"])
    flat, (output, images) = flatten(source.graph, [source.output, source.input])
    free_batch(flat, images)
    feed_images(flat, images, shape)
    drop_unread(flat, output)
    named = list(flat.node)  # before the variables lose their ops: their names tell whose layers these are
    flat, weights = set_weights_apart(flat, source.variables)
    graph = without_groups(flat)
    _require_classes(graph.get_tensor_by_name(output))
    head, output = _find_head(graph, output)
    boundaries = layer_boundaries(named, output, _candidates(graph))
    untouched = Untouched(source)
    batch = reference.reference_batch(shape, job["raw_pixels"])
    shapes = _run_batch(untouched, graph, weights, output, boundaries, batch)
    boundaries = [boundary for boundary in boundaries if shapes[boundary.tensor][0] == len(batch)]
    sizes = {boundary: math.prod(shapes[boundary.tensor][1:]) for boundary in boundaries}
    if not boundaries:
        raise UnsupportedModelError("the graph holds no layer between its input and its output")
    logits = output if head is None else head.inputs[0].name
    original = GraphOriginal(untouched, graph, weights, sizes, logits)
    reference.write(original, shape, raw_pixels=job["raw_pixels"], folder=folder)
    proto = export.to_onnx(_with_taps(flat, boundaries, graph.get_tensor_by_name(output)), list(weights))
    weights_file.write(weights, folder / "weights.safetensors")
    onnx.save(proto, folder / "structure.onnx")
    return {
        "keras_package": "",
        "versions": keras_model.versions(),
        "model_name": source.name,
        "input_shape": list(shape),
        "head": _head_facts(head, boundaries),
        "precision": "float32",
        "layers": [
            {
                "name": boundary.layer,
                "call": boundary.call,
                "class": boundary.class_name,
                "shape": [None, *shapes[boundary.tensor][1:]],
            }
            for boundary in boundaries
        ],
    }


def _image_shape(source: Source, input_size: list[int] | None) -> tuple[int, int, int]:
    """(height, width, channels) of the input, its free sizes taken from `input_size`."""
    shape = import_graph(source.graph).get_tensor_by_name(source.input).shape
    height, width, channels = shape.as_list()[1:] if shape.rank == 4 else (None, None, None)
    if shape.rank not in (None, 4) or (shape.rank == 4 and channels is None):
        raise UnsupportedModelError(
            f"input {source.input!r} has shape {shape}; expected pictures: [images, height, width, channels]"
        )
    # a graph that does not say is fed with colours
    return *keras_model.picture_size(height, width, input_size), int(channels or 3)


def _require_classes(output: Any) -> None:
    if output.shape.rank != 2 or output.shape[1] is None or not output.dtype.is_floating:
        raise UnsupportedModelError(
            f"output {output.name!r} has shape {output.shape} of {output.dtype.name}; expected (images, classes) of "
            f"floats. Name another: output=..., on the command line --output NAME"
        )
    if output.shape[0] is not None:
        raise UnsupportedModelError(
            f"the graph works on {output.shape[0]} pictures at a time, and it does not show how to free it of that "
            f"(output {output.name!r}); save it again with a batch of None"
        )


def _candidates(graph: Any) -> dict[str, int]:
    """The float tensors with one row for each picture that are computed from the pictures, with their axes."""
    reached = {"images"}
    found = {}
    for operation in graph.get_operations():
        if not any(tensor.op.name in reached for tensor in operation.inputs):
            continue
        reached.add(operation.name)
        for tensor in operation.outputs:
            axes = tensor.shape.rank or 0
            if tensor.dtype == tf.float32 and axes >= 2 and tensor.shape[0] is None:
                found[tensor.name] = axes
    return found


def _find_head(graph: Any, output: str) -> tuple[Any | None, str]:
    """The softmax or sigmoid (a tf.Operation) that the graph ends in, and the output without what only reshapes it.

    As in Keras, the head may work on maps of one pixel, (N, 1, 1, classes), which a Reshape then makes rows.
    """
    end = graph.get_tensor_by_name(output)
    last = end.op
    while last.type in _SHAPE_ONLY:
        last = last.inputs[0].op
    if last.type not in _HEADS:
        return None, output
    logits = last.inputs[0]
    if logits.shape.rank is None or _sizes(logits) != _sizes(end):
        return None, output
    return last, last.outputs[0].name if logits.shape.rank == 2 else output


def _sizes(tensor: Any) -> list[int | None]:
    return [size for size in tensor.shape[1:] if size != 1]


def _head_facts(head: Any | None, boundaries: list[Boundary]) -> dict[str, str] | None:
    if head is None:
        return None
    layers = (found.layer for found in boundaries if found.tensor == head.outputs[0].name)
    return {"layer": next(layers, head.name), "activation": _HEADS[head.type]}


def _run_batch(
    untouched: Untouched,
    graph: Any,
    weights: dict[str, np.ndarray],
    output: str,
    boundaries: list[Boundary],
    batch: np.ndarray,
) -> dict[str, list[int]]:
    """Require that the flat graph gives for several pictures what the untouched one gives for each alone.

    Returns
    -------
    dict
        The shape of each boundary's tensor.
    """
    theirs = np.concatenate([untouched.predict(batch[i : i + 1]) for i in range(len(batch))])
    with graph.as_default():
        shapes = {found.tensor: tf.shape(graph.get_tensor_by_name(found.tensor)) for found in boundaries}
    try:
        ours, found = Session(graph).run((output, shapes), weights | {"images:0": batch})
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"the graph does not work on {len(batch)} pictures at a time; save it again with a batch of None. {error}"
        ) from error
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max()):
        raise UnsupportedModelError(
            "the graph gives other results for several pictures than for each alone, or depends on something else "
            "than its input; save it again in inference mode with a batch of None"
        )
    return {tensor: shape.tolist() for tensor, shape in found.items()}


def _with_taps(flat: Any, boundaries: list[Boundary], output: Any) -> Any:
    """The graph with a tap behind each layer, and the output under the name `prediction`."""
    tapped = tf.compat.v1.GraphDef()
    tapped.CopyFrom(flat)
    last_tap: dict[str, str] = {}
    taps = []
    for number, boundary in enumerate(boundaries):
        tap = tf.compat.v1.NodeDef(name=f"tap/{number}", op="PreventGradient")
        tap.input.append(last_tap.get(boundary.tensor, boundary.tensor))
        tap.attr["T"].type = tf.float32.as_datatype_enum
        tap.attr["message"].s = boundary.tap.encode()
        last_tap[boundary.tensor] = f"tap/{number}"
        taps.append(tap)
    for node in tapped.node:
        sources = [last_tap.get(full_name(source), source) for source in node.input]
        del node.input[:]
        node.input.extend(sources)
    tapped.node.extend(taps)
    end = tapped.node.add(name="prediction")
    end.input.append(last_tap.get(output.name, output.name))
    if output.dtype == tf.float32:
        end.op, end.attr["T"].type = "Identity", output.dtype.as_datatype_enum
    else:
        end.op, end.attr["SrcT"].type = "Cast", output.dtype.as_datatype_enum
        end.attr["DstT"].type = tf.float32.as_datatype_enum
    _rename(tapped, "logits", "logits_of_graph")  # the torch side looks for a node of that name
    return tapped


def _rename(flat: Any, old: str, new: str) -> None:
    for node in flat.node:
        if node.name == old:
            node.name = new
        for i, source in enumerate(node.input):
            if full_name(source).split(":")[0] == old:
                node.input[i] = f"{new}:{full_name(source).split(':')[1]}"
