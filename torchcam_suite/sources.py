"""`load`, which opens a classifier from any source."""

import tempfile
import warnings
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qs

import torch
from torch import Tensor, nn

from torchcam_suite import images as pictures
from torchcam_suite.architectures import ARCHITECTURES, ArticleNet
from torchcam_suite.architectures.recipe_source import PREFIX, from_recipe
from torchcam_suite.architectures.trained import TRAINED_SUFFIX, open_trained
from torchcam_suite.errors import AssumptionWarning, HeadError, LayerError, SourceError
from torchcam_suite.grids import Ambiguity, Output, channels_last, find_grids
from torchcam_suite.images import InputSpec, Preprocessing
from torchcam_suite.layers import Layer, LayerTable
from torchcam_suite.models import Head, Model
from torchcam_suite.recorder import LayerCall, Site, layer_calls

if TYPE_CHECKING:
    from converters.bundle import Bundle

# converters and torchvision are imported where they are used: they take seconds, and a torch module needs neither

PreprocessingName = str | Preprocessing

# Keras' layers of attention that hold layers of their own, whose outputs have an axis for the heads
_ATTENTION = frozenset({"MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention"})


def load(
    source: "str | Path | nn.Module | Bundle",
    *,
    weights: str | Path | None = None,
    input_size: int | tuple[int, ...] | None = None,
    input: str | None = None,
    output: str | None = None,
    custom: Sequence[str] = (),
    preprocessing: PreprocessingName | None = None,
    class_names: Sequence[str] | None = None,
    head: Head | None = None,
    device: str | torch.device = "auto",
    cache: bool = True,
) -> Model:
    """Open a classifier from any source.

    Parameters
    ----------
    source : path, str, Bundle or nn.Module
        A Keras checkpoint (`.h5`, `.hdf5`, `.keras`, or `.json` with `weights`), a SavedModel folder, a frozen
        TensorFlow graph (`.pb`), a bundle folder, `"keras.applications:ResNet50"` (Keras downloads the ImageNet
        weights; `?weights=none` for random ones), `"torchvision:resnet50"` (random weights; `?weights=DEFAULT`
        downloads torchvision's own), `"recipe:xception"` (one of `torchcam_suite.architectures`, untrained, with
        `?classes=3&width=0.25&input_size=96&seed=0`), a trained one (`.safetensors`), or a torch module, which is put
        into eval mode and moved to `device`.
    weights : path, optional
        The weights file of a `.json` architecture.
    input_size : int, (height, width) or (channels, height, width), optional
        For models that do not fix it: torch modules (default 224; those of `torchcam_suite.architectures` know
        their own) and Keras models of free size.
    input, output : str, optional
        Name of the image input and of the output to explain, for Keras models and graphs that have several.
    custom : sequence of str, optional
        Code that you vouch for, so that a Keras checkpoint may name it, as `"mylayers:Scale"`; see
        `converters.convert`.
    preprocessing : str or Preprocessing, optional
        `unit` (0..1), `tf` (-1..1), `caffe`, `torch`, `raw` (0..255). Default: what the source says; else
        `raw` for a Keras model that scales its own input, `torch` for torch modules, `unit` for those of
        `torchcam_suite.architectures`, and for other Keras checkpoints `unit`, with an `AssumptionWarning`.
    class_names : sequence of str, optional
        In the order of the outputs.
    head : {"softmax", "sigmoid", "none"}, optional
        How logits become probabilities. Default: what an imported graph ends in; for torch modules, whose
        output is taken as logits, softmax, or sigmoid if there is one output.
    device : str or torch.device
        `"auto"` is CUDA where there is one.
    cache : bool
        Whether a converted checkpoint is kept for the next time.

    Raises
    ------
    SourceError
        The source is nothing of the above.
    TorchcamError
        What went wrong with a checkpoint; see `converters.convert`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
    >>> print(model.layers)
    layer  class              output shape  calls
    0      Conv2d             4 x 6 x 6     1
    1      ReLU               4 x 6 x 6     1
    2      AdaptiveAvgPool2d  4 x 1 x 1     1
    3      Flatten            4             1
    4      Linear             2             1
    >>> model.default_layer
    '1'
    """
    if head is not None and head not in get_args(Head):
        raise HeadError(f"head={head!r}; expected one of {', '.join(get_args(Head))}")
    if weights is not None and not _is_checkpoint(source):
        raise SourceError(f"weights={str(weights)!r} belongs to a .json architecture; {source!r:.80} brings its own")
    choices = {"input": input, "output": output, "custom": tuple(custom)}
    given = [name for name, value in choices.items() if value]
    if given and not _is_checkpoint(source):
        raise SourceError(f"{', '.join(given)} choose from a Keras checkpoint; {source!r:.80} is none")
    if isinstance(source, nn.Module):
        model = _from_module(source, input_size, head)
    elif not isinstance(source, str | Path):
        model = _from_bundle(source, head, input_size, assume=preprocessing is None)
    elif str(source).startswith("torchvision:"):
        model = _from_torchvision(str(source), input_size, head)
    elif str(source).startswith(PREFIX):
        model = _from_recipe(str(source), input_size, head)
    elif Path(source).suffix == TRAINED_SUFFIX:
        model = _from_trained(Path(source), input_size, head)
    else:
        conversion = {"weights": weights} | choices
        model = _from_path(Path(source), conversion, input_size, head, cache=cache, assume=preprocessing is None)
    if preprocessing is not None:
        model.preprocessing = pictures.find_preprocessing(preprocessing)
    if class_names is not None:
        model.class_names = list(class_names)
    model.module.eval()
    _require_as_many_names_as_classes(model)
    return model.to(device)


