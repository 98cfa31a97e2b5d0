"""Every test here runs where torch sees a GPU."""

from collections.abc import Iterator

import pytest
from simulated_cuda import simulated_cuda


@pytest.fixture
def cuda() -> Iterator[None]:
    """A simulated one."""
    with simulated_cuda():
        yield
