"""`explain` on a simulated GPU: no operation mixes devices, and maps are those of the CPU.

Nothing is told of CUDA's kernels, numbers, memory or speed, of CUDA graphs, or of compiled code.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from simulated_cuda import NAME
from torch import Tensor, nn
from twins import Net, Twins, net, pictures, require_equal, require_same_maps, twins

from converters import open_bundle
from torchcam_suite import Explanation, activations, explain, load
from torchcam_suite.cam import METHODS, fast_forward
from torchcam_suite.cam.layercam import fuse_layers
from torchcam_suite.errors import SourceError

pytestmark = [
    pytest.mark.usefixtures("one_thread", "cuda"),
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
]

FEW: dict[str, list[dict[str, Any]]] = {
    "smoothgradcam++": [{"samples": 3}],
    "gradcam++": [{"variant": variant} for variant in ("paper", "official")],
    "eigencam": [{"center": center} for center in (False, True)],
    "finercam": [{"variant": "paper"}, {"variant": "official", "similar": 2}],
    "fullgrad": [{"variant": variant} for variant in ("official", "paper")],
    "scorecam": [{"variant": variant} for variant in ("official", "paper", "logit", "keep-learning")],
    "fasterscorecam": [{"channels": 3}],
    "sscam": [{"noise": noise, "samples": 3} for noise in ("activation", "input")],
    "iscam": [{"samples": 3, "path": path} for path in ("linear", "cumulative")],
    "groupcam": [{"groups": 2}, {"groups": 3, "percentile": 0.0}],
    "reciprocam": [{"mask": mask} for mask in ("gaussian", "spread", "single")],
    "rise": [{"masks": 40, "grid": 4}],
    "randommap": [{"resolution": resolution} for resolution in ("layer", "input")],
}
EACH = [
    pytest.param(method, options, id="-".join([method, *map(str, options.values())]))
    for method in METHODS
    for options in FEW.get(method, [{}])
]
MANY_PASSES = ["ablationcam", "scorecam", "reciprocam", "rise"]


@pytest.fixture
def models() -> Twins:
    return twins(class_names=["ant", "bee", "cat", "dog"])


def layers_for(method: str, *names: str) -> dict[str, Any]:
    """As an argument of `explain`: only CAM asks for the layer before the pooling, and some take none."""
    if not METHODS[method].takes_layer:
        return {}
    return {"layer": ["relu#1"] if method == "cam" else list(names)}


def on_both(models: Twins, images: Tensor, **options: Any) -> list[tuple[Explanation, Explanation]]:
    """The device's explanations, and those of the CPU; images come from the CPU."""
    expected, found = (explain(model, images, **{"relu": "after"} | options) for model in models.both)
    if isinstance(found, Explanation):
        return [(found, expected)]
    return [(found[layer], expected[layer]) for layer in expected]


def test_a_model_is_moved_with_all_that_it_has(models: Twins) -> None:
    assert models.there.device == torch.device("cuda:0")
    tensors = [*models.there.module.parameters(), *models.there.module.buffers()]
    assert len(tensors) > 7
    assert all(tensor.is_cuda for tensor in tensors)
    assert models.there.fingerprint == models.here.fingerprint
    assert [str(layer) for layer in models.there.layers] == [str(layer) for layer in models.here.layers]


def test_auto_takes_the_gpu_and_a_second_one_is_not_there() -> None:
    assert load(net(), input_size=16, preprocessing="unit").device.type == "cuda"
    with pytest.raises(SourceError, match=r"device 'cuda:1': this torch sees 1 CUDA device\(s\)"):
        load(net(), input_size=16, preprocessing="unit", device="cuda:1")


@pytest.mark.parametrize(("method", "options"), EACH)
def test_each_method_gives_the_maps_of_the_cpu(models: Twins, method: str, options: dict[str, Any]) -> None:
    places = layers_for(method, "relu#0", "relu#1")
    found = on_both(models, pictures(), method=method, batch_size=2, **places, **options)
    assert len(found) == len(places.get("layer", "1"))
    for there, here in found:
        require_same_maps(there, here)
        assert there.versions["device"] == NAME
        assert here.versions["device"] == "cpu"


def second_minus_first(logits: Tensor) -> Tensor:
    return logits[:, 1] - logits[:, 0]


def weighted(logits: Tensor) -> Tensor:
    return logits @ torch.arange(4.0, device=logits.device)


TARGETS: dict[str, Any] = {
    "class": 2,
    "name": "bee",
    "one each": [0, "dog", 1],
    "array": np.array([3, 2, 1]),
    "tensor": torch.tensor([1, 1, 0]),
    "function": second_minus_first,
    "function with a tensor": weighted,
}


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_each_kind_of_target_is_explained(models: Twins, method: str, target: Any) -> None:
    for there, here in on_both(models, pictures(), method=method, target=target, **layers_for(method, "relu#1")):
        require_same_maps(there, here)