# ---------------------------------------------------------------- sources


def _from_path(
    source: Path,
    conversion: dict[str, Any],
    input_size: int | tuple[int, ...] | None,
    head: Head | None,
    *,
    cache: bool,
    assume: bool,
) -> Model:
    from converters import convert, is_bundle, open_bundle
    from converters.applications import find_application, is_application

    if is_bundle(source):
        return _from_bundle(open_bundle(source), head, input_size, assume=assume)
    if not (source.exists() or source.suffix):
        raise SourceError(
            f"{str(source)!r} is nothing that can be opened; expected a Keras checkpoint (.h5, .keras, .json with "
            f"weights), a trained .safetensors, a SavedModel or bundle folder, a frozen .pb, "
            f"'keras.applications:NAME', 'torchvision:NAME', 'recipe:NAME', or a torch module"
        )
    conversion["input_size"] = None if input_size is None else _image_size(input_size)[1:]
    if cache and not conversion["custom"]:
        model = _from_bundle(convert(source, **conversion), head, input_size, assume=assume)
    else:
        with tempfile.TemporaryDirectory(prefix="torchcam-suite-") as folder:
            bundle = convert(source, **conversion, out=Path(folder) / "bundle", cache=False)
            model = _from_bundle(bundle, head, input_size, assume=assume)
    weights = conversion["weights"]
    # the same content under another name is found in the cache under the first one
    model.name = find_application(str(source)).name if is_application(source) else source.stem
    model.source = source.name if weights is None else f"{source.name} + {Path(weights).name}"
    return model


def _is_checkpoint(source: Any) -> bool:
    """Whether a source is the path of a Keras checkpoint or of a TensorFlow graph, and no bundle."""
    if not isinstance(source, str | Path) or str(source).startswith(("torchvision:", PREFIX)):
        return False
    if Path(source).suffix == TRAINED_SUFFIX:
        return False
    return not Path(source).is_dir() or (Path(source) / "saved_model.pb").exists()


