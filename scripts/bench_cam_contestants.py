"""Who takes part in bench_cam.py: what is explained, and each way to compute the maps."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.models import get_model

from torchcam_suite import activations, explain, load
from torchcam_suite.cam.fast_forward import fast_forward
from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.cam.precision import arithmetic
from torchcam_suite.recorder import Recorder, Site

# where the channels that are masks come from; for other models the last layer with feature maps
LAYERS = {"vgg16": "features.29", "resnet50": "layer4", "mobilenet_v2": "features"}

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
    precision : str
        Of these passes.
    compile : bool
        Whether ours are compiled.
    """

    module: nn.Module
    layer: str
    images: Tensor
    classes: list[int]
    chunk_size: int
    precision: Any = "float32"
    compile: bool = False

    @property
    def site(self) -> nn.Module:
        """The explained layer."""
        return self.module.get_submodule(self.layer)

    @property
    def masks(self) -> int:
        """Channels of the layer: the masks of one image."""
        model = load(self.module, input_size=tuple(self.images.shape[1:]), device=self.images.device)
        return activations(model, self.images[:1], self.layer)[self.layer].shape[1]

    def chunks(self) -> Iterator[Tensor]:
        """As many images as Score-CAM has masks, cut into chunks."""
        masks = self.masks
        for image in self.images:
            for start in range(0, masks, self.chunk_size):
                yield image.expand(min(self.chunk_size, masks - start), -1, -1, -1).contiguous()


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


# ---------------------------------------------------------------- cases


def make_case(name: str, batch: int, size: int, device: torch.device, chunk_size: int, share: float = 1.0) -> Case:
    """A torchvision model with seeded random weights, random images, and the model's own top classes."""
    torch.manual_seed(0)
    module = get_model(name, weights=None).eval().to(device)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    model = load(module, input_size=(3, size, size), device=device)
    with torch.no_grad():
        classes = torch.cat([module(image[None]) for image in images]).argmax(dim=1).tolist()
    layer = LAYERS.get(name) or model.layers.site(model.default_layer).module
    case = Case(module, layer, images, classes, chunk_size)
    return case if share == 1 else with_fewer_masks(case, share)


def with_fewer_masks(case: Case, share: float) -> Case:
    """The same model with a layer `probe`, which shows the first channels of the layer and leads nowhere.

    So every contestant has fewer masks, of the same size, and as much to do for each of them.
    """
    masks = max(1, round(case.masks * share))
    tracer = _Leaf(case.layer)
    net = fx.GraphModule(case.module, tracer.trace(case.module), type(case.module).__name__)
    net.add_submodule("probe", nn.Identity())
    (node,) = (node for node in net.graph.nodes if node.target == case.layer)
    with net.graph.inserting_after(node):
        first = net.graph.call_function(torch.narrow, (node, 1, 0, masks))
    with net.graph.inserting_after(first):
        net.graph.call_module("probe", (first,))
    net.recompile()
    return replace(case, module=net.eval(), layer="probe")


class _Leaf(fx.Tracer):
    """Does not look into one layer, so that its call stays one."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self._path or super().is_leaf_module(m, module_qualified_name)


# ---------------------------------------------------------------- contestants


def plain_forward(case: Case) -> Call:
    def call() -> Tensor:
        with torch.no_grad():
            return case.module(case.images)

    return call


def plain_passes(case: Case) -> Call:
    chunks = list(case.chunks())

    def call() -> Tensor:
        with torch.inference_mode(), arithmetic(case.precision, case.images.device):
            return torch.cat([case.module(chunk) for chunk in chunks])

    return call


def our_explain(case: Case, method: str = "gradcam", **options: Any) -> Call:
    model = load(case.module, input_size=tuple(case.images.shape[1:]), device=case.images.device)
    _ = model.fingerprint  # hashed once a model
    options |= {"batch_size": len(case.images), "normalize": "minmax"}
    return lambda: explain(model, case.images, method=method, layer=case.layer, target=case.classes, **options).maps


def our_score_cam(case: Case) -> Call:
    model = load(case.module, input_size=tuple(case.images.shape[1:]), device=case.images.device)
    options = {"precision": case.precision, "compile": case.compile}
    with torch.no_grad(), arithmetic("float32", case.images.device):
        # a run with few masks uses the copy of the module that the whole run would make
        fast_forward(model, case.images, model.logits(case.images), passes=10**9, **options)
    return our_explain(case, "scorecam", variant="logit", chunk_size=case.chunk_size, **options)


def skipped_channels(case: Case) -> float:
    """The share of the channels that our Score-CAM need not run."""
    model = load(case.module, input_size=tuple(case.images.shape[1:]), device=case.images.device)
    with Recorder(case.module, [Site(case.layer)]) as recorder:
        recorder.run(model.logits, case.images)
        maps = recorder.activations[Site(case.layer)]
    return float((maps.amax(dim=(2, 3)) == maps.amin(dim=(2, 3))).float().mean())


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
    return _in_precision(case, pytorch_grad_cam(case, "ScoreCAM"))


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

    return _in_precision(case, call)


def captum(case: Case) -> Call:
    from captum.attr import LayerGradCam

    explainer = LayerGradCam(case.module, case.site)
    classes = torch.tensor(case.classes, device=case.images.device)
    return lambda: explainer.attribute(case.images, target=classes, relu_attributions=True)


def _in_precision(case: Case, call: Call) -> Call:
    def inside() -> Tensor:
        with arithmetic(case.precision, case.images.device):
            return call()

    return inside


# the first of each is what the others are measured by
GRAD_CAM = (
    Contestant("plain forward, no_grad", plain_forward, gives_maps=False),
    Contestant("ours: explain", our_explain),
    Contestant("ours: bare grad_cam", our_recorder),
    Contestant("pytorch-grad-cam GradCAM", pytorch_grad_cam),
    Contestant("torch-cam GradCAM", torch_cam),
    Contestant("Captum LayerGradCam", captum),
)
SCORE_CAM = (
    Contestant("plain passes", plain_passes, gives_maps=False),
    Contestant("ours", our_score_cam),
    Contestant("pytorch-grad-cam", pytorch_score_cam),
    Contestant("torch-cam", torch_score_cam),
)


def make_calls(contestants: Sequence[Contestant], case: Case) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls to measure, and for each contestant that is left out the reason."""
    calls, skipped = {}, {}
    for contestant in contestants:
        try:
            calls[contestant.name] = contestant.make(replace(case, module=copy.deepcopy(case.module)))
        except ImportError as error:
            skipped[contestant.name] = f"{error}: pip install -e .[bench]"
    return calls, skipped
