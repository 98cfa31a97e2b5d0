"""The models of `keras.applications`, by name: `keras.applications:ResNet50`.

Keras itself builds them and downloads their weights; what Keras keeps beside them as Python functions, the
preprocessing and the names of the classes, is here as data.
"""

import difflib
import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from converters.errors import CheckpointError

PREFIX = "keras.applications:"

# How pixels become the input. "raw": the model holds its own scaling.
_PREPROCESSING = {
    "raw": """
        ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge
        EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
        EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2S
        EfficientNetV2M EfficientNetV2L MobileNetV3Small MobileNetV3Large
    """,
    "tf": """
        InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 NASNetMobile NASNetLarge ResNet50V2 ResNet101V2
        ResNet152V2 Xception
    """,
    "torch": "DenseNet121 DenseNet169 DenseNet201",
    "caffe": "ResNet50 ResNet101 ResNet152 VGG16 VGG19",
}
PREPROCESSING = {name: kind for kind, names in _PREPROCESSING.items() for name in names.split()}
# Keras gives these no size of their own; this is the one of their weights
SIZES = {"MobileNetV3Small": (224, 224), "MobileNetV3Large": (224, 224)}


@dataclass(frozen=True)
class Application:
    """A model of `keras.applications`, in the place of a checkpoint.

    Attributes
    ----------
    name : str
        As `keras.applications` spells it.
    pretrained : str or None
        `"imagenet"`; None for random weights, those of BatchNormalization's statistics included.
    """

    name: str
    pretrained: str | None

    weights = None
    format = "application"
    flavour = "keras"
    input_shape = (None, None, 3)

    @property
    def source(self) -> Path:
        """For messages; there is no file."""
        return Path(f"{PREFIX}{self.name}")

    @property
    def files(self) -> list[Path]:
        """None: Keras keeps what it downloads."""
        return []

    @property
    def keras_version(self) -> str:
        """Of the Keras that is installed, which defines the model."""
        try:
            return importlib.metadata.version("keras")
        except importlib.metadata.PackageNotFoundError:
            return "3"

    @property
    def architecture(self) -> dict[str, Any]:
        """What the trace is told of it."""
        return {"application": self.name, "weights": self.pretrained, "size": SIZES.get(self.name)}

    @property
    def takes_raw_pixels(self) -> bool:
        """Whether it takes pixels 0 to 255."""
        return self.preprocessing == "raw"

    @property
    def preprocessing(self) -> str:
        """`raw`, `tf`, `torch` or `caffe`, as its `preprocess_input` does."""
        return PREPROCESSING[self.name]

    @property
    def class_names(self) -> list[str] | None:
        """The thousand names of ImageNet, if it was trained on them."""
        if self.pretrained is None:
            return None
        from torchvision.models import ResNet50_Weights

        return list(ResNet50_Weights.DEFAULT.meta["categories"])

    @property
    def sha256(self) -> str:
        """Hash of what defines it."""
        return hashlib.sha256(f"{self.source} {self.pretrained} {self.keras_version}".encode()).hexdigest()


def find_application(source: str) -> Application:
    """The model that `keras.applications:NAME` or `keras.applications:NAME?weights=none` means.

    Raises
    ------
    CheckpointError
        There is no such model or option.
    """
    name, _, query = source.removeprefix(PREFIX).partition("?")
    if name not in PREPROCESSING:
        close = difflib.get_close_matches(name, PREPROCESSING, 3, 0.4) or sorted(PREPROCESSING)[:3]
        raise CheckpointError(f"keras.applications has no model {name!r}; did you mean {', '.join(close)}?")
    options = parse_qs(query, keep_blank_values=True)
    weights = options.pop("weights", ["imagenet"])[-1]
    if options or weights not in {"imagenet", "none"}:
        raise CheckpointError(
            f"{source!r}: expected {PREFIX}{name} (ImageNet weights, downloaded by Keras) or "
            f"{PREFIX}{name}?weights=none (random weights)"
        )
    return Application(name, None if weights == "none" else weights)


def is_application(source: Any) -> bool:
    """Whether a source is the name of one of these models."""
    return str(source).startswith(PREFIX)