def _from_bundle(
    bundle: "Bundle", head: Head | None, input_size: int | tuple[int, ...] | None, *, assume: bool
) -> Model:
    from converters import Bundle

    if not isinstance(bundle, Bundle):
        raise SourceError(f"expected a path, a Bundle or a torch module, found {type(bundle).__name__}")
    manifest = bundle.manifest
    spec = InputSpec(manifest["input"]["channels"], manifest["input"]["height"], manifest["input"]["width"])
    if input_size is not None and _image_size(input_size)[1:] != spec[1:]:
        raise SourceError(f"input_size={input_size}, but {bundle.path.name} was converted for {tuple(spec)[1:]}")
    default = "raw" if manifest["takes_raw_pixels"] else "unit"
    if assume and manifest["preprocessing"] is None and default == "unit":
        warnings.warn(
            f"{manifest['source']['files'][0]} does not say how its images were scaled; assuming 'unit', pixels in "
            f"0..1 (say preprocessing='unit', 'tf', 'caffe', 'torch' or 'raw')",
            AssumptionWarning,
            stacklevel=4,
        )
    by_name: dict[str, list] = {}
    for row in bundle.layers:
        by_name.setdefault(row.name, []).append(row)
    layers = [
        Layer(layer, rows[0].class_name, rows[0].shape, tuple(Site(row.module) for row in rows))
        for layer, rows in by_name.items()
    ]
    unlike = {row.name for row in bundle.layers if not row.is_map}
    return Model(
        bundle.module(),
        input=spec,
        preprocessing=pictures.find_preprocessing(manifest["preprocessing"] or default),
        # the converter puts all maps channels first, and leaves tokens as they are
        layers=_table(
            layers,
            spec,
            lambda layer: False if len(layer.output_shape) == 3 or layer.name in unlike else None,
            {row.name for row in bundle.layers if row.class_name in _ATTENTION},
            unlike,
        ),
        head=head or (manifest["head"] or {"activation": "none"})["activation"],
        name=bundle.path.name,
        class_names=manifest["class_names"],
        source=" + ".join(manifest["source"]["files"]),
        fingerprint=manifest["source"]["sha256"],
    )


def _from_torchvision(source: str, input_size: int | tuple[int, ...] | None, head: Head | None) -> Model:
    from torchvision import models as zoo

    name, _, query = source.removeprefix("torchvision:").partition("?")
    options = parse_qs(query)
    if set(options) - {"weights"}:
        raise SourceError(f"{source!r}: the only option is ?weights=NAME, as in torchvision:{name}?weights=DEFAULT")
    try:
        wanted = options.get("weights", ["none"])[0]
        weights = None if wanted.lower() == "none" else zoo.get_model_weights(name)[wanted]
        module = zoo.get_model(name, weights=weights)
    except KeyError as error:
        raise SourceError(f"{source!r}: torchvision knows no weights {error}; DEFAULT is its best") from error
    except ValueError as error:
        raise SourceError(f"{source!r}: {error}; torchvision.models.list_models() lists the names") from error
    except (OSError, RuntimeError) as error:  # no network, no room, or another content than torchvision expects
        raise SourceError(
            f"{source!r}: the weights cannot be downloaded ({error}); with a network, try again, or leave ?weights= "
            f"out for random ones"
        ) from error
    if weights is None:
        if not options:
            text = f"{source} has random weights; add ?weights=DEFAULT for torchvision's own"
            warnings.warn(text, AssumptionWarning, stacklevel=3)
        return _from_module(module, input_size, head, name=name)
    transforms = weights.transforms()
    model = _from_module(module, input_size or transforms.crop_size[0], head, name=name)
    model.preprocessing = replace(
        pictures.PREPROCESSING["torch"],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        central=transforms.crop_size[0] / transforms.resize_size[0],
    )
    model.class_names = list(weights.meta["categories"])
    return model


def _from_recipe(source: str, input_size: int | tuple[int, ...] | None, head: Head | None) -> Model:
    size = None if input_size is None else _image_size(input_size)[1:]
    # a size in the text is that of the network, and input_size of the images; with global pooling they may differ
    model = _from_module(from_recipe(source, size), input_size, head)
    model.source = source
    return model


def _from_trained(file: Path, input_size: int | tuple[int, ...] | None, head: Head | None) -> Model:
    module, about = open_trained(file)
    model = _from_module(module, input_size, head, name=file.stem)
    model.preprocessing = pictures.find_preprocessing(about.preprocessing)
    model.class_names = list(about.class_names)
    model.source = file.name
    return model


