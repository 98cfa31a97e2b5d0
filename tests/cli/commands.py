"""What a fixture that runs a command gives."""

from collections.abc import Callable
from typing import NamedTuple


class Ran(NamedTuple):
    """What a command left."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]
