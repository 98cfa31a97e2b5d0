"""Which ops can be converted to torch."""

import onnx

from converters.errors import UnsupportedModelError
from converters.torch_ops import get_converter


def check_ops(proto: onnx.ModelProto) -> None:
    """Refuse a graph with ops that neither onnx2torch nor our own converters know, naming each.

    Raises
    ------
    UnsupportedModelError
        With op, node and Keras layer of each.
    """
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    unknown = []
    for node in proto.graph.node:
        try:
            get_converter(domain=node.domain, operation_type=node.op_type, version=versions[node.domain])
        except (NotImplementedError, KeyError):
            unknown.append(node)
    if unknown:
        layers = _layers(proto)
        named = [f"{node.domain}{node.op_type} in {node.name}{layers.get(node.name, '')}" for node in unknown[:8]]
        raise UnsupportedModelError(
            f"{len(unknown)} ops cannot be converted to torch: {'; '.join(named)}. Replace these layers in "
            f"Keras by ones of the same function and save the model again, or report the op"
        )


def _layers(proto: onnx.ModelProto) -> dict[str, str]:
    """For each node that it works for: the layer whose tap comes next behind it."""
    found: dict[str, str] = {}
    behind: dict[str, str] = {}  # by tensor
    for node in reversed(proto.graph.node):
        following = [behind[name] for name in node.output if name in behind]
        layer = node.name.removeprefix("tap/") if node.name.startswith("tap/") else next(iter(following), None)
        if layer is not None:
            found[node.name] = f" (layer {layer.rsplit('#', 1)[0]!r})"
            # what an earlier reader found stays: of two layers behind a tensor the first one of the graph counts
            behind |= dict.fromkeys(node.input, layer)
    return found
