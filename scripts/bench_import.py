"""What it costs to import a Keras checkpoint: seconds, memory, how exact the result is, and how fast it runs.

Each model of keras.applications is built with random weights and random BatchNormalization statistics, saved as
`.keras`, and converted in a fresh process: by `converters.convert` without its cache, and for the models of
`--stock` also by the stock route, tf2onnx and then onnx2torch (in two processes, as TensorFlow and onnx2torch abort
in one; their seconds are added, of their memory the larger counts).

Seconds are wall time from the start of the process to its end: Python, torch and TensorFlow start in them, and the
comparison with the original is made in them. Memory is resident memory, summed over the process and all its
descendants, at its highest of a sample every 50 ms: libraries that two of them share count twice, and a peak of a few
milliseconds can be missed. CPU seconds are user and system time of the same processes; other work on the machine
changes them little, wall time much.

Then ResNet50, VGG16 and MobileNetV2 run beside torchvision's models and beside Keras 3 on its torch backend; who
takes part in what is told in bench_run_time.py. Needs `pip install -e .[keras,bench]`. From the repository root:

    python scripts/bench_import.py
    python scripts/bench_import.py --models MobileNetV2 --stock --size 96 --rounds 5
    python scripts/bench_import.py --models --stock --run-time ResNet50 --device cuda --channels-last
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
from bench_record import at_least_one, conditions, console, log, print_conditions, print_table, write_json

GOAL_SECONDS, GOAL_BYTES = 30, 4e9
SAMPLE_EVERY = 0.05  # seconds
PACKAGES = ("torchcam-suite", "torch", "tensorflow", "keras", "tf2onnx", "onnx", "onnx2torch", "numpy")
COLUMNS = "model", "route", "s", "CPU s", "GB", "layers", "taps", "trans-\nposes", "output\nerror", "worst\ntap", "goal"
# the comparison is made on the CPU, where TensorFlow repeats itself
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
RUN_TIME = ("ResNet50", "VGG16", "MobileNetV2")

Job = dict[str, Any]


class Usage(NamedTuple):
    """What a process took.

    Attributes
    ----------
    seconds, cpu_seconds : float
        Wall time; time on all cores, the descendants included.
    peak_bytes : int
        Highest resident memory of the process and its descendants together.
    code : int
        Its exit status.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    code: int


class StageError(Exception):
    """A process of the benchmark failed; the text is the end of its output."""


def main() -> None:
    options = _options()
    if options.job is not None:
        _run_stage(options.job)
        return
    record = conditions(PACKAGES) | {
        "goals": {"seconds": GOAL_SECONDS, "peak_bytes": int(GOAL_BYTES)},
        "settings": {key: value for key, value in vars(options).items() if key not in {"out", "job"}},
    }
    results = {name: _rows(name, options) for name in _names(options)}
    record["results"] = [row for rows, _ in results.values() for row in rows]
    record["run_time"] = {name: found for name, (_, found) in results.items() if found is not None}
    report(record)
    write_json(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", default=["ResNet50", "VGG16"], help="default: %(default)s")
    parser.add_argument("--stock", nargs="*", default=["MobileNetV2"], help="by both routes (default: %(default)s)")
    parser.add_argument("--run-time", nargs="*", choices=RUN_TIME, default=RUN_TIME, help="default: all three")
    parser.add_argument("--batches", nargs="+", type=at_least_one, default=[1, 8], help="default: %(default)s")
    parser.add_argument("--rounds", type=at_least_one, default=20, help="of running (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="to run on (default: %(default)s)")
    parser.add_argument("--threads", type=at_least_one, help="of torch, to run with (default: torch's own)")
    parser.add_argument("--channels-last", action="store_true", help="let torch keep maps as (N, H, W, C)")
    parser.add_argument("--no-keras", action="store_true", help="leave Keras on torch out")
    parser.add_argument("--size", type=at_least_one, default=224, help="pixels of the input (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench_import.json"), help="default: %(default)s")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)  # how the script starts its own stages
    return parser.parse_args()


def _names(options: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys([*options.models, *options.stock, *options.run_time]))


