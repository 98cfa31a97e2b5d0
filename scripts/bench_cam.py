"""What class activation maps cost, ours beside pytorch-grad-cam, torch-cam and Captum, at equal results.

Grad-CAM is compared with a plain forward pass of the same batch. Score-CAM is compared with its floor: the plain
forward passes that it cannot do without, one an image and channel, in the same precision. Each contestant takes the
chunk size that is the fastest for it, of those in `--chunk-sizes`. Models are torchvision's, with random weights.

`--share 0.05` gives every contestant, the floor included, the first twentieth of the channels, so that a run on a CPU
ends in minutes; the images' own pass then counts for more than in a whole run. "before skipping" adds to our time what
channels cost that we skip, because their mask is empty.

Seconds are of one call: between two events of the device on CUDA, wall time on a CPU, after the calls that give maps
and memory have warmed everything up. The contestants take turns, each round in another order, each on a module of its
own, so that the hooks of one do not slow another; given are the median, the interquartile range, and the median over
the rounds of the ratio to the plain passes of the same round. `explain` and pytorch-grad-cam give maps of the image's
size, the others of the layer's. On a machine with other work, `--threads 1` gives steadier ratios: with more, each
operator waits for the thread that was held up longest. There `--clock cpu` helps too: seconds of the processor, all
threads together, without the time in which others had it.

Memory is the highest sum of the tensors allocated in one call, above what was allocated before: on CUDA
`max_memory_allocated`, on the CPU the running sum of the allocations that `torch.profiler` reports. Unlike resident
memory it is the same in every run; NumPy's arrays and the scratch space inside oneDNN are not in it.

"max diff" is the largest difference to the maps of our `explain`, all maps upsampled and scaled to [0, 1]; "corr" the
correlation with our float32 maps (other libraries make Score-CAM's masks differently).
Peers that are not installed are left out. Needs `pip install -e .[bench]`. From the repository root:

    python scripts/bench_cam.py --share 0.05 --batch 1
    python scripts/bench_cam.py --method gradcam --model vgg16 --grad-batch 1 16 --repeats 3
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# read when torch and tqdm are imported: the profiler logs its every start, the CPU allocator every tensor that is
# older than the profile, and pytorch-grad-cam draws a progress bar for every image
os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR", "TQDM_DISABLE": "1"}

import torch
from bench_cam_contestants import (
    GRAD_CAM,
    SCORE_CAM,
    Call,
    Case,
    Contestant,
    make_calls,
    make_case,
    skipped_channels,
)
from bench_cam_memory import peak_extra_bytes
from bench_cam_plot import draw
from bench_race import Clock, about_device, measure_seconds, race, summarise
from bench_record import (
    at_least_one,
    conditions,
    console,
    log,
    print_conditions,
    print_table,
    write_json,
)
from torch import Tensor

from torchcam_suite.cam.saliency_map import finish

GOALS = {"gradcam_ratio": 1.07, "scorecam_speedup": 1.3}
EQUAL = 1e-4  # of maps in [0, 1]; more means that different things were computed
PACKAGES = ("torchcam-suite", "torch", "torchvision", "grad-cam", "torchcam", "captum", "numpy")
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
MODELS = ["vgg16", "resnet50", "mobilenet_v2"]
DEFAULTS = {
    "cpu": {"chunk_sizes": [8, 32], "precision": ["float32"]},
    "cuda": {"chunk_sizes": [64, 256], "precision": ["float32", "tf32", "bf16", "fp16"]},
}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    record = conditions(PACKAGES) | {"device": about_device(device), "clock": options.clock, "goals": GOALS}
    record["results"] = {}
    print_conditions(record)
    console.print(f"{record['device']['name'] or 'CPU'}, {record['device']['threads']} threads")
    for method in options.method:
        run, batches = (run_grad_cam, options.grad_batch) if method == "gradcam" else (run_score_cam, options.batch)
        record["results"][method] = found = []
        for name in options.model:
            for batch in batches:
                found.append(run(name, batch, options, device))
                REPORTS[method](found[-1])
                write_json(record, options.out)  # after each, so that a long run that is stopped is not lost
    if record["results"].get("scorecam"):
        plot = options.out.with_suffix(".png")
        draw(record["results"]["scorecam"], f"Score-CAM on {record['device']['name'] or 'the CPU'}", plot)
        console.print(f"drawn in {plot}")


def _options() -> argparse.Namespace:
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", nargs="+", choices=list(REPORTS), default=list(REPORTS))
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="on a CPU (default: %(default)s)")
    parser.add_argument("--size", type=at_least_one, default=224, help="pixels of an image (default: %(default)s)")
    parser.add_argument("--model", nargs="+", default=MODELS, help=f"torchvision's names (default: {' '.join(MODELS)})")
    parser.add_argument("--batch", nargs="+", type=at_least_one, default=[1, 8, 64], help="images for Score-CAM")
    parser.add_argument("--grad-batch", nargs="+", type=at_least_one, default=[1, 16], help="images for Grad-CAM")
    parser.add_argument("--share", type=_share, default=1.0, help="of the channels, above 0 to 1 (default: all)")
    parser.add_argument("--precision", nargs="+", choices=DEFAULTS["cuda"]["precision"], help="default: all on CUDA")
    parser.add_argument("--compile", action="store_true", help="our Score-CAM with compile=True too")
    parser.add_argument("--repeats", type=at_least_one, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--chunk-sizes", nargs="+", type=at_least_one, help="to choose from (CPU: 8 32, CUDA: 64 256)")
    parser.add_argument("--out", type=Path, default=Path("bench_cam.json"), help="default: %(default)s")
    options = parser.parse_args()
    options.device = best if options.device == "auto" else options.device
    for name, value in DEFAULTS[options.device].items():
        setattr(options, name, getattr(options, name) or value)
    return options


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text}; expected a share above 0, at most 1")
    return share


# ---------------------------------------------------------------- Grad-CAM


def run_grad_cam(name: str, batch: int, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    case = make_case(name, batch, options.size, device, options.chunk_sizes[0])
    calls, skipped = make_calls(GRAD_CAM, case)
    log.print(f"Grad-CAM of {name}, batch {batch}: maps, memory, {options.repeats} rounds")
    maps = {one.name: comparable(calls[one.name](), case) for one in GRAD_CAM if one.gives_maps and one.name in calls}
    peaks = {name: peak_extra_bytes(call, device) for name, call in calls.items()}
    rows = summarise(race(calls, options.repeats, device, CLOCKS[options.clock]))
    for row in rows:
        found = maps.get(row["name"])
        row["peak_bytes"] = peaks[row["name"]]
        row["max_difference"] = None if found is None else float((found - maps["ours: explain"]).abs().max())
    settings = {"model": name, "layer": case.layer, "batch": batch, "size": options.size, "repeats": options.repeats}
    return settings | {"contestants": rows, "skipped": skipped}


def comparable(maps: Tensor, case: Case) -> Tensor:
    """What a contestant gives, as maps (N, H, W) in [0, 1] on the CPU."""
    maps = maps.detach().cpu().reshape(len(maps), *maps.shape[-2:])
    size = (case.images.shape[2], case.images.shape[3])
    return maps if maps.shape[1:] == size else finish(maps, size, relu="before", normalize="minmax").maps


# ---------------------------------------------------------------- Score-CAM


def run_score_cam(name: str, batch: int, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    case = make_case(name, batch, options.size, device, options.chunk_sizes[0], options.share)
    calls: dict[tuple[str, str], Call] = {}
    chunks, maps, skipped = {}, {}, {}
    for precision, contestant, one in _entries(case, options):
        key = precision, contestant.name
        log.print(f"Score-CAM of {name}, batch {batch}, {precision}: {contestant.name}")
        try:
            calls[key], chunks[key], found = fastest(
                contestant, one, options.chunk_sizes, device, CLOCKS[options.clock]
            )
        except (ImportError, RuntimeError, TypeError) as error:
            # not installed, out of memory, or a peer that does not know half precision
            skipped[f"{contestant.name}, {precision}"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        maps[key] = comparable(found, case) if contestant.gives_maps else None
    peaks = {key: peak_extra_bytes(call, device) for key, call in calls.items()}
    log.print(f"{options.repeats} rounds")
    seconds = race(calls, options.repeats, device, CLOCKS[options.clock])
    rows = [
        row | {"precision": precision}
        for precision in dict.fromkeys(precision for precision, _ in calls)
        for row in summarise({key[1]: values for key, values in seconds.items() if key[0] == precision})
    ]
    masks, empty = case.masks, skipped_channels(case)
    for row in rows:
        key = row["precision"], row["name"]
        row |= {
            "chunk_size": chunks[key],
            "peak_bytes": peaks[key],
            "seconds_per_image": row["median_seconds"] / batch,
            "masks_per_second": batch * masks / row["median_seconds"],
            "floor_share": 1 / row["ratio"],
            "correlation": correlation(maps[key], maps.get(("float32", "ours"))),
        }
    settings = {"model": name, "layer": case.layer, "batch": batch, "size": options.size, "repeats": options.repeats}
    settings |= {"masks": masks, "share": options.share, "skipped_share": empty}
    return settings | {"contestants": rows, "skipped": skipped, "speedup": speedup(rows, empty)}


def _entries(case: Case, options: argparse.Namespace) -> list[tuple[str, Contestant, Case]]:
    entries = []
    for precision in options.precision:
        for contestant in SCORE_CAM:
            entries.append((precision, contestant, replace(case, precision=precision)))
            if contestant.name == "ours" and options.compile:
                compiled = replace(case, precision=precision, compile=True)
                entries.append((precision, replace(contestant, name="ours, compiled"), compiled))
    return entries


def fastest(
    contestant: Contestant, case: Case, chunk_sizes: Sequence[int], device: torch.device, clock: Clock
) -> tuple[Call, int, Tensor]:
    """The call with the chunk size that is the fastest for this contestant, and what it gives."""
    found: list[tuple[float, int, Call, Tensor]] = []
    for chunk_size in chunk_sizes:
        call = contestant.make(replace(case, module=copy.deepcopy(case.module), chunk_size=chunk_size))
        maps = call()
        seconds = measure_seconds(call, device, clock) if len(chunk_sizes) > 1 else 0.0
        found.append((seconds, chunk_size, call, maps))
    _, chunk_size, call, maps = min(found, key=lambda one: one[0])
    return call, chunk_size, maps


def correlation(maps: Tensor | None, reference: Tensor | None) -> float | None:
    """Pearson's, of all pixels; None where there are no maps."""
    if maps is None or reference is None:
        return None
    return float(torch.corrcoef(torch.stack([maps.flatten(), reference.flatten()]).double())[0, 1])


