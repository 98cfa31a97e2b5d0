"""How fast an imported model runs, beside torchvision's and beside Keras 3 on its torch backend.

Part of bench_import.py. Contestants take turns in every round, and a ratio is that of two times of the same round.

- `torchvision`: the model of that name, with random weights.
- `twin`: the same, with the strides where Keras has them. Only ResNet50 differs: Keras strides in the first
  convolution of a block, torchvision in the second, which costs it 6 % more operations. All ratios are to the twin.
- `twin, fused`: by the same `Model.fuse`: what is left to gain without an import.
- `imported`, `imported, fused`: the bundle, as it is, and after `fuse(keep=[the last block])`.
- `keras on torch`: the checkpoint itself. It ends in a softmax, the others in logits.

Tasks: `forward`; `to layer`, a logit's gradient at the output of the last block, as Grad-CAM takes it (not for Keras,
which has no hooks); `to input`, its gradient at the pixels. No parameter asks for a gradient.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bench_race import about_device, race, summarise
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

from torchcam_suite import Model, load
from torchcam_suite.recorder import Recorder

GOAL_RATIO = 1.05
# torchvision's name, and the last block's layer in both
NATIVE = {
    "ResNet50": ("resnet50", "layer4", "conv5_block3_out"),
    "VGG16": ("vgg16", "features", "block5_pool"),
    "MobileNetV2": ("mobilenet_v2", "features", "out_relu"),
}
TASKS = "forward", "to layer", "to input"
COLUMNS = "contestant", "task", "batch", "median ms", "IQR ms", "ratio", "IQR", "GFLOP", "goal"

Contestant = tuple[Callable[[Tensor], Tensor], tuple[Model, str] | None]


def compare(job: dict[str, Any]) -> dict[str, Any]:
    """Run one model's contestants; the job names the bundle, the checkpoint and the settings."""
    torch.set_num_threads(job["threads"] or torch.get_num_threads())
    device = torch.device(job["device"])
    with _quiet():
        contestants = _contestants(job, device)
    rows = []
    for batch in job["batches"]:
        images = torch.rand(batch, 3, job["size"], job["size"], generator=torch.Generator().manual_seed(0)).to(device)
        if job["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        difference = _difference(contestants, images)
        for task in TASKS:
            calls = {name: call for name, one in contestants.items() if (call := _call(one, task, images)) is not None}
            for call in calls.values():
                call(), call()
            about = {"batch": batch, "task": task, "largest_difference": difference}
            rows += [about | _flops(contestants, images, row) for row in summarise(race(calls, job["rounds"], device))]
    return {"device": about_device(device), "run_time": rows}


def _contestants(job: dict[str, Any], device: torch.device) -> dict[str, Contestant]:
    name, native_layer, imported_layer = NATIVE[job["name"]]
    native = _opened(get_model(name, weights=None), job, device)
    twin = _opened(as_in_keras(native.module), job, device)
    imported = _opened(job["bundle"], job, device)
    models = {
        "twin": (twin, native_layer),
        "torchvision": (native, native_layer),
        "twin, fused": (twin.fuse(keep=native_layer), native_layer),
        "imported": (imported, imported_layer),
        "imported, fused": (imported.fuse(keep=imported_layer), imported_layer),
    }
    if job["name"] != "ResNet50":
        del models["torchvision"]  # it is the twin
    found: dict[str, Contestant] = {key: (value[0].logits, value) for key, value in models.items()}
    if job["keras"]:
        found["keras on torch"] = _keras(Path(job["checkpoint"]), device), None
    return found


def _opened(source: Any, job: dict[str, Any], device: torch.device) -> Model:
    model = load(source, input_size=(job["size"], job["size"]), device=device)
    model.module.requires_grad_(False)
    if job["channels_last"]:
        model.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def as_in_keras(module: nn.Module) -> nn.Module:
    """The same network with each block's stride in its first convolution, as in Keras and in the paper."""
    twin = copy.deepcopy(module)
    for block in twin.modules():
        if type(block).__name__ == "Bottleneck":
            first, second = block.conv1, block.conv2
            first.stride, second.stride = second.stride, first.stride
    return twin


def _keras(checkpoint: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    import keras

    if keras.backend.backend() != "torch":
        raise SystemExit("KERAS_BACKEND has to be torch before Keras is imported")
    with keras.device("cuda" if device.type == "cuda" else "cpu"):
        model = keras.saving.load_model(checkpoint, compile=False)
    model.trainable = False
    for weight in model.parameters():
        weight.requires_grad_(False)
    return lambda images: model(images.permute(0, 2, 3, 1), training=False)


def _call(contestant: Contestant, task: str, images: Tensor) -> Callable[[], Any] | None:
    forward, hooked = contestant
    if task == "forward":
        return lambda: _without_graph(forward, images)
    if task == "to input":
        return lambda: _gradient_at_input(forward, images)
    return None if hooked is None else lambda: _gradient_at_layer(*hooked, images)


@torch.no_grad()
def _without_graph(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return forward(images)


def _gradient_at_input(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    pixels = images.detach().requires_grad_()
    return torch.autograd.grad(forward(pixels)[:, 0].sum(), pixels)[0]


def _gradient_at_layer(model: Model, layer: str, images: Tensor) -> Tensor:
    site = model.layers.site(layer)
    with Recorder(model.module, [site], gradients=True) as recorder:
        logits = recorder.run(model.logits, images)
        return recorder.gradients(logits[:, 0].sum())[site]


def _difference(contestants: dict[str, Contestant], images: Tensor) -> dict[str, float]:
    """How far the fused model is from the imported one (logits), and that from Keras (probabilities)."""
    plain, fused = (_without_graph(contestants[name][0], images) for name in ("imported", "imported, fused"))
    found = {"fused": _error(fused, plain)}
    if "keras on torch" in contestants:
        found["keras"] = _error(plain.softmax(1), _without_graph(contestants["keras on torch"][0], images))
    return found


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _flops(contestants: dict[str, Contestant], images: Tensor, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the operations of one image's forward pass, of convolutions and products alone."""
    counter = FlopCounterMode(display=False)
    with counter:
        _without_graph(contestants[row["name"]][0], images[:1])
    return row | {"forward_flops": counter.get_total_flops()}


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    judged = row["name"] == "imported, fused"
    return [
        row["name"],
        row["task"],
        str(row["batch"]),
        f"{row['median_seconds'] * 1e3:.1f}",
        f"{row['iqr_seconds'] * 1e3:.1f}",
        f"{row['ratio']:.3f}",
        f"{row['iqr_ratio']:.3f}",
        f"{row['forward_flops'] / 1e9:.2f}",
        ("met" if row["ratio"] <= GOAL_RATIO else "no") if judged else "",
    ]
