"""A model that can be explained, and `load`, which opens one from any source."""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from urllib.parse import parse_qs

import torch
from torch import Tensor, nn

from torchcam_suite import images as pictures
from torchcam_suite.errors import AssumptionWarning, HeadError, LayerError, SourceError
from torchcam_suite.images import InputSpec, Preprocessing
from torchcam_suite.layers import Layer, LayerTable
from torchcam_suite.recorder import LayerCall, Recorder, Site, layer_calls

if TYPE_CHECKING:
    from converters.bundle import Bundle

# converters and torchvision are imported where they are used: they take seconds, and a torch module needs neither

Head = Literal["softmax", "sigmoid", "none"]
PreprocessingName = str | Preprocessing


class Model:
    """A classifier with all that is needed to explain it.

    Made by `load`.

    Attributes
    ----------
    module : nn.Module
        What computes; in eval mode.
    input : InputSpec
        (channels, height, width) of one image.
    preprocessing : Preprocessing
        How pixels become the module's input.
    layers : LayerTable
        Name, class, output shape and calls of each layer, in order.
    head : {"softmax", "sigmoid", "none"}
        How logits become probabilities.
    class_names : list of str or None
        One a class; two for a binary head.
    name : str
        For titles and file names.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input: InputSpec,
        preprocessing: Preprocessing,
        layers: LayerTable,
        head: Head,
        name: str,
        class_names: Sequence[str] | None = None,
        source: str = "",
        fingerprint: str | None = None,
    ) -> None:
        self.module = module
        self.input = input
        self.preprocessing = preprocessing
        self.layers = layers
        self.head = head
        self.name = name
        self.class_names = None if class_names is None else list(class_names)
        self.source = source
        self._fingerprint = fingerprint
        self._hashed: tuple[Any, str] = (None, "")
        self._logits: Callable[[Tensor], Tensor] = getattr(module, "logits", module)

    def __repr__(self) -> str:
        channels, height, width = self.input
        return (
            f"Model({self.name!r}: {channels} x {height} x {width}, {len(self.layers)} layers, "
            f"head {self.head}, preprocessing {self.preprocessing.name}, on {self.device})"
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Give the model's own output (N, classes) for a batch (N, C, H, W)."""
        return self.module(images)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of a batch (N, C, H, W): before the softmax or sigmoid if the model ends in one."""
        return self._logits(images)

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities (N, classes) of a batch; a single-logit head gives (N, 1), that of class 1.

        Raises
        ------
        HeadError
            The model's head is unknown.
        """
        return self.to_probabilities(self.logits(images))

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Logits to probabilities, of the same shape."""
        if self.head == "softmax":
            return logits.softmax(dim=1)
        if self.head == "sigmoid":
            return logits.sigmoid()
        raise HeadError(
            f"{self.name} ends in no softmax or sigmoid, so its output is not known to be logits; if it is, say "
            f"load(..., head='softmax') or head='sigmoid'"
        )

    @property
    def device(self) -> torch.device:
        """Where the module's weights are."""
        return self._example.device

    @property
    def _example(self) -> Tensor:
        """A tensor on the module's device, of the dtype in which it computes."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self._example.device, self._example.dtype)

    def to(self, device: str | torch.device) -> Self:
        """Move the module; returns the model itself."""
        self.module.to(_find_device(device))
        return self

    @property
    def default_layer(self) -> str:
        """The last layer with a spatial output."""
        layer = self.layers.last_spatial
        return layer.name if layer.calls == 1 else f"{layer.name}#{layer.calls - 1}"

    @property
    def fingerprint(self) -> str:
        """Hash that identifies the weights: of the checkpoint's files, or of the module's state."""
        if self._fingerprint is not None:
            return self._fingerprint
        state = self.module.state_dict()
        # hashed again only after a change: the version of a tensor counts its in-place changes
        versions = tuple((t.data_ptr(), -1 if t.is_inference() else t._version) for t in state.values())
        if versions != self._hashed[0]:
            digest = hashlib.sha256()
            for name, tensor in state.items():
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            self._hashed = versions, digest.hexdigest()
        return self._hashed[1]

    def prepare(self, images: Any) -> Tensor:
        """Make the model's input of pictures.

        Parameters
        ----------
        images : path, PIL image, array, or a sequence of them; or Tensor
            Arrays are (H, W), (H, W, 3) or a batch (N, H, W, 3): uint8, or floats in [0, 1]. A tensor
            (N, C, H, W) or (C, H, W) is taken as ready and only checked.

        Returns
        -------
        Tensor
            (N, C, H, W) on the model's device, of its dtype.

        Raises
        ------
        ImageError
            An image cannot be read or does not fit the model.
        """
        if isinstance(images, Tensor):
            return self._placed(pictures.require_batch(images, self.input))
        opened = [pictures.open_picture(item) for item in pictures.as_list(images)]
        return self._placed(pictures.to_tensor(opened, self.input, self.preprocessing))


def load(
    source: "str | Path | nn.Module | Bundle",
    *,
    weights: str | Path | None = None,
    input_size: int | tuple[int, ...] | None = None,
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
        A Keras checkpoint (`.h5`, `.hdf5`, `.keras`, or `.json` with `weights`), a bundle folder,
        `"torchvision:resnet50"` (random weights; `"torchvision:resnet50?weights=DEFAULT"` downloads
        torchvision's own), or a torch module, which is put into eval mode and moved to `device`.
    weights : path, optional
        The weights file of a `.json` architecture.
    input_size : int, (height, width) or (channels, height, width), optional
        For models that do not fix it: torch modules (default 224) and Keras models of free size.
    preprocessing : str or Preprocessing, optional
        `unit` (0..1), `tf` (-1..1), `caffe`, `torch`, `raw` (0..255). Default: what the source says; else
        `raw` for a Keras model that scales its own input, `torch` for torch modules, and for other Keras
        checkpoints `unit`, with an `AssumptionWarning`.
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
    if isinstance(source, nn.Module):
        model = _from_module(source, input_size, head)
    elif not isinstance(source, str | Path):
        model = _from_bundle(source, head, input_size, assume=preprocessing is None)
    elif str(source).startswith("torchvision:"):
        model = _from_torchvision(str(source), input_size, head)
    else:
        model = _from_path(Path(source), weights, input_size, head, cache=cache, assume=preprocessing is None)
    if preprocessing is not None:
        model.preprocessing = pictures.find_preprocessing(preprocessing)
    if class_names is not None:
        model.class_names = list(class_names)
    model.module.eval()
    _require_as_many_names_as_classes(model)
    return model.to(device)


def activations(model: Model, images: Any, layers: str | Sequence[str]) -> dict[str, Tensor]:
    """What layers compute.

    Parameters
    ----------
    model : Model
        From `load`.
    images : as for `Model.prepare`
        Pictures, or a tensor (N, C, H, W).
    layers : str or sequence of str
        Names from `model.layers`.

    Returns
    -------
    dict of str to Tensor
        Feature maps (N, C, h, w) or features (N, F), on the model's device.

    Raises
    ------
    LayerError
        A name is not in the model.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    sites = [model.layers.site(name) for name in names]
    batch = model.prepare(images)
    with Recorder(model.module, sites) as recorder:
        recorder.run(model.module, batch)
        return {name: recorder.activations[site] for name, site in zip(names, sites, strict=True)}


