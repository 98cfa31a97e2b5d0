"""The torch module of an imported model."""

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx2torch.node_converters.identity import OnnxCopyIdentity
from onnx2torch.onnx_tensor import OnnxTensor
from torch import fx, nn

from converters.errors import UnsupportedModelError
from converters.graph.head import LOGITS
from converters.torch_ops import convert

_binding = threading.Lock()


class ImportedModule(nn.Module):
    """A converted classifier: `trunk` up to the logits, `head` from the logits to the checkpoint's output.

    Each layer call of the original is a submodule `trunk.tap/<layer>#<call>` (or `head.tap/...` behind the
    softmax or sigmoid) through which its output passes.
    """

    gives_logits = True  # through `logits`, for those who cannot import this class without onnx2torch

    def __init__(self, trunk: fx.GraphModule, head: fx.GraphModule | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, classes), before the softmax or sigmoid if the model ends in one."""
        return self.trunk(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, classes), what the checkpoint itself gives."""
        logits = self.trunk(images)
        return logits if self.head is None else self.head(logits)


def build(proto: onnx.ModelProto, weights: Mapping[str, torch.Tensor]) -> ImportedModule:
    """Build the module of an ONNX graph whose large weights stand apart; they are used, not copied.

    Raises
    ------
    UnsupportedModelError
        onnx2torch knows the ops, but not one of their options.
    """
    try:
        with _bound(weights), warnings.catch_warnings():
            # it warns of what might differ; the certificate says what does
            warnings.filterwarnings("ignore", category=UserWarning, module="onnx2torch")
            graph = convert(proto)
    except NotImplementedError as error:
        raise UnsupportedModelError(f"onnx2torch cannot convert this graph: {error}") from error
    for name, part in list(graph.named_children()):
        if isinstance(part, OnnxCopyIdentity):
            # onnx2torch copies the tensor for the sake of quantisation, which costs a tap its whole activation
            setattr(graph, name, nn.Identity())
    # onnx2torch hands the module over in train mode
    return ImportedModule(*_split_at_head(graph)).eval().requires_grad_(False)


@contextmanager
def _bound(weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let onnx2torch read the initializers that point outside the graph from `weights`.

    Through protobuf each weight would be copied four times over; here the module takes the tensor as it is.
    """
    plain = OnnxTensor.to_torch

    def to_torch(tensor: OnnxTensor) -> torch.Tensor:
        external = tensor.proto.data_location == onnx.TensorProto.EXTERNAL
        return weights[tensor.name] if external else plain(tensor)

    with _binding:
        OnnxTensor.to_torch = to_torch
        try:
            yield
        finally:
            OnnxTensor.to_torch = plain


def _split_at_head(graph: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule | None]:
    """Cut the module before the softmax or sigmoid that it ends in, taps behind it included."""
    result: Any = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    logits = _logits(graph, result)
    if logits is None:
        return graph, None
    last = next(node for node in logits.users if _leads_to(node, result))
    behind = {last}
    for node in graph.graph.nodes:
        if behind.intersection(node.all_input_nodes):
            behind.add(node)
    nodes = [node for node in graph.graph.nodes if node.op != "output"]
    trunk = _subgraph(graph, [node for node in nodes if node not in behind], logits)
    head = _subgraph(graph, [logits, *(node for node in nodes if node in behind)], result)
    return trunk, head


def _logits(graph: fx.GraphModule, result: Any) -> fx.Node | None:
    """What goes into the last softmax or sigmoid; None if the module does not end in one."""
    for node in graph.graph.nodes:
        if node.target == LOGITS:  # the softmax works on maps of one pixel; this is the same as one row
            return node
    while isinstance(result, fx.Node) and isinstance(_part(graph, result), nn.Identity):
        result = result.args[0]
    ends = isinstance(result, fx.Node) and isinstance(_part(graph, result), nn.Softmax | nn.Sigmoid)
    return result.args[0] if ends else None


def _leads_to(node: fx.Node, result: fx.Node) -> bool:
    reached = {node}
    for other in node.graph.nodes:
        if reached.intersection(other.all_input_nodes):
            reached.add(other)
    return result in reached


def _subgraph(graph: fx.GraphModule, nodes: list[fx.Node], result: fx.Node) -> fx.GraphModule:
    """A module of these nodes and the constants that they use; the first one is its input."""
    new = fx.Graph()
    copies = {nodes[0]: new.placeholder("images" if nodes[0].op == "placeholder" else "logits")}
    for node in nodes[1:]:
        for source in node.all_input_nodes:
            if source not in copies and source.op == "get_attr":
                copies[source] = new.node_copy(source)
        if node not in copies:
            copies[node] = new.node_copy(node, copies.__getitem__)
    new.output(copies[result])
    new.lint()
    return fx.GraphModule(graph, new)


def _part(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None
