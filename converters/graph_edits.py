"""What the passes over a graph of torch.fx have in common: who calls what, and how a node is replaced."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional


def called(net: fx.GraphModule, node: Any) -> nn.Module | None:
    """The layer that a node calls with one tensor or more and nothing else; None for one with hooks of its own."""
    if not isinstance(node, fx.Node) or node.op != "call_module" or node.kwargs:
        return None
    module = net.get_submodule(str(node.target))
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return None if any(hooks) or "forward" in vars(module) else module


def calls(net: fx.GraphModule) -> Iterator[tuple[fx.Node, Any]]:
    """Each node that calls a layer, and the layer."""
    for node in list(net.graph.nodes):
        module = called(net, node)
        # a subclass may compute something else, so a type is only ever asked for exactly
        if module is not None:
            yield node, module


def constant_of(net: fx.GraphModule, node: Any) -> Tensor | None:
    """The tensor of the module that a node reads, if it does."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    found = getattr(net.get_submodule(owner), name)
    return found if isinstance(found, Tensor) else None


def call_instead(net: fx.GraphModule, node: fx.Node, module: nn.Module, *inputs: Any) -> None:
    """Let a node call another module; its name is its own, since a shared layer has several nodes."""
    name = f"fused/{node.name}"
    net.add_submodule(name, module)
    before = list(node.all_input_nodes)
    node.target = name
    if inputs:
        node.args = inputs
    drop_unread(net, before)


def replace_by(net: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    """Let all who read a node read another one, and erase the first."""
    before = list(node.all_input_nodes)
    node.replace_all_uses_with(by)
    net.graph.erase_node(node)
    drop_unread(net, before)


def drop_unread(net: fx.GraphModule, nodes: list[fx.Node]) -> None:
    """Erase constants and paddings that nobody reads any more, and nothing else: it might have an effect."""
    for node in nodes:
        if not node.users and (node.op == "get_attr" or node.target is pad_by_constants):
            net.graph.erase_node(node)


def pad_by_constants(images: Tensor, pads: list[int], mode: str, value: float) -> Tensor:
    """Pad as torch does, under a name of our own: in a traced module its pads may be computed."""
    return functional.pad(images, pads, mode=mode, value=value)
