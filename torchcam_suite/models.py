"""A model that can be explained."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from torchcam_suite import images as pictures
from torchcam_suite.default_layer import find_default_layer
from torchcam_suite.errors import HeadError, SourceError
from torchcam_suite.fingerprint import digest_of, stored_parts, versions_of
from torchcam_suite.fused_layers import FusedLayerTable, kept_layers, moved
from torchcam_suite.images import InputSpec, Preprocessing
from torchcam_suite.layers import LayerTable
from torchcam_suite.recorder import Recorder, Site, logits_of

# converters is imported where it is used: it takes seconds, and a torch module does not need it

Head = Literal["softmax", "sigmoid", "none"]


class Model:
    """A classifier with all that is needed to explain it.

    Made by `torchcam_suite.load`.

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
        self._default_layer: str | None = None
        self._logits: Callable[[Tensor], Tensor] = logits_of(module)

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
        tensors = chain(self.module.parameters(), self.module.buffers())  # a generator: the first one is enough
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0, device="cpu"))

    def _placed(self, images: Tensor) -> Tensor:
        return images.to(self._example.device, self._example.dtype)

    def to(self, device: str | torch.device) -> Self:
        """Move the module; returns the model itself."""
        self.module.to(find_device(device))
        return self

    @property
    def default_layer(self) -> str:
        """The last layer with a spatial output whose positions count for the logits."""
        if self._default_layer is None:
            image = self._placed(pictures.example_images(1, self.input))
            layer = find_default_layer(self.layers, self.module, self.logits, image)
            self._default_layer = layer.name if layer.calls == 1 else f"{layer.name}#{layer.calls - 1}"
        return self._default_layer

    @property
    def fingerprint(self) -> str:
        """Hash that identifies the weights: of the checkpoint's files, or of the module's state."""
        if self._fingerprint is not None:
            return self._fingerprint
        parts = stored_parts(self.module.state_dict())
        # hashed again only after a change: the version of a tensor counts its in-place changes
        versions = versions_of(parts)
        if versions != self._hashed[0]:
            self._hashed = versions, digest_of(parts)
        return self._hashed[1]

    def fuse(self, keep: str | Sequence[str] = ()) -> "Model":
        """Make a faster model of the same results, which shows only some layers.

        Convolutions and BatchNormalizations that follow each other become one, as do other constants, and layers
        that only hand their input on are taken out. Results change by float rounding; that they do not change by
        more is checked on random images.

        Parameters
        ----------
        keep : str or sequence of str
            Names from `layers` that can still be explained: `"relu"` with all its calls, or `"relu#0"`. Default:
            `default_layer`.

        Returns
        -------
        Model
            On the same device, in eval mode. This model stays as it is; both share weights of layers that are not
            changed, so those must not be altered in place. Large weights of an imported model are copied.

        Raises
        ------
        LayerError
            A name is not in the model.
        UnsupportedModelError
            The module is a torch module that `torch.fx` cannot trace.

        Examples
        --------
        >>> from torchcam_suite import load
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> model = load(net, input_size=(1, 8, 8), preprocessing="unit", device="cpu")
        >>> model.fuse(keep="2").layers.names
        ['2']
        """
        from converters.fusion import fuse

        names = [keep] if isinstance(keep, str) else list(keep)
        kept = kept_layers(self.layers, names or [self.default_layer])
        example = pictures.example_images(2, self.input)
        with Recorder(self.module):  # in eval mode
            fused = fuse(self.module, [site for layer in kept for site in layer.sites], self._placed(example))
        layers = moved(kept, lambda site: Site(fused.paths[site]))
        return Model(
            fused.module,
            input=self.input,
            preprocessing=self.preprocessing,
            layers=FusedLayerTable(layers, self.layers),
            head=self.head,
            name=self.name,
            class_names=self.class_names,
            source=self.source,
            fingerprint=self.fingerprint,
        )

    def load_keras_weights(self, checkpoint: str | Path, weights: str | Path | None = None) -> Self:
        """Take the weights of a Keras checkpoint of the same architecture, so that both give the same logits.

        The checkpoint is read as data, without Keras and TensorFlow. All of it has to fit, or nothing is changed.

        Parameters
        ----------
        checkpoint : path
            Keras 2 (`.h5`, `.hdf5`: whole model or weights alone), Keras 3 (`.keras`, `.weights.h5`), or `.json` with
            `weights`.
        weights : path, optional
            The weights file of a `.json` architecture.

        Returns
        -------
        Model
            The model itself.

        Raises
        ------
        UnsupportedModelError
            The module is none of `torchcam_suite.architectures`.
        CheckpointError
            The checkpoint is of another architecture, size or number of classes, missing or damaged.
        UnsafeCheckpointError
            It refers to other files, holds code, or declares more than it holds.
        """
        from torchcam_suite.architectures.keras_weights import load_keras_weights

        load_keras_weights(self.module, checkpoint, weights)
        self.source = " + ".join(Path(file).name for file in (checkpoint, weights) if file is not None)
        return self

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
        opened = map(pictures.open_picture, pictures.as_list(images))  # one at a time: photographs are large
        return self._placed(pictures.to_tensor(opened, self.input, self.preprocessing))


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
        Feature maps (N, C, h, w), features (N, F), or tokens as the layer gives them, on the model's device.

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


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one.

    Raises
    ------
    SourceError
        torch does not know it, or this machine does not have it.
    """
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
