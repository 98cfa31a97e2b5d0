"""Frozen graphs and SavedModels are judged by reading alone; what could do more than compute is refused."""

import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from stored import DATA

import converters
from converters import graph_proto
from converters.errors import CheckpointError, TorchcamError, UnsafeCheckpointError, UnsupportedModelError
from converters.inspect import inspect

FAMILIES = DATA / "tcav_families" / "model.pb"
FLOAT, INT, STRING, BOOL = 1, 3, 7, 10


def message(kind: str) -> Any:
    """An empty protobuf message, to write graphs without TensorFlow."""
    return graph_proto.MESSAGES[kind]()


def add(body: Any, name: str, op: str, *inputs: str, **attributes: Any) -> Any:
    node = body.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if key == "shape":
            node.attr[key].shape.SetInParent()
            for size in value:
                node.attr[key].shape.dim.add(size=size)
        elif key == "function":
            node.attr["f"].func.name = value
        else:
            node.attr[key].type = value
    return node


def classifier() -> Any:
    """A graph of two nodes, to be spoilt."""
    graph = message("Graph")
    add(graph.node, "x", "Placeholder", dtype=FLOAT, shape=(-1, 8, 8, 3))
    add(graph.node, "y", "Relu", "x")
    return graph


def written(folder: Path, graph: Any) -> Path:
    file = folder / "graph.pb"
    file.write_bytes(graph.SerializeToString())
    return file


# ---------------------------------------------------------------- what is read


def test_a_frozen_graph_is_read_without_tensorflow() -> None:
    checkpoint = inspect(FAMILIES)
    assert checkpoint.format == "frozen"
    assert checkpoint.input_shape == (64, 64, 3)
    assert checkpoint.files == [FAMILIES]
    assert not checkpoint.takes_raw_pixels
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("name", "format_", "shape"),
    [
        ("keras_2", "savedmodel", (32, 32, 3)),
        ("two_outputs", "savedmodel", (None, None, 3)),
        ("tensorflow_1", "savedmodel", (16, 16, 3)),
        ("whole_numbers.pb", "frozen", (12, 12, 3)),
        ("keep_prob.pb", "frozen", (8, 8, 3)),
    ],
)
def test_format_and_size_are_known(graphs: Path, name: str, format_: str, shape: tuple[int | None, ...]) -> None:
    checkpoint = inspect(graphs / name)
    assert (checkpoint.format, checkpoint.input_shape) == (format_, shape)


def test_the_named_input_is_the_one_whose_size_is_told(tmp_path: Path) -> None:
    graph = classifier()
    add(graph.node, "other", "Placeholder", dtype=FLOAT, shape=(-1, 4, 5, 1))
    file = written(tmp_path, graph)
    assert inspect(file).input_shape == (None, None, None)
    assert inspect(file, input="other").input_shape == (4, 5, 1)
    assert inspect(file, input="x:0").input_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("op", "constant", "raw"), [("Mul", 1 / 255, True), ("RealDiv", 255.0, True), ("Mul", 2.0, False)]
)
@pytest.mark.parametrize("packed", [True, False])
def test_scaling_of_pixels_is_found_behind_the_input(
    tmp_path: Path, op: str, constant: float, raw: bool, packed: bool
) -> None:
    import numpy as np

    graph = message("Graph")
    add(graph.node, "x", "Placeholder", dtype=FLOAT, shape=(-1, 8, 8, 3))
    tensor = add(graph.node, "c", "Const", dtype=FLOAT).attr["value"].tensor
    tensor.dtype = FLOAT
    if packed:
        tensor.content = np.float32(constant).tobytes()
    else:
        tensor.float_val.append(constant)
    add(graph.node, "same", "Identity", "x")
    add(graph.node, "y", op, "same", "c")
    assert inspect(written(tmp_path, graph)).takes_raw_pixels is raw


