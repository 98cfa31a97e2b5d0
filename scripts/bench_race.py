"""Timing several contestants against each other, in rounds, so that what else the machine does hits all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch

Call = Callable[[], Any]
Clock = Callable[[], float]
K = TypeVar("K", bound=Hashable)


def about_device(device: torch.device) -> dict[str, Any]:
    return {
        "type": device.type,
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
    }


def race(
    calls: dict[K, Call], repeats: int, device: torch.device, clock: Clock = time.perf_counter
) -> dict[K, list[float]]:
    """Seconds of every call in every round; the order turns by one from round to round."""
    names = list(calls)
    seconds: dict[K, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(measure_seconds(calls[name], device, clock))
    return seconds


def measure_seconds(call: Call, device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Of one call: between two events of the device on CUDA, by the clock elsewhere."""
    gc.collect()
    synchronize(device)
    if device.type == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        synchronize(device)
        return first.elapsed_time(last) / 1000
    started = clock()
    call()
    return clock() - started


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def summarise(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Median and interquartile range of the seconds, and of their ratio to the first contestant's, round by round."""
    baseline = next(iter(seconds.values()))
    rows = []
    for name, values in seconds.items():
        ratios = [value / base for value, base in zip(values, baseline, strict=True)]
        rows.append(
            {
                "name": name,
                "seconds": values,
                "median_seconds": statistics.median(values),
                "iqr_seconds": interquartile_range(values),
                "ratio": statistics.median(ratios),
                "iqr_ratio": interquartile_range(ratios),
            }
        )
    return rows


def interquartile_range(values: Sequence[float]) -> float:
    """Range of the middle half, quartiles interpolated; 0 for a single value."""
    if len(values) == 1:
        return 0.0
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return quartiles[2] - quartiles[0]