# ---------------------------------------------------------------- sources


def _from_path(
    source: Path,
    weights: str | Path | None,
    input_size: int | tuple[int, ...] | None,
    head: Head | None,
    *,
    cache: bool,
    assume: bool,
) -> Model:
    from converters import convert, is_bundle, open_bundle

    if is_bundle(source):
        return _from_bundle(open_bundle(source), head, input_size, assume=assume)
    if not (source.exists() or source.suffix):
        raise SourceError(
            f"{str(source)!r} is nothing that can be opened; expected a Keras checkpoint (.h5, .keras, .json with "
            f"weights), a bundle folder, 'torchvision:NAME', or a torch module"
        )
    size = None if input_size is None else _image_size(input_size)[1:]
    if cache:
        model = _from_bundle(convert(source, weights=weights, input_size=size), head, input_size, assume=assume)
    else:
        with tempfile.TemporaryDirectory(prefix="torchcam-suite-") as folder:
            bundle = convert(source, weights=weights, input_size=size, out=Path(folder) / "bundle", cache=False)
            model = _from_bundle(bundle, head, input_size, assume=assume)
    # the same content under another name is found in the cache under the first one
    model.name = source.stem
    model.source = source.name if weights is None else f"{source.name} + {Path(weights).name}"
    return model


def _is_checkpoint(source: Any) -> bool:
    """Whether a source is the path of a file that may have its weights beside it."""
    return isinstance(source, str | Path) and not Path(source).is_dir() and not str(source).startswith("torchvision:")


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
    return Model(
        bundle.module(),
        input=spec,
        preprocessing=pictures.find_preprocessing(manifest["preprocessing"] or default),
        layers=LayerTable(layers),
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
        weights = zoo.get_model_weights(name)[options["weights"][0]] if options else None
        module = zoo.get_model(name, weights=weights)
    except KeyError as error:
        raise SourceError(f"{source!r}: torchvision knows no weights {error}; DEFAULT is its best") from error
    except ValueError as error:
        raise SourceError(f"{source!r}: {error}; torchvision.models.list_models() lists the names") from error
    if weights is None:
        warnings.warn(
            f"{source} has random weights; add ?weights=DEFAULT for torchvision's own", AssumptionWarning, stacklevel=3
        )
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


def _from_module(
    module: nn.Module, input_size: int | tuple[int, ...] | None, head: Head | None, name: str | None = None
) -> Model:
    spec = InputSpec(*_image_size(input_size or 224))
    if input_size is None or not isinstance(input_size, tuple) or len(input_size) != 3:
        spec = spec._replace(channels=_input_channels(module))
    like = next(iter([*module.parameters(), *module.buffers()]), torch.empty(0))
    example = torch.rand(1, *spec, generator=torch.Generator().manual_seed(0))
    example = example.to(like.device, like.dtype if like.is_floating_point() else torch.float32)
    try:
        calls, output = layer_calls(module, example)
    except LayerError:
        raise
    except Exception as error:
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
    ]
    return Model(
        module,
        input=spec,
        preprocessing=pictures.PREPROCESSING["torch" if spec.channels == 3 else "unit"],
        layers=LayerTable(layers),
        head=head or ("sigmoid" if output.shape[1] == 1 else "softmax"),
        name=name or type(module).__name__,
        source=f"{type(module).__module__}.{type(module).__qualname__}",
    )


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
        outputs = model.logits(torch.zeros(1, *model.input, device=model.device)).shape[1]
    classes = max(2, outputs)
    if len(model.class_names) != classes:
        raise SourceError(f"{len(model.class_names)} class names for a model with {classes} classes")


def _find_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SourceError(f"device {device!r} is not known to torch; use 'auto', 'cpu' or 'cuda'") from error
    count = torch.cuda.device_count()
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise SourceError(f"device {device!r}: this torch sees {count or 'no'} CUDA device(s); use 'cpu' or 'auto'")
    return chosen
