"""Frozen TensorFlow graphs and SavedModel folders: what is in them, and are they safe? Answered by reading alone.

TensorFlow is not imported: the op of every node is compared with a list, the graph is never run.
"""

import hashlib
import math
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import CheckpointError, UnsafeCheckpointError, UnsupportedModelError
from converters.graph_ops import COMPUTE, READS, VARIABLES
from converters.graph_proto import content, parse
from converters.inspect import Checkpoint
from converters.inspect.scaling import LARGEST_MEAN, SMALLEST_FACTOR

MOST_NODES = 200_000
MOST_VALUES = 2**29  # of all constants together: 2 GB of float32
MOST_PIXELS = 65536  # in a row or a column
FLOATS = {1: "float32", 2: "float64", 19: "float16", 14: "bfloat16"}
INTEGERS = {3: "int32", 4: "uint8", 9: "int64"}
_STEPS = 8  # from the input on
_BEFORE_SCALING = frozenset(
    """
    Add AddV2 BiasAdd Cast ClipByValue ConcatV2 ExpandDims Identity MirrorPad Pack Pad PadV2 Reshape ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor ReverseV2 Slice Split SplitV Squeeze StopGradient StridedSlice Sub Transpose
    Unpack
    """.split()
)
_LARGE_ONES = frozenset({"Add", "AddV2", "BiasAdd", "Div", "DivNoNan", "RealDiv", "Sub"})
# TensorFlow's own rule for names, without the backslash and ">", which are in no name of Keras or slim
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\-/]*")
TRAINING = re.compile(r"(^|/)(keras_)?(learning_phase|is_training|training|phase_train|train_phase)(_\d+)?$")