def test_every_file_of_a_folder_counts_for_its_hash(graphs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(graphs / "keras_2", copy)
    checkpoint = inspect(copy)
    assert checkpoint.sha256 == inspect(graphs / "keras_2").sha256
    data = next((copy / "variables").glob("*.data-*"))
    assert data in checkpoint.files
    content = data.read_bytes()
    data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = inspect(copy).sha256
    data.write_bytes(content)
    data.rename(data.with_name("renamed"))
    assert len({checkpoint.sha256, changed, inspect(copy).sha256}) == 3


# ---------------------------------------------------------------- what is refused

BITES = {
    "write_file.pb": "op 'WriteFile' in node 'WriteFile'",
    "read_file.pb": "op 'ReadFile'",
    "matching_files.pb": "op 'MatchingFiles'",
    "print_v2.pb": "op '(StringFormat|PrintV2)'",
    "py_func.pb": "op 'PyFunc'",
    "save.pb": "op 'SaveV2'",
    "table.pb": "op '(HashTableV2|InitializeTableFromTextFileV2)'",
    "shadowed.pb": "op 'WriteFile'",
    "serving_writes": "op 'WriteFile'",
    "serving_calls_python": "op '(EagerPyFunc|PyFunc)'",
    "endless": "calls itself, without end",
}


@pytest.mark.parametrize(("name", "said"), BITES.items(), ids=BITES)
@pytest.mark.usefixtures("no_tensorflow")
def test_a_graph_that_does_more_than_compute_is_refused_by_reading_alone(graphs: Path, name: str, said: str) -> None:
    # run naively, the same serving function did it
    assert (graphs / "proof_that_it_is_live").read_text() == "serving"
    with pytest.raises(UnsafeCheckpointError, match=said):
        converters.convert(graphs / name)
    assert list((graphs / "canary").iterdir()) == []


@pytest.mark.parametrize(
    "op", ["PyFunc", "EagerPyFunc", "PyFuncStateless", "RestoreV2", "IteratorGetNext", "XlaCallModule"]
)
@pytest.mark.parametrize("inside", ["the graph", "a function", "a function that nobody calls"])
def test_an_op_is_found_wherever_it_is(tmp_path: Path, op: str, inside: str) -> None:
    graph = classifier()
    function = graph.library.function.add()
    function.signature.name = "inner"
    add(graph.node if inside == "the graph" else function.node_def, "bite", op)
    if inside == "a function":
        add(graph.node, "call", "PartitionedCall", "x", function="inner")
    with pytest.raises(UnsafeCheckpointError, match=f"graph.pb: op {op!r} in node 'bite' is not on the list"):
        inspect(written(tmp_path, graph))


def saved_model(folder: Path) -> tuple[Any, Any]:
    """A SavedModel with one signature, to be spoilt; and the folder's writer."""
    model = message("SavedModel")
    meta = model.meta_graphs.add()
    meta.info.tags.append("serve")
    meta.graph.CopyFrom(classifier())
    signature = meta.signatures["serving_default"]
    signature.inputs["x"].name, signature.inputs["x"].dtype = "x:0", FLOAT
    for size in (-1, 8, 8, 3):
        signature.inputs["x"].shape.dim.add(size=size)
    signature.outputs["y"].name = "y:0"

    def write() -> Path:
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
        return folder

    return meta, write


def test_only_what_the_signature_needs_is_asked_of_a_saved_model(tmp_path: Path) -> None:
    meta, write = saved_model(tmp_path)
    add(meta.graph.node, "elsewhere", "WriteFile")
    assert inspect(write()).format == "savedmodel"
    # by a control input it is needed
    meta.graph.node[1].input.append("^elsewhere")
    with pytest.raises(UnsafeCheckpointError, match="op 'WriteFile' in node 'elsewhere'"):
        inspect(write())


@pytest.mark.parametrize(
    ("op", "values", "raw"),
    [
        ("BiasAdd", (-103.9, -116.8, -123.7), True),
        ("Sub", (123.7, 116.8, 103.9), True),
        ("Mul", (1 / 58.4, 1 / 57.1, 1 / 57.4), True),
        ("Sub", (0.485, 0.456, 0.406), False),
        ("RealDiv", (0.229, 0.224, 0.225), False),
        ("BiasAdd", (100.0,) * 5, False),  # more than a picture has channels
    ],
)
@pytest.mark.parametrize("where", ["graph", "function", "captured"])
def test_a_mean_of_pixels_tells_that_they_are_not_scaled(
    tmp_path: Path, op: str, values: tuple[float, ...], raw: bool, where: str
) -> None:
    meta, write = saved_model(tmp_path)
    outer = meta.graph
    del outer.node[1:]
    body = outer.node if where == "graph" else outer.library.function.add(signature={"name": "inner"}).node_def
    tensor = add(outer.node if where == "captured" else body, "mean", "Const", dtype=FLOAT).attr["value"].tensor
    tensor.dtype = FLOAT
    tensor.shape.dim.add(size=len(values))
    tensor.float_val.extend(values)
    add(body, "bgr", "ReverseV2", "x" if where == "graph" else "images")
    add(body, "y" if where == "graph" else "centred", op, "bgr", "argument" if where == "captured" else "mean")
    if where != "graph":
        given = ["x", "mean"] if where == "captured" else ["x"]
        add(outer.node, "y", "StatefulPartitionedCall", *given, function="inner")
    assert inspect(write()).takes_raw_pixels is raw


def test_a_saved_model_may_set_its_variables_and_a_frozen_graph_has_none(tmp_path: Path) -> None:
    meta, write = saved_model(tmp_path)
    add(meta.graph.node, "seed", "VarHandleOp")
    add(meta.graph.node, "count", "AssignVariableOp", "seed", "x")
    meta.graph.node[1].input.append("^count")
    assert inspect(write()).format == "savedmodel"
    graph = classifier()
    add(graph.node, "count", "AssignVariableOp", "x", "x")
    with pytest.raises(UnsafeCheckpointError, match="op 'AssignVariableOp' in node 'count' is not on the list"):
        inspect(written(tmp_path, graph))


def test_a_function_under_the_name_of_an_op_is_looked_into(tmp_path: Path) -> None:
    meta, write = saved_model(tmp_path)
    function = meta.graph.library.function.add()
    function.signature.name = "Relu"
    add(function.node_def, "bite", "WriteFile")
    with pytest.raises(UnsafeCheckpointError, match="op 'WriteFile' in node 'bite'"):
        inspect(write())


def test_functions_that_double_and_double_are_refused(tmp_path: Path) -> None:
    graph = classifier()
    for i in range(40):
        function = graph.library.function.add()
        function.signature.name = f"f{i}"
        for name in ("a", "b"):
            add(function.node_def, name, "PartitionedCall", function=f"f{i + 1}")
    add(graph.node, "call", "PartitionedCall", "x", function="f0")
    with pytest.raises(UnsafeCheckpointError, match="nodes once its functions are opened"):
        inspect(written(tmp_path, graph))


@pytest.mark.parametrize("sizes", [(2**62, 2**62), (10**9,), (2,) * 20_000], ids=["square", "row", "many axes"])
def test_a_constant_that_would_fill_the_memory_is_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    graph = classifier()
    tensor = add(graph.node, "huge", "Const", dtype=FLOAT).attr["value"].tensor
    tensor.dtype = FLOAT
    tensor.float_val.append(1)
    for size in sizes:
        tensor.shape.dim.add(size=size)
    with pytest.raises(UnsafeCheckpointError, match=r"its constants declare .* values"):
        inspect(written(tmp_path, graph))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "../a", "a\nb", "a b", "a'b", "/a"])
