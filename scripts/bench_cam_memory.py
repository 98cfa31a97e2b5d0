"""The highest sum of the tensors that a call allocates, for bench_cam.py."""

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import torch
from bench_race import synchronize


def peak_extra_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """Largest sum of the tensors allocated during a call, above what was allocated before."""
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    cpu_only = [torch.profiler.ProfilerActivity.CPU]
    # acc_events: without it some versions of torch warn that events of earlier profiles are dropped
    with torch.profiler.profile(activities=cpu_only, profile_memory=True, acc_events=True) as profiler:
        call()
    events: Any = profiler.profiler
    found = [event for event in events.kineto_results.events() if event.name() == "[memory]"]
    return peak_of_allocations((event.start_ns(), event.nbytes()) for event in found)


def peak_of_allocations(events: Iterable[tuple[int, int]]) -> int:
    """Highest running sum of (time, bytes) in the order of time; frees are negative."""
    return max(accumulate((size for _, size in sorted(events, key=lambda event: event[0])), initial=0))