def _rows(name: str, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The results of one model, and how it runs; the checkpoint lives as long as they are measured."""
    with tempfile.TemporaryDirectory(prefix="bench-import-") as folder:
        checkpoint = Path(folder) / f"{name}.keras"
        log.print(f"{name}: making the checkpoint")
        run_stages([{"stage": "make", "name": name, "size": options.size, "file": str(checkpoint)}], Path(folder))
        about = {"model": name, "checkpoint_bytes": checkpoint.stat().st_size}
        log.print(f"{name}: converting")
        rows = [about | _result("ours", our_jobs(checkpoint), Path(folder))]
        if name in options.stock:
            log.print(f"{name}: converting by the stock route")
            rows.append(about | _result("stock", stock_jobs(checkpoint), Path(folder)))
        if name not in options.run_time or rows[0]["error"] is not None:
            return rows, None
        log.print(f"{name}: running")
        return rows, _result("run time", run_time_jobs(name, checkpoint, options), Path(folder))


def run_time_jobs(name: str, checkpoint: Path, options: argparse.Namespace) -> list[Job]:
    settings = {
        key: getattr(options, key) for key in ("size", "batches", "rounds", "device", "threads", "channels_last")
    }
    files = {"checkpoint": str(checkpoint), "bundle": str(checkpoint.with_suffix(".bundle"))}
    return [{"stage": "run_time", "name": name, "keras": not options.no_keras, **files, **settings}]


def _result(route: str, jobs: Sequence[Job], folder: Path) -> dict[str, Any]:
    try:
        return {"route": route, "error": None} | run_stages(jobs, folder)
    except StageError as error:
        return {"route": route, "error": str(error)}


def our_jobs(checkpoint: Path) -> list[Job]:
    return [{"stage": "ours", "file": str(checkpoint), "out": str(checkpoint.with_suffix(".bundle"))}]


def stock_jobs(checkpoint: Path) -> list[Job]:
    files = {"onnx": str(checkpoint.with_suffix(".onnx")), "reference": str(checkpoint.with_suffix(".npz"))}
    return [{"stage": "stock_onnx", "file": str(checkpoint), **files}, {"stage": "stock_torch", **files}]


# ---------------------------------------------------------------- measuring


def run_stages(jobs: Sequence[Job], folder: Path) -> dict[str, Any]:
    """Run jobs one after the other, each in a process of its own.

    Returns
    -------
    dict
        What the stages found, with `seconds` and `cpu_seconds` of all, `peak_bytes` of the largest.

    Raises
    ------
    StageError
        A process failed.
    """
    facts: dict[str, Any] = {}
    used: list[Usage] = []
    for job in jobs:
        order, answer, output = folder / "job.json", folder / "answer.json", folder / "output.log"
        order.write_text(json.dumps(job | {"answer": str(answer)}), encoding="utf-8")
        # running needs no TensorFlow, and may need the GPU
        environment = {"KERAS_BACKEND": "torch"} if job["stage"] == "run_time" else ENVIRONMENT
        used.append(measure([sys.executable, __file__, "--job", str(order)], output, environment))
        if used[-1].code != 0:
            raise StageError(f"{job['stage']} ended with exit status {used[-1].code}: {_tail(output)}")
        facts |= json.loads(answer.read_text(encoding="utf-8"))
    return facts | {
        "seconds": sum(usage.seconds for usage in used),
        "cpu_seconds": sum(usage.cpu_seconds for usage in used),
        "peak_bytes": max(usage.peak_bytes for usage in used),
    }


def measure(command: Sequence[str], output: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Usage:
    """Run a command to its end, its output in a file, and watch its memory."""
    peak = 0
    started, cpu_started = time.perf_counter(), _cpu_seconds_of_ended_children()
    with output.open("wb") as file:
        process = psutil.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=os.environ | environment
        )
    try:
        code = None
        while code is None:
            peak = max(peak, resident_bytes(process))
            with suppress(psutil.TimeoutExpired):
                code = process.wait(SAMPLE_EVERY)
        cpu_seconds = _cpu_seconds_of_ended_children() - cpu_started
        return Usage(time.perf_counter() - started, cpu_seconds, peak, code)
    finally:
        _end(process)


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and all its descendants; those that have just ended count nothing."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


def _cpu_seconds_of_ended_children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _end(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        for one in [*process.children(recursive=True), process]:
            one.kill()


def _tail(output: Path, lines: int = 4) -> str:
    return "\n".join(output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:])


# ---------------------------------------------------------------- stages, each run in a process of its own


def _run_stage(order: Path) -> None:
    job = json.loads(order.read_text(encoding="utf-8"))
    Path(job["answer"]).write_text(json.dumps(STAGES[job["stage"]](job)), encoding="utf-8")


def make_checkpoint(job: Job) -> Job:
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, job["name"], None)
    if not callable(build):
        raise SystemExit(f"keras.applications has no model {job['name']!r}")
    model = build(weights=None, input_shape=(job["size"], job["size"], 3))
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # a fresh layer's statistics are 0 and 1, which would hide one that is misplaced
            ranges = {"gamma": (0.8, 1.2), "beta": (-0.2, 0.2), "moving_mean": (-0.2, 0.2), "moving_variance": (0.5, 2)}
            for variable in layer.weights:
                variable.assign(generator.uniform(*ranges[variable.name], variable.shape))
    model.save(job["file"])
    return {}


def convert_by_ours(job: Job) -> Job:
    import converters

    bundle = converters.convert(job["file"], out=job["out"], cache=False)
    proof = bundle.certificate
    return {
        "layers": len({row.name for row in bundle.layers}),
        "taps": proof.taps,
        "transposes": proof.runtime_transposes,
        "prediction_error": proof.prediction,
        "worst_activation_error": proof.worst_activation,
        "worst_gradient_cosine": proof.worst_cosine,
    }


def stock_to_onnx(job: Job) -> Job:
    import keras
    import numpy as np
    import tensorflow as tf
    import tf2onnx

    model = keras.models.load_model(job["file"], compile=False)
    shape = tuple(model.inputs[0].shape[1:])
    tf2onnx.convert.from_keras(
        model, [tf.TensorSpec((None, *shape), tf.float32, name="images")], opset=13, output_path=job["onnx"]
    )
    batch = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
    np.savez(job["reference"], batch=batch, prediction=np.asarray(model(batch, training=False)))
    return {}


def stock_to_torch(job: Job) -> Job:
    import numpy as np
    import onnx2torch
    import torch
    from onnx2torch.node_converters.transpose import OnnxTranspose

    # onnx2torch hands the module over in train mode
    module = onnx2torch.convert(job["onnx"]).eval()
    with np.load(job["reference"]) as reference, torch.no_grad():
        theirs = torch.from_numpy(reference["prediction"])
        ours = module(torch.from_numpy(reference["batch"]))
    return {
        "layers": None,
        "taps": None,
        "transposes": sum(isinstance(part, OnnxTranspose) for part in module.modules()),
        "prediction_error": float((ours - theirs).abs().max() / theirs.abs().max()),
        "worst_activation_error": None,
        "worst_gradient_cosine": None,
    }


def run_beside_others(job: Job) -> Job:
    import bench_run_time

    return bench_run_time.compare(job)


STAGES: dict[str, Callable[[Job], Job]] = {
    "run_time": run_beside_others,
    "make": make_checkpoint,
    "ours": convert_by_ours,
    "stock_onnx": stock_to_onnx,
    "stock_torch": stock_to_torch,
}


# ---------------------------------------------------------------- report


def report(record: dict[str, Any]) -> None:
    print_conditions(record)
    goals = record["goals"]
    print_table(
        f"Import, TensorFlow's start included; goal: < {goals['seconds']} s and < {goals['peak_bytes'] / 1e9:g} GB",
        COLUMNS,
        [_cells(row, goals) for row in record["results"]],
    )
    if record["run_time"]:
        report_run_time(record["run_time"])
    for row in [*record["results"], *({"model": name} | found for name, found in record["run_time"].items())]:
        if row["error"] is not None:
            console.print(f"\n{row['model']} by {row['route']}: {row['error']}", markup=False)


def report_run_time(found: Mapping[str, dict[str, Any]]) -> None:
    import bench_run_time

    measured = {name: rows["run_time"] for name, rows in found.items() if rows["error"] is None}
    goal = f"imported, fused at most {bench_run_time.GOAL_RATIO:g} of the twin"
    for name, rows in measured.items():
        print_table(
            f"{name}: running; goal: {goal}", bench_run_time.COLUMNS, [bench_run_time.cells(row) for row in rows]
        )


def _cells(row: dict[str, Any], goals: dict[str, float]) -> list[str]:
    if row["error"] is not None:
        return [row["model"], row["route"], *["-"] * 8, "no"]
    met = row["seconds"] < goals["seconds"] and row["peak_bytes"] < goals["peak_bytes"]
    return [
        row["model"],
        row["route"],
        f"{row['seconds']:.1f}",
        f"{row['cpu_seconds']:.1f}",
        f"{row['peak_bytes'] / 1e9:.2f}",
        *[_or_dash(row[key], "d") for key in ("layers", "taps", "transposes")],
        *[_or_dash(row[key], ".0e") for key in ("prediction_error", "worst_activation_error")],
        "met" if met else "no",
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    main()
