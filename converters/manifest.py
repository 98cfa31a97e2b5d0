"""What a bundle's manifest.json has to hold, checked entry by entry: a bundle may come from anywhere."""

from collections.abc import Callable, Mapping
from typing import Any

LARGEST_SIDE = 65536  # pixels, and channels of a layer
_HEADS = ("softmax", "sigmoid")

Entry = Callable[[Any], bool]


def faults(manifest: Mapping[str, Any]) -> list[str]:
    """Every entry that is missing or of another kind than it should be, as `input.height is 'x'`; none if all are."""
    found = _faults(manifest, _ENTRIES, "")
    layers = manifest.get("layers")
    for number, row in enumerate(layers if isinstance(layers, list) else ()):
        given = {"map": True} | row if isinstance(row, dict) else row
        found += _faults(given, _LAYER, f"layers.{number}.")
    return found


def _faults(values: Any, entries: Mapping[str, Any], where: str) -> list[str]:
    if not isinstance(values, dict):
        return [f"{where.removesuffix('.')} is {values!r:.60}"]
    found = []
    for name, expected in entries.items():
        if name not in values:
            found.append(f"{where}{name} is missing")
        elif isinstance(expected, dict):
            found += _faults(values[name], expected, f"{where}{name}.")
        elif not expected(values[name]):
            found.append(f"{where}{name} is {values[name]!r:.60}")
    return found


# ---------------------------------------------------------------- kinds of entries


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _name(value: Any) -> bool:
    """Text that a terminal may print."""
    return isinstance(value, str) and value != "" and value.isprintable()


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _side(value: Any) -> bool:
    return _count(value) and 0 < value <= LARGEST_SIDE


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e30  # no NaN


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(size is None or _count(size) for size in value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_text, value))


def _class_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_text, value)))


def _head(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.get("activation") in _HEADS)


def _tap(value: Any) -> bool:
    return _name(value) and "tap/" in value


_LAYER: dict[str, Entry] = {
    "name": _name,
    "call": _count,
    "class": _name,
    "shape": _sizes,
    "module": _tap,
    "map": lambda value: isinstance(value, bool),  # true where it is left out
}
_ENTRIES: dict[str, Any] = {
    "source": {"files": _names, "sha256": _text},
    "input": {"channels": _side, "height": _side, "width": _side},
    "takes_raw_pixels": lambda value: isinstance(value, bool),
    "preprocessing": lambda value: value is None or _text(value),
    "class_names": _class_names,
    "head": _head,
    "layers": lambda value: isinstance(value, list),
    "certificate": {
        "prediction": _number,
        "logits": _number,
        "taps": _count,
        "worst_tap": _name,
        "worst_activation": _number,
        "gradients": _count,
        "worst_gradient": _name,
        "worst_cosine": _number,
        "runtime_transposes": _count,
        "rounding": _number,
        "torch": _name,
    },
    "sha256": {"graph.onnx": _text, "weights.safetensors": _text, "proof.safetensors": _text},
}
