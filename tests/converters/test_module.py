"""The torch module of a graph: what it computes, where its head is cut off, whose memory its weights are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx2torch.onnx_tensor import OnnxTensor
from torch import nn

from converters.errors import UnsupportedModelError
from converters.graph import settle_head
from converters.module import build

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.standard_normal((4, 3)).astype("float32"), RANDOM.standard_normal(3).astype("float32")
X = RANDOM.standard_normal((5, 4)).astype("float32")


def node(op: str, inputs: str, output: str, name: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name or f"{op}_{output}", **attributes)


def model(nodes: list[onnx.NodeProto], shape: tuple, **constants: np.ndarray) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "net", [x], [y], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def classifier(*head: onnx.NodeProto) -> onnx.ModelProto:
    """Dense, its tap `logits`, and what follows."""
    nodes = [
        node("MatMul", "x kernel", "m"),
        node("Add", "m bias", "a"),
        node("Identity", "a", "logits", "tap/dense#0"),
    ]
    return model([*nodes, *head], (None, 4), kernel=KERNEL, bias=BIAS)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("op", "function"), [("Softmax", softmax), ("Sigmoid", lambda logits: 1 / (1 + np.exp(-logits)))]
)
def test_a_head_is_cut_off_and_both_sides_are_right(op: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    axis: dict[str, Any] = {"axis": 1} if op == "Softmax" else {}
    activation = node(op, "logits", "p", **axis)
    module = build(classifier(activation, node("Identity", "p", "y", "tap/head#0")), {})
    logits = X.astype(np.float64) @ KERNEL + BIAS
    np.testing.assert_allclose(module.logits(torch.from_numpy(X)), logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(module(torch.from_numpy(X)), function(logits), rtol=1e-5, atol=1e-6)
    names = {name for name, _ in module.named_modules() if "tap/" in name}
    assert names == {"trunk.tap/dense#0", "head.tap/head#0"}


def test_the_logits_of_a_map_of_one_pixel_are_one_row() -> None:
    head = [
        node("Reshape", "logits maps", "m2"),
        node("Softmax", "m2", "p", axis=1),
        node("Identity", "p", "tapped", "tap/softmax#0"),
        node("Reshape", "tapped row", "y"),
    ]
    proto = classifier(*head)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3, 1, 1]), "maps"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3]), "row"))
    settle_head(proto)
    module = build(proto, {})
    logits = X.astype(np.float64) @ KERNEL + BIAS
    np.testing.assert_allclose(module.logits(torch.from_numpy(X)), logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(module(torch.from_numpy(X)), softmax(logits), rtol=1e-5, atol=1e-6)
    names = {name for name, _ in module.named_modules() if "tap/" in name}
    assert names == {"trunk.tap/dense#0", "head.tap/softmax#0"}


def test_without_a_head_logits_and_output_are_the_same() -> None:
    module = build(classifier(node("Relu", "logits", "y")), {})
    assert module.head is None
    expected = np.maximum(X.astype(np.float64) @ KERNEL + BIAS, 0)
    assert 0 < (expected == 0).sum() < expected.size
    np.testing.assert_allclose(module(torch.from_numpy(X)), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(module.logits(torch.from_numpy(X)), module(torch.from_numpy(X)))


def test_a_softmax_inside_the_model_is_no_head() -> None:
    attention = [node("Softmax", "logits", "weights", axis=1), node("Mul", "logits weights", "y")]
    module = build(classifier(*attention), {})
    logits = X.astype(np.float64) @ KERNEL + BIAS
    assert module.head is None
    np.testing.assert_allclose(module(torch.from_numpy(X)), logits * softmax(logits), rtol=1e-5, atol=1e-6)


def test_a_module_is_in_eval_mode_and_frozen_and_lets_gradients_through() -> None:
    module = build(classifier(node("Softmax", "logits", "y", axis=1)), {})
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert isinstance(module.get_submodule("trunk.tap/dense#0"), nn.Identity)
    x = torch.from_numpy(X).clone().requires_grad_()
    module.logits(x)[:, 1].sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, np.broadcast_to(KERNEL[:, 1], X.shape), rtol=1e-6)


def external(proto: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    tensor = proto.graph.initializer.add(name=name, dims=shape, data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.safetensors")
    return proto


def test_weights_that_stand_apart_are_used_and_not_copied() -> None:
    kernel = torch.from_numpy(RANDOM.standard_normal((6, 3, 3, 3)).astype("float32"))
    convolution = node("Conv", "x k", "y", pads=[1, 1, 1, 1])
    module = build(external(model([convolution], (None, 3, 8, 8)), "k", (6, 3, 3, 3)), {"k": kernel})
    (weight,) = module.parameters()
    assert weight.data_ptr() == kernel.data_ptr()
    x = torch.from_numpy(RANDOM.standard_normal((2, 3, 8, 8)).astype("float32"))
    torch.testing.assert_close(module(x), nn.functional.conv2d(x, kernel, padding=1))


def test_onnx2torch_is_left_as_it_was() -> None:
    plain = OnnxTensor.to_torch
    build(classifier(node("Relu", "logits", "y")), {})
    assert OnnxTensor.to_torch is plain
    with pytest.raises(KeyError):
        build(external(model([node("Conv", "x k", "y")], (None, 3, 8, 8)), "k", (6, 3, 3, 3)), {})
    assert OnnxTensor.to_torch is plain


def test_an_option_that_onnx2torch_lacks_is_an_error_of_ours() -> None:
    pool = node("MaxPool", "x", "y", kernel_shape=[2, 2], storage_order=1)
    with pytest.raises(UnsupportedModelError, match="onnx2torch cannot convert this graph"):
        build(model([pool], (None, 3, 8, 8)), {})


def test_global_max_pooling_is_the_maximum_over_space() -> None:
    maps = RANDOM.standard_normal((2, 3, 4, 5)).astype("float32")
    module = build(model([node("GlobalMaxPool", "x", "y")], (None, 3, 4, 5)), {})
    assert module(torch.from_numpy(maps)).shape == (2, 3, 1, 1)
    np.testing.assert_array_equal(module(torch.from_numpy(maps)).numpy()[..., 0, 0], maps.max((2, 3)))
