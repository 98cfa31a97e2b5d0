"""The passes that fuse a graph; each leaves one that computes the same, gradients at the kept taps included."""

from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from onnx2torch.node_converters.binary_math_operations import OnnxBinaryMathOperation
from onnx2torch.node_converters.dropout import OnnxDropoutDynamic
from onnx2torch.node_converters.matmul import OnnxMatMul
from onnx2torch.node_converters.pad import OnnxPadDynamic, OnnxPadStatic, _onnx_padding_to_torch
from onnx2torch.node_converters.reshape import OnnxReshape
from onnx2torch.node_converters.squeeze import OnnxSqueezeDynamicAxes
from torch import Tensor, fx, nn

from converters import folding
from converters.folding import Affine
from converters.graph_edits import call_instead, called, calls, constant_of, pad_by_constants, replace_by

_IDLE = nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, OnnxDropoutDynamic
_RECTIFIERS = nn.ReLU, nn.ReLU6
# what they give is new memory, which none of them needs for its gradient
_OVERWRITABLE = *folding.LINEAR, *folding.NORMS, folding.ChannelAffine
_OPERATIONS = {"add": "add", "sub": "sub", "mul": "mul", "_onnx_div": "div"}


def fuse_graph(net: fx.GraphModule, keep: Collection[str], example: Tensor) -> Tensor:
    """Fuse a graph in place; gives what it computes of the example."""
    result = _Shapes(net).run(example)
    _open_sequences(net)
    _drop_idle(net, keep)
    _settle_constants(net)
    _fold_pads(net)
    _fold_affine(net)
    _rectify_in_place(net)
    net.graph.lint()
    net.delete_all_unused_submodules()
    net.recompile()
    return result


