"""Every error that the import of a checkpoint can raise.

All of them derive from `TorchcamError`, the one name to catch. Each message names what was given,
what was expected and what to do next.
"""


class TorchcamError(Exception):
    """Base of every error that torchcam_suite and converters raise on purpose."""


class CheckpointError(TorchcamError):
    """The checkpoint cannot be read: missing, damaged, of an unknown format, or its parts do not fit."""


class UnsafeCheckpointError(CheckpointError):
    """The checkpoint asks for code to be run (Lambda, custom classes); it was refused by reading alone."""


class UnsupportedModelError(TorchcamError):
    """The model is readable and harmless, but cannot be converted, fused or compiled (ops, inputs, outputs)."""


class TracingError(TorchcamError):
    """The TensorFlow process that traces a checkpoint failed, crashed, was killed or took too long."""


class ParityError(TorchcamError):
    """The torch module does not reproduce the numbers that the original framework computed."""


class BundleError(TorchcamError):
    """A bundle folder is incomplete, damaged, of another schema version, or points outside itself."""
