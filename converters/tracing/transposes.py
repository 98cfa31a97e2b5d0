"""tf2onnx's transpose optimizer, without starting over after each step.

It walks over the nodes, moves the first Transpose that can be moved, and begins again at the first node; for an
EfficientNetV2-L that is a million steps. Here a walk goes on, and is repeated until nothing moves.
"""

from typing import Any

from tf2onnx.optimizer import transpose_optimizer


def optimize_level(self: Any, graph: Any) -> Any:
    """Stands in for `TransposeOptimizer._optimize_at_current_graph_level`."""
    self._g = graph
    self.pre_optimize_action()
    moved = True
    while moved:
        moved = False
        for node in list(self.nodes):
            while graph.get_node_by_name(node.name) is node and _step(self, node):
                moved = self.graph_been_opt = True
    self.merge_duplicated_transposes()
    self.post_optimize_action()
    return graph


def _step(optimizer: Any, node: Any) -> bool:
    """Move a Transpose by one node, or remove it if it does nothing; whether there was something to do."""
    if transpose_optimizer.is_transpose(node) and optimizer._handle_nhwc_tranpose(node):
        return True
    useless = optimizer._g.get_node_by_name(node.name) is node and transpose_optimizer.is_useless_transpose(node)
    if useless:
        optimizer._remove_useless_tranpose(node)
    return useless
