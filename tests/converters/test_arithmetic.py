"""CUDA's arithmetic is what was asked for, and what it was before."""

from collections.abc import Iterator

import pytest
import torch

from converters.arithmetic import tf32


@pytest.fixture(params=[True, False])
def allowed(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether TF32 is allowed."""
    found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = found


def settings() -> tuple[bool, bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled


def test_no_tf32_inside_and_as_it_was_after(allowed: bool) -> None:
    with tf32(False):
        inside = settings()
    assert inside == (False, False, True)
    assert settings() == (allowed, allowed, True)


def test_tf32_where_it_is_asked_for(allowed: bool) -> None:
    with tf32(True):
        inside = settings()
    assert inside == (True, True, True)
    assert settings() == (allowed, allowed, True)


def test_an_error_inside_leaves_it_as_it_was(allowed: bool) -> None:
    with pytest.raises(ZeroDivisionError), tf32(False):
        raise ZeroDivisionError
    assert settings() == (allowed, allowed, True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_products_are_exact_to_float32_on_cuda() -> None:
    images, kernel = torch.randn(2, 64, 20, 20), torch.randn(32, 64, 3, 3)
    expected = torch.nn.functional.conv2d(images.double(), kernel.double())
    with tf32(False):
        found = torch.nn.functional.conv2d(images.cuda(), kernel.cuda()).cpu()
    assert (found - expected).abs().max() / expected.abs().max() < 2e-6
