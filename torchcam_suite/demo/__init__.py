"""A small Keras classifier of three families of creatures, and sample pictures with masks.

`scripts/train_demo_model.py` made the files in `assets`.
"""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
LAYERS = {"shallow": "conv2d_1", "middle": "conv2d_3", "deep": "conv2d_5"}


def sample_images() -> list[Path]:
    """The sample pictures; the mask of `NAME.png` is `NAME_mask.png`."""
    return sorted(path for path in (ASSETS / "samples").glob("*.png") if not path.stem.endswith("_mask"))