@pytest.mark.parametrize("method", ["finercam", "scorecam", "reciprocam", "rise"])
@pytest.mark.parametrize("target", [0, None, [0, 1, 0]], ids=str)
def test_both_sides_of_a_binary_head_are_explained(method: str, target: Any) -> None:
    models = twins(net(1))
    options = {"method": method, "target": target, **FEW.get(method, [{}])[0], **layers_for(method, "relu#1")}
    for there, here in on_both(models, pictures(), **options):
        require_same_maps(there, here)


@pytest.mark.parametrize("given", ["cpu", "cuda"])
@pytest.mark.parametrize("inference", [False, True], ids=["", "in inference mode"])
def test_ready_images_may_be_on_either_device(models: Twins, given: str, inference: bool) -> None:
    expected = explain(models.here, pictures(), layer="relu#1")
    with torch.inference_mode(inference):
        found = explain(models.there, pictures().to(given), layer="relu#1", target=torch.tensor(expected.targets))
    require_same_maps(found, expected)


# ---------------------------------------------------------------- many passes


@pytest.mark.parametrize("chunk_size", ["auto", 7])
@pytest.mark.parametrize("method", MANY_PASSES)
def test_each_size_of_chunks_gives_the_same(models: Twins, method: str, chunk_size: Any) -> None:
    options = {"method": method, "chunk_size": chunk_size, **FEW.get(method, [{}])[0]}
    for there, here in on_both(models, pictures(), **options, **layers_for(method, "relu#1")):
        require_same_maps(there, here)
        assert there.details["chunk_size"] == (256 if chunk_size == "auto" else chunk_size)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_many_passes_run_on_a_fused_copy(models: Twins, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that fails is let go without a word, and only time would tell."""
    accepted: list[tuple[str, int, bool]] = []
    gives = fast_forward._gives

    def noted(net: nn.Module, images: Tensor, logits: Tensor, form: Any) -> bool:
        norms = sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())
        good = gives(net, images, logits, form)
        accepted.append((next(net.parameters()).device.type, norms, good))
        return good

    monkeypatch.setattr(fast_forward, "_gives", noted)
    options = {"method": "rise", "masks": 80, "grid": 4, "precision": precision, "chunk_size": 16}
    for there, here in on_both(models, pictures(2), **options):
        # rounding to half precision differs where the normalization is part of the convolution on one side alone
        require_same_maps(there, here, 1e-5 if precision == "float32" else 5e-2)
    assert accepted == [("cpu", 0, True), ("cuda", 0, True)]


class Small(Net):
    """Runs out of memory with more than ten pictures."""

    error: RuntimeError

    def forward(self, images: Tensor) -> Tensor:
        if images.is_cuda and len(images) > 10:
            raise self.error
        return super().forward(images)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


def small(error: RuntimeError) -> Twins:
    module = Small(4)
    module.load_state_dict(net().state_dict())
    module.error = error
    return twins(module)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_chunks_are_halved_where_memory_runs_out(error: RuntimeError) -> None:
    options = {"method": "scorecam", "layer": "relu#0"}
    for there, here in on_both(small(error), pictures(), **options):
        require_same_maps(there, here)
        assert 5 <= there.details["chunk_size"] <= 10


def test_another_error_of_the_device_is_not_taken_for_that() -> None:
    models = small(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        explain(models.there, pictures(), method="rise", masks=40)


@pytest.mark.parametrize("method", MANY_PASSES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_that_of_autocast(models: Twins, method: str, precision: str) -> None:
    options = {"method": method, "chunk_size": 8, **FEW.get(method, [{}])[0], **layers_for(method, "relu#1")}
    exact = on_both(models, pictures(), **options)
    for (there, here), (_, plain) in zip(
        on_both(models, pictures(), precision=precision, **options), exact, strict=True
    ):
        require_same_maps(there, here)
        assert not torch.equal(here.raw, plain.raw)


@pytest.mark.parametrize("method", MANY_PASSES)
def test_tf32_may_be_asked_for_and_changes_nothing_without_tensor_cores(models: Twins, method: str) -> None:
    options = {"method": method, "chunk_size": 8, **FEW.get(method, [{}])[0], **layers_for(method, "relu#1")}
    for plain, _ in on_both(models, pictures(), **options):
        found = explain(models.there, pictures(), precision="tf32", relu="after", **options)
        there = found if isinstance(found, Explanation) else found[plain.layer]
        assert there.options["precision"] == "tf32"
        require_equal(there.raw, plain.raw)


# ---------------------------------------------------------------- other models


class Tokens(nn.Module):
    """PyTorch's own transformer layers, with a class token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed = nn.Conv2d(3, 10, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 10))
        layer = nn.TransformerEncoderLayer(10, 2, 16, 0.0, nn.ReLU(), batch_first=True, norm_first=True)
        self.block, self.norm, self.head = layer, nn.LayerNorm(10), nn.Linear(10, 4)
        nn.init.normal_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x + torch.linspace(0, 1, 12, device=x.device)[:, None]], 1)
        return self.head(self.norm(self.block(x)).mean(1))


