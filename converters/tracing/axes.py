"""What becomes of the axes of maps and tokens between layers, as far as operations and layers tell."""

from typing import Any

import tensorflow as tf

# operations of Keras 3 and functions of TensorFlow's, by the last part of their names
_REARRANGING = frozenset(
    "dot dotproductattention einsum inner matmul matrix_transpose moveaxis outer ravel roll rot90 swapaxes tensordot"
    " transpose".split()
)
_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # of maps
# layers that leave the other axes as they are, and say nothing about them
_ON_LAST_AXIS = frozenset(
    "add dense dropout einsumdense groupqueryattention identity layernormalization multiheadattention"
    " rmsnormalization softmax".split()
)
_MOST_DISTORTION = 1.3  # of the cells of a map over the picture


class Axes:
    """What is known of the tensors of one forward pass.

    Parameters
    ----------
    channels_first : bool
        Whether the model's maps are (N, C, H, W).
    size : tuple of int or None
        Height and width of the pictures.
    """

    def __init__(self, channels_first: bool, size: tuple[int | None, int | None]) -> None:
        self._maps_first = channels_first
        self._size = size
        # tensors by id; kept, so that no other gets the same
        self._rearranged: dict[int, Any] = {}
        self._first: dict[int, tuple[Any, bool]] = {}

    def rearranged(self, operation: Any, inputs: list[tf.Tensor], output: Any) -> bool:
        """Whether nobody knows what the axes of an operation's output are; to be asked once of each, in their order."""
        hidden = _rearranges(operation, inputs, output) or self._is_of_rearranged(inputs, output)
        if hidden:
            self._rearranged |= {id(value): value for value in tf.nest.flatten(output)}
        return hidden

    def _is_of_rearranged(self, inputs: list[tf.Tensor], output: Any) -> bool:
        """Whether no input tells what the axes of an operation's output are, as the other side of a sum may."""
        known = [value for value in inputs if id(value) not in self._rearranged]
        alike = tf.is_tensor(output) and any(value.shape[1:] == output.shape[1:] for value in known)
        return len(known) < len(inputs) and not alike

    def swapped(self, called: Any, given: tuple[Any, ...], inputs: list[tf.Tensor], output: Any) -> bool:
        """Whether a layer or operation gives (N, C, T), as between the two transpositions of an MLP-Mixer.

        The sizes do not tell: sixteen channels of sixteen tokens look like sixteen tokens.

        Parameters
        ----------
        called : Keras layer or operation
            That was called with the values `given`.
        inputs : list of Tensor
            The float tensors among these.
        output : any
            What it gave.
        """
        rank = output.shape.rank if tf.is_tensor(output) else None
        if rank not in {3, 4} or not inputs:
            return False
        if id(output) not in self._first:  # or it is that of a layer inside, which knows better
            self._first[id(output)] = output, self._output_is_first(called, given, inputs, rank)
        return rank == 3 and self._is_first(output)

    def folded(self, called: Any, inputs: list[tf.Tensor], output: Any) -> bool:
        """Whether a layer gives (N, windows, positions, C), as between the two Reshapes of a MobileViT.

        What was rearranged may be a map again, as behind the patch merging of Swin; its proportions tell.
        """
        inputs = [value for value in inputs if value.shape.rank == 4]
        if not (inputs and tf.is_tensor(output) and output.shape.rank == 4):
            return False
        if _kind(called) == "reshape":
            unknown = _sizes(inputs[0]) != _sizes(output)
        else:
            unknown = _kind(called) in _ON_LAST_AXIS and self._is_of_rearranged(inputs, output)
        if not unknown or self._fits(output):
            return False
        self._rearranged[id(output)] = output
        return True

    def _fits(self, maps: tf.Tensor) -> bool:
        """Whether maps have about the proportions of the picture."""
        height, width = maps.shape[2:] if self._maps_first else maps.shape[1:3]
        if not (height and width and self._size[0] and self._size[1]):
            return True
        ratio = self._size[0] * width / (height * self._size[1])
        return max(ratio, 1 / ratio) < _MOST_DISTORTION

    def same(self, output: tf.Tensor, changed: tf.Tensor) -> None:
        """Note that a tensor takes the place of an output."""
        self._first[id(changed)] = changed, self._is_first(output)
        if id(output) in self._rearranged:
            self._rearranged[id(changed)] = changed

    def _is_first(self, tensor: tf.Tensor) -> bool:
        return self._first.get(id(tensor), (tensor, self._maps_first and tensor.shape.rank == 4))[1]

    def _output_is_first(self, called: Any, given: tuple[Any, ...], inputs: list[tf.Tensor], rank: int) -> bool:
        """Whether channels come before the positions in an output of `rank` axes."""
        kind, before = _kind(called), self._is_first(inputs[0])
        permutation = _permutation(called, given, rank)
        if permutation == [0, 2, 1]:
            return not before
        if permutation in (_TO_FIRST, _TO_LAST) and id(inputs[0]) not in self._rearranged:
            return permutation == _TO_FIRST
        if permutation is not None or kind == "reshape":
            return before
        if kind == "matmul":
            return self._is_first(inputs[-1])
        if rank == 4:
            return self._maps_first
        sides = [self._is_first(value) for value in inputs if value.shape.rank == rank]
        return bool(sides) and all(sides)


