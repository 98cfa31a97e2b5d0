"""What class activation maps cost, ours beside pytorch-grad-cam, torch-cam and Captum, at equal results.

Grad-CAM is compared with a plain forward pass of the same batch, Score-CAM with the plain forward passes that it
cannot do without: one an image and channel, at the same chunk size. Models are torchvision's, with random weights.

Seconds are wall time of one call, with a synchronisation before and after it on CUDA, after the calls that give maps
and memory have warmed everything up. The contestants take turns, each round in another order, each on a module of its
own, so that the hooks of one do not slow another; given are the median, the interquartile range, and the median over
the rounds of the ratio to the plain passes of the same round. `explain` and pytorch-grad-cam give maps of the image's
size, the others of the layer's. On a machine with other work, `--threads 1` gives steadier ratios: with more, each
operator waits for the thread that was held up longest.

Memory is the highest sum of the tensors allocated in one call, above what was allocated before: on CUDA
`max_memory_allocated`, on the CPU the running sum of the allocations that `torch.profiler` reports. Unlike resident
memory it is the same in every run; NumPy's arrays and the scratch space inside oneDNN are not in it.

"max diff" is the largest difference to the maps of our `explain`, all maps upsampled and scaled to [0, 1].
Peers that are not installed are left out. Needs `pip install -e .[bench]`. From the repository root:

    python scripts/bench_cam.py
    python scripts/bench_cam.py --method gradcam --model vgg16 --batch 4 --repeats 3
"""

import argparse
import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

# read when torch and tqdm are imported: the profiler logs its every start, the CPU allocator every tensor that is
# older than the profile, and pytorch-grad-cam draws a progress bar for every image
os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR", "TQDM_DISABLE": "1"}

import torch
from bench_race import about_device, race, summarise, synchronize
from bench_record import (
    at_least_one,
    conditions,
    console,
    log,
    print_conditions,
    print_table,
    write_json,
)
from torch import Tensor, nn
from torchvision.models import get_model

from torchcam_suite import activations, explain, load
from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.cam.saliency_map import finish
from torchcam_suite.recorder import Recorder, Site

GOAL_RATIO = 1.15
EQUAL = 1e-4  # of maps in [0, 1]; more means that different things were computed
CHUNK_SIZES = {"cpu": 8, "cuda": 256}  # where our chunk_size="auto" starts
PACKAGES = ("torchcam-suite", "torch", "torchvision", "grad-cam", "torchcam", "captum", "numpy")

Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """What is explained.

    Attributes
    ----------
    module : nn.Module
        In eval mode.
    layer : str
        Its path in the module.
    images : Tensor
        (N, C, H, W), on the module's device.
    classes : list of int
        One an image.
    chunk_size : int
        Masked images in one forward pass of Score-CAM.
    """

    module: nn.Module
    layer: str
    images: Tensor
    classes: list[int]
    chunk_size: int

    @property
    def site(self) -> nn.Module:
        """The explained layer."""
        return self.module.get_submodule(self.layer)

    def chunks(self) -> Iterator[Tensor]:
        """As many images as Score-CAM has masks, cut into chunks."""
        model = load(self.module, input_size=tuple(self.images.shape[1:]), device=self.images.device)
        channels = activations(model, self.images[:1], self.layer)[self.layer].shape[1]
        for image in self.images:
            for start in range(0, channels, self.chunk_size):
                yield image.expand(min(self.chunk_size, channels - start), -1, -1, -1).contiguous()


@dataclass(frozen=True)
class Contestant:
    """One way to compute the maps.

    Attributes
    ----------
    name : str
        For the table.
    make : function
        Case to the call that is measured; what needs doing once a model is done here. An ImportError leaves the
        contestant out.
    gives_maps : bool
        False for the plain passes.
    """

    name: str
    make: Callable[[Case], Call]
    gives_maps: bool = True


# ---------------------------------------------------------------- contestants


def plain_forward(case: Case) -> Call:
    def call() -> Tensor:
        with torch.no_grad():
            return case.module(case.images)

    return call


def plain_passes(case: Case) -> Call:
    chunks = list(case.chunks())

    def call() -> Tensor:
        with torch.inference_mode():
            return torch.cat([case.module(chunk) for chunk in chunks])

    return call


def our_explain(case: Case, method: str = "gradcam", **options: Any) -> Call:
    model = load(case.module, input_size=tuple(case.images.shape[1:]), device=case.images.device)
    _ = model.fingerprint  # hashed once a model
    options |= {"batch_size": len(case.images), "normalize": "minmax"}
    return lambda: explain(model, case.images, method=method, layer=case.layer, target=case.classes, **options).maps