class _Shapes(fx.Interpreter):
    """Notes shape and dtype of what each node gives."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"], n.meta["dtype"] = tuple(result.shape), result.dtype
        return result


# ---------------------------------------------------------------- passes


def _open_sequences(net: fx.GraphModule) -> None:
    """Let each layer of a Sequential be a node; onnx2torch pads so."""
    for node, module in calls(net):
        if type(module) is nn.Sequential and len(module) > 0:
            steps = [f"{node.target}.{name}" for name, _ in module.named_children()]
            for step in steps[:-1]:
                with net.graph.inserting_before(node):
                    node.args = (net.graph.call_module(step, node.args),)
            node.target = steps[-1]


def _drop_idle(net: fx.GraphModule, keep: Collection[str]) -> None:
    for node, module in calls(net):
        if type(module) in _IDLE and not module.training and node.target not in keep:
            (source,) = node.all_input_nodes
            replace_by(net, node, source)


def _settle_constants(net: fx.GraphModule) -> None:
    """Read once what onnx2torch would read from a tensor at each call, which waits for the device."""
    for node, module in calls(net):
        settle = _SETTLE.get(type(module))
        if settle is not None:
            settle(net, node, module)


def _settle_pad(net: fx.GraphModule, node: fx.Node, module: Any) -> None:
    if type(module) is OnnxPadStatic:
        pads, value = list(module.pads), module.constant_value
    else:
        given = [constant_of(net, item) for item in node.args[1:]]
        if module.mode != "constant" or not given or any(item is None for item in given):
            return
        pads = _onnx_padding_to_torch(given[0].tolist())  # type: ignore[union-attr]
        value = 0.0 if len(given) == 1 else float(given[1])  # type: ignore[arg-type]
    _call_function(net, node, pad_by_constants, node.args[0], pads, module.mode, value)


def _settle_squeeze(net: fx.GraphModule, node: fx.Node, _: Any) -> None:
    axes = constant_of(net, node.args[1]) if len(node.args) == 2 else None
    if axes is not None and axes.numel() > 0:
        _call_function(net, node, torch.squeeze, node.args[0], tuple(axes.tolist()))


def _settle_reshape(net: fx.GraphModule, node: fx.Node, _: Any) -> None:
    shape = constant_of(net, node.args[1])
    source: Any = node.args[0]
    before = source.meta.get("shape")
    if shape is None or before is None:
        return
    sizes = shape.tolist()
    if sizes[0] == 0 and -1 in sizes:
        # only the size of the batch is not known yet: so the other one can be told
        sizes = [0, *node.meta["shape"][1:]]
    known = [
        -1 if place == 0 and size == 0 else before[place] if size == 0 else size for place, size in enumerate(sizes)
    ]
    if known.count(-1) <= 1:
        _call_function(net, node, torch.reshape, source, tuple(known))


def _settle_matmul(net: fx.GraphModule, node: fx.Node, _: Any) -> None:
    matrix = constant_of(net, node.args[1])
    if matrix is not None and matrix.ndim == 2:
        call_instead(net, node, folding.from_matrix(matrix), node.args[0])


_SETTLE: dict[type, Callable[[fx.GraphModule, fx.Node, Any], None]] = {
    OnnxPadDynamic: _settle_pad,
    OnnxPadStatic: _settle_pad,
    OnnxSqueezeDynamicAxes: _settle_squeeze,
    OnnxReshape: _settle_reshape,
    OnnxMatMul: _settle_matmul,
}


def _call_function(net: fx.GraphModule, node: fx.Node, function: Callable[..., Tensor], *args: Any) -> None:
    with net.graph.inserting_before(node):
        new = net.graph.call_function(function, args)
    new.meta = dict(node.meta)
    replace_by(net, node, new)


def _fold_pads(net: fx.GraphModule) -> None:
    """Let a convolution or MaxPool pad by itself."""
    for node, module in calls(net):
        if type(module) in folding.CONVOLUTIONS and module.padding_mode == "zeros":
            pads = _symmetric_zeros(node.args[0], len(module.kernel_size))
            if pads is not None and not isinstance(module.padding, str):
                _pad_inside(net, node, folding.padding_more(module, pads))
        elif type(module) is nn.MaxPool2d:
            pads = _symmetric_zeros(node.args[0], 2)
            if pads is not None and _is_rectified(net, node.args[0]) and _can_pad(module, pads):
                _pad_inside(net, node, folding.altered(module, {}, padding=pads))


def _pad_inside(net: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    padding: Any = node.args[0]
    call_instead(net, node, module, padding.args[0])


def _is_rectified(net: fx.GraphModule, padding: Any) -> bool:
    """Whether what is padded comes straight from a rectifier.

    MaxPool pads with -inf. There zero is as good: no value is below it, and where zero is the largest, no gradient
    passes the rectifier, whichever of the zeros receives it.
    """
    return type(called(net, padding.args[0])) in _RECTIFIERS


def _symmetric_zeros(node: Any, rank: int) -> tuple[int, ...] | None:
    """The padding of the last `rank` axes, if it is with zeros, the same on both sides, and of no other axis."""
    if not isinstance(node, fx.Node) or node.target is not pad_by_constants:
        return None
    pads, mode, value = (cast(Any, given) for given in node.args[1:])
    # torch counts from the last axis backwards
    sides = list(zip(pads[::2], pads[1::2], strict=True))
    sides += [(0, 0)] * (rank - len(sides))
    if mode != "constant" or value != 0 or any(low != high or low < 0 for low, high in sides):
        return None
    return None if any(low for low, _ in sides[rank:]) else tuple(low for low, _ in reversed(sides[:rank]))


def _can_pad(pool: nn.MaxPool2d, pads: tuple[int, ...]) -> bool:
    def both(sizes: Any) -> tuple[int, ...]:
        return (sizes, sizes) if isinstance(sizes, int) else tuple(sizes)

    plain = not pool.ceil_mode and not pool.return_indices
    unpadded, undilated = both(pool.padding) == (0, 0), both(pool.dilation) == (1, 1)
    fits = all(2 * pad <= size for pad, size in zip(pads, both(pool.kernel_size), strict=True))
    return plain and unpadded and undilated and fits


def _fold_affine(net: fx.GraphModule) -> None:
    """Fold what scales and shifts channels into the layer before it, or two such steps into one."""
    for node, _ in calls(net):
        step = _affine(net, node)
        if step is None or len(step[0].users) != 1:
            continue
        source, affine = step
        linear, before = called(net, source), _affine(net, source)
        if type(linear) in folding.LINEAR:
            call_instead(net, source, folding.after(linear, affine))
        elif before is not None and _channel_axis(net, before[0]) == 1:
            merged = folding.ChannelAffine(before[1].then(affine), source.meta["dtype"])
            call_instead(net, source, merged, before[0])
        else:
            continue
        replace_by(net, node, source)


def _rectify_in_place(net: fx.GraphModule) -> None:
    """Let rectifiers overwrite what nobody else reads: new memory costs as much as the rectifying."""
    for node, module in calls(net):
        if type(module) not in _RECTIFIERS or module.inplace:
            continue
        source: Any = node.args[0]
        if len(source.users) == 1 and _is_new(net, source):
            call_instead(net, node, type(module)(inplace=True))


def _is_new(net: fx.GraphModule, source: fx.Node) -> bool:
    module: Any = called(net, source)
    if type(module) is OnnxBinaryMathOperation:
        return module.math_op_function.__name__ in ("add", "sub")
    return type(module) in _OVERWRITABLE


def _affine(net: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, Affine] | None:
    """What a node does to the channels of another node; None if it does anything else."""
    module: Any = called(net, node)
    if type(module) is OnnxBinaryMathOperation:
        return _affine_of_constant(net, node, module)
    source: Any = node.args[0] if len(node.args) == 1 else None
    if not isinstance(source, fx.Node) or _channel_axis(net, source) != 1:
        return None
    if type(module) is folding.ChannelAffine:
        return source, folding.of_own(module)
    affine = folding.of_norm(module) if type(module) in folding.NORMS else None
    return None if affine is None else (source, affine)


def _affine_of_constant(net: fx.GraphModule, node: fx.Node, module: Any) -> tuple[fx.Node, Affine] | None:
    constants = [constant_of(net, item) for item in node.args]
    if len(constants) != 2 or module.broadcast == 1 or (constants[0] is None) == (constants[1] is None):
        return None
    comes_first = constants[0] is not None
    constant, source = constants[not comes_first], node.args[comes_first]
    axis = _channel_axis(net, source) if isinstance(source, fx.Node) else None
    if constant is None or axis is None:
        return None
    channels = folding.a_channel(constant, source.meta["shape"], axis)  # type: ignore[union-attr]
    operation = _OPERATIONS.get(module.math_op_function.__name__)
    affine = (
        None
        if channels is None or operation is None
        else folding.of_constant(operation, channels, comes_first=comes_first)
    )
    return None if affine is None else (source, affine)  # type: ignore[return-value]


def _channel_axis(net: fx.GraphModule, source: Any) -> int | None:
    """The axis of the channels of what a node gives; None if it gives no channels."""
    shape = source.meta.get("shape")
    if not shape or len(shape) < 2:
        return None
    return len(shape) - 1 if type(called(net, source)) is nn.Linear else 1