def _kind(called: Any) -> str:
    """The last part of the name of a class or function, in small letters."""
    return str(getattr(called, "symbol", None) or type(called).__name__).rpartition(".")[2].lower()


def _rearranges(operation: Any, inputs: list[tf.Tensor], output: Any) -> bool:
    """Whether an operation may put values on other axes: (N, T, C) becomes the heads of an attention, or windows."""
    kind = _kind(operation)
    if kind in _REARRANGING:
        return True
    if not (inputs and tf.is_tensor(output)):
        return False
    # the mean of each row of maps is no token
    fewer = output.shape.rank == 3 and any(value.shape.rank == 4 for value in inputs)
    return (kind == "reshape" or fewer) and _sizes(inputs[0]) != _sizes(output)


def _sizes(tensor: tf.Tensor) -> list[int | None] | None:
    """Without the batch and without axes of one value, which may come and go; None if the rank is not known."""
    return None if tensor.shape.rank is None else [size for size in tensor.shape[1:] if size != 1]


def _permutation(called: Any, given: tuple[Any, ...], rank: int) -> list[int] | None:
    """The order in which a layer or operation puts the axes of its input; None if it leaves them in theirs."""
    args, kwargs = given
    kind = _kind(called)
    order = list(range(rank))
    if kind == "permute":
        return [0, *called.dims]
    if kind == "transpose":
        chosen = [getattr(called, "axes", None), kwargs.get("perm"), *args[1:2]]
        axes = next((axes for axes in chosen if axes is not None), None)
        if isinstance(axes, list | tuple) and all(isinstance(axis, int) for axis in axes):
            return [axis % rank for axis in axes]
        return order[::-1] if axes is None else order
    if kind in {"swapaxes", "matrix_transpose"}:
        one, other = getattr(called, "axis1", -1), getattr(called, "axis2", -2)
        order[one], order[other] = order[other], order[one]
        return order
    return _moved(called.source, called.destination, rank) if kind == "moveaxis" else None


def _moved(source: Any, destination: Any, rank: int) -> list[int]:
    """The order of the axes behind `moveaxis`."""
    sources, places = ([axes] if isinstance(axes, int) else list(axes) for axes in (source, destination))
    moved = {place % rank: axis % rank for place, axis in zip(places, sources, strict=True)}
    others = iter(axis for axis in range(rank) if axis not in moved.values())
    return [moved[place] if place in moved else next(others) for place in range(rank)]
