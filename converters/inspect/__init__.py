"""What is this checkpoint, and is it safe? Answered by reading alone.

Nothing is built, nothing is unpickled, TensorFlow is not imported; HDF5 files are read in a small process of their own.
"""

from converters.inspect.architecture import layer_names
from converters.inspect.checkpoint import Checkpoint, inspect

__all__ = ["Checkpoint", "inspect", "layer_names"]
