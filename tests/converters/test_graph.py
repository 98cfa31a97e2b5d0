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
    graph.settle_shapes(proto)
    assert ops(proto) == ["Reshape"]
    assert [numpy_helper.to_array(item).tolist() for item in proto.graph.initializer] == [settled]
    for count, result in expected.items():
        np.testing.assert_array_equal(run(proto, x=random(count, 5, 3)), result)


def test_sizes_that_are_read_from_a_tensor_are_settled() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape two", "both"),
        node("Concat", "both rest", "wanted", axis=0),
        node("MatMul", "x w", "m"),
        node("Reshape", "m wanted", "y"),
    ]
    constants = {"two": np.array([0, 1]), "rest": np.array([2, 3])}
    proto, weight = model(nodes, {"x": (None, 5, 4), "w": (4, 6)}, constants), random(4, 6, seed=3)
    expected = {count: run(proto, x=random(count, 5, 4), w=weight) for count in (1, 7)}
    arrays = graph.bind_weights(proto, {"w": weight})
    graph.settle_shapes(proto, arrays)
    assert ops(proto) == ["MatMul", "Reshape"]
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    for count, result in expected.items():
        np.testing.assert_array_equal(run(proto, x=random(count, 5, 4)), result)


def test_a_shape_that_needs_the_batch_twice_stays() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Concat", "three batch one batch", "wanted", axis=0),
        node("Unsqueeze", "x axes", "u"),
        node("Expand", "u wanted", "y"),
    ]
    constants = {"zero": np.array([0]), "three": np.array([3]), "one": np.array([1]), "axes": np.array([0, 2])}
    proto, x = model(nodes, {"x": (None, 1)}, constants), random(4, 1)
    expected = run(proto, x=x)
    assert expected.shape == (3, 4, 1, 4)
    graph.settle_shapes(proto)
    assert ops(proto) == ["Shape", "Gather", "Concat", "Unsqueeze", "Expand"]
    np.testing.assert_array_equal(run(proto, x=x), expected)


def test_an_expand_keeps_the_batch_that_is_there() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Concat", "batch five", "wanted", axis=0),
        node("Expand", "x wanted", "y"),
    ]
    proto = model(nodes, {"x": (None, 1)}, {"zero": np.array([0]), "five": np.array([5])})
    expected = run(proto, x=random(4, 1))
    assert expected.shape == (4, 5)
    graph.settle_shapes(proto)
    assert ops(proto) == ["Expand"]
    np.testing.assert_array_equal(run(proto, x=random(4, 1)), expected)


def test_a_resize_to_sizes_becomes_one_by_factors() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape zero two", "kept"),
        node("Concat", "kept wanted", "sizes", axis=0),
        node("Resize", "x  sizes", "y", mode="nearest", coordinate_transformation_mode="asymmetric"),
    ]
    nodes[-1].input[:] = ["x", "", "", "sizes"]
    nodes[-1].attribute.append(helper.make_attribute("nearest_mode", "floor"))
    constants = {"zero": np.array([0]), "two": np.array([2]), "wanted": np.array([6, 8])}
    proto, x = model(nodes, {"x": (None, 2, 3, 4)}, constants), random(5, 2, 3, 4)
    expected = run(proto, x=x)
    assert expected.shape == (5, 2, 6, 8)
    graph.settle_shapes(proto)
    assert ops(proto) == ["Resize"]
    assert len(proto.graph.node[0].input) == 3
    np.testing.assert_array_equal(run(proto, x=x), expected)


@pytest.mark.parametrize(("least", "branch"), [(5, "Relu"), (6, "Neg")])
def test_a_branch_that_the_shape_decides_is_put_in_place(least: int, branch: str) -> None:
    def body(op: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(f"{op}/out", TensorProto.FLOAT, None)
        return helper.make_graph([node(op, "x", f"{op}/out")], op, [], [result])

    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape one", "rows"),
        node("GreaterOrEqual", "rows least", "enough"),
        node("If", "enough", "y", then_branch=body("Relu"), else_branch=body("Neg")),
    ]
    proto, x = model(nodes, {"x": (None, 5)}, {"one": np.array(1), "least": np.array(least)}), random(3, 5)
    expected = run(proto, x=x)
    graph.settle_shapes(proto)
    assert ops(proto) == [branch]
    np.testing.assert_array_equal(run(proto, x=x), expected)


# ---------------------------------------------------------------- head


def head_of_maps(shape: tuple) -> onnx.ModelProto:
    nodes = [
        node("Softmax", "x", "p", axis=-1),
        node("Identity", "p", "tapped", name="tap/softmax#0"),
        node("Reshape", "tapped row", "y"),
    ]
    return model(nodes, {"x": (None, *shape)}, {"row": np.array([-1, int(np.prod(shape))])})


def test_the_logits_of_a_map_of_one_pixel_become_one_row() -> None:
    proto, x = head_of_maps((1, 1, 4)), random(3, 1, 1, 4)
    expected = run(proto, x=x)
    graph.settle_head(proto)
    assert ops(proto) == ["Reshape", "Identity", "Reshape", "Softmax", "Identity", "Reshape"]
    np.testing.assert_array_equal(run(proto, x=x), expected)
    proto.graph.output[0].name = "head/logits"
    (logits,) = ReferenceEvaluator(proto).run(["head/logits"], {"x": x})
    np.testing.assert_array_equal(logits, x[:, 0, 0])


def test_a_softmax_over_whole_maps_is_no_head() -> None:
    proto = head_of_maps((1, 2, 4))
    graph.settle_head(proto)
    assert ops(proto) == ["Softmax", "Identity", "Reshape"]


# ---------------------------------------------------------------- ops


def test_known_ops_pass() -> None:
    graph.check_ops(model([node("Relu", "x", "a"), node("GlobalMaxPool", "a", "y")], {"x": (1, 2, 3, 3)}))


def test_unknown_ops_are_refused_each_with_its_node() -> None:
    nodes = [node("Relu", "x", "a"), node("Sinh", "a", "b", name="net/wave"), node("GRU", "b b b", "y", name="net/gru")]
    with pytest.raises(UnsupportedModelError, match=r"^2 ops cannot .*: Sinh in net/wave; GRU in net/gru\. Replace"):
        graph.check_ops(model(nodes, {"x": (1, 2)}))


def test_an_unknown_op_is_told_with_the_layer_that_it_works_for() -> None:
    nodes = [
        node("Identity", "x", "a", name="tap/first#0"),
        node("Sinh", "a", "b", name="net/wave"),
        node("Relu", "b", "c"),
        node("Identity", "c", "d", name="tap/block/second#1"),
        node("Identity", "d", "y", name="tap/third#0"),
    ]
    with pytest.raises(UnsupportedModelError, match=r"Sinh in net/wave \(layer 'block/second'\)\. Replace"):
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
