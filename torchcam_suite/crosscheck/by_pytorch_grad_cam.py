"""What pytorch-grad-cam computes (the package grad-cam)."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr

import torch
from torch import Tensor

from torchcam_suite.crosscheck.peer import Peer, relus_of_no_module, sums_that_cancel
from torchcam_suite.crosscheck.subject import Subject

# what the library gives: ReLU, scaled to [0, 1] by minimum and maximum (+ 1e-7), bilinear to the size of the image
LIKE_THEIRS = {"relu": "before", "normalize": "minmax"}
ADDED = 1e-7
SIGNED = {"relu": "after"}
DEEP = 1e-3  # through many layers, rounding switches ReLUs
SIMILAR = 3  # classes that Finer-CAM compares with


def _map(name: str) -> Callable[[Subject], Tensor]:
    def compute(subject: Subject) -> Tensor:
        import pytorch_grad_cam as library  # type: ignore[import-untyped]
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # type: ignore[import-untyped]

        extractor = getattr(library, name)(subject.module, [] if name == "FullGrad" else [subject.layer])
        targets = [ClassifierOutputTarget(column) for column in subject.classes]
        with redirect_stderr(io.StringIO()):  # a progress bar for each image
            return torch.from_numpy(extractor(subject.images, targets))

    return compute


def _projection(name: str) -> Callable[[Subject], Tensor]:
    """The projection before its ReLU: its sign is arbitrary, and what ReLU leaves of the wrong sign is nothing."""

    def compute(subject: Subject) -> Tensor:
        import pytorch_grad_cam as library

        activations, gradients = (tensor.cpu() for tensor in subject.recorded())
        extractor = getattr(library, name)(subject.module, [subject.layer])
        maps = extractor.get_cam_image(
            subject.images, subject.layer, None, activations.numpy(), gradients.numpy(), eigen_smooth=False
        )
        return torch.from_numpy(maps)

    return compute


def _finer(subject: Subject) -> Tensor:
    import pytorch_grad_cam as library

    extractor = library.FinerCAM(subject.module, [subject.layer])
    # it takes one class for all images
    maps = [
        torch.from_numpy(extractor(subject.images[i : i + 1].detach().requires_grad_(), target_idx=column))
        for i, column in enumerate(subject.classes)
    ]
    return torch.cat(maps)


def _guided(subject: Subject) -> Tensor:
    import pytorch_grad_cam as library

    extractor = library.GuidedBackpropReLUModel(subject.module)
    gradients = [
        extractor(subject.images[i : i + 1].detach().clone(), target_category=column)
        for i, column in enumerate(subject.classes)
    ]
    # (H, W, C) each
    return torch.stack([torch.from_numpy(gradient).abs().amax(dim=2) for gradient in gradients])


def _equal_components(*, by_gradient: bool) -> Callable[[Subject], str]:
    """Whether the first two components are so nearly as strong that rounding chooses between them."""

    def difference(subject: Subject) -> str:
        activations, gradients = subject.recorded()
        rows = (activations * gradients if by_gradient else activations).flatten(2).double()
        strength = torch.linalg.svdvals(rows - rows.mean(dim=2, keepdim=True))
        if bool((strength[:, 1] > 0.99 * strength[:, 0]).any()):
            return "the first two components are equally strong, so that rounding chooses the first"
        return ""

    return difference


def _improbable(subject: Subject) -> str:
    """Whether the classes that are compared have so little probability that the added 1e-9 counts."""
    with torch.no_grad():
        columns = subject.module(subject.images).double()
    explained = torch.tensor(subject.classes, device=columns.device)[:, None]
    distance = (columns - columns.gather(1, explained)).abs().scatter(1, explained, torch.inf)
    nearest = distance.topk(min(SIMILAR, columns.shape[1] - 1), largest=False).indices
    total = columns.softmax(dim=1).gather(1, nearest).sum(dim=1)
    return "1e-9 is added to the sum of the similar classes' probabilities" if bool((total < 1e-4).any()) else ""


def _ablation(subject: Subject) -> str:
    if bool((subject.recorded()[0].flatten(1).amin(dim=1) != 0).any()):
        return "where the smallest activation is not 0, it puts that - 1e7 in the place of a channel"
    if bool((subject.scores() < 0).any()):
        return "it divides by the score itself, which turns the sign where the score is negative"
    return ""


PEERS = [
    Peer("GradCAM", "gradcam", _map("GradCAM"), LIKE_THEIRS, "maps", added=ADDED),
    Peer(
        "GradCAMPlusPlus",
        "gradcam++",
        _map("GradCAMPlusPlus"),
        LIKE_THEIRS,
        "maps",
        added=ADDED,
        difference="1e-6 is added to the denominator of alpha, which outweighs the squares of gradients under 1e-3",
    ),
    Peer("XGradCAM", "xgradcam", _map("XGradCAM"), LIKE_THEIRS, "maps", added=ADDED, difference=sums_that_cancel(1e-7)),
    Peer("HiResCAM", "hirescam", _map("HiResCAM"), LIKE_THEIRS, "maps", added=ADDED),
    Peer("GradCAMElementWise", "elementwisegradcam", _map("GradCAMElementWise"), LIKE_THEIRS, "maps", added=ADDED),
    Peer("LayerCAM", "layercam", _map("LayerCAM"), LIKE_THEIRS, "maps", added=ADDED),
    Peer(
        "EigenCAM",
        "eigencam",
        _projection("EigenCAM"),
        {"center": True, **SIGNED},
        either_sign=True,
        difference=_equal_components(by_gradient=False),
    ),
    Peer(
        "EigenGradCAM",
        "eigengradcam",
        _projection("EigenGradCAM"),
        SIGNED,
        either_sign=True,
        difference=_equal_components(by_gradient=True),
    ),
    Peer(
        "ScoreCAM",
        "scorecam",
        _map("ScoreCAM"),
        {"variant": "logit", **LIKE_THEIRS},
        "maps",
        added=ADDED,
        difference="masks are upsampled with align_corners=True",
        cost="slow",
    ),
    Peer(
        "AblationCAM",
        "ablationcam",
        _map("AblationCAM"),
        LIKE_THEIRS,
        "maps",
        added=ADDED,
        rounding=1e-3,  # small differences of large scores
        difference=_ablation,
        cost="slow",
    ),
    Peer(
        "FinerCAM",
        "finercam",
        _finer,
        {"variant": "official", "gamma": 1.0, **LIKE_THEIRS},
        "maps",
        added=ADDED,
        difference=_improbable,
    ),
    Peer("GuidedBackpropReLUModel", "guidedbackprop", _guided, rounding=DEEP, difference=relus_of_no_module),
    Peer(
        "FullGrad",
        "fullgrad",
        _map("FullGrad"),
        {"variant": "paper", **LIKE_THEIRS},
        "maps",
        added=ADDED,
        difference="it counts the biases of Conv2d and BatchNorm2d alone, matched to gradients by their order",
    ),
]
