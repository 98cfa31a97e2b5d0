"""What the table of the layer test is made of: a tiny model for each layer kind and option.

Nothing is imported here: each builder is given the Keras package, `keras` (3) or `tf_keras` (2), as `k`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BOTH, KERAS_3, KERAS_2 = ("keras", "tf_keras"), ("keras",), ("tf_keras",)

# (9, 10, 6) before each kind: odd and even, and no two sizes alike
STEM = 6


@dataclass(frozen=True)
class Kind:
    """A model of one kind.

    Attributes
    ----------
    name : str
        Of the kind; the test's id.
    build : callable
        `build(k, maps)` adds the layers to be tested to maps (N, 9, 10, 6) of a convolution; a dense softmax head
        follows. If `whole`, `build(k)` gives the model.
    packages : tuple of str
        The Keras packages that have it.
    whole : bool
        Whether `build` makes the whole model.
    twin : callable or None
        `twin(k)` gives a model of channels last that computes the same of transposed images, for a model that
        TensorFlow cannot run on a CPU.
    tolerance : float
        Of the predictions.
    refused : str or None
        A kind that cannot be converted: class of the error, a colon, and a pattern of its message.
    """

    name: str
    build: Callable[..., Any]
    packages: tuple[str, ...] = BOTH
    whole: bool = False
    refused: str | None = None
    twin: Callable[..., Any] | None = None
    tolerance: float = 1e-4


def layer(class_name: str, *args: Any, packages: tuple[str, ...] = BOTH, **options: Any) -> Kind:
    """A kind of one layer on maps."""
    given = [*map(repr, args), *(f"{key}={value!r}" for key, value in options.items())]
    name = f"{class_name}({', '.join(given)})"
    return Kind(name, lambda k, maps: getattr(k.layers, class_name)(*args, **options)(maps), packages)


def sequence(class_name: str, *args: Any, packages: tuple[str, ...] = BOTH, **options: Any) -> Kind:
    """A kind of one layer on a sequence (N, 9, 60): each row of the maps is a step."""
    made = layer(class_name, *args, packages=packages, **options)
    return Kind(f"{made.name} on rows", lambda k, maps: made.build(k, rows(k, maps)), packages)


def rows(k: Any, maps: Any) -> Any:
    """(N, 9, 10, 6) -> (N, 9, 60)."""
    return k.layers.Reshape((9, 60))(maps)


def tokens(k: Any, maps: Any) -> Any:
    """(N, 9, 10, 6) -> (N, 90, 6)."""
    return k.layers.Reshape((90, 6))(maps)
