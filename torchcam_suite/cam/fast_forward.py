"""The forward pass that is run many times: the model's own logits, to float rounding, in less time.

A copy of the module is made once: Conv and BatchNormalization folded, weights in the memory format that is the
fastest, on a CPU convolution, sum and activation in one operation. It is kept as long as the module lives and its
weights stay as they are, and for each batch it has to give the logits that were recorded of the module itself; a copy
that does not, or that cannot be made, is not used.
"""

import warnings
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from torchcam_suite.cam.method import Precision
from torchcam_suite.cam.scoring import Classifier
from torchcam_suite.errors import UnsupportedModelError
from torchcam_suite.fast_form import Form, Forward, has_hooks, in_form, take_form, with_layout
from torchcam_suite.images import example_images
from torchcam_suite.recorder import logits_of

# A copy costs as much time as about 30 passes gain by it (MobileNetV2 and ResNet50, one core): 0.2 to 0.4 s.
_WORTH_PASSES = 64
_CHECKED_IMAGES = 8


@dataclass
class _Copy:
    """A copy of a module; `net` is None where there is none that gives the same logits."""

    state: tuple[Any, ...]
    net: nn.Module | None
    compiled: dict[str, Forward] = field(default_factory=dict)


_copies: WeakKeyDictionary[nn.Module, dict[Any, _Copy]] = WeakKeyDictionary()


def fast_forward(
    model: Classifier, images: Tensor, logits: Tensor, *, passes: int, precision: Precision, compile: bool = False
) -> Forward:
    """Inputs (m, c, H, W) to logits (m, classes), as fast as this model gives them.

    Parameters
    ----------
    model : Classifier
        Its module stays as it is.
    images, logits : Tensor
        Some of its inputs (N, c, H, W), of the size of those to come, and what it gives for them, both in full
        precision.
    passes : int
        How many inputs will be run. Few of them are not worth a copy.
    precision : {"float32", "tf32", "bf16", "fp16"}
        In which they will be run, see `torchcam_suite.cam.precision.arithmetic`.
    compile : bool
        Let torch.compile make it faster; inputs should then all have one shape.

    Raises
    ------
    UnsupportedModelError
        When it is called: torch.compile cannot compile the model, or there is no compiler.
    """
    form = _form(images, precision, compile)
    kept = _kept_copy(model, images, logits, form, passes if not compile else _WORTH_PASSES)
    net = None if kept is None else kept.net
    forward = model.logits if net is None else logits_of(net)
    if compile:
        known = {} if kept is None or net is None else kept.compiled
        forward = known.setdefault(precision, compiled(forward, images.device))
    return forward if net is None else in_form(forward, form)


def compiled(forward: Forward, device: torch.device, backend: str = "inductor") -> Forward:
    """Let torch.compile make a forward pass faster, for inputs of one shape.

    On CUDA the whole pass is one CUDA graph; on the CPU the weights become constants of the compiled code.

    Raises
    ------
    UnsupportedModelError
        When it is called: the compiler is missing, or refuses the model.
    """
    options: dict[str, Any] = {}
    if backend == "inductor":
        options = {"mode": "reduce-overhead"} if device.type == "cuda" else {"options": {"freezing": True}}
    fast: Any = torch.compile(forward, backend=backend, dynamic=False, **options)

    def run(inputs: Tensor) -> Tensor:
        try:
            with torch.inference_mode(False), torch.no_grad():
                return fast(inputs.clone() if inputs.is_inference() else inputs)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise UnsupportedModelError(_why_not_compiled(error)) from error

    return run


def _why_not_compiled(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    # older torch names the backend in a line of its own before
    reason = next((line for line in lines if line and not line.endswith("raised:")), type(error).__name__)
    if "InvalidCxxCompiler" in f"{type(error).__name__} {reason}":
        return "compile=True needs a C++ compiler, and there is none: install g++ or clang++, or leave compile out"
    return f"torch.compile cannot compile this model ({reason[:200]}); leave compile out"


# ---------------------------------------------------------------- the copy


def _form(images: Tensor, precision: Precision, compile: bool) -> Form:
    if images.device.type == "cpu":
        return Form(channels_last=True, onednn=precision == "float32" and not compile)
    # cuDNN's float32 convolutions are the faster ones without channels_last; those of the tensor cores with it
    return Form(channels_last=precision != "float32")


def _kept_copy(model: Classifier, images: Tensor, logits: Tensor, form: Form, passes: int) -> _Copy | None:
    if images.dtype not in (torch.float32, torch.float64):
        return None  # rounding of half precision would differ by more than a map may
    if has_hooks(model.module):
        return None  # they are meant for this module, and what they refer to would keep it alive
    state, key = _state(model.module), (form, images.shape[1:], images.dtype)
    of_module = _copies.setdefault(model.module, {})
    kept = of_module.get(key)
    if kept is not None and kept.state == state and (kept.net is None or _gives(kept.net, images, logits, form)):
        return kept
    for stale in [other for other, copy in of_module.items() if copy.state != state or other == key]:
        del of_module[stale]
    if passes < _WORTH_PASSES:
        return None
    of_module[key] = _Copy(state, _copy(model.module, images, logits, form))
    return of_module[key]


def _state(module: nn.Module) -> tuple[Any, ...]:
    """Changes when a weight does: the version of a tensor counts its in-place changes."""
    weights = chain(module.parameters(), module.buffers())
    return tuple((each.data_ptr(), each.dtype, -1 if each.is_inference() else each._version) for each in weights)


def _copy(module: nn.Module, images: Tensor, logits: Tensor, form: Form) -> nn.Module | None:
    """The fastest copy that gives the same logits."""
    for make in (_fused, _unfused):
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
                warnings.simplefilter("ignore")
                net = make(module, images, form)
            if _gives(net, images, logits, form):
                return net
        except Exception:  # whatever a module says of being traced or copied, it can be run as it is
            continue
    return None


def _fused(module: nn.Module, images: Tensor, form: Form) -> nn.Module:
    from converters.fusion import fuse

    example = example_images(2, images.shape[1:]).to(images)
    return take_form(fuse(module, (), example).module, example, form)


def _unfused(module: nn.Module, _images: Tensor, form: Form) -> nn.Module:
    from converters.folding import evaluating, sharing_tensors

    return with_layout(evaluating(sharing_tensors(module)), form)


def _gives(net: nn.Module, images: Tensor, logits: Tensor, form: Form) -> bool:
    """Whether a copy gives the logits that the module gave, to rounding."""
    forward = in_form(logits_of(net), form)
    expected = logits[:_CHECKED_IMAGES].detach()
    with torch.inference_mode():
        found = forward(images[:_CHECKED_IMAGES])
        allowed = 1000 * torch.finfo(expected.dtype).eps * expected.abs().max()
        return found.shape == expected.shape and bool(((found - expected).abs() <= allowed).all())
