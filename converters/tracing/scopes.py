"""The layers of a flat graph, told from the names of its nodes.

`conv2d_1/convolution` and `conv2d_1/BiasAdd` lie in the scope of one layer, `conv2d_1`; what leaves the scope is the
layer's output. `block1/conv2d_1/BiasAdd` lies in two scopes, `block1` and `block1/conv2d_1`, and both are layers.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from converters.graph_def import node_name
from converters.graph_ops import READS, VARIABLES
from converters.keras_names import LAYERS

_NUMBER = re.compile(r"_\d+$")
# scopes that TensorFlow's and Keras' own functions open inside a layer
_INNER = re.compile(
    r"(Cast|Gelu|Tensordot|batchnorm|cond|convolution|depthwise|einsum|l2_normalize|moments|resize|separable_conv2d"
    r"|strided_slice|while)(_\d+)?"
)
_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")
_PASSING = frozenset({"Cast", "Const", "Identity", "IdentityN", "Placeholder", "PlaceholderWithDefault"})

# the class of a layer by the first of these ops that it holds
_CLASSES = (
    ("DepthwiseConv2dNative", "DepthwiseConv2D"),
    ("Conv2DBackpropInput", "Conv2DTranspose"),
    ("Conv2D", "Conv2D"),
    ("Einsum", "EinsumDense"),
    ("MatMul", "Dense"),
    ("FusedBatchNorm", "BatchNormalization"),
    ("FusedBatchNormV2", "BatchNormalization"),
    ("FusedBatchNormV3", "BatchNormalization"),
    ("MaxPool", "MaxPooling2D"),
    ("AvgPool", "AveragePooling2D"),
    ("Rsqrt", "LayerNormalization"),
    ("ConcatV2", "Concatenate"),
    ("Pad", "ZeroPadding2D"),
    ("PadV2", "ZeroPadding2D"),
    ("ResizeNearestNeighbor", "UpSampling2D"),
    ("ResizeBilinear", "UpSampling2D"),
    *((op, "Activation") for op in ("Softmax", "Sigmoid", "Relu", "Relu6", "Elu", "Selu", "Tanh", "LeakyRelu", "Erf")),
    ("AddV2", "Add"),
    ("Add", "Add"),
    ("Mul", "Multiply"),
    ("Sub", "Subtract"),
)
_TO_ROWS = (
    ("Mean", "GlobalAveragePooling2D"),
    ("Max", "GlobalMaxPooling2D"),
    ("Reshape", "Flatten"),
)


@dataclass(frozen=True)
class Boundary:
    """A tensor that leaves a layer.

    Attributes
    ----------
    layer : str
        The scope, behind the scopes that hold it.
    call : int
        Which of the tensors that leave it, from 0: the layer's calls.
    class_name : str
        Keras' name of what the ops in the scope amount to, a guess.
    tensor : str
        Its name in the graph.
    """

    layer: str
    call: int
    class_name: str
    tensor: str

    @property
    def tap(self) -> str:
        """Layer and call in one."""
        return f"{self.layer}#{self.call}"


def layer_boundaries(nodes: Iterable[Any], output: str, candidates: dict[str, int]) -> list[Boundary]:
    """Every tensor that leaves a layer, in the order of the computation, inner layers before those that hold them.

    Parameters
    ----------
    nodes : iterable of NodeDef
        A flat graph in its order, its variables still in it.
    output : str
        The tensor that the graph computes.
    candidates : dict
        The tensors that may be a layer's output (float, one row for each picture), with their number of axes.
    """
    nodes = list(nodes)
    tensors_of: dict[str, list[str]] = {}
    for tensor in candidates:
        tensors_of.setdefault(node_name(tensor), []).append(tensor)
    live = [node for node in nodes if node.name in tensors_of]
    scopes = _Scopes(nodes, live)
    readers: dict[str, list[str]] = {output: [""]}
    for node in nodes:
        for source in node.input:
            readers.setdefault(_full(source), []).append(node.name)
    order = [tensor for node in live for tensor in tensors_of[node.name] if tensor in readers]
    ops = {node.name: node.op for node in live}
    leaving: dict[str, list[str]] = {}
    for tensor in order:
        name = node_name(tensor)
        around = scopes.around(name)
        if not around and ops[name] not in _PASSING:
            leaving[scopes.plain(name)] = [tensor]
        for scope in around:
            if any(scope not in scopes.around(reader) for reader in readers[tensor]):
                leaving.setdefault(scope, []).append(tensor)
    calls = {scope: _with_earlier_calls(found, scopes.members(scope), ops) for scope, found in leaving.items()}
    met: Counter[str] = Counter()
    boundaries = []
    for tensor in order:
        around = [scope for scope, found in calls.items() if tensor in found]
        for scope in sorted(around, key=lambda scope: -scope.count("/")):
            held = scopes.members(scope) or [node_name(tensor)]
            layer = scopes.layer(scope)
            class_name = layer_class([ops[name] for name in held], layer, candidates[tensor])
            nested = any(other.startswith(f"{scope}/") for other in calls)
            if nested and _default_class(layer) is None:
                class_name = "Functional"
            boundaries.append(Boundary(layer, met[layer], class_name, tensor))
            met[layer] += 1
    return boundaries


def _snake_case(name: str) -> str:
    """As Keras makes a layer's name of its class: max_pooling2d of MaxPooling2D."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)).lower()


_BY_DEFAULT_NAME = {_snake_case(name): name for name in LAYERS}


