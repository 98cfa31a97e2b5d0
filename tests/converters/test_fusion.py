"""A fused module computes what it computed before: output, kept activations, gradients there and at the input."""

import copy
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fusing import images, random, require_same, seen
from onnx import TensorProto, helper, numpy_helper
from stored import CHECKPOINTS
from torch import Tensor

from converters.errors import ParityError
from converters.fusion import fuse
from converters.module import ImportedModule, build

Nodes = list[onnx.NodeProto]


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], f"{op}_{output}", **attributes)


def tap(name: str, source: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [output], f"tap/{name}#0")


def net(nodes: Nodes, shape: tuple = (None, 3, 8, 9), **constants: np.ndarray) -> ImportedModule:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return build(onnx.shape_inference.infer_shapes(proto), {})


def fused(module: ImportedModule, x: Tensor, keep: tuple[str, ...] = ()) -> ImportedModule:
    """Fuse and prove it."""
    found = fuse(module, [(path, 0) for path in keep], x[:2])
    assert found.paths == {(path, 0): path for path in keep}
    ours: Any = found.module
    require_same(seen(ours.logits, ours, x, list(keep)), seen(module.logits, module, x, list(keep)))
    expected = module(x)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    return ours


def kinds(module: ImportedModule) -> Counter[str]:
    """How often each layer and function is called."""
    nodes = module.trunk.graph.nodes
    modules = [type(module.trunk.get_submodule(str(n.target))).__name__ for n in nodes if n.op == "call_module"]
    functions = [getattr(n.target, "__name__", "") for n in nodes if n.op == "call_function"]
    return Counter([*modules, *functions, *("constant" for n in nodes if n.op == "get_attr")])


NORM = {
    "scale": random(4, seed=1),
    "shift": random(4, seed=2),
    "mean": random(4, seed=3),
    "var": random(4, seed=4) ** 2 + 0.2,
}
CONV = {"k": random(4, 3, 3, 3), "b": random(4, seed=5)}


