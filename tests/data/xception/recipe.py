"""The weights of the golden Xception, from the manifest and one seed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

GAIN = {"block1_conv1": 18.0, "predictions": 0.2}
CLOSING = {f"block{b}_sepconv2_bn" for b in (2, 3, 4, 13)} | {f"block{b}_sepconv3_bn" for b in range(5, 13)}


def recipe_weights(manifest: Iterable[Mapping[str, Any]], seed: int) -> list[np.ndarray]:
    """Every array of the manifest in its order, which is that of Keras' `get_weights()`; float32."""
    random = np.random.RandomState(seed)
    return [_draw(random, entry["name"], tuple(entry["shape"])).astype(np.float32) for entry in manifest]


def _draw(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    layer, kind = name.split(":")[0].split("/")
    if kind.endswith("kernel"):
        depthwise = kind == "depthwise_kernel"
        fan_in = np.prod(shape[:2] if depthwise else shape[:3] if len(shape) == 4 else shape[:1])
        gain = GAIN.get(layer, 1.0 if depthwise else 2.0)
        return random.standard_normal(shape) * np.sqrt(gain / fan_in)
    if kind in ("gamma", "moving_variance"):
        # a smaller gamma where a residual branch ends keeps the sum from growing block by block
        return random.uniform(0.8, 1.2, shape) * (0.5 if kind == "gamma" and layer in CLOSING else 1.0)
    return random.standard_normal(shape) * 0.1