@dataclass(frozen=True)
class GraphCheckpoint(Checkpoint):
    """A frozen graph or a SavedModel that was read and found harmless. It has no Keras architecture.

    Attributes
    ----------
    raw_pixels : bool
        Whether the graph itself divides its input by about 255, or takes whole numbers.
    """

    raw_pixels: bool = False

    @property
    def flavour(self) -> str:
        """No Keras reads it."""
        return ""

    @property
    def files(self) -> list[Path]:
        """The file, or every file of the folder in a fixed order."""
        return folder_files(self.source) if self.source.is_dir() else [self.source]

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of all its files, and of their names in the folder, in hexadecimal."""
        if self.source.is_file():
            return super().sha256
        names = (path.relative_to(self.source).as_posix() for path in self.files)
        listed = [f"{digest} {name}\n" for name, digest in zip(names, self.file_hashes, strict=True)]
        return hashlib.sha256("".join(listed).encode()).hexdigest()

    @property
    def takes_raw_pixels(self) -> bool:
        """Whether the graph scales pixels 0 to 255 itself."""
        return self.raw_pixels


def inspect_graph(source: Path, weights: Any = None, image: str | None = None) -> GraphCheckpoint:
    """Read a frozen `.pb` graph or a SavedModel folder and refuse every op that does more than compute.

    Parameters
    ----------
    source : Path
        `.pb` file or folder.
    weights : optional
        Must be None: a graph has its weights in it, or in its folder.
    image : str, optional
        Name of the image input, where there are several.

    Raises
    ------
    CheckpointError
        A file is missing, damaged, or too large.
    UnsafeCheckpointError
        An op is not on the list of `converters.graph_ops`, a name is odd, or the folder holds a link.
    UnsupportedModelError
        No input for pictures, variables that were not frozen, or no signature.
    """
    if weights is not None:
        raise CheckpointError(f"{source.name} brings its own weights; drop weights={str(weights)!r}")
    if source.is_dir():
        bodies, info = read_saved_model(source, image)
        shape, raw = _dims(info.shape), info.dtype in INTEGERS
        captured = [value for values in _constants(bodies[0]).values() for value in values]
        raw = raw or any(_scales(body, captured) for body in bodies)
        return GraphCheckpoint(source, None, "savedmodel", "", {}, _image(shape), raw)
    graph = read_frozen(content(source), source.name)
    images = [node for node in graph.node if is_image_input(node)]
    images = [node for node in images if len(node.attr["shape"].shape.dim) == 4] or images
    if not images:
        raise UnsupportedModelError(
            f"{source.name} has no input for pictures: no Placeholder with shape [images, height, width, channels]"
        )
    named = [node for node in images if node.name == node_name(image or "")]
    only = images[0] if len(images) == 1 else next(iter(named), None)
    shape = _image(_dims(only.attr["shape"].shape)) if only else (None, None, None)
    raw = only is not None and only.attr["dtype"].type in INTEGERS
    return GraphCheckpoint(source, None, "frozen", "", {}, shape, raw or _scales(graph.node))


def looks_like_graph(source: Path) -> bool:
    """Whether there is a SavedModel folder or a `.pb` file at a path."""
    if source.is_dir():
        return any((source / name).exists() for name in ("saved_model.pb", "saved_model.pbtxt"))
    return source.suffix.lower() == ".pb" and source.is_file()


# ---------------------------------------------------------------- reading


def read_frozen(serialized: bytes, name: str) -> Any:
    """The graph of a frozen `.pb` file, every op of it and of its functions checked."""
    graph = parse("Graph", serialized, name)
    if not graph.node or any(not node.op or not node.name for node in graph.node):
        raise CheckpointError(
            f"{name} is not a frozen TensorFlow graph. If it is the saved_model.pb of a SavedModel, give its folder; "
            f"expected a binary GraphDef, as tf.io.write_graph(..., as_text=False) writes"
        )
    bodies = {function.signature.name: list(function.node_def) for function in graph.library.function}
    variables = sorted({node.name for node in graph.node if node.op in VARIABLES})
    if variables:
        raise UnsupportedModelError(
            f"{name} is not frozen: {len(variables)} variables, {variables[0]!r} first, have their values in another "
            f"file. Freeze it with tf.compat.v1.graph_util.convert_variables_to_constants, or give a SavedModel folder"
        )
    _check([*graph.node, *(node for body in bodies.values() for node in body)], COMPUTE, name)
    _refuse_endless_calls(bodies | {"": list(graph.node)})
    return graph


def read_saved_model(folder: Path, image: str | None = None) -> tuple[list[list[Any]], Any]:
    """The nodes of a SavedModel, function by function, and its image input.

    Only what the signature needs is checked, and only that is ever run: the functions that save and restore work on
    files, and are neither called nor built here.
    """
    folder_files(folder)
    file = folder / "saved_model.pb"
    if not file.is_file():
        raise CheckpointError(
            f"{folder.name} holds its graph as text (saved_model.pbtxt), which is not read here; load it in "
            f"TensorFlow and save it again, which writes saved_model.pb"
        )
    _, signature, graph = open_saved_model(content(file), folder.name)
    bodies = check_saved_model(graph, signature, folder.name)
    images = [
        info
        for name, info in sorted(signature.inputs.items(), key=lambda item: item[0] != image)
        if len(info.shape.dim) == 4 or info.shape.unknown_rank
    ]
    if not images:
        found = {name: _dims(info.shape) for name, info in signature.inputs.items()}
        raise UnsupportedModelError(
            f"the signature of {folder.name} takes {found or 'no input'}; expected one of shape "
            f"[images, height, width, channels]"
        )
    return bodies, images[0]


def open_saved_model(serialized: bytes, name: str) -> tuple[str, Any, Any]:
    """Name and content of the serving signature, and the graph that it belongs to."""
    model = parse("SavedModel", serialized, name)
    serving = [meta for meta in model.meta_graphs if "serve" in meta.info.tags] or list(model.meta_graphs[:1])
    if not serving:
        raise CheckpointError(f"{name}: its saved_model.pb holds no graph; get it again")
    signatures = {key: value for key, value in serving[0].signatures.items() if value.inputs and value.outputs}
    key = choose_signature(list(signatures), name)
    return key, signatures[key], serving[0].graph


def check_saved_model(graph: Any, signature: Any, name: str) -> list[list[Any]]:
    """Refuse every op that does more than compute, in what a signature needs.

    Returns
    -------
    list of list of node
        What it needs of the graph, and of each function.
    """
    bodies = needed_bodies(graph, signature)
    _check([node for body in bodies for node in body], COMPUTE | VARIABLES | READS, name)
    return bodies


def choose_signature(names: list[str], model: str) -> str:
    """`serving_default`, or the only one."""
    if "serving_default" in names or len(names) == 1:
        return "serving_default" if "serving_default" in names else names[0]
    raise UnsupportedModelError(
        f"{model} has {f'the signatures {sorted(names)}' if names else 'no signature'}; expected one named "
        f"'serving_default': load it in TensorFlow and save it with tf.saved_model.save(model, folder, "
        f"signatures=model.call.get_concrete_function(...)), or model.export(folder) in Keras"
    )


def folder_files(folder: Path) -> list[Path]:
    """Every file of a folder, sorted; a link in it is refused, since it may lead anywhere."""
    paths = sorted(folder.rglob("*"))
    for path in [folder, *paths]:
        mode = path.lstat().st_mode
        if path != folder and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UnsafeCheckpointError(f"{path} is a link or not a plain file; a SavedModel holds its own files")
    return [path for path in paths if path.is_file()]


# ---------------------------------------------------------------- safety


def needed_bodies(graph: Any, signature: Any) -> list[list[Any]]:
    """The nodes that lead to the outputs of a signature, by data or control, and those of each function called."""
    nodes = {node.name: node for node in graph.node}
    pending = [node_name(info.name) for info in signature.outputs.values()]
    names: set[str] = set()
    while pending:
        name = pending.pop()
        if name in nodes and name not in names:
            names.add(name)
            pending += [node_name(source) for source in nodes[name].input]
    functions = {function.signature.name: list(function.node_def) for function in graph.library.function}
    called: dict[str, list[Any]] = {"": [node for name, node in nodes.items() if name in names]}
    pending = [""]
    while pending:
        found = {name for node in called[pending.pop()] for name in _called(node) if name in functions}
        pending += found - called.keys()
        called |= {name: functions[name] for name in found}
    _refuse_endless_calls(called)
    return list(called.values())


def _refuse_endless_calls(bodies: dict[str, list[Any]]) -> None:
    """Refuse functions that call themselves, or that are small but grow without bound once they are opened."""
    calls = {name: [to for node in body for to in _called(node) if to in bodies] for name, body in bodies.items()}
    sizes: dict[str, int] = {}
    while len(sizes) < len(bodies):
        ready = [name for name in bodies if name not in sizes and all(to in sizes for to in calls[name])]
        if not ready:
            raise UnsafeCheckpointError(f"function {min(bodies.keys() - sizes.keys())!r} calls itself, without end")
        sizes |= {name: len(bodies[name]) + sum(sizes[to] for to in calls[name]) for name in ready}
    if max(sizes.values()) > MOST_NODES:
        raise UnsafeCheckpointError(
            f"the graph has {max(sizes.values())} nodes once its functions are opened; at most {MOST_NODES} are read"
        )


def node_name(tensor: str) -> str:
    """The node that a reference names: `^a`, `a`, `a:1` and a function's `a:out:0` all name `a`."""
    return tensor.removeprefix("^").split(":")[0]