def _from_module(
    module: nn.Module, input_size: int | tuple[int, ...] | None, head: Head | None, name: str | None = None
) -> Model:
    known = module if isinstance(module, ArticleNet) else None
    if known is not None and input_size is None:
        input_size = known.input_size
    spec = InputSpec(*_image_size(input_size or 224))
    if input_size is None or not isinstance(input_size, tuple) or len(input_size) != 3:
        spec = spec._replace(channels=_input_channels(module))
    like = next(iter([*module.parameters(), *module.buffers()]), torch.empty(0, device="cpu"))
    example = pictures.example_images(1, spec)
    example = example.to(like.device, like.dtype if like.is_floating_point() else torch.float32)
    try:
        calls, output = layer_calls(module, example)
    except LayerError:
        raise
    except Exception as error:
        if isinstance(module, torch.jit.ScriptModule):
            raise SourceError(
                "layers of a module that torch.jit.script made cannot be seen; give the nn.Module that it was made of"
            ) from error
        raise SourceError(
            f"{type(module).__name__} does not take an image of {tuple(spec)} ({type(error).__name__}: {error}); "
            f"say input_size=(channels, height, width)"
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2:
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise SourceError(f"{type(module).__name__} gives {what} for one image; expected logits (1, classes)")
    if output.shape[1] > 1 and bool((output >= 0).all()) and abs(float(output.sum()) - 1) < 1e-4:
        warnings.warn(
            f"{type(module).__name__} seems to give probabilities; logits are expected: leave its softmax out",
            AssumptionWarning,
            stacklevel=3,
        )
    by_path: dict[str, list[LayerCall]] = {}
    for call in calls:
        by_path.setdefault(call.site.module, []).append(call)
    layers = [
        Layer(path, found[0].class_name, found[0].shape, tuple(call.site for call in found))
        for path, found in by_path.items()
        if known is None or path in known.layer_names  # what a Keras layer is made of is no layer
    ]
    scaling = "torch" if spec.channels == 3 else "unit"
    return Model(
        module,
        input=spec,
        preprocessing=pictures.PREPROCESSING[
            scaling if known is None else ARCHITECTURES[known.architecture].preprocessing
        ],
        layers=_table(layers, spec, lambda layer: channels_last(module.get_submodule(layer.name))),
        head=head or ("sigmoid" if output.shape[1] == 1 else "softmax"),
        name=name or (type(module).__name__ if known is None else known.architecture),
        source=f"{type(module).__module__}.{type(module).__qualname__}",
    )


def _table(
    layers: Sequence[Layer],
    spec: InputSpec,
    is_channels_last: Callable[[Layer], bool | None],
    attention: Set[str] = frozenset(),
    unlike: Set[str] = frozenset(),
) -> LayerTable:
    """The table, every layer's output recognised.

    Inside the layers named in `attention`, and of those named in `unlike`, three axes are no map.
    """
    known = [_no_map(layer, attention, unlike) for layer in layers]
    outputs = [
        Output(() if no_map else layer.output_shape, is_channels_last(layer))
        for layer, no_map in zip(layers, known, strict=True)
    ]
    grids = find_grids(outputs, (spec.height, spec.width))
    return LayerTable(
        [replace(layer, grid=no_map or grid) for layer, grid, no_map in zip(layers, grids, known, strict=True)]
    )


def _no_map(layer: Layer, attention: Set[str], unlike: Set[str]) -> Ambiguity | None:
    if len(layer.output_shape) != 3:
        return None
    if _is_inside(layer.name, attention):
        return Ambiguity("gives what heads of attention compute of each other's tokens, which is no map of the picture")
    if layer.name in unlike:
        return Ambiguity("gives values of the positions in windows, or of heads, which are no map of the picture")
    return None


def _is_inside(name: str, layers: Set[str]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:i]) in layers for i in range(1, len(parts)))


def _input_channels(module: nn.Module) -> int:
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv2d))
    return next((part.in_channels for part in convolutions), 3)


def _image_size(size: int | tuple[int, ...]) -> tuple[int, int, int]:
    """224, (height, width) or (channels, height, width) as (channels, height, width)."""
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if len(sizes) not in {2, 3} or not all(isinstance(item, int) and item > 0 for item in sizes):
        raise SourceError(f"input_size={size!r}; expected 224, (height, width) or (channels, height, width)")
    return (3, *sizes) if len(sizes) == 2 else sizes  # type: ignore[return-value]


def _require_as_many_names_as_classes(model: Model) -> None:
    if model.class_names is None:
        return
    with torch.no_grad():
        outputs = model.logits(model.prepare(torch.zeros(1, *model.input, device="cpu"))).shape[1]
    classes = max(2, outputs)
    if len(model.class_names) != classes:
        raise SourceError(f"{len(model.class_names)} class names for a model with {classes} classes")