def speedup(rows: Sequence[dict[str, Any]], skipped_share: float) -> dict[str, Any]:
    """How many times as fast ours is as the better peer, both exact, round by round; None without a peer."""
    exact = {row["name"]: row for row in rows if row["precision"] == "float32"}
    peers = [row for name, row in exact.items() if name in ("pytorch-grad-cam", "torch-cam")]
    if not peers or "ours" not in exact:
        return {"better_peer": None, "measured": None, "before_skipping": None}
    peer = min(peers, key=lambda row: row["median_seconds"])
    ratios = [theirs / ours for theirs, ours in zip(peer["seconds"], exact["ours"]["seconds"], strict=True)]
    measured = statistics.median(ratios)
    return {"better_peer": peer["name"], "measured": measured, "before_skipping": measured * (1 - skipped_share)}


# ---------------------------------------------------------------- report


def report_grad_cam(found: dict[str, Any]) -> None:
    title = f"Grad-CAM of {found['model']} at {found['layer']}, {found['batch']} x {found['size']} px"
    print_table(
        f"{title} (goal: {GOALS['gradcam_ratio']}, no more memory)",
        ("", "median s", "IQR s", "ratio", "IQR", "MB", "max diff"),
        [
            [
                row["name"],
                f"{row['median_seconds']:.4g}",
                f"{row['iqr_seconds']:.2g}",
                f"{row['ratio']:.3f}",
                f"{row['iqr_ratio']:.3f}",
                f"{row['peak_bytes'] / 1e6:.1f}",
                "-" if row["max_difference"] is None else f"{row['max_difference']:.1e}",
            ]
            for row in found["contestants"]
        ],
    )
    _print_skipped(found)
    others = [row["name"] for row in found["contestants"] if (row["max_difference"] or 0) > EQUAL]
    if others:
        console.print(f"Not the same map as ours (over {EQUAL:g}): {', '.join(others)}; speeds do not compare.")


