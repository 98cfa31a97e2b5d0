"""What moves values without changing them, and interpolation."""

import numpy as np
import torch
from onnx2torch.onnx_graph import OnnxGraph
from onnx2torch.onnx_node import OnnxNode
from onnx2torch.utils.common import OnnxToTorchModule, OperationConverterResult
from torch import nn
from torch.nn import functional

from converters.torch_ops.registry import constant, on_first_input, prefer


class OnnxConstantSlice(nn.Module, OnnxToTorchModule):
    """A part of a tensor that is known beforehand; onnx2torch reads it from tensors at each call.

    Parameters
    ----------
    rank : int
        Of the tensor; 0 if it is not known, where no axis counts from the end.
    starts, ends, axes, steps : list of int
        As in ONNX.
    """

    def __init__(self, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> None:
        super().__init__()
        self.flipped = [axis for axis, step in zip(axes, steps, strict=True) if step < 0]
        self.slices = {}
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            first, last = (start, end) if step > 0 else (_mirrored(start), _mirrored(end))
            self.slices[axis] = slice(first, last, abs(step))

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        if self.flipped:
            tensor = tensor.flip(self.flipped)
        whole = slice(None)
        rank = tensor.dim()
        return tensor[tuple(self.slices.get(axis, self.slices.get(axis - rank, whole)) for axis in range(rank))]


def _mirrored(index: int) -> int | None:
    """The same place counted from the other end; None is the end itself."""
    return None if index <= np.iinfo(np.int32).min else -index - 1


@prefer("Slice", 10, 11, 13)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult | None:
    given = [constant(node, graph, position) for position in range(1, 5)]
    if any(values is None for values in given):
        return None
    starts, ends, axes, steps = ([int(value) for value in values] for values in given if values is not None)
    axes = axes or list(range(len(starts)))
    return on_first_input(node, OnnxConstantSlice(starts, ends, axes, steps or [1] * len(starts)))


class OnnxConstantResize(nn.Module, OnnxToTorchModule):
    """Maps of another size, known beforehand.

    Parameters
    ----------
    scales : list of float or None
        For each spatial axis.
    sizes : list of int or None
        Of each spatial axis, in place of the scales.
    mode : str
        As torch spells it.
    """

    def __init__(self, scales: list[float] | None, sizes: list[int] | None, mode: str, align_corners: bool) -> None:
        super().__init__()
        self.scales, self.sizes, self.mode = scales, sizes, mode
        self.align_corners = align_corners if mode in {"linear", "bilinear", "trilinear", "bicubic"} else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        # the size is what the scale was computed from, in float32: 9 x 1.3333333 is meant to be 12
        sizes = self.sizes or [
            int(size * scale + 1e-3) for size, scale in zip(maps.shape[2:], self.scales or (), strict=True)
        ]
        return functional.interpolate(maps, sizes, mode=self.mode, align_corners=self.align_corners)


class OnnxDepthToSpace(nn.Module, OnnxToTorchModule):
    """Blocks of space of the channels, which are in the order of TensorFlow: block by block, not channel by channel."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, block * block * C, h, w) -> (N, C, block * h, block * w)."""
        by_channel = maps.unflatten(1, (self.block**2, -1)).transpose(1, 2).flatten(1, 2)
        return functional.pixel_shuffle(by_channel, self.block)


@prefer("DepthToSpace", 1, 11, 13)
def _(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult | None:
    if node.attributes.get("mode", "DCR") != "DCR":
        return None
    return on_first_input(node, OnnxDepthToSpace(node.attributes["blocksize"]))


_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@prefer("Resize", 11, 13)
def _(node: OnnxNode, graph: OnnxGraph) -> OperationConverterResult | None:
    scales, sizes = constant(node, graph, 2), constant(node, graph, 3)
    if scales is None or sizes is None:
        raise NotImplementedError("Resize to a size that is computed at run time")
    mode = _torch_mode(node, rank=max(len(scales), len(sizes)) - 2)
    align_corners = node.attributes.get("coordinate_transformation_mode") == "align_corners"
    if len(sizes):
        return on_first_input(node, OnnxConstantResize(None, [int(s) for s in sizes[2:]], mode, align_corners))
    if [float(scale) for scale in scales[:2]] != [1.0, 1.0]:
        raise NotImplementedError("Resize of the batch or of the channels")
    return on_first_input(node, OnnxConstantResize([float(s) for s in scales[2:]], None, mode, align_corners))


def _torch_mode(node: OnnxNode, rank: int) -> str:
    mode = node.attributes.get("mode", "nearest")
    place = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    if mode == "linear" and place in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        return _LINEAR[rank]
    if mode == "nearest" and (place, rounding) == ("asymmetric", "floor"):
        return "nearest"
    if mode == "nearest" and place in {"half_pixel", "tf_half_pixel_for_nn"}:
        # both take the pixel whose area holds the middle of the new one
        return "nearest-exact"
    raise NotImplementedError(
        f"Resize with mode {mode}, {place}, {rounding} in {node.name}; expected nearest or linear between pixels' "
        f"middles: choose interpolation='nearest' or 'bilinear' in Keras"
    )
