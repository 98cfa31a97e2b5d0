"""Compare models, layers and methods on the same images."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchcam_suite.cam import Chosen, make_method
from torchcam_suite.cam.scoring import Progress
from torchcam_suite.class_names import composed
from torchcam_suite.comparison.answers import Answer, Subject, answer, model_of
from torchcam_suite.comparison.assembly import assemble
from torchcam_suite.comparison.depths import Place, find_layers
from torchcam_suite.comparison.native import NativeKeras, require_native
from torchcam_suite.comparison.pictures import Pictures, class_count, evenly, find_images, true_classes
from torchcam_suite.comparison.result import Comparison
from torchcam_suite.errors import AssumptionWarning, SourceError, TargetError, ZeroMapWarning
from torchcam_suite.labelled_images import LabelledImages, shortlist
from torchcam_suite.models import Model
from torchcam_suite.progress import reporting
from torchcam_suite.shown_names import short_names
from torchcam_suite.targets import Target, part_of, plain, resolve

Layers = Sequence[str | float] | str | float
_DEFAULT_LAYERS = ("deep",)


def compare(
    models: Subject | Sequence[Subject | tuple[str, Subject]] | Mapping[str, Subject],
    images: str | Path | LabelledImages | Sequence[Any] | Tensor,
    *,
    layers: Layers | Mapping[str, Layers] = _DEFAULT_LAYERS,
    methods: str | Sequence[str] = ("gradcam",),
    labels: Sequence[str | int] | None = None,
    target: Target = None,
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    drawn: int = 12,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool | Progress = False,
) -> Comparison:
    """Tell how far models, layers and methods agree on where the evidence is.

    Every model explains every image by every method at every layer. All pairs of these columns are compared by
    Pearson's and Spearman's correlation of the pixels, structural similarity (SSIM), and the intersection over union
    (IoU) of the highest 20 % of the pixels; and beside it what the pair reaches for maps of different images.

    Maps are compared on the part of each picture that all models see (some crop, see `Preprocessing.central`), sampled
    bilinearly at the smallest height and width of the models' inputs.

    Parameters
    ----------
    models : Model or NativeKeras, a sequence of them or of (name, model), or a mapping by name
        From `load`, or from `torchcam_suite.comparison.load_native` to run a Keras checkpoint in Keras itself.
    images : path, LabelledImages, pictures, or Tensor
        Pictures as for `explain`, folders of pictures, or folders of class folders, which give labels. A tensor (N, C,
        H, W) has to be ready for every model.
    layers : sequence of str or float, or mapping of model name to such
        Names of layers; `"shallow"`, `"middle"`, `"deep"`; or fractions from 0 to 1 of the depth. Depths are found in
        each model apart, see `torchcam_suite.comparison.layer_at`. For layers that are called differently, give a
        mapping.
    methods : str or sequence of str
        As for `explain`. What takes no layer has one column a model.
    labels : sequence of str or int, optional
        What each image shows, as a class name or number. With labels, images that both models of a pair classify
        rightly, wrongly, or that one does, are also told apart.
    target : optional
        What is explained: as for `explain`, by default each model's own top class; `"label"` is the class of the
        image's label. Names are looked up in each model's own class names.
    method_options : mapping of str to mapping, optional
        Options of the methods, as ``{"scorecam": {"variant": "paper"}}``.
    limit : int, optional
        At most so many images, chosen evenly in their order. Labels and targets one an image are given for all images,
        and chosen with them.
    drawn : int
        How many images the grid shows, chosen evenly.
    batch_size : int
        Images in one pass.
    seed : int
        Of the bootstrap, and of what is shuffled.
    progress : bool or function
        True shows a bar on stderr; a function is called as ``progress(done, total)`` in methods of models.

    Returns
    -------
    Comparison
        Prints as a table; ``save(folder)`` writes figures, maps and pictures.

    Raises
    ------
    LayerError, TargetError, HeadError, GradientError
        What does not fit a model.
    ImageError, SourceError
        An image cannot be read, there is none, or a label is no class of a model.
    ValueError
        An option out of range, something given twice, or a single column.

    Examples
    --------
    >>> from torch import nn
    >>> from torchcam_suite import load
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    >>> found = compare(model, torch.rand(3, 1, 8, 8), layers=["1", "2"], methods="hirescam", target=1)
    >>> found.columns
    (Column(Sequential · 1 · HiResCAM), Column(Sequential · 2 · HiResCAM))
    >>> found.between(0, 1).images
    3
    """
    subjects = _named(models)
    _check(limit, drawn, batch_size, seed)
    asked = _methods(methods, method_options or {})
    places = _places(subjects, layers, asked)
    pictures, target = _limited(find_images(images, labels), target, limit)
    titled = {title: model_of(subject) for title, subject in subjects.items()}
    truth, notes = true_classes(pictures, titled)
    for note in notes:
        warnings.warn(note, AssumptionWarning, stacklevel=2)
    targets = _targets(titled, target, truth, len(pictures))
    for title, subject in subjects.items():
        if isinstance(subject, NativeKeras):
            require_native(title, asked.chosen, subject.model)
    _require_pairs(places, asked)
    with reporting("compare", progress) as report:
        answers = _answers(subjects, pictures, asked, places, targets, batch_size, report)
    for line in _without_evidence(answers, pictures):
        warnings.warn(line, ZeroMapWarning, stacklevel=2)
    remarks = (*notes, *_remarks(titled, targets))
    return assemble(titled, pictures, asked.chosen, places, answers, truth, remarks, drawn, seed)


class _Asked(NamedTuple):
    """The methods with the options that the user gave, and as they are understood."""

    options: dict[str, Mapping[str, Any]]
    chosen: list[Chosen]


def _named(models: Any) -> dict[str, Subject]:
    """The models by names, each name once."""
    if isinstance(models, Mapping):
        pairs = list(models.items())
    else:
        listed = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
        pairs = [item if isinstance(item, tuple) else (getattr(item, "name", ""), item) for item in listed]
    for _, subject in pairs:
        if not isinstance(subject, Model | NativeKeras):
            raise SourceError(
                f"compare takes models, not {type(subject).__name__}; open them first: compare([load(...), load(...)])"
            )
    if not pairs:
        raise ValueError("no models were given; expected at least one")
    if len({id(subject) for _, subject in pairs}) < len(pairs):
        raise ValueError("a model is given twice; give it once: its layers and methods are compared as well")
    return _with_different_names(pairs)


def _with_different_names(pairs: Sequence[tuple[str, Subject]]) -> dict[str, Subject]:
    """Where models share a name, they are numbered."""
    names = [name for name, _ in pairs]
    found: dict[str, Subject] = {}
    for place, (name, subject) in enumerate(pairs):
        title = f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        if title in found:
            raise ValueError(f"two models are called {title!r}; name them apart: {{'first': ..., 'second': ...}}")
        found[title] = subject
    return found


def _limited(found: Pictures, target: Target, limit: int | None) -> tuple[Pictures, Target]:
    """At most so many of the pictures, and what is asked of each of these."""
    if limit is None or len(found) <= limit:
        return found, target
    listed = plain(target)
    if isinstance(listed, Sequence) and not isinstance(listed, str) and len(listed) != len(found):
        raise TargetError(
            f"{len(listed)} targets for {len(found)} images, of which limit={limit} chooses some; give one target for "
            "all, or one for each image, in order, before it chooses"
        )
    chosen = evenly(len(found), limit)
    return found.part(chosen), part_of(listed, chosen)


def _check(limit: int | None, drawn: int, batch_size: int, seed: int) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}; expected at least 1 image, or None for all")
    for name, value, least in (("drawn", drawn, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name}={value}; expected at least {least}")


def _methods(methods: str | Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> _Asked:
    names = [methods] if isinstance(methods, str) else list(methods)
    if not names:
        raise ValueError("no methods were given; expected at least one, as 'gradcam'")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"method {twice[0]!r} is asked for twice; name it once")
    unused = [name for name in options if name not in names]
    if unused:
        raise ValueError(f"method_options has {shortlist(unused)}, but the methods are {shortlist(names)}")
    given = {name: options.get(name, {}) for name in names}
    return _Asked(given, [make_method(name, own) for name, own in given.items()])


def _places(
    subjects: Mapping[str, Subject], layers: Layers | Mapping[str, Layers], asked: _Asked
) -> dict[str, list[Place]]:
    """The layers of each model; none where no method takes one."""
    titled = {title: model_of(subject) for title, subject in subjects.items()}
    if not any(one.method.takes_layer for one in asked.chosen):
        if layers != _DEFAULT_LAYERS:
            raise ValueError(f"{shortlist(list(asked.options))}: no layer is taken, but got {layers!r}; leave it out")
        return {title: [] for title in titled}
    if not isinstance(layers, Mapping):
        return find_layers(titled, _listed(layers))
    if set(layers) != set(titled):
        raise ValueError(
            f"layers are given for {shortlist(sorted(layers))}, but the models are {shortlist(list(titled))}; name the "
            "layers of each, or give one list for all"
        )
    return {title: find_layers({title: model}, _listed(layers[title], title))[title] for title, model in titled.items()}


def _listed(layers: Layers, model: str | None = None) -> list[str | float]:
    listed = [layers] if isinstance(layers, str | float | int) else list(layers)
    if not listed:
        whose = "" if model is None else f" for {model!r}"
        raise ValueError(f"no layers were given{whose}; expected at least one, as 'deep'")
    return listed


def _require_pairs(places: Mapping[str, Sequence[Place]], asked: _Asked) -> None:
    columns = sum(len(found) if one.method.takes_layer else 1 for found in places.values() for one in asked.chosen)
    if columns < 2:
        raise ValueError("one model, one layer and one method leave nothing to compare; give two of one of them")


def _targets(
    models: Mapping[str, Model], target: Target, truth: Mapping[str, tuple[int, ...]] | None, count: int
) -> dict[str, Target]:
    """What each model explains; a wrong target is told before the work, not after."""
    if isinstance(target, str) and target == "label":
        if truth is None:
            raise TargetError(
                "target='label' explains the class that each image shows, but there are no labels; give labels=, or a "
                "folder of class folders"
            )
        return dict(truth)
    if not callable(target):
        for title, model in models.items():
            try:
                resolve(target, torch.zeros(count, class_count(model), device="cpu"), model.class_names)
            except TargetError as error:
                raise TargetError(f"{title}: {error}") from error
    return dict.fromkeys(models, target)


def _answers(
    subjects: Mapping[str, Subject],
    pictures: Pictures,
    asked: _Asked,
    places: Mapping[str, Sequence[Place]],
    targets: Mapping[str, Target],
    batch_size: int,
    report: Progress | None,
) -> dict[str, Answer]:
    done, total = 0, len(subjects) * len(asked.chosen)

    def one_more() -> None:
        nonlocal done
        done += 1
        if report is not None:
            report(done, total)

    found = {}
    for title, subject in subjects.items():
        prepared = model_of(subject).prepare(pictures.sources)
        layers = [place.layer for place in places[title]]
        found[title] = answer(
            subject, prepared, pictures.names, asked.options, asked.chosen, layers, targets[title], batch_size, one_more
        )
    return found


def _without_evidence(answers: Mapping[str, Answer], pictures: Pictures) -> list[str]:
    names = short_names(pictures.names)
    return [
        f"{title}: {method} at {layer!r}: no evidence for the target in {', '.join(names[one] for one in numbers[:4])}"
        f"{f' and {len(numbers) - 4} more' if len(numbers) > 4 else ''}; the map is zero everywhere"
        for title, said in answers.items()
        for (method, layer), numbers in said.without_evidence().items()
    ]


def _remarks(models: Mapping[str, Model], targets: Mapping[str, Target]) -> list[str]:
    """What changes the meaning of the figures."""
    notes = []
    names = {
        title: list(map(composed, model.class_names))
        for title, model in models.items()
        if model.class_names is not None
    }
    if len({frozenset(known) for known in names.values()}) > 1:
        listed = "; ".join(f"{title}: {shortlist(known, 4)}" for title, known in names.items())
        notes.append(f"the models have different class names: {listed}")
    elif len({tuple(known) for known in names.values()}) > 1 and any(isinstance(t, int) for t in targets.values()):
        notes.append("the models number their classes differently; a class number means another class in each")
    return notes