def our_score_cam(case: Case) -> Call:
    return our_explain(case, "scorecam", variant="logit", chunk_size=case.chunk_size)


def our_recorder(case: Case) -> Call:
    site = Site(case.layer)
    classes = torch.tensor(case.classes, device=case.images.device)[:, None]

    def call() -> Tensor:
        with Recorder(case.module, [site], gradients=True) as recorder:
            logits = recorder.run(case.module, case.images)
            gradients = recorder.gradients(logits.gather(1, classes).sum())
            return grad_cam(recorder.activations[site], gradients[site])

    return call


def pytorch_grad_cam(case: Case, method: str = "GradCAM") -> Call:
    import pytorch_grad_cam as peer  # type: ignore[import-untyped]
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # type: ignore[import-untyped]

    explainer = getattr(peer, method)(case.module, [case.site])
    explainer.batch_size = case.chunk_size
    targets = [ClassifierOutputTarget(index) for index in case.classes]
    return lambda: torch.from_numpy(explainer(input_tensor=case.images, targets=targets))


def pytorch_score_cam(case: Case) -> Call:
    return pytorch_grad_cam(case, "ScoreCAM")


def torch_cam(case: Case) -> Call:
    from torchcam.methods import GradCAM

    extractor = GradCAM(case.module, case.layer)
    return lambda: extractor(class_idx=case.classes, scores=case.module(case.images))[0]


def torch_score_cam(case: Case) -> Call:
    from torchcam.methods import ScoreCAM

    extractor = ScoreCAM(case.module, case.layer, batch_size=case.chunk_size)

    def call() -> Tensor:
        with torch.no_grad():
            case.module(case.images)
            return extractor(class_idx=case.classes)[0]

    return call


def captum(case: Case) -> Call:
    from captum.attr import LayerGradCam

    explainer = LayerGradCam(case.module, case.site)
    classes = torch.tensor(case.classes, device=case.images.device)
    return lambda: explainer.attribute(case.images, target=classes, relu_attributions=True)


# the first of each is what the others are measured by
CONTESTANTS = {
    "gradcam": (
        Contestant("plain forward, no_grad", plain_forward, gives_maps=False),
        Contestant("ours: explain", our_explain),
        Contestant("ours: bare grad_cam", our_recorder),
        Contestant("pytorch-grad-cam GradCAM", pytorch_grad_cam),
        Contestant("torch-cam GradCAM", torch_cam),
        Contestant("Captum LayerGradCam", captum),
    ),
    "scorecam": (
        Contestant("plain forward passes", plain_passes, gives_maps=False),
        Contestant("ours: explain", our_score_cam),
        Contestant("pytorch-grad-cam ScoreCAM", pytorch_score_cam),
        Contestant("torch-cam ScoreCAM", torch_score_cam),
    ),
}


# ---------------------------------------------------------------- measuring


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    record = conditions(PACKAGES) | {"device": about_device(device), "goals": {"gradcam_ratio": GOAL_RATIO}}
    record["results"] = {method: run_method(method, options, device) for method in options.method}
    report(record)
    write_json(record, options.out)


