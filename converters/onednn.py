"""oneDNN's fused operations for a CPU: a convolution, the sum behind it and its activation in one pass over memory.

Results are the same to float rounding. The operations are those that torch's own compiler uses; a torch that was built
without them keeps the plain layers.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from onnx2torch.node_converters.binary_math_operations import OnnxBinaryMathOperation
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from converters.graph_edits import call_instead, called, calls, replace_by

Activation = tuple[str, tuple[float, ...]]

_NONE: Activation = ("none", ())
_RELU: Activation = ("relu", ())
_RELU6: Activation = ("hardtanh", (0.0, 6.0))
_SILU: Activation = ("swish", ())
_HARDSWISH: Activation = ("hardswish", ())

_OF_MODULES: dict[type, Activation] = {
    nn.ReLU: _RELU,
    nn.ReLU6: _RELU6,
    nn.SiLU: _SILU,
    nn.Hardswish: _HARDSWISH,
}
_OF_FUNCTIONS: dict[Callable[..., Any] | str, Activation] = {
    functional.relu: _RELU,
    torch.relu: _RELU,
    torch.relu_: _RELU,
    "relu": _RELU,
    "relu_": _RELU,
    functional.relu6: _RELU6,
    functional.silu: _SILU,
    functional.hardswish: _HARDSWISH,
}
_SUMS = operator.add, torch.add  # to torch.fx, `+=` is the former


def is_available() -> bool:
    """Whether this torch has the operations."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")
    )


def fuse_convolutions(net: fx.GraphModule, example: Tensor) -> None:
    """Let each float32 convolution of a graph do the sum and the activation behind it, in place of the graph.

    Parameters
    ----------
    net : fx.GraphModule
        In eval mode, on the CPU. Changed in place; its layers are not.
    example : Tensor (N, C, H, W)
        Tells the shapes.
    """
    ShapeProp(net).propagate(example)
    weights: dict[int, Tensor] = {}
    for node, module in calls(net):
        if _fits(module) and "tensor_meta" in node.meta:
            _fuse_at(net, node, module, weights)
    net.graph.lint()
    net.delete_all_unused_submodules()
    net.recompile()


class FusedConvolution(nn.Module):
    """activation(convolution(x)), or activation(convolution(x) + other).

    Parameters
    ----------
    like : nn.Conv2d
        Its settings and bias.
    weight : Tensor
        Its weight in oneDNN's own layout.
    activation : tuple of str and tuple of float
        oneDNN's name of the activation and its numbers.
    """

    def __init__(self, like: nn.Conv2d, weight: Tensor, activation: Activation) -> None:
        super().__init__()
        self.bias = None if like.bias is None else like.bias.detach()
        self._weight = weight
        self._settings = [*map(list, (like.padding, like.stride, like.dilation)), like.groups]
        self._activation = activation

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, K, h, w); `other` of the latter shape."""
        name, numbers = self._activation
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return convolve(images, self._weight, self.bias, *self._settings, name, list(numbers), "")
        unary = (None, [], None) if name == "none" else (name, list(numbers), "")
        return convolve.binary(images, other, self._weight, self.bias, *self._settings, "add", 1.0, *unary)


def _fits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
    )


def _fuse_at(net: fx.GraphModule, node: fx.Node, conv: nn.Conv2d, weights: dict[int, Tensor]) -> None:
    if id(conv) not in weights:
        weights[id(conv)] = _packed(conv, node.args[0])
    total = _sum_behind(net, node)
    activated, activation = _activation_behind(net, node if total is None else total[0])
    if total is not None and activation != _RELU:
        activated, activation = None, _NONE  # behind a sum, oneDNN has no other
    inputs = node.args if total is None else (*node.args, total[1])
    call_instead(net, node, FusedConvolution(conv, weights[id(conv)], activation), *inputs)
    for done in (None if total is None else total[0], activated):
        if done is not None:
            replace_by(net, done, node)


def _packed(conv: nn.Conv2d, source: Any) -> Tensor:
    """The weight as oneDNN wants it, so that it is not reordered at each call."""
    settings: Any = (conv.padding, conv.stride, conv.dilation, conv.groups)
    size = list(source.meta["tensor_meta"].shape)
    return torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *settings, size)


def _sum_behind(net: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The sum that follows a convolution at once, and its other summand; None if there is none.

    At once, because what lies between might change one of the two in place.
    """
    behind = node.next
    if list(node.users) != [behind] or not _is_sum(net, behind) or len(behind.args) != 2 or behind.kwargs:
        return None
    first, second = behind.args
    other = second if first is node else first
    return (behind, other) if isinstance(other, fx.Node) and other is not node and _alike(node, other) else None


def _is_sum(net: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _SUMS
    module: Any = called(net, node)
    is_binary = type(module) is OnnxBinaryMathOperation
    return is_binary and module.broadcast != 1 and module.math_op_function is torch.add


def _alike(node: fx.Node, other: fx.Node) -> bool:
    ours, theirs = (each.meta.get("tensor_meta") for each in (node, other))
    return ours is not None and theirs is not None and (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


def _activation_behind(net: fx.GraphModule, node: fx.Node) -> tuple[fx.Node | None, Activation]:
    """The activation that alone reads a node."""
    if len(node.users) == 1:
        (user,) = node.users
        found = _activation(net, user)
        if found is not None and user.all_input_nodes == [node]:
            return user, found
    return None, _NONE


def _activation(net: fx.GraphModule, node: fx.Node) -> Activation | None:
    if node.op in ("call_function", "call_method"):
        plain = len(node.args) == 1 and set(node.kwargs) <= {"inplace"}
        return _OF_FUNCTIONS.get(node.target) if plain else None
    return _OF_MODULES.get(type(called(net, node)))
