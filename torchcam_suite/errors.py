"""Every error that users meet; all derive from `TorchcamError`."""

from converters.errors import (
    BundleError,
    CheckpointError,
    ParityError,
    TorchcamError,
    TracingError,
    UnsafeCheckpointError,
    UnsupportedModelError,
)

__all__ = [
    "AssumptionWarning",
    "BundleError",
    "CheckpointError",
    "ConceptError",
    "ConceptWarning",
    "ConvergenceWarning",
    "FontWarning",
    "GradientError",
    "HeadError",
    "ImageError",
    "LayerError",
    "MissingLibraryError",
    "ParityError",
    "SourceError",
    "TargetError",
    "TorchcamError",
    "TracingError",
    "UnsafeCheckpointError",
    "UnsupportedModelError",
    "ZeroMapWarning",
]


class SourceError(TorchcamError):
    """A model, file or folder is not what was expected, or cannot be opened or written."""


class LayerError(TorchcamError):
    """A layer name is not in the model, is ambiguous, or was not reached by the forward pass."""


class TargetError(TorchcamError):
    """A target does not fit the model's output or the number of images."""


class HeadError(TorchcamError):
    """Logits or probabilities were asked of a model whose head does not give them."""


class GradientError(TorchcamError):
    """No gradient of the score arrives at the layer, or a map would hold NaN or infinite values."""


class ConceptError(TorchcamError):
    """The pictures of a concept, of a target class or the random ones do not allow what was asked of them."""


class MissingLibraryError(TorchcamError):
    """A library that is not installed is needed; the message says how to install it."""


class ImageError(TorchcamError):
    """An image cannot be read or written, or does not fit the model's input."""


class AssumptionWarning(UserWarning):
    """The source leaves something open that changes results; the message says what was assumed."""


class ConceptWarning(UserWarning):
    """The pictures or the probes of a concept make its TCAV score less certain; the message says why."""


class ConvergenceWarning(UserWarning):
    """A computation that repeats until nothing changes was stopped before."""


class FontWarning(UserWarning):
    """No installed font has a letter of a name, which is drawn as a box; the message says what to do."""


class ZeroMapWarning(UserWarning):
    """A saliency map is zero everywhere: the layer holds no evidence for the target."""