def channels(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


# ---------------------------------------------------------------- convolutions and norms


def conv_norm(bias: str = " b", **attributes: Any) -> Nodes:
    return [
        node("Conv", f"x k{bias}", "c", **attributes),
        tap("conv", "c", "c1"),
        node("BatchNormalization", "c1 scale shift mean var", "n", epsilon=1e-3),
        tap("norm", "n", "n1"),
        node("Relu", "n1", "r"),
        tap("relu", "r", "y"),
    ]


@pytest.mark.parametrize("bias", [" b", ""])
def test_conv_and_norm_become_one(bias: str) -> None:
    module = net(conv_norm(bias, pads=[1, 1, 1, 1], strides=[2, 2]), **CONV, **NORM)
    found = fused(module, images(4, 3, 8, 9), keep=("trunk.tap/relu#0",))
    assert kinds(found) == {"Conv2d": 1, "ReLU": 1, "Identity": 1}
    assert kinds(fused(module, images(4, 3, 8, 9))) == {"Conv2d": 1, "ReLU": 1}


def test_a_kept_layer_between_conv_and_norm_stays_what_it_was() -> None:
    module = net(conv_norm(), **CONV, **NORM)
    found = fused(module, images(4, 3, 8, 9), keep=("trunk.tap/conv#0", "trunk.tap/norm#0"))
    assert kinds(found) == {"Conv2d": 1, "BatchNorm2d": 1, "ReLU": 1, "Identity": 2}
    ours, theirs = (m.trunk.get_submodule("Conv_c") for m in (found, module))
    assert ours.weight.data_ptr() == theirs.weight.data_ptr()


def test_a_norm_that_keras_3_wrote_as_two_constants_is_folded_too() -> None:
    nodes = [
        node("Conv", "x k b", "c"),
        tap("conv", "c", "c1"),
        node("Mul", "c1 scale", "m"),
        node("Add", "shift m", "a"),
        tap("norm", "a", "y"),
    ]
    constants = CONV | {"scale": channels(NORM["scale"]), "shift": channels(NORM["shift"])}
    assert kinds(fused(net(nodes, **constants), images(4, 3, 8, 9))) == {"Conv2d": 1}
    # behind a kept convolution the two still become one
    kept = fused(net(nodes, **constants), images(4, 3, 8, 9), keep=("trunk.tap/conv#0",))
    assert kinds(kept) == {"Conv2d": 1, "Identity": 1, "ChannelAffine": 1}


@pytest.mark.parametrize("op", ["Sub", "Div"])
@pytest.mark.parametrize("first", [True, False])
def test_constants_are_folded_in_the_right_order(op: str, first: bool) -> None:
    nodes = [node("Conv", "x k b", "c"), node(op, "scale c" if first else "c scale", "y")]
    module = net(nodes, **CONV, scale=channels(NORM["scale"]))
    module.trunk.get_submodule("Conv_c").bias.add_(9)  # away from the pole of 1 / x
    found = kinds(fused(module, images(4, 3, 8, 9)))
    assert found == (
        {"Conv2d": 1, "OnnxBinaryMathOperation": 1, "constant": 1} if (op, first) == ("Div", True) else {"Conv2d": 1}
    )


def test_a_depthwise_and_a_transposed_convolution_take_the_norm_too() -> None:
    nodes = [
        node("Conv", "x depthwise", "c", group=3, pads=[1, 1, 1, 1]),
        node("Mul", "c three", "m"),
        node("ConvTranspose", "m up", "t", strides=[2, 2], output_padding=[1, 1]),
        node("BatchNormalization", "t scale shift mean var", "y"),
    ]
    constants = {"depthwise": random(3, 1, 3, 3), "three": channels(random(3)), "up": random(3, 4, 3, 3), **NORM}
    assert kinds(fused(net(nodes, **constants), images(4, 3, 8, 9))) == {"Conv2d": 1, "ConvTranspose2d": 1}


def test_dense_and_bias_and_norm_become_one() -> None:
    nodes = [
        node("MatMul", "x matrix", "m"),
        node("Add", "m bias", "a"),
        tap("dense", "a", "a1"),
        node("BatchNormalization", "a1 scale shift mean var", "n"),
        node("MatMul", "n square", "l"),
        tap("logits", "l", "l1"),
        node("Softmax", "l1", "y", axis=1),
    ]
    module = net(nodes, (None, 6), matrix=random(6, 4), bias=random(4), square=random(4, 4, seed=7), **NORM)
    found = fused(module, images(5, 6))
    assert kinds(found) == {"Linear": 2}
    assert found.head is not None
    kept = fused(module, images(5, 6), keep=("trunk.tap/dense#0", "trunk.tap/logits#0"))
    assert kinds(kept) == {"Linear": 2, "BatchNorm1d": 1, "Identity": 2}


def rectifiers_in_place(module: ImportedModule) -> list[bool]:
    called = (module.trunk.get_submodule(str(n.target)) for n in module.trunk.graph.nodes if n.op == "call_module")
    return [part.inplace for part in called if isinstance(part, torch.nn.ReLU | torch.nn.ReLU6)]


def test_a_rectifier_overwrites_what_nobody_else_reads() -> None:
    module = net(conv_norm(), **CONV, **NORM)
    assert rectifiers_in_place(fused(module, images(4, 3, 8, 9))) == [True]
    assert rectifiers_in_place(fused(module, images(4, 3, 8, 9), keep=("trunk.tap/norm#0",))) == [False]
    assert rectifiers_in_place(module) == [False]


def test_a_rectifier_leaves_the_input_and_what_others_read() -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("Conv", "r k b", "c"),
        node("Relu", "c", "c1"),
        node("Sigmoid", "c", "c2"),
        node("Add", "c1 c2", "a"),
        node("Relu", "a", "a1"),
        node("Mul", "a1 a1", "m"),
        node("Relu", "m", "y"),
    ]
    assert rectifiers_in_place(fused(net(nodes, **CONV), images(4, 3, 8, 9))) == [False, False, True, False]


