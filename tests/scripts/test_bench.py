"""The benchmarks measure what they say; how fast anything is, is not tested here."""

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from torchcam_suite import load
from torchcam_suite.recorder import Recorder, Site

SCRIPTS = Path(__file__).parents[2] / "scripts"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def script() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its name; what that does to the environment is undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        for name in ("KINETO_LOG_LEVEL", "TORCH_CPP_LOG_LEVEL", "TQDM_DISABLE"):
            patch.setenv(name, "")
        yield importlib.import_module


@pytest.fixture(scope="module")
def bench_cam(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench_cam")


@pytest.fixture(scope="module")
def contestants(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench_cam_contestants")


@pytest.fixture(scope="module")
def bench_memory(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench_cam_memory")


@pytest.fixture(scope="module")
def bench_race(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench_race")


@pytest.fixture(scope="module")
def bench_run_time(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench_run_time")


@pytest.fixture(scope="module")
def bench_import(script: Callable[[str], ModuleType]) -> ModuleType:
    pytest.importorskip("psutil")
    return script("bench_import")


def run_script(name: str, out: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The JSON that a script wrote, and what it printed."""
    command = [sys.executable, str(SCRIPTS / name), *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text()), done.stdout


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)).eval()


def case(contestants: ModuleType, chunk_size: int = 2) -> Any:
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    module = net()
    return contestants.Case(module, "1", images, module(images).argmax(dim=1).tolist(), chunk_size)


# ---------------------------------------------------------------- seconds


@pytest.mark.parametrize(
    "values", [[1.0, 2.0], [4.0, 1.0, 3.0, 2.0], [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8]], ids=lambda values: len(values)
)
def test_interquartile_range_is_that_of_numpy(bench_race: ModuleType, values: list[float]) -> None:
    low, high = np.percentile(values, [25, 75])
    assert bench_race.interquartile_range(values) == pytest.approx(high - low)


def test_interquartile_range_of_one_value_is_zero(bench_race: ModuleType) -> None:
    assert bench_race.interquartile_range([3.0]) == 0


def test_ratios_are_taken_within_a_round(bench_race: ModuleType) -> None:
    # the machine is ten times slower in the second round, for both
    plain, ours = bench_race.summarise({"plain": [1.0, 10.0, 2.0], "ours": [1.2, 11.0, 2.6]})
    assert (plain["ratio"], plain["iqr_ratio"], plain["median_seconds"]) == (1, 0, 2)
    assert ours["ratio"] == pytest.approx(1.2)  # of 1.2, 1.1 and 1.3
    assert ours["median_seconds"] == pytest.approx(2.6)
    assert ours["iqr_ratio"] == pytest.approx(0.1)


def test_the_clock_is_the_one_that_was_asked_for(bench_race: ModuleType) -> None:
    ticks = iter([1.0, 3.5])
    assert bench_race.measure_seconds(lambda: None, torch.device("cpu"), lambda: next(ticks)) == 2.5


def test_contestants_take_turns_in_another_order_each_round(bench_race: ModuleType) -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = bench_race.race(calls, 3, torch.device("cpu"))
    assert "".join(order) == "abcbcacab"
    assert [len(values) for values in seconds.values()] == [3, 3, 3]
    assert all(value > 0 for values in seconds.values() for value in values)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("sizes", "peak"),
    [([], 0), ([5], 5), ([5, -5, 3], 5), ([5, 4, -5, 3], 9), ([2, -2, 4, 4, -4, -4, 1], 8)],
)
def test_peak_is_the_highest_running_sum_in_the_order_of_time(
    bench_memory: ModuleType, sizes: list[int], peak: int
) -> None:
    events = list(enumerate(sizes))
    assert bench_memory.peak_of_allocations(reversed(events)) == peak


def test_peak_memory_counts_what_lives_at_the_same_time(bench_memory: ModuleType) -> None:
    def call() -> Tensor:
        first = torch.empty(8 * MEGABYTE // 4)
        second = torch.empty(4 * MEGABYTE // 4)
        del first
        third = torch.empty(6 * MEGABYTE // 4)
        return second[0] + third[0]

    assert bench_memory.peak_extra_bytes(call, torch.device("cpu")) == pytest.approx(12 * MEGABYTE, rel=1e-3)


def test_memory_and_seconds_are_those_of_a_process_and_its_descendants(
    bench_import: ModuleType, tmp_path: Path
) -> None:
    grandchild = f"import time; held = bytearray({100 * MEGABYTE}); time.sleep(0.5)"
    start = f"subprocess.run([sys.executable, '-c', {grandchild!r}])"
    child = f"import subprocess, sys; held = bytearray({50 * MEGABYTE}); {start}"
    usage = bench_import.measure([sys.executable, "-c", child], tmp_path / "log")
    assert 150 * MEGABYTE < usage.peak_bytes < 250 * MEGABYTE
    assert usage.code == 0
    assert 0.5 < usage.seconds < 60
    assert 0 < usage.cpu_seconds < usage.seconds * 64


def test_a_failing_stage_is_told_by_the_end_of_its_output(bench_import: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bench_import.StageError, match=r"(?s)stage_of_nothing ended with exit status 1.*KeyError"):
        bench_import.run_stages([{"stage": "stage_of_nothing"}], tmp_path)


def test_a_failed_conversion_becomes_a_row(bench_import: ModuleType, tmp_path: Path) -> None:
    row = bench_import._result("ours", [{"stage": "stage_of_nothing"}], tmp_path)
    assert "stage_of_nothing" in row["error"]
    assert bench_import._cells({"model": "Net"} | row, {}) == ["Net", "ours", *["-"] * 8, "no"]
    assert len(bench_import.COLUMNS) == 11


# ---------------------------------------------------------------- contestants


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason(contestants: ModuleType) -> None:
    def make(_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'peer'")

    both = [contestants.Contestant("peer", make), contestants.Contestant("plain", contestants.plain_forward)]
    calls, skipped = contestants.make_calls(both, case(contestants))
    assert list(calls) == ["plain"]
    assert skipped == {"peer": "No module named 'peer': pip install -e .[bench]"}


def test_contestants_do_not_share_a_module(contestants: ModuleType) -> None:
    seen = []
    both = [contestants.Contestant(name, lambda given: seen.append(given.module)) for name in "ab"]
    given = case(contestants)
    contestants.make_calls(both, given)
    assert len({id(module) for module in [*seen, given.module]}) == 3


def test_the_floor_of_score_cam_is_one_pass_an_image_and_channel(contestants: ModuleType) -> None:
    given = case(contestants, chunk_size=2)
    chunks = list(given.chunks())
    assert [len(chunk) for chunk in chunks] == [2, 2, 1, 2, 2, 1]  # 5 channels, 2 images
    assert torch.equal(torch.cat(chunks), given.images.repeat_interleave(5, dim=0))
    assert contestants.plain_passes(given)().shape == (10, 4)


def test_with_a_share_of_the_masks_all_contestants_have_the_same_ones(
    bench_cam: ModuleType, contestants: ModuleType
) -> None:
    given = case(contestants)
    fewer = contestants.with_fewer_masks(given, 0.4)
    assert (given.masks, fewer.masks) == (5, 2)
    assert torch.equal(fewer.module(given.images), given.module(given.images))
    assert contestants.plain_passes(fewer)().shape == (4, 4)
    seen = []
    with Recorder(fewer.module, [Site(fewer.layer)]) as recorder:
        recorder.run(fewer.module, given.images)
        seen.append(recorder.activations[Site(fewer.layer)])
    torch.testing.assert_close(seen[0], nn.Sequential(*given.module[:2])(given.images)[:, :2])
    maps = [bench_cam.comparable(make(fewer)(), fewer) for make in score_cams(contestants)]
    assert maps[0].std() > 0.05
    for found in maps[1:]:  # masks are made differently
        assert bench_cam.correlation(found, maps[0]) > 0.8


def score_cams(contestants: ModuleType) -> list[Callable[[Any], Callable[[], Tensor]]]:
    for package in ("pytorch_grad_cam", "torchcam"):
        pytest.importorskip(package)
    return [contestants.our_score_cam, contestants.pytorch_score_cam, contestants.torch_score_cam]


def test_each_contestant_gets_the_chunk_size_that_is_its_fastest(
    bench_cam: ModuleType, contestants: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(given: Any) -> Callable[[], Tensor]:
        made.append(given.chunk_size)
        return lambda: torch.full((1,), float(given.chunk_size))

    seconds = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(bench_cam, "measure_seconds", lambda _call, _device, _clock: next(seconds))
    contestant = contestants.Contestant("any", make)
    call, size, maps = bench_cam.fastest(
        contestant, case(contestants), [8, 32, 64], torch.device("cpu"), time.perf_counter
    )
    assert (made, size, float(maps), float(call())) == ([8, 32, 64], 32, 32, 32)
    assert bench_cam.fastest(contestant, case(contestants), [16], torch.device("cpu"), time.perf_counter)[1] == 16


def test_the_speed_is_that_beside_the_better_peer_and_before_skipping(bench_cam: ModuleType) -> None:
    seconds = {"plain passes": [2.0, 2.0], "ours": [1.0, 2.0], "pytorch-grad-cam": [4.0, 4.0], "torch-cam": [3.0, 4.0]}
    rows = [
        {"name": name, "precision": "float32", "seconds": values, "median_seconds": sum(values) / 2}
        for name, values in seconds.items()
    ]
    found = bench_cam.speedup(rows, 0.2)
    assert found == {"better_peer": "torch-cam", "measured": 2.5, "before_skipping": 2.0}
    assert bench_cam.speedup(rows[:2], 0)["measured"] is None


def test_channels_that_are_skipped_are_counted(contestants: ModuleType) -> None:
    given = case(contestants)
    with torch.no_grad():
        given.module[0].weight[:2] = 0
    assert contestants.skipped_channels(given) == pytest.approx(0.4)


@pytest.mark.parametrize("text", ["0", "1.5", "-1"])
def test_a_share_is_above_zero_and_at_most_one(bench_cam: ModuleType, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a share above 0, at most 1"):
        bench_cam._share(text)


def test_maps_of_the_layer_and_of_the_image_become_comparable(bench_cam: ModuleType, contestants: ModuleType) -> None:
    given = case(contestants)
    whole, bare = contestants.our_explain(given)(), contestants.our_recorder(given)()
    assert whole.shape == (2, 12, 12)
    assert bare.shape == (2, 10, 10)
    assert whole.std() > 0.05
    torch.testing.assert_close(bench_cam.comparable(bare, given), whole)
    torch.testing.assert_close(bench_cam.comparable(bare[:, None], given), bench_cam.comparable(whole, given))


@pytest.mark.parametrize("text", ["0", "-3"])
def test_counts_below_one_are_refused(script: Callable[[str], ModuleType], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected at least 1"):
        script("bench_record").at_least_one(text)


# ---------------------------------------------------------------- running


def test_the_twin_has_the_strides_of_keras_and_the_weights_of_torchvision(bench_run_time: ModuleType) -> None:
    native = torchvision.models.resnet50(weights=None)
    twin = bench_run_time.as_in_keras(native)
    strides = [(block.conv1.stride, block.conv2.stride) for block in (twin.layer3[0], native.layer3[0])]
    assert strides == [((2, 2), (1, 1)), ((1, 1), (2, 2))]
    assert torch.equal(twin.layer3[0].conv1.weight, native.layer3[0].conv1.weight)
    assert twin.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


def test_each_task_computes_what_its_name_says(bench_run_time: ModuleType) -> None:
    model = load(net(), input_size=(3, 12, 12), device="cpu")
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    forward, to_layer, to_input = (
        bench_run_time._call((model.logits, (model, "1")), task, images) for task in bench_run_time.TASKS
    )
    assert not forward().requires_grad
    torch.testing.assert_close(forward(), model.logits(images).detach())
    # behind the layer there is a mean over 10 x 10 positions, and the weights of class 0
    expected = (model.module[4].weight[0].detach() / 100)[None, :, None, None].expand(2, 5, 10, 10)
    torch.testing.assert_close(to_layer(), expected)
    assert to_input().shape == images.shape
    assert to_input().std() > 0
    assert bench_run_time._call((model.logits, None), "to layer", images) is None


def test_the_goal_is_that_of_the_fused_import(bench_run_time: ModuleType) -> None:
    row = {"batch": 1, "task": "forward", "median_seconds": 0.01, "iqr_seconds": 0.001, "iqr_ratio": 0.02}
    row |= {"forward_flops": 8.18e9}
    found = [
        bench_run_time.cells(row | {"name": name, "ratio": ratio})
        for name, ratio in (("imported", 2.0), ("imported, fused", 1.05), ("imported, fused", 1.051))
    ]
    assert [cells[-1] for cells in found] == ["", "met", "no"]
    assert found[1][:5] == ["imported, fused", "forward", "1", "10.0", "1.0"]
    assert len(found[0]) == len(bench_run_time.COLUMNS)


# ---------------------------------------------------------------- the scripts


def test_bench_cam_compares_equal_maps(tmp_path: Path) -> None:
    for package in ("captum", "pytorch_grad_cam", "torchcam"):
        pytest.importorskip(package)
    options = "--model resnet18 --batch 1 --grad-batch 2 --size 64 --repeats 2 --share 0.03 --threads 1 --device cpu"
    options += " --precision float32 bf16 --chunk-sizes 8"
    found, printed = run_script("bench_cam.py", tmp_path / "bench.json", *options.split())
    (grad,), (score,) = (found["results"][method] for method in ("gradcam", "scorecam"))
    rows = {row["name"]: row for row in grad["contestants"]}
    assert list(rows) == [
        "plain forward, no_grad",
        "ours: explain",
        "ours: bare grad_cam",
        "pytorch-grad-cam GradCAM",
        "torch-cam GradCAM",
        "Captum LayerGradCam",
    ]
    assert all(len(row["seconds"]) == 2 and row["median_seconds"] > 0 for row in rows.values())
    assert all(row["max_difference"] < 1e-4 for row in grad["contestants"][1:])
    # no more memory than the forward pass, where the peers keep the activations of the whole net
    forward = rows["plain forward, no_grad"]["peak_bytes"]
    assert rows["ours: explain"]["peak_bytes"] <= 1.05 * forward < rows["torch-cam GradCAM"]["peak_bytes"]
    assert grad | {"model": "resnet18", "layer": "layer4", "batch": 2, "size": 64, "repeats": 2} == grad
    assert score | {"masks": 15, "batch": 1, "share": 0.03} == score
    names = ["plain passes", "ours", "pytorch-grad-cam", "torch-cam"]
    exact, half = (
        {row["name"]: row for row in score["contestants"] if row["precision"] == precision}
        for precision in ("float32", "bf16")
    )
    assert list(exact) == names
    assert {"plain passes", "ours"} <= set(half)
    assert exact["ours"]["correlation"] == pytest.approx(1)
    assert 0.99 < half["ours"]["correlation"] < 1
    for row in score["contestants"]:
        assert row["chunk_size"] == 8
        assert row["peak_bytes"] > 0
        assert row["masks_per_second"] == pytest.approx(15 / row["seconds_per_image"])
    assert grad["skipped"] == {}
    assert not any("float32" in name for name in score["skipped"])
    assert score["speedup"]["better_peer"] in names[2:]
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["machine"]["cores"] >= 1
    assert max(map(len, printed.splitlines())) <= 80
    assert "Captum LayerGradCam" in printed


def test_bench_import_measures_both_routes(tmp_path: Path) -> None:
    for package in ("psutil", "tensorflow", "tf2onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    options = "--models --stock MobileNetV2 --run-time MobileNetV2 --size 64 --batches 2 --rounds 2 --threads 1"
    found, printed = run_script("bench_import.py", tmp_path / "bench.json", *options.split())
    ours, stock = found["results"]
    assert [ours["error"], stock["error"]] == [None, None]
    assert [(row["model"], row["route"]) for row in (ours, stock)] == [
        ("MobileNetV2", "ours"),
        ("MobileNetV2", "stock"),
    ]
    assert ours["layers"] > 150
    assert ours["taps"] >= ours["layers"]
    assert ours["transposes"] == 0
    assert stock["taps"] is None
    assert 0 < ours["worst_activation_error"] < 1e-4
    assert all(0 <= row["prediction_error"] < 1e-4 for row in (ours, stock))
    assert all(row["seconds"] > 1 and row["cpu_seconds"] > 1 for row in (ours, stock))
    assert all(1e8 < row["peak_bytes"] < 2e10 for row in (ours, stock))
    assert found["goals"] == {"seconds": 30, "peak_bytes": 4_000_000_000}
    assert found["settings"]["size"] == 64
    running = found["run_time"]["MobileNetV2"]
    assert running["error"] is None
    assert [(row["task"], row["name"]) for row in running["run_time"]] == [
        (task, name)
        for task in ("forward", "to layer", "to input")
        for name in ("twin", "twin, fused", "imported", "imported, fused", "keras on torch")
        if (task, name) != ("to layer", "keras on torch")
    ]
    assert all(len(row["seconds"]) == 2 and row["batch"] == 2 for row in running["run_time"])
    assert all(error < 1e-4 for row in running["run_time"] for error in row["largest_difference"].values())
    assert {round(row["forward_flops"] / 1e6) for row in running["run_time"] if row["name"] != "keras on torch"} == {
        round(running["run_time"][0]["forward_flops"] / 1e6)
    }
    assert "imported, fused" in printed
    assert max(map(len, printed.splitlines())) <= 80