def _default_class(layer: str) -> str | None:
    return _BY_DEFAULT_NAME.get(_NUMBER.sub("", layer.split("/")[-1]))


def layer_class(ops: list[str], name: str, axes: int) -> str:
    """Keras' class for a layer by its name, or by its ops; the op itself where there is no such class.

    Parameters
    ----------
    ops : list of str
        Those that work on pictures, in their order.
    name : str
        Of the layer.
    axes : int
        Of its output, the batch included.
    """
    if (by_name := _default_class(name)) is not None:
        return by_name
    if "DepthwiseConv2dNative" in ops and "Conv2D" in ops:
        return "SeparableConv2D"
    if {"Mul", "AddV2"} <= set(ops) <= {"Mul", "AddV2", "Add", "Sub"} and len(ops) == 2:
        return "BatchNormalization"  # as Keras writes it out, its statistics folded to a factor and a term
    for op, class_name in _CLASSES + (_TO_ROWS if axes == 2 else ()):
        if op in ops:
            return class_name
    rest = [op for op in ops if op not in _PASSING]
    if not rest and "drop" in name.split("/")[-1].lower():
        return "Dropout"
    return rest[-1] if rest else "Identity"


def _full(source: str) -> str:
    return source if ":" in source else f"{source}:0"


def _with_earlier_calls(tensors: list[str], members: list[str], ops: dict[str, str]) -> list[str]:
    """Add the outputs of calls that only the same layer reads, as in shared(shared(x)).

    Keras 2 numbers the ops of each further call: Conv2D, BiasAdd, Conv2D_1, BiasAdd_1. So if every op of the scope is
    there as many times, the layer was called as many times.
    """
    bases = Counter((_NUMBER.sub("", name), ops[name]) for name in members)
    if len(bases) < 2 or len(set(bases.values())) != 1 or bases.total() == len(bases):
        return tensors
    last = {_NUMBER.sub("", node_name(tensor)) for tensor in tensors}
    return [f"{name}:0" for name in members if _NUMBER.sub("", name) in last]


class _Scopes:
    """The layer scopes around each node, under the names that their author gave them."""

    def __init__(self, nodes: list[Any], live: list[Any]) -> None:
        self._keras_3 = _named_by_keras_3(nodes, live)
        self._model: str | None = None
        chains = [_parts(node.name) for node in live if node.op not in _PASSING]
        outermost = {chain[0] if chain else None for chain in chains}
        if len(outermost) == 1 and any(len(self._layers(chain[1:])) for chain in chains):
            # what holds everything is the model, not a layer
            self._model = outermost.pop()
        self._around = {node.name: self._prefixes(node.name) for node in nodes}
        self._members: dict[str, list[str]] = {}
        for node in live:
            for scope in self._around[node.name]:
                self._members.setdefault(scope, []).append(node.name)

    def around(self, name: str) -> list[str]:
        """Every layer scope that holds a node, the outermost first; none for what is no node."""
        return self._around.get(name, [])

    def members(self, scope: str) -> list[str]:
        """The nodes of a scope that work on pictures, in their order."""
        return self._members.get(scope, [])

    def plain(self, name: str) -> str:
        """The name of a node that lies in no layer, without the model's own."""
        chain = _parts(name)
        return "/".join([*(chain[1:] if self._model is not None else chain), name.split("/")[-1]])

    def layer(self, scope: str) -> str:
        """The name that its author gave to the layer of a scope."""
        if not self._keras_3 or scope not in self._members:
            return scope
        return "/".join(_NUMBER.sub("", part) for part in scope.split("/"))

    def _prefixes(self, name: str) -> list[str]:
        chain = _parts(name)
        if self._model is not None and chain[:1] == [self._model]:
            chain = chain[1:]
        chain = self._layers(chain)
        return ["/".join(chain[: i + 1]) for i in range(len(chain))]

    def _layers(self, chain: list[str]) -> list[str]:
        """The scopes up to the first that a function inside a layer has opened."""
        for i, part in enumerate(chain):
            if (i and _INNER.fullmatch(part)) or (self._keras_3 and not _NUMBER.search(part)):
                return chain[:i]
        return chain


def _parts(name: str) -> list[str]:
    """The scopes of a node, without those that TensorFlow adds when it opens functions."""
    parts = [part for part in name.split("/")[:-1] if not _CALL.fullmatch(part)]
    return [] if parts[:1] == ["Func"] else parts


def _named_by_keras_3(nodes: list[Any], live: list[Any]) -> bool:
    """Whether each scope carries a number that is not the author's.

    Keras 3 opens a layer's scope twice in a call, and works in the second: `conv` becomes `conv_1`, and `conv_3` in
    its next call. Its variables keep the layer's own name, which tells these numbers from the author's.
    """
    scoped = [node.name for node in live if "/" in node.name]
    variables = {node.name for node in nodes if node.op in VARIABLES}
    reads = [(node.name, node_name(node.input[0])) for node in nodes if node.op in READS]
    owned = [
        variable in variables and _owner(variable) in [_NUMBER.sub("", part) for part in name.split("/")]
        for name, variable in reads
    ]
    outermost = [_parts(name)[0] for name in scoped if _parts(name)]
    return bool(owned) and all(owned) and all(_NUMBER.search(part) for part in outermost)


def _owner(variable: str) -> str | None:
    """The layer of `inner/conv/kernel`."""
    return variable.split("/")[-2] if "/" in variable else None
