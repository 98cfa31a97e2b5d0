"""Each pass over the ONNX graph leaves what the graph computes as it was (onnx's own evaluator is the judge)."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from converters import graph
from converters.errors import UnsupportedModelError


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple], constants: dict[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """A model of opset 13 whose output is `y`."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    made = helper.make_graph(nodes, "net", values, [output], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def node(op: str, inputs: str, output: str, name: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name or f"{op}_{output}", **attributes)


def run(proto: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(proto).run(["y"], inputs)[0])


def ops(proto: onnx.ModelProto) -> list[str]:
    return [item.op_type for item in proto.graph.node]


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("fold", "constants", "shape"),
    [
        (node("Transpose", "w", "k", perm=[2, 0, 1]), {}, (2, 3, 4)),
        (node("Reshape", "w shape", "k"), {"shape": np.array([0, -1])}, (2, 3, 4)),
        (node("Reshape", "w shape", "k"), {"shape": np.array([4, 6])}, (2, 3, 4)),
        (node("Squeeze", "w axes", "k"), {"axes": np.array([0, 2])}, (1, 5, 1)),
        (node("Squeeze", "w", "k"), {}, (1, 5, 1)),
        (node("Unsqueeze", "w axes", "k"), {"axes": np.array([0, 3])}, (2, 3)),
        (node("Identity", "w", "k"), {}, (2, 3)),
    ],
    ids=["transpose", "reshape 0 -1", "reshape", "squeeze axes", "squeeze", "unsqueeze", "identity"],
)
def test_what_only_rearranges_a_weight_is_folded(
    fold: onnx.NodeProto, constants: dict[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    weight, x = random(*shape), random(1)
    proto = model([fold, node("Sub", "x k", "y")], {"x": (1,), "w": shape}, constants)
    expected = run(proto, x=x, w=weight)
    assert expected.std() > 0.1

    arrays = graph.bind_weights(proto, {"w": weight})
    assert ops(proto) == ["Sub"]
    assert [item.name for item in proto.graph.input] == ["x"]
    assert list(proto.graph.initializer) == []
    assert arrays.keys() == {"k"}
    assert np.shares_memory(arrays["k"], weight)
    np.testing.assert_array_equal(x - arrays["k"], expected)


def test_a_weight_that_several_nodes_use_is_bound_for_each() -> None:
    nodes = [
        node("Transpose", "w", "k", perm=[1, 0]),
        node("MatMul", "x k", "a"),
        node("MatMul", "a w", "y"),
    ]
    proto, weight, x = model(nodes, {"x": (2, 3), "w": (4, 3)}), random(4, 3), random(2, 3)
    expected = run(proto, x=x, w=weight)
    arrays = graph.bind_weights(proto, {"w": weight})
    assert arrays.keys() == {"k", "w"}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    np.testing.assert_array_equal(run(proto, x=x), expected)


def test_taps_and_what_depends_on_the_input_are_not_folded() -> None:
    nodes = [
        node("Identity", "w", "k", name="tap/weight#0"),
        node("Transpose", "x", "t", perm=[1, 0]),
        node("MatMul", "t k", "y"),
    ]
    proto = model(nodes, {"x": (2, 3), "w": (2, 4)})
    assert graph.bind_weights(proto, {"w": random(2, 4)}).keys() == {"w"}
    assert ops(proto) == ["Identity", "Transpose", "MatMul"]


# ---------------------------------------------------------------- channels first


def test_a_tap_between_transposes_comes_to_see_channels_first() -> None:
    nodes = [
        node("Transpose", "x", "last", perm=[0, 2, 3, 1]),
        node("Add", "last bias", "biased"),
        node("Identity", "biased", "tapped", name="tap/conv#0"),
        node("Mul", "tapped scale", "scaled"),
        node("Transpose", "scaled", "y", perm=[0, 3, 1, 2]),
    ]
    constants = {"bias": random(5), "scale": random(5, seed=1)}
    proto, x = model(nodes, {"x": (2, 5, 3, 4)}, constants), random(2, 5, 3, 4, seed=2)
    expected = run(proto, x=x)
    graph.force_channels_first(proto, ["conv#0"])
    np.testing.assert_array_equal(run(proto, x=x), expected)
    (tap,) = (item for item in proto.graph.node if item.name == "tap/conv#0")
    proto.graph.output.append(helper.make_tensor_value_info(tap.output[0], TensorProto.FLOAT, None))
    (seen,) = ReferenceEvaluator(proto).run([tap.output[0]], {"x": x})
    np.testing.assert_array_equal(seen, x + constants["bias"][:, None, None])


def test_transposes_that_undo_each_other_go() -> None:
    nodes = [
        node("Transpose", "x", "last", perm=[0, 2, 3, 1]),
        node("Identity", "last", "tapped", name="tap/pool#0"),
        node("Transpose", "tapped", "first", perm=[0, 3, 1, 2]),
        node("Relu", "first", "y"),
    ]
    proto, x = model(nodes, {"x": (2, 5, 3, 4)}), random(2, 5, 3, 4)
    expected = run(proto, x=x)
    assert graph.runtime_transposes(proto) == 2
    graph.force_channels_first(proto, ["pool#0"])
    assert ops(proto) == ["Identity", "Relu"]
    assert graph.runtime_transposes(proto) == 0
    np.testing.assert_array_equal(run(proto, x=x), expected)


def test_transposes_that_do_not_undo_each_other_stay() -> None:
    nodes = [node("Transpose", "x", "a", perm=[0, 2, 3, 1]), node("Transpose", "a", "y", perm=[0, 2, 3, 1])]
    proto, x = model(nodes, {"x": (2, 5, 3, 4)}), random(2, 5, 3, 4)
    expected = run(proto, x=x)
    graph.cancel_transposes(proto)
    assert ops(proto) == ["Transpose", "Transpose"]
    np.testing.assert_array_equal(run(proto, x=x), expected)


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        ([node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Relu", "t", "y")], 1),
        ([node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Reshape", "t shape", "y")], 0),
        ([node("Reshape", "x shape", "t"), node("Transpose", "t", "y", perm=[1, 0])], 0),
        ([node("Relu", "x", "y")], 0),
    ],
    ids=["before an op", "of a Flatten", "of a Reshape", "none"],
)
def test_transposes_that_cost_something_are_counted(nodes: list[onnx.NodeProto], count: int) -> None:
    proto = model(nodes, {"x": (2, 5, 3, 4)}, {"shape": np.array([2, 60])})
    assert graph.runtime_transposes(proto) == count


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("sizes", "settled"), [([[15]], [-1, 15]), ([[5], [3]], [-1, 5, 3]), ([[5], [-1]], [0, 5, -1])], ids=str
)
def test_a_shape_that_only_follows_the_batch_is_settled(sizes: list[list[int]], settled: list[int]) -> None:
    names = [f"size_{i}" for i in range(len(sizes))]
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Concat", " ".join(["batch", *names]), "joined", axis=0),
        node("Cast", "joined", "wanted", to=TensorProto.INT64),
        node("Reshape", "x wanted", "y"),
    ]
    constants = {"zero": np.array([0])} | {name: np.array(size) for name, size in zip(names, sizes, strict=True)}
    proto = model(nodes, {"x": (None, 5, 3)}, constants)
    expected = {count: run(proto, x=random(count, 5, 3)) for count in (1, 4)}
    graph.settle_reshapes(proto)
    assert ops(proto) == ["Reshape"]
    assert [numpy_helper.to_array(item).tolist() for item in proto.graph.initializer] == [settled]
    for count, result in expected.items():
        np.testing.assert_array_equal(run(proto, x=random(count, 5, 3)), result)


def test_a_shape_that_depends_on_more_than_the_batch_stays() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Gather", "shape one", "rows"),
        node("Concat", "batch rows rest", "wanted", axis=0),
        node("Reshape", "x wanted", "y"),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    proto, x = model(nodes, {"x": (None, 5, 3)}, constants), random(2, 5, 3)
    graph.settle_reshapes(proto)
    assert ops(proto)[-2:] == ["Concat", "Reshape"]
    assert run(proto, x=x).shape == (2, 5, 3)


# ---------------------------------------------------------------- ops


def test_known_ops_pass() -> None:
    graph.check_ops(model([node("Relu", "x", "a"), node("GlobalMaxPool", "a", "y")], {"x": (1, 2, 3, 3)}))


def test_unknown_ops_are_refused_each_with_its_node() -> None:
    nodes = [node("Relu", "x", "a"), node("Sinh", "a", "b", name="net/wave"), node("GRU", "b b b", "y", name="net/gru")]
    with pytest.raises(UnsupportedModelError, match=r"^2 ops cannot .*: Sinh in net/wave; GRU in net/gru\. Replace"):
        graph.check_ops(model(nodes, {"x": (1, 2)}))


def test_an_op_of_another_domain_is_refused() -> None:
    foreign = helper.make_node("FusedConv", ["x"], ["y"], "net/conv", domain="com.elsewhere")
    with pytest.raises(UnsupportedModelError, match=r"com\.elsewhere.?FusedConv in net/conv"):
        graph.check_ops(model([foreign], {"x": (1, 2)}))


def test_of_many_unknown_ops_the_first_are_listed() -> None:
    names = "abcdefghijk"
    nodes = [node("Sinh", "x", "y", name=f"net/{name}") for name in names]
    with pytest.raises(UnsupportedModelError, match=r"^11 ops cannot be converted") as caught:
        graph.check_ops(model(nodes, {"x": (1, 2)}))
    assert str(caught.value).count("Sinh in net/") == 8
