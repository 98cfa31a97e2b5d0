"""What torch-cam computes (the package torchcam)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchcam_suite.crosscheck.peer import Peer, sums_that_cancel
from torchcam_suite.crosscheck.subject import LAYER, NotComparable, Subject

SAMPLES = 10


def _by_gradient(name: str) -> Callable[[Subject], Tensor]:
    def compute(subject: Subject) -> Tensor:
        return _maps(name, subject)

    return compute


def _maps(name: str, subject: Subject, **options: Any) -> Tensor:
    from torchcam import methods as library

    with getattr(library, name)(subject.module, LAYER, **options) as extractor:
        columns = subject.module(subject.images)
        found = extractor(subject.classes, columns, normalized=False)[0]
    return found.detach()


def _cam(subject: Subject) -> Tensor:
    linear = [path for path, part in subject.module.named_modules() if isinstance(part, nn.Linear)]
    if len(linear) != 1 or not subject.is_plain:
        raise NotComparable(f"it needs a model with one nn.Linear that gives the classes; this one has {len(linear)}")
    with torch.no_grad():
        return _maps("CAM", subject, fc_layer=linear[0])


def _by_score(name: str, **options: Any) -> Callable[[Subject], Tensor]:
    def compute(subject: Subject) -> Tensor:
        with torch.no_grad():
            return _maps(name, subject, **options)

    return compute


PEERS = [
    Peer("CAM", "cam", _cam),
    Peer("GradCAM", "gradcam", _by_gradient("GradCAM")),
    Peer(
        "GradCAMpp",
        "gradcam++",
        _by_gradient("GradCAMpp"),
        difference="alpha is never divided by its denominator: the division is of an indexed copy",
    ),
    Peer("XGradCAM", "xgradcam", _by_gradient("XGradCAM"), difference=sums_that_cancel(1e-8)),
    Peer("LayerCAM", "layercam", _by_gradient("LayerCAM")),
    Peer("FinerCAM", "finercam", _by_gradient("FinerCAM")),
    Peer(
        "ScoreCAM",
        "scorecam",
        _by_score("ScoreCAM"),
        {"variant": "logit"},
        difference="masks are scaled to [0, 1] before they are upsampled, not after",
        cost="slow",
    ),
    Peer(
        "SmoothGradCAMpp",
        "smoothgradcam++",
        _by_gradient("SmoothGradCAMpp"),
        {"samples": 4},
        difference="noise of another size, and the gradients of the last noisy image in the place of their mean",
    ),
    Peer(
        "SSCAM",
        "sscam",
        _by_score("SSCAM", num_samples=SAMPLES),
        {"samples": SAMPLES},
        difference="a softmax over channels of logits in the place of probabilities, and other noise for each channel",
        cost="slow",
    ),
    Peer(
        "ISCAM",
        "iscam",
        _by_score("ISCAM", num_samples=SAMPLES),
        {"samples": SAMPLES, "path": "cumulative"},
        difference="a softmax over channels of logits in the place of probabilities",
        cost="slow",
    ),
]