def test_a_convolution_that_others_read_keeps_its_values() -> None:
    nodes = [
        node("Conv", "x k b", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("Add", "n c", "y"),
    ]
    assert kinds(fused(net(nodes, **CONV, **NORM), images(4, 3, 8, 9))) == {
        "Conv2d": 1,
        "BatchNorm2d": 1,
        "OnnxBinaryMathOperation": 1,
    }


@pytest.mark.parametrize("shape", [(7,), (1, 6, 1), (4, 6, 7)])
def test_a_constant_that_varies_over_space_is_no_norm(shape: tuple[int, ...]) -> None:
    nodes = [node("Conv", "x k b", "c"), node("Mul", "c scale", "y")]
    found = fused(net(nodes, **CONV, scale=random(*shape)), images(4, 3, 8, 9))
    assert kinds(found) == {"Conv2d": 1, "OnnxBinaryMathOperation": 1, "constant": 1}


# ---------------------------------------------------------------- padding


def padded(pads: list[int], *rest: onnx.NodeProto, value: float = 0.0, **constants: np.ndarray) -> ImportedModule:
    given = {"pads": np.array(pads), "value": np.array(value, "float32"), **constants}
    return net([node("Pad", "x pads value", "p"), *rest], **given)


@pytest.mark.parametrize(
    ("pads", "value", "folded"),
    [
        ([0, 0, 1, 2, 0, 0, 1, 2], 0.0, True),
        ([0, 0, 0, 0, 0, 0, 1, 1], 0.0, False),
        ([0, 0, 1, 2, 0, 0, 1, 2], 1.5, False),
        ([1, 0, 1, 1, 1, 0, 1, 1], 0.0, False),
    ],
    ids=["zeros", "one side", "ones", "batch"],
)
def test_zeros_on_both_sides_are_padded_by_the_convolution(pads: list[int], value: float, folded: bool) -> None:
    module = padded(pads, node("Conv", "p k b", "y", pads=[1, 0, 1, 0]), value=value, **CONV)
    found = fused(module, images(4, 3, 8, 9))
    assert kinds(found) == ({"Conv2d": 1} if folded else {"Conv2d": 1, "pad_by_constants": 1})


def test_a_kept_padding_stays() -> None:
    module = padded([0, 0, 1, 1, 0, 0, 1, 1], tap("pad", "p", "p1"), node("Conv", "p1 k b", "y"), **CONV)
    found = fused(module, images(4, 3, 8, 9), keep=("trunk.tap/pad#0",))
    assert kinds(found) == {"Conv2d": 1, "pad_by_constants": 1, "Identity": 1}


def test_the_padding_that_onnx2torch_adds_to_a_convolution_stays_outside_and_the_norm_is_folded() -> None:
    module = net(conv_norm(pads=[0, 0, 1, 1], strides=[2, 2]), **CONV, **NORM)
    assert kinds(fused(module, images(4, 3, 8, 9))) == {"Conv2d": 1, "pad_by_constants": 1, "ReLU": 1}


def pooled(*before: onnx.NodeProto, source: str, **pool: Any) -> ImportedModule:
    nodes = [
        *before,
        node("Pad", f"{source} pads", "p"),
        node("MaxPool", "p", "y", kernel_shape=[3, 3], strides=[2, 2], **pool),
    ]
    return net(nodes, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]))


def test_zeros_behind_a_rectifier_are_padded_by_the_pool() -> None:
    assert kinds(fused(pooled(node("Relu", "x", "r"), source="r"), images(4, 3, 8, 9))) == {"ReLU": 1, "MaxPool2d": 1}


def test_zeros_over_negative_values_are_not() -> None:
    below_zero = images(4, 3, 8, 9).abs().neg()
    module = pooled(node("Identity", "x", "i"), source="i")
    assert float(module(below_zero).amax()) == 0
    assert kinds(fused(module, below_zero))["pad_by_constants"] == 1