def _options() -> argparse.Namespace:
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--size", type=at_least_one, default=224, help="pixels of an image (default: %(default)s)")
    parser.add_argument("--model", default="resnet50", help="for Grad-CAM (default: %(default)s)")
    parser.add_argument("--batch", type=at_least_one, default=16, help="images for Grad-CAM (default: %(default)s)")
    parser.add_argument("--repeats", type=at_least_one, default=7, help="rounds of Grad-CAM (default: %(default)s)")
    parser.add_argument("--scorecam-model", default="resnet18", help="default: %(default)s, 512 masks an image")
    parser.add_argument("--scorecam-batch", type=at_least_one, default=1, help="images (default: %(default)s)")
    parser.add_argument("--scorecam-repeats", type=at_least_one, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--chunk-size", type=at_least_one, help="masked images in one pass (CPU: 8, CUDA: 256)")
    parser.add_argument("--out", type=Path, default=Path("bench_cam.json"), help="default: %(default)s")
    options = parser.parse_args()
    options.device = best if options.device == "auto" else options.device
    return options


def run_method(method: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    prefix = "scorecam_" if method == "scorecam" else ""
    name, batch, repeats = (getattr(options, f"{prefix}{key}") for key in ("model", "batch", "repeats"))
    case = make_case(name, batch, options.size, device, options.chunk_size or CHUNK_SIZES[device.type])
    calls, skipped = make_calls(CONTESTANTS[method], case)
    log.print(f"{method}: memory and maps")
    maps = {contestant.name: comparable(calls[contestant.name](), case) for contestant in _with_maps(method, calls)}
    peaks = {name: peak_extra_bytes(call, device) for name, call in calls.items()}
    log.print(f"{method}: {repeats} rounds")
    rows = summarise(race(calls, repeats, device))
    for row in rows:
        found = maps.get(row["name"])
        row["peak_bytes"] = peaks[row["name"]]
        row["max_difference"] = None if found is None else float((found - maps["ours: explain"]).abs().max())
    return {
        "settings": {
            "model": name,
            "layer": case.layer,
            "batch": batch,
            "size": options.size,
            "repeats": repeats,
            "chunk_size": case.chunk_size if method == "scorecam" else None,
        },
        "contestants": rows,
        "skipped": skipped,
    }


def make_case(name: str, batch: int, size: int, device: torch.device, chunk_size: int) -> Case:
    """A torchvision model with seeded random weights, random images, and the model's own top classes."""
    torch.manual_seed(0)
    module = get_model(name, weights=None).eval().to(device)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    model = load(module, input_size=(3, size, size), device=device)
    with torch.no_grad():
        classes = module(images).argmax(dim=1).tolist()
    return Case(module, model.layers.site(model.default_layer).module, images, classes, chunk_size)


def make_calls(contestants: Sequence[Contestant], case: Case) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls to measure, and for each contestant that is left out the reason."""
    calls, skipped = {}, {}
    for contestant in contestants:
        try:
            calls[contestant.name] = contestant.make(replace(case, module=copy.deepcopy(case.module)))
        except ImportError as error:
            skipped[contestant.name] = f"{error}: pip install -e .[bench]"
    return calls, skipped


def _with_maps(method: str, calls: dict[str, Call]) -> list[Contestant]:
    return [contestant for contestant in CONTESTANTS[method] if contestant.gives_maps and contestant.name in calls]


def comparable(maps: Tensor, case: Case) -> Tensor:
    """What a contestant gives, as maps (N, H, W) in [0, 1] on the CPU."""
    maps = maps.detach().cpu().reshape(len(maps), *maps.shape[-2:])
    size = (case.images.shape[2], case.images.shape[3])
    return maps if maps.shape[1:] == size else finish(maps, size, relu="before", normalize="minmax").maps


def peak_extra_bytes(call: Call, device: torch.device) -> int:
    """Largest sum of the tensors allocated during a call, above what was allocated before."""
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    cpu_only = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu_only, profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory(prefix="bench-cam-") as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return peak_of_allocations(events)


def peak_of_allocations(events: Sequence[dict[str, Any]]) -> int:
    """Highest running sum of the memory events of a profiler's trace; frees are negative."""
    memory = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(accumulate((event["args"]["Bytes"] for event in memory), initial=0))


# ---------------------------------------------------------------- report


def report(record: dict[str, Any]) -> None:
    print_conditions(record)
    device = record["device"]
    console.print(f"{device['name'] or 'CPU'}, {device['threads']} threads")
    for method, found in record["results"].items():
        print_table(
            _title(method, found["settings"], record["goals"]),
            ("", "median s", "IQR s", "ratio", "IQR", "MB", "max diff"),
            [_cells(row) for row in found["contestants"]],
        )
        for name, reason in found["skipped"].items():
            console.print(f"{name}: left out, {reason}", markup=False)
        _print_difference(method, found["contestants"])


def _title(method: str, settings: dict[str, Any], goals: dict[str, float]) -> str:
    what = f"of {settings['model']} at {settings['layer']}, {settings['batch']} x {settings['size']} px"
    if method == "scorecam":
        return f"Score-CAM {what}, chunks of {settings['chunk_size']}"
    return f"Grad-CAM {what} (goal: {goals['gradcam_ratio']}, no more memory)"


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['median_seconds']:.4g}",
        f"{row['iqr_seconds']:.2g}",
        f"{row['ratio']:.3f}",
        f"{row['iqr_ratio']:.3f}",
        f"{row['peak_bytes'] / 1e6:.1f}",
        "-" if row["max_difference"] is None else f"{row['max_difference']:.1e}",
    ]


def _print_difference(method: str, rows: Sequence[dict[str, Any]]) -> None:
    others = [row["name"] for row in rows if (row["max_difference"] or 0) > EQUAL]
    if method == "scorecam" and others:
        console.print("The libraries make Score-CAM's masks differently: by design, maps are alike, not equal.")
    elif others:
        console.print(f"Not the same map as ours (over {EQUAL:g}): {', '.join(others)}; speeds do not compare.")


if __name__ == "__main__":
    main()
