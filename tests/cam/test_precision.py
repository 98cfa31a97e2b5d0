"""float32 is float32; anything else is asked for, recorded, and refused where it cannot be."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcam_suite import Explanation, Model, explain, load
from torchcam_suite.cam.precision import arithmetic, require_finite, require_precision

CPU = torch.device("cpu")


class Noting(nn.Module):
    """Notes in what arithmetic it is called."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.relu, self.head = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 3)
        self.gain = gain
        self.seen: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.conv(images * self.gain))
        self.seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, x.dtype))
        return self.head(x.mean((2, 3)))


def model_of(gain: float = 1.0) -> Model:
    return load(Noting(gain).eval(), input_size=(3, 10, 10), head="softmax", device="cpu")


def explained(model: Model, **options: Any) -> Explanation:
    images = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    model.module.seen.clear()
    return explain(model, images, method="scorecam", variant="logit", layer="relu", target=1, **options)


def switches() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def newer_switches() -> list[Any]:
    parts = torch.backends.cuda.matmul, *(getattr(torch.backends.cudnn, name, None) for name in ("conv", "rnn"))
    return [part for part in parts if hasattr(part, "fp32_precision")]


@pytest.fixture(autouse=True)
def tf32_allowed() -> Iterator[None]:
    """As a user might have set it."""
    newer = [(part, part.fp32_precision) for part in newer_switches()]
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    assert switches() == (True, True)
    yield
    torch.backends.cuda.matmul.allow_tf32 = before
    for part, precision in newer:
        part.fp32_precision = precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_passes_are_run_so_and_the_images_are_recorded_in_float32(precision: str, dtype: torch.dtype) -> None:
    model = model_of()
    explained(model, precision=precision)
    recorded, *passes = model.module.seen
    assert recorded == (False, False, torch.float32)
    assert set(passes) == {(False, False, dtype)}
    assert switches() == (True, True)


def test_float32_is_not_an_autocast_of_the_caller() -> None:
    model = model_of()
    with torch.autocast("cpu", torch.bfloat16):
        explained(model)
    assert {dtype for *_, dtype in model.module.seen} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_recorded(precision: str) -> None:
    exact, half = explained(model_of()), explained(model_of(), precision=precision)
    assert half.options["precision"] == precision
    assert exact.options["precision"] == "float32"
    assert half.scores.dtype == half.raw.dtype == torch.float32
    assert torch.equal(half.scores, exact.scores)  # those of the images themselves
    difference = (half.raw - exact.raw).abs().max() / exact.raw.abs().max()
    assert 0 < difference < 0.01
    assert torch.corrcoef(torch.stack([half.raw.flatten(), exact.raw.flatten()]))[0, 1] > 0.999


def test_a_target_function_gets_float32() -> None:
    dtypes = set()

    def second(logits: Tensor) -> Tensor:
        dtypes.add(logits.dtype)
        return logits[:, 1]

    images = torch.rand(1, 3, 10, 10)
    explain(model_of(), images, method="scorecam", layer="relu", target=second, precision="bf16")
    assert dtypes == {torch.float32}


def test_an_overflow_is_told() -> None:
    with pytest.raises(ValueError, match=r"precision='fp16': some scores are not finite.*use 'bf16'"):
        explained(model_of(1e6), precision="fp16")
    assert explained(model_of(1e6), precision="bf16").raw.isfinite().all()
    assert switches() == (True, True)


def test_only_half_precision_is_looked_at_for_overflow() -> None:
    require_finite(torch.tensor([1.0, float("nan")]), "float32")
    require_finite(torch.ones(2), "bf16")
    with pytest.raises(ValueError, match="use 'float32'"):
        require_finite(torch.tensor([float("inf")]), "bf16")


@pytest.mark.parametrize(
    ("precision", "dtype", "message"),
    [
        ("tf32", torch.float32, r"precision='tf32' is an arithmetic of NVIDIA GPUs, but this model is on cpu; use"),
        ("tf32", torch.float64, r"'tf32' approximates float32, but this model computes in float64; leave precision"),
        ("bf16", torch.float16, r"'bf16' approximates float32, but this model computes in float16"),
    ],
)
def test_what_cannot_be_is_refused(precision: Any, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_precision(precision, torch.zeros(1, dtype=dtype))


def test_explain_refuses_tf32_on_a_cpu_before_the_work() -> None:
    model = model_of()
    with pytest.raises(ValueError, match="NVIDIA"):
        explained(model, precision="tf32")
    assert model.module.seen == []


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision='int8'; expected one of float32, tf32, bf16, fp16"):
        explained(model_of(), precision="int8")


def test_methods_of_one_pass_have_no_precision_and_keep_the_settings_of_the_caller() -> None:
    model = model_of()
    images = torch.rand(1, 3, 10, 10)
    with pytest.raises(ValueError, match="gradcam has no option 'precision'"):
        explain(model, images, layer="relu", precision="bf16")
    model.module.seen.clear()
    explain(model, images, layer="relu", target=0)
    assert model.module.seen == [(True, True, torch.float32)]


def test_the_settings_are_put_back_after_an_error() -> None:
    seen = []

    def fails() -> None:
        with arithmetic("bf16", CPU):
            seen.append((*switches(), torch.is_autocast_enabled("cpu")))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert seen == [(False, False, True)]
    assert switches() == (True, True)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.skipif(not newer_switches(), reason="this torch has only the older switches")
@pytest.mark.parametrize(("precision", "inside"), [("float32", "ieee"), ("tf32", "tf32")])
@pytest.mark.parametrize("of_the_user", ["tf32", "ieee"])
def test_the_newer_switches_of_torch_are_respected(precision: Any, inside: str, of_the_user: str) -> None:
    parts = newer_switches()
    for part in parts:
        part.fp32_precision = of_the_user
    with arithmetic(precision, CPU):
        assert {part.fp32_precision for part in parts} == {inside}
    assert {part.fp32_precision for part in parts} == {of_the_user}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_cuda_computes_in_each_precision(precision: Any) -> None:
    exact = explained(model_of())
    model = model_of().to("cuda")
    found = explained(model, precision=precision).raw.cpu()
    allowed = 1e-5 if precision == "float32" else 0.02
    assert (found - exact.raw).abs().max() <= allowed * exact.raw.abs().max()
