"""Many passes: the chunk size is found and kept, nothing waits for the device in between, memory is one chunk's."""

from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torchcam_suite import Model, explain, load
from torchcam_suite.cam import METHODS, passes
from torchcam_suite.cam.chunk_size import first_guess, fitting
from torchcam_suite.cam.method import Chosen, Method, Rules
from torchcam_suite.cam.requests import ScoreFeatures

SIZE = (3, 16, 16)


class Small(nn.Module):
    """Runs out of memory where more than `room` images come at once."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.relu, self.head = nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Linear(24, 3)
        nn.init.constant_(self.conv.bias, 2.0)  # type: ignore[arg-type]  # no channel is skipped
        self.room = room
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv(images))
        self.sizes.append(len(features))
        if len(features) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.head(features.mean((2, 3)))


def model_of(room: int = 1000) -> Model:
    return load(Small(room).eval(), input_size=SIZE, head="softmax", device="cpu")


def images(count: int = 1) -> Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(4))


def explained(model: Model, **options: Any) -> Any:
    return explain(model, images(), method="scorecam", layer="relu", target=0, **options)


# ---------------------------------------------------------------- chunk size


def test_the_size_that_fitted_is_remembered_and_forgotten_with_the_options_that_it_depends_on() -> None:
    model = model_of(room=5)
    assert explained(model).details["chunk_size"] == 3  # 24 masks, then half of them, and so on
    assert max(model.module.sizes) == 24
    model.module.sizes.clear()
    assert explained(model).details["chunk_size"] == 3
    assert max(model.module.sizes) == 3
    model.module.sizes.clear()
    explained(model, precision="bf16")
    assert max(model.module.sizes) == 24
    assert explained(model_of()).details["chunk_size"] == 64


def test_a_given_size_is_taken_and_not_remembered() -> None:
    model = model_of(room=6)
    assert explained(model, chunk_size=2).details["chunk_size"] == 2
    assert explained(model).details["chunk_size"] == 6
    with pytest.raises(torch.OutOfMemoryError):
        explained(model, chunk_size=8)


def test_memory_that_runs_out_in_the_scores_of_features_is_remembered_too() -> None:
    model = model_of(room=5)
    chosen = Chosen(METHODS["scorecam"], {}, "logit", "before", "max")
    site = model.layers.site("relu")
    maps = torch.rand(24, 24, 14, 14)
    request = ScoreFeatures(torch.zeros(24, dtype=torch.long), lambda numbers: maps[numbers])
    run = passes.Passes(chosen, model, images(), model.logits(images()), lambda logits, _: logits[:, 0])
    wanted = model.module.head(maps.mean((2, 3)))[:, 0].detach()
    activations = torch.rand(1, 24, 14, 14)
    (found,), size = run.features(site, request, activations)
    torch.testing.assert_close(found, wanted)
    assert size == 3  # the 24 of the image, halved until they fit
    model.module.sizes.clear()
    assert run.features(site, request, activations).chunk_size == 3
    assert max(model.module.sizes) == 3


@pytest.mark.parametrize(
    ("free", "size", "expected"),
    [(0, 224, 1), (2**30, 224, 4), (16 * 2**30, 224, 64), (16 * 2**30, 512, 16), (2**40, 224, 256), (2**31, 32, 256)],
)
def test_the_first_guess_on_a_gpu_goes_by_its_free_memory(free: int, size: int, expected: int) -> None:
    assert fitting(free, 3 * size * size * 4) == expected


def test_the_first_guess_on_a_cpu_is_what_was_measured() -> None:
    assert first_guess(images(), 8) == 8
    assert first_guess(torch.empty(1, 3, 8, 8, device="meta"), 8) == 256


# ---------------------------------------------------------------- waiting


class Operations(TorchDispatchMode):
    """Counts the operations that read a value back from the device."""

    WAITING = "_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "allclose", "unique_consecutive"

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        self.counts[name] += name in self.WAITING
        self.counts["convolution"] += name in ("convolution", "conv2d")  # the latter in inference mode
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_queue_does_not_wait_for_the_device(precision: str) -> None:
    counts = []
    for chunk_size in (2, 12):
        with Operations() as operations:
            explained(model_of(), chunk_size=chunk_size, precision=precision)
        counts.append(operations.counts)
    few, many = (count.pop("convolution") for count in reversed(counts))
    assert many > few > 1
    assert counts[0] == counts[1]
    assert 0 < sum(counts[0].values()) < 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_queue_does_not_wait_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = passes.score_inputs

    def watched(*args: Any, **kwargs: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return scored(*args, **kwargs)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(passes, "score_inputs", watched)
    assert explained(model_of().to("cuda"), chunk_size=4).raw.isfinite().all()


# ---------------------------------------------------------------- memory


def peak_bytes(call: Callable[[], object]) -> int:
    """Largest sum of what a call allocates."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    total = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            total += event.nbytes()
            peak = max(peak, total)
    return peak


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_peak_memory_is_that_of_one_chunk_and_not_of_the_queue() -> None:
    model = load(
        nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3)).eval(),
        input_size=(3, 64, 64),
        head="softmax",
        device="cpu",
    )
    batch = torch.rand(1, 3, 64, 64)
    explain(model, batch, method="scorecam", layer="1", target=0)  # makes the copy
    forward = peak_bytes(lambda: model.logits(torch.rand(4, 3, 64, 64)))
    ours = peak_bytes(lambda: explain(model, batch, method="scorecam", layer="1", target=0, chunk_size=4))
    all_masks = 64 * 64 * 64 * 4
    assert ours < forward + all_masks
    assert ours < 1.6 * forward


# ---------------------------------------------------------------- what does not go together


def replaces_features(activations: Tensor) -> Generator[ScoreFeatures, Tensor, Tensor]:
    scores = yield ScoreFeatures(torch.arange(len(activations)), lambda numbers: activations[numbers])
    return scores[:, None, None] * activations[:, 0]


def test_compile_is_refused_where_feature_maps_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Method("replacing", "", "", "", "many forwards", replaces_features, Rules())
    monkeypatch.setitem(METHODS, "replacing", method)
    model = model_of()
    found = explain(model, images(), method="replacing", layer="relu", target=0, relu="after", precision="bf16")
    assert found.raw.std() > 0
    with pytest.raises(ValueError, match=r"replacing replaces feature maps.*leave compile out"):
        explain(model, images(), method="replacing", layer="relu", target=0, compile=True)
