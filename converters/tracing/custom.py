"""Code that the user vouches for: custom layers and functions, and what replaces a Lambda layer's own code."""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from converters import vouched
from converters.errors import CheckpointError
from converters.vouched import LAMBDA


@dataclass(frozen=True)
class Vouched:
    """What a checkpoint may name besides Keras' own.

    Attributes
    ----------
    objects : dict
        Classes and functions by the name that the checkpoint has for them.
    lambdas : dict
        A layer class for each Lambda layer that is replaced, by the layer's name.
    """

    objects: dict[str, Any]
    lambdas: dict[str, str]

    def rewritten(self, node: dict[str, Any]) -> dict[str, Any]:
        """A serialised object; if it is one of `objects`, without the module that Keras would import for it."""
        class_name, config = node.get("class_name"), node.get("config")
        name = config.get("name") if isinstance(config, dict) else config
        if class_name == "Lambda" and isinstance(config, dict) and name in self.lambdas:
            kept = {key: value for key, value in config.items() if key in {"name", "trainable", "batch_input_shape"}}
            stand_in = self.lambdas[name]
            return node | {"class_name": stand_in, "registered_name": stand_in, "module": None, "config": kept}
        by_class, by_name = class_name in self.objects, class_name == "function" and name in self.objects
        if by_class or by_name:
            return node | {"registered_name": name if by_name else class_name, "module": None}
        return node


def find(entries: Sequence[str], folder: str | None, keras: Any) -> Vouched:
    """Import what the user names, as `module:attribute` or `name=module:attribute`.

    `folder`, the one from which the user started, is searched last: a downloaded `numpy.py` there is not found.

    Raises
    ------
    CheckpointError
        An entry has another form, its module cannot be imported or has no such attribute.
    """
    if folder is not None:
        sys.path.append(folder)
    found = {code.name: _imported(code) for code in map(vouched.parse, entries)}
    objects = {name: item for name, item in found.items() if not name.startswith(LAMBDA)}
    lambdas: dict[str, str] = {}
    for name, item in found.items():
        if name.startswith(LAMBDA):
            layer = name.removeprefix(LAMBDA)
            lambdas[layer] = f"VouchedLambda_{len(lambdas)}"
            objects[lambdas[layer]] = _layer_class(lambdas[layer], item, keras)
    return Vouched(objects, lambdas)


def _imported(code: vouched.VouchedCode) -> Any:
    try:
        return getattr(importlib.import_module(code.module), code.attribute)
    except Exception as error:
        place = f"{code.module}:{code.attribute}"
        raise CheckpointError(f"custom={place!r} cannot be imported: {type(error).__name__}: {error}") from error


def _layer_class(name: str, function: Callable[[Any], Any], keras: Any) -> type:
    def call(_: Any, inputs: Any, mask: Any = None, training: Any = None) -> Any:  # noqa: ARG001 (what Keras passes)
        return function(inputs)

    return type(name, (keras.layers.Layer,), {"call": call})