def _called(node: Any) -> Iterator[str]:
    yield node.op  # TensorFlow looks for a function of that name before it looks for an op
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def _check(nodes: Iterable[Any], allowed: frozenset[str], where: str) -> None:
    nodes = list(nodes)
    if len(nodes) > MOST_NODES:
        raise CheckpointError(f"{where} has {len(nodes)} nodes; at most {MOST_NODES} are read")
    values = 0
    for node in nodes:
        if node.op not in allowed:
            raise UnsafeCheckpointError(
                f"{where}: op {node.op!r:.60} in node {node.name!r:.80} is not on the list of ops that only compute; "
                f"it could read files, run code or need a library. If it belongs to the input pipeline, save the "
                f"model again from the picture tensor on"
            )
        if not _NAME.fullmatch(node.name) or ".." in node.name.split("/"):
            raise UnsafeCheckpointError(f"{where} holds a node named {node.name!r:.60}, with characters of no layer")
        if node.op == "Const":
            declared = math.prod(max(dim.size, 0) for dim in node.attr["value"].tensor.shape.dim)
            values += min(declared, MOST_VALUES + 1)  # a number of any length cannot be printed
    if values > MOST_VALUES:
        raise UnsafeCheckpointError(
            f"{where}: its constants declare {values} values or more; at most {MOST_VALUES} are read"
        )