def test_a_kept_rectifier_keeps_its_gradient_where_zeros_tie() -> None:
    # in a corner of zeros the padding takes the gradient, and the layer gets none
    x = images(4, 3, 8, 9)
    x[:, :, :4, :4] = -1
    module = pooled(node("Relu", "x", "r"), tap("relu", "r", "t"), source="t")
    found = fused(module, x, keep=("trunk.tap/relu#0",))
    assert kinds(found) == {"ReLU": 1, "Identity": 1, "pad_by_constants": 1, "MaxPool2d": 1}


# ---------------------------------------------------------------- constants that onnx2torch reads at each call


@pytest.mark.parametrize("sizes", [[0, 72], [0, -1], [-1, 8, 9], [0, 0, -1], [0, 1, 0, 9]])
def test_a_constant_shape_is_settled_for_any_batch(sizes: list[int]) -> None:
    module = net([node("Reshape", "x sizes", "y")], (None, 1, 8, 9), sizes=np.array(sizes))
    found: Any = fuse(module, (), images(2, 1, 8, 9)).module
    x = images(5, 1, 8, 9)
    assert torch.equal(found(x), module(x))
    assert kinds(found) == {"reshape": 1}


def test_constant_axes_are_settled() -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Squeeze", "p axes", "y")]
    found = fused(net(nodes, axes=np.array([3, 2])), images(4, 3, 8, 9))
    assert kinds(found)["squeeze"] == 1
    assert kinds(found)["constant"] == 0


# ---------------------------------------------------------------- whole networks


@pytest.mark.parametrize("name", ["dogcat_a", "func.h5", "nest.h5", "tcav_families.h5"])
def test_an_imported_network_is_the_same_with_any_layers_kept(name: str) -> None:
    bundle = CHECKPOINTS[name].convert()
    module, x = bundle.module(), CHECKPOINTS[name].images()[:2]
    spread = [row.module for row in bundle.layers if row.module.startswith("trunk.")]
    chosen = tuple(dict.fromkeys(spread[:: max(1, len(spread) // 4)]))
    found = fused(module, x, keep=chosen)
    assert kinds(found)["Identity"] == len(chosen)
    everything = fused(module, x)
    assert sum(kinds(everything).values()) < sum(kinds(module).values()) / 1.5


def test_the_original_stays_as_it_was() -> None:
    module = net(conv_norm(), **CONV, **NORM)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    code, x = module.trunk.code, images(4, 3, 8, 9)
    expected = module(x)
    ours = fused(module, x)
    ours.double()
    assert module.trunk.code == code
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(module(x), expected)


def test_a_fused_module_is_in_eval_mode_and_is_copied_and_cast() -> None:
    ours = fused(net(conv_norm(), **CONV, **NORM), images(4, 3, 8, 9))
    assert not any(part.training for part in ours.modules())
    assert not any(weight.requires_grad for weight in ours.parameters())
    x = images(4, 3, 8, 9)
    assert torch.equal(copy.deepcopy(ours)(x), ours(x))
    expected = ours(x)
    twice = copy.deepcopy(ours).double()(x.double())
    assert twice.dtype == torch.float64
    torch.testing.assert_close(twice.float(), expected, rtol=1e-5, atol=1e-6)


def test_fusing_inside_inference_mode_leaves_gradients_possible() -> None:
    module = net(conv_norm(), **CONV, **NORM)
    with torch.inference_mode():
        ours = fuse(module, (), images(2, 3, 8, 9)).module
    x = images(2, 3, 8, 9).requires_grad_()
    ours(x).sum().backward()
    assert x.grad is not None
    assert x.grad.std() > 0


def test_a_change_of_results_would_be_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from converters import folding

    right = folding.after
    monkeypatch.setattr(folding, "after", lambda layer, affine: right(layer, affine.then(affine)))
    with pytest.raises(
        ParityError, match=r"fusing ImportedModule changed its output by .*; use the model without fuse"
    ):
        fuse(net(conv_norm(), **CONV, **NORM), (), images(2, 3, 8, 9))