def report_score_cam(found: dict[str, Any]) -> None:
    print_table(
        f"Score-CAM of {found['model']}, {found['masks']} masks, {found['batch']} x {found['size']} px",
        ("", "chunk", "s/image", "IQR %", "masks/s", "of floor", "MB", "corr"),
        [
            [
                row["name"] if row["precision"] == "float32" else f"{row['name']}, {row['precision']}",
                str(row["chunk_size"]),
                f"{row['seconds_per_image']:.4g}",
                f"{100 * row['iqr_seconds'] / row['median_seconds']:.0f}",
                f"{row['masks_per_second']:.1f}",
                f"{row['floor_share']:.2f}",
                f"{row['peak_bytes'] / 1e6:.0f}",
                "-" if row["correlation"] is None else f"{row['correlation']:.5f}",
            ]
            for row in found["contestants"]
        ],
    )
    _print_skipped(found)
    speed = found["speedup"]
    if speed["measured"] is not None:
        console.print(
            f"ours beside {speed['better_peer']}: {speed['measured']:.2f} x as fast, {speed['before_skipping']:.2f} x "
            f"before skipping (goal: {GOALS['scorecam_speedup']}); {found['skipped_share']:.0%} of the masks are empty"
        )


def _print_skipped(found: dict[str, Any]) -> None:
    for name, reason in found["skipped"].items():
        console.print(f"{name}: left out, {reason}", markup=False)


REPORTS = {"gradcam": report_grad_cam, "scorecam": report_score_cam}


if __name__ == "__main__":
    main()