# ---------------------------------------------------------------- the input


def is_image_input(node: Any) -> bool:
    """Whether a Placeholder can take pictures: numbers, of four axes or of unknown shape."""
    if not node.op.startswith("Placeholder") or node.attr["dtype"].type not in FLOATS | INTEGERS:
        return False
    shape = node.attr["shape"].shape
    unknown = shape.unknown_rank or not node.attr["shape"].HasField("shape")
    # a scalar has no axes either, so that an unnamed shape may be keep_prob or a learning phase
    return len(shape.dim) == 4 or (unknown and node.op == "Placeholder" and not TRAINING.search(node.name))


def _dims(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _image(dims: tuple[int | None, ...] | None) -> tuple[int | None, ...]:
    """(height, width, channels) of [images, height, width, channels]."""
    if dims is None or len(dims) != 4:
        return None, None, None
    if any(size is not None and not 0 < size <= MOST_PIXELS for size in dims):
        raise UnsupportedModelError(f"the input has shape {list(dims)}; expected sizes from 1 to {MOST_PIXELS}")
    return dims[1:]


def _scales(nodes: Iterable[Any], captured: Sequence[float] = ()) -> bool:
    """Whether one of the first steps after the input scales pixels 0 to 255.

    It multiplies by about 1/255, divides by about 255, or takes off a mean of pixels. In a function, what is no node
    of its own is an argument, and taken for the input, or for one of the constants `captured` by the function.
    """
    nodes = list(nodes)
    names = {node.name for node in nodes}
    constants = _constants(nodes)
    sources = {node.name: {node_name(source) for source in node.input} for node in nodes}
    near = {node.name for node in nodes if is_image_input(node)} | (set().union(*sources.values()) - names)
    for _ in range(_STEPS):
        after = [node for node in nodes if sources[node.name] & near]
        for node in after:
            found = [abs(value) for source in sources[node.name] for value in constants.get(source, ())]
            if len(sources[node.name]) > 1 and sources[node.name] <= near:
                found += map(abs, captured)
            if node.op == "Mul" and any(0 < value < SMALLEST_FACTOR for value in found):
                return True
            if node.op in _LARGE_ONES and any(value > LARGEST_MEAN for value in found):
                return True
        near |= {node.name for node in after if node.op in _BEFORE_SCALING}
    return False


def _constants(nodes: Iterable[Any]) -> dict[str, list[float]]:
    """The values of the small constants among nodes."""
    return {node.name: _few_values(node.attr["value"].tensor) for node in nodes if node.op == "Const"}


def _few_values(tensor: Any) -> list[float]:
    """The values of a constant of floats that has one, or one a channel."""
    dtype = np.dtype("<f4" if tensor.dtype == 1 else "<f8")
    if tensor.dtype not in {1, 2} or math.prod(dim.size for dim in tensor.shape.dim) not in range(1, 5):
        return []
    values = tensor.float_val or tensor.double_val
    if not values and len(tensor.content) in range(0, 5 * dtype.itemsize, dtype.itemsize):
        values = np.frombuffer(tensor.content, dtype)
    return [float(value) for value in values]
