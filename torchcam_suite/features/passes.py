"""Forward passes that give several layers and the logits; of many images, by a copy of the module that is faster."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from torchcam_suite.fast_form import Form, Forward, has_hooks, in_form, take_form
from torchcam_suite.images import example_images
from torchcam_suite.models import Model
from torchcam_suite.recorder import Recorder, Site, logits_of

# A copy takes as long to make as some 20 to 60 images gain by it: a tenth to a half of each (ResNet-18, MobileNetV2).
WORTH_IMAGES = 64
_CHECKED_IMAGES = 8
_ON_A_CPU = Form(channels_last=True, onednn=True)


class Outputs(NamedTuple):
    """What a batch gives: outputs of layers by name, and logits (N, classes)."""

    layers: dict[str, Tensor]
    logits: Tensor


class Passes:
    """Forward passes that give the outputs of layers.

    On a CPU, where more than `WORTH_IMAGES` images are to come, all batches but the first are run by a copy with Conv
    and BatchNormalization folded and the channels innermost in memory. It has to give what the module gave of the first
    batch, to float rounding; otherwise the module itself goes on.

    Parameters
    ----------
    model : Model
        Stays as it is.
    sites : mapping of str to Site
        What to capture, by name.
    images : int
        How many are to come.
    """

    def __init__(self, model: Model, sites: Mapping[str, Site], images: int) -> None:
        self._model = model
        self._sites = dict(sites)
        self._worth_a_copy = images > WORTH_IMAGES
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._run = _recorded(stack, self._model.module, self._sites, _whole_forward(self._model.module))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, images: Tensor) -> Outputs:
        """Run a batch (N, C, H, W)."""
        found = self._run(images)
        if self._worth_a_copy:
            self._worth_a_copy = False
            self._run = self._faster(images[:_CHECKED_IMAGES], found) or self._run
        return found

    def _faster(self, images: Tensor, found: Outputs) -> Callable[[Tensor], Outputs] | None:
        """The passes of a copy that gives the same; None where there is none."""
        module = self._model.module
        if images.device.type != "cpu" or images.dtype != torch.float32 or has_hooks(module):
            return None
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
                warnings.simplefilter("ignore")
                net, sites = _copy(module, self._sites, images)
            with ExitStack() as stack:
                run = _recorded(stack, net, sites, in_form(_whole_forward(net), _ON_A_CPU))
                if not _same(run(images), found):
                    return None
                self._stack.push(stack.pop_all())
                return run
        except Exception:  # whatever a module says of being traced or copied, it can be run as it is
            return None


def _copy(module: nn.Module, sites: Mapping[str, Site], images: Tensor) -> tuple[nn.Module, dict[str, Site]]:
    from converters.fusion import fuse

    example = example_images(2, images.shape[1:])
    fused = fuse(module, list(sites.values()), example)
    net = take_form(fused.module, example, _ON_A_CPU)
    return net, {name: Site(fused.paths[site]) for name, site in sites.items()}


def _recorded(
    stack: ExitStack, module: nn.Module, sites: Mapping[str, Site], forward: Forward
) -> Callable[[Tensor], Outputs]:
    recorder = stack.enter_context(Recorder(module, list(sites.values())))

    def run(images: Tensor) -> Outputs:
        logits = recorder.run(forward, images)
        return Outputs({name: recorder.activations[site] for name, site in sites.items()}, logits)

    return run


def _whole_forward(module: nn.Module) -> Forward:
    """One pass through the whole module that gives the logits: an imported one has layers behind them."""
    to_logits = logits_of(module)
    head = getattr(module, "head", None) if getattr(module, "gives_logits", False) is True else None
    if head is None:
        return to_logits

    def forward(images: Tensor) -> Tensor:
        logits = to_logits(images)
        head(logits)
        return logits

    return forward


def _same(ours: Outputs, theirs: Outputs) -> bool:
    pairs = [(ours.logits, theirs.logits)]
    pairs += [(ours.layers[name], theirs.layers[name]) for name in theirs.layers]
    return all(_close(found, expected[: len(found)]) for found, expected in pairs)


def _close(found: Tensor, expected: Tensor) -> bool:
    allowed = 1000 * torch.finfo(expected.dtype).eps * expected.abs().max()
    return found.shape == expected.shape and bool(((found - expected).abs() <= allowed).all())