def as_maps(output: Tensor) -> Tensor:
    return output[:, 1:].transpose(1, 2).unflatten(2, (4, 3))


def as_tokens(maps: Tensor, like: Tensor) -> Tensor:
    return torch.cat([like[:, :1], maps.flatten(2).transpose(1, 2)], 1)


RESHAPES: dict[str, Any] = {"recognised": None, "function": as_maps, "two functions": (as_maps, as_tokens)}
ON_TOKENS = [
    pytest.param(method, reshape, id=f"{method}-{name}")
    for method in ("gradcam", "scorecam", "reciprocam")
    for name, reshape in RESHAPES.items()
    if method != "reciprocam" or reshape is not as_maps  # which needs the way back too
]


@pytest.mark.parametrize(("method", "reshape"), ON_TOKENS)
def test_tokens_are_explained_as_maps(method: str, reshape: Any) -> None:
    for there, here in on_both(twins(Tokens().eval()), pictures(), method=method, layer="norm", reshape=reshape):
        require_same_maps(there, here, 1e-5)


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam", "fullgrad"])
def test_a_fused_model_explains_on_its_device(models: Twins, method: str) -> None:
    fused = Twins(*(model.fuse(keep="relu") for model in models.both))
    assert fused.there.device.type == "cuda"
    for there, here in on_both(fused, pictures(), method=method, **layers_for(method, "relu#1")):
        require_same_maps(there, here)


@pytest.fixture(scope="module")
def imported(data: Path) -> Callable[[], Twins]:
    """A Keras model with BatchNormalization, separable convolutions, an Add and a softmax; converted without a GPU."""
    source, asked = data / "keras224/keras224_func.h5", {"preprocessing": "unit"}
    load(source, device="cpu", **asked)
    return lambda: Twins(load(source, device="cpu", **asked), load(source, device="cuda", **asked))


@pytest.mark.filterwarnings("ignore:Pytorch's nearest neighbor interpolation:UserWarning")  # of onnx2torch
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
def test_an_imported_model_runs_on_the_device(imported: Callable[[], Twins], fused: bool) -> None:
    models = imported()
    if fused:
        models = Twins(*(model.fuse(keep="relu6") for model in models.both))
    images = pictures(2, 7, models.here.input)
    methods = ["gradcam", "gradcam++", "ablationcam", "scorecam", "guidedgradcam"] + ([] if fused else ["fullgrad"])
    for method in methods:
        for there, here in on_both(models, images, method=method, **layers_for(method, "relu6")):
            require_same_maps(there, here, 1e-5)


def test_the_proof_of_an_imported_model_is_done_on_the_device(data: Path, conversion_cache: Path) -> None:
    load(data / "keras224/keras224_func.h5", preprocessing="unit", device="cpu")
    bundle = next(
        path.parent for path in conversion_cache.rglob("manifest.json") if "keras224_func" in path.read_text()
    )
    here, there = (open_bundle(bundle).verify(device) for device in ("cpu", "cuda"))
    assert there.taps == here.taps > 5
    assert 0 < there.worst_activation < 1e-5
    assert there.gradients == here.gradients > 0


# ---------------------------------------------------------------- results


def test_activations_are_on_the_device(models: Twins) -> None:
    here, there = (activations(model, pictures(), ["relu#0", "head"]) for model in models.both)
    for layer, expected in here.items():
        assert there[layer].is_cuda
        assert torch.equal(there[layer].cpu(), expected)


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "rise"])
def test_a_saved_explanation_is_that_of_the_cpu(models: Twins, tmp_path: Path, method: str) -> None:
    many = {"chunk_size": 8, **FEW[method][0]} if method in MANY_PASSES else {}
    ((there, here),) = on_both(models, pictures(), method=method, **many, **layers_for(method, "relu#1"))
    found, expected = (Explanation.load(one.save(tmp_path / one.versions["device"])) for one in (there, here))
    assert not found.maps.is_cuda
    assert torch.equal(found.maps, there.maps.cpu())
    said, wanted = found.to_json(), expected.to_json()
    assert (said["versions"].pop("device"), wanted["versions"].pop("device")) == (NAME, "cpu")
    assert json.dumps(said).count("cuda") == 0
    assert said["model"] == wanted["model"]


def test_maps_of_two_layers_are_fused_on_the_device(models: Twins) -> None:
    here, there = (
        fuse_layers(explain(model, pictures(), method="layercam", layer=["relu#0", "relu#1"])) for model in models.both
    )
    require_same_maps(there, here)


def test_an_explanation_shows_itself(models: Twins) -> None:
    found = explain(models.there, pictures(), layer="relu#1")
    assert found._repr_html_().count("<img") == 3
    assert "3 maps of 16 x 12" in repr(found)