def test_names_that_no_layer_has_are_refused(tmp_path: Path, name: str) -> None:
    graph = classifier()
    add(graph.node, name, "Relu", "x")
    with pytest.raises(UnsafeCheckpointError, match="with characters of no layer"):
        inspect(written(tmp_path, graph))


@pytest.mark.parametrize("target", ["file", "folder", "itself"])
def test_links_in_a_folder_are_refused(graphs: Path, tmp_path: Path, target: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(graphs / "plain", copy)
    link = {"file": copy / "variables" / "more", "folder": copy / "assets.extra", "itself": copy / "saved_model.pb"}[
        target
    ]
    if target == "itself":
        link.unlink()
    link.symlink_to(graphs / "plain" / ("variables" if target == "folder" else "saved_model.pb"))
    with pytest.raises(UnsafeCheckpointError, match="is a link or not a plain file"):
        inspect(copy)


def test_variables_outside_the_file_are_no_frozen_graph(tmp_path: Path) -> None:
    graph = classifier()
    add(graph.node, "kernel", "VarHandleOp")
    with pytest.raises(UnsupportedModelError, match=r"graph.pb is not frozen: 1 variables, 'kernel' first"):
        inspect(written(tmp_path, graph))


def test_a_graph_without_pictures_is_refused(tmp_path: Path) -> None:
    graph = message("Graph")
    add(graph.node, "text", "Placeholder", dtype=STRING, shape=(-1,))
    add(graph.node, "row", "Placeholder", dtype=FLOAT, shape=(-1, 4))
    add(graph.node, "is_training", "Placeholder", dtype=BOOL)
    with pytest.raises(UnsupportedModelError, match=r"graph.pb has no input for pictures"):
        inspect(written(tmp_path, graph))


@pytest.mark.parametrize("signatures", [[], ["predict", "classify"]])
def test_a_saved_model_without_a_serving_signature_is_refused(tmp_path: Path, signatures: list[str]) -> None:
    meta, write = saved_model(tmp_path)
    for name in signatures:
        meta.signatures[name].CopyFrom(meta.signatures["serving_default"])
    del meta.signatures["serving_default"]
    found = r"the signatures \['classify', 'predict'\]" if signatures else "no signature"
    with pytest.raises(UnsupportedModelError, match=f"has {found}; expected one named 'serving_default'"):
        inspect(write())


def test_a_saved_model_of_rows_is_refused(tmp_path: Path) -> None:
    meta, write = saved_model(tmp_path)
    del meta.signatures["serving_default"].inputs["x"].shape.dim[2:]
    with pytest.raises(UnsupportedModelError, match=r"takes \{'x': \(None, 8\)\}; expected one of shape"):
        inspect(write())


def test_a_graph_as_text_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pbtxt").write_text("meta_graphs {}")
    with pytest.raises(CheckpointError, match=r"as text \(saved_model.pbtxt\)"):
        inspect(tmp_path)
    file = tmp_path / "graph.pb"
    file.write_text('node { name: "x" op: "Placeholder" }')
    with pytest.raises(CheckpointError, match=r"graph.pb is no"):
        inspect(file)


def test_the_graph_file_of_a_saved_model_alone_is_no_model(graphs: Path, tmp_path: Path) -> None:
    file = tmp_path / "saved_model.pb"
    shutil.copyfile(graphs / "plain" / "saved_model.pb", file)
    with pytest.raises(CheckpointError, match="give its folder"):
        inspect(file)


def test_a_graph_takes_no_other_weights() -> None:
    with pytest.raises(CheckpointError, match="brings its own weights"):
        inspect(FAMILIES, FAMILIES.with_name("weights.h5"))


def test_damage_is_told_in_our_own_errors(tmp_path: Path) -> None:
    genuine, draw = FAMILIES.read_bytes(), random.Random(3)
    words = [place for found in re.finditer(rb"[A-Za-z_0-9]{4,}", genuine) for place in range(*found.span())]
    file, outcomes = tmp_path / "graph.pb", set()
    for _ in range(300):
        content = bytearray(genuine)
        for _ in range(draw.randrange(1, 4)):
            content[draw.choice([draw.choice(words), draw.randrange(2000)])] ^= 1 << draw.randrange(8)
        file.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
        try:
            inspect(file)
            outcomes.add("read")
        except TorchcamError as error:
            outcomes.add(type(error).__name__)
    assert outcomes >= {"read", "CheckpointError", "UnsafeCheckpointError"}


@pytest.mark.parametrize("sizes", [(-1, 10**9, 10**9, 3), (-1, 0, 8, 3)])
def test_pictures_of_impossible_size_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    graph = message("Graph")
    add(graph.node, "x", "Placeholder", dtype=FLOAT, shape=sizes)
    with pytest.raises(UnsupportedModelError, match="expected sizes from 1 to 65536"):
        inspect(written(tmp_path, graph))


@pytest.mark.parametrize("name", ["graph.pb", "saved_model.pb"])
def test_a_file_larger_than_any_graph_is_not_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**33)  # takes no room on the disk, and would take 8 GB of memory
    with pytest.raises(CheckpointError, match=f"{name} has 8589934592 bytes; a TensorFlow graph has at most"):
        inspect(tmp_path / name if name == "graph.pb" else tmp_path)
