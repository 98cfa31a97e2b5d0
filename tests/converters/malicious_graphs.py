"""Graphs and SavedModels that do more than compute; part of graphs.py, in whose process it runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from frozen_graphs import Plain, classes, conv_v1, frozen_by_hand, pictures, v1
from tensorflow.core.protobuf import saved_model_pb2


def after(operation: Any) -> Any:
    """An honest classifier that waits for an operation."""
    images = v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
    with tf.control_dependencies([operation]):
        return [classes(conv_v1(tf.identity(images), 3, 4, "a"), 4)], images


def build_after(operation: Callable[[], Any]) -> Any:
    return after(operation())


def malicious(folder: Path, canaries: Path) -> None:
    def evil(name: str) -> str:
        return str(canaries / name)

    def python() -> int:
        Path(evil("py_func")).write_text("py_func")
        return 1

    operations: dict[str, Callable[[], Any]] = {
        "write_file": lambda: tf.io.write_file(evil("write_file"), "x"),
        "read_file": lambda: tf.io.read_file("/etc/hostname"),
        "matching_files": lambda: tf.io.matching_files("/etc/*"),
        "print_v2": lambda: tf.print("x", output_stream=f"file://{evil('print_v2')}"),
        "py_func": lambda: v1.py_func(python, [], tf.int64),
        "save": lambda: tf.raw_ops.SaveV2(
            prefix=evil("save"), tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
        ),
        "table": lambda: tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer("/etc/passwd", tf.string, 0, tf.int64, 1), 0
        )._initialize(),
    }
    for name, operation in operations.items():
        frozen_by_hand(folder, name, partial(build_after, operation), None)
    shadowed(folder, evil("shadowed"))
    serving(folder, evil("serving"))
    endless(folder)


def shadowed(folder: Path, canary: str) -> None:
    """A function that writes a file, under the name of the op Relu."""
    path = folder / "shadowed.pb"
    frozen_by_hand(folder, "shadowed", lambda: after(tf.no_op()), None)
    graph = v1.GraphDef.FromString(path.read_bytes())

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def write(x: Any) -> Any:
        tf.io.write_file(canary, "x")
        return x

    function = graph.library.function.add()
    function.CopyFrom(write.get_concrete_function().function_def)
    function.signature.name = "Relu"
    path.write_bytes(graph.SerializeToString())


def serving(folder: Path, canary: str) -> None:
    """SavedModels whose serving function writes a file, or calls Python; the first is shown to be live."""

    class Writes(Plain):
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, x: Any) -> Any:
            tf.io.write_file(canary, "serving")
            return tf.nn.softmax(tf.reduce_mean(x, [1, 2]))

    class Calls(Plain):
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, x: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(lambda v: v.mean((1, 2)), [x], tf.float32), (None, 3))

    tf.saved_model.save(Writes(), folder / "serving_writes")
    tf.saved_model.save(Calls(), folder / "serving_calls_python")
    tf.saved_model.load(folder / "serving_writes")(pictures(16))
    Path(canary).rename(folder / "proof_that_it_is_live")


class Endless(Plain):
    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
    def __call__(self, x: Any) -> Any:
        return self.inner(x)

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
    def inner(self, x: Any) -> Any:
        return tf.reduce_mean(x, [1, 2])


def endless(folder: Path) -> None:
    """A function that calls itself."""
    model = Endless()
    tf.saved_model.save(model, folder / "no_signature")
    tf.saved_model.save(model, folder / "endless", signatures=model.__call__)
    file = folder / "endless" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "PartitionedCall" and "inner" in node.attr["f"].func.name:
                node.attr["f"].func.name = function.signature.name
    file.write_bytes(model.SerializeToString())
