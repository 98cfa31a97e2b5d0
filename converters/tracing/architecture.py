"""Small changes to an inspected architecture before it is built."""

from collections.abc import Callable, Iterator
from typing import Any

from converters.tracing.custom import Vouched

HALF = {"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
# Values that JSON does not know, as Keras 2 writes them and decodes them when it opens a file. Keras 3 gives its own a
# config, and reads them itself.
_VALUES: dict[str, Callable[[Any], Any]] = {"TensorShape": tuple, "__ellipsis__": lambda _: ..., "__tuple__": tuple}


def precision(architecture: dict[str, Any]) -> str:
    """The precision policy that the model was trained under: `float32`, `mixed_float16`, ..."""
    found = {_policy(node[key]) for node in _dicts(architecture) for key in node if key == "dtype"}
    return next((name for name in sorted(HALF, reverse=True) if name in found), "float32")


def prepared(architecture: dict[str, Any], vouched: Vouched) -> dict[str, Any]:
    """A copy without what only training needs, which computes in float32 and names the code that the user vouches for.

    Half precision is a way to train fast. The weights are kept in float32 all the same, and an explanation should
    not depend on rounding to three digits. Weights start from zero, since those of the file follow: random ones
    would cost seconds and twice the memory.
    """
    return _changed(architecture, vouched)


def _changed(node: Any, vouched: Vouched) -> Any:
    if isinstance(node, list):
        return [_changed(child, vouched) for child in node]
    if not isinstance(node, dict):
        return node
    if "config" not in node and node.get("class_name") in _VALUES:
        return _VALUES[node["class_name"]](_changed(node.get("items"), vouched))
    changed = {key: _changed(child, vouched) for key, child in node.items()}
    for key in changed:
        if key.endswith("_initializer"):
            changed[key] = "zeros"
        elif key.endswith(("_regularizer", "_constraint")):
            changed[key] = None
    if "dtype" in changed and _policy(changed["dtype"]) in HALF:
        changed["dtype"] = "float32"
    return vouched.rewritten(changed)


def _policy(dtype: Any) -> str | None:
    """The name of a policy, which Keras writes as text or as an object."""
    if isinstance(dtype, dict):
        config = dtype.get("config")
        dtype = config.get("name") if isinstance(config, dict) else None
    return dtype if isinstance(dtype, str) else None


def _dicts(node: Any) -> Iterator[dict[str, Any]]:
    children = node if isinstance(node, list) else node.values() if isinstance(node, dict) else ()
    if isinstance(node, dict):
        yield node
    for child in children:
        yield from _dicts(child)
