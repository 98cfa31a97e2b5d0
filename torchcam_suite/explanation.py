"""The result of explaining a batch of images at one layer by one method."""

import base64
import html
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from converters.left_behind import ENDING, remove_left_behind
from torchcam_suite.errors import SourceError

SCHEMA = 1


@dataclass(frozen=True, repr=False)
class Explanation:
    """Saliency maps of N images, and everything needed to make them again.

    Attributes
    ----------
    maps : Tensor
        (N, H, W) float32 in [0, 1], at the size of the model's input, on the model's device.
    raw : Tensor
        (N, h, w) at the layer's resolution (the input's, for methods without a layer), before scaling. Rectified if
        the option `relu` is "before"; with "after" it keeps its sign.
    targets : tuple of int, or None
        The class that is explained, one an image; None where the target is a function.
    target_names : tuple of str
        How it is called.
    scores : Tensor
        (N,), the value that is explained: the target's logit or probability, as `of` says.
    probabilities : Tensor or None
        (N,), the target's probability; None for a function, or a head without probabilities.
    flags : tuple of tuple of str
        For each image what is unusual about its map, as in `("map is zero everywhere",)`.
    layer, method : str
        Where, and by which method.
    options : dict
        Every parameter of the method.
    of : str
        What was explained, `"logit"`, `"probability"` or `"function"`.
    details : dict
        What the method reports of its run.
    model : dict
        Name, source, fingerprint and preprocessing of the model.
    versions : dict
        Versions of this package, Python, torch and NumPy, and the device.
    images : tuple of str
        Names of the images.
    """

    maps: Tensor
    raw: Tensor
    targets: tuple[int, ...] | None
    target_names: tuple[str, ...]
    scores: Tensor
    probabilities: Tensor | None
    flags: tuple[tuple[str, ...], ...]
    layer: str
    method: str
    options: dict[str, Any]
    of: str
    details: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    images: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        n, height, width = self.maps.shape
        return (
            f"Explanation({self.method} at {self.layer!r} of {self.model['name']!r}: {n} maps of {height} x {width}, "
            f"targets {', '.join(dict.fromkeys(self.target_names))})"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON values."""
        return {
            "schema": SCHEMA,
            "method": self.method,
            "options": self.options,
            "of": self.of,
            "layer": self.layer,
            "details": self.details,
            "model": self.model,
            "versions": self.versions,
            "images": [
                {
                    "image": self.images[i],
                    "target": None if self.targets is None else self.targets[i],
                    "target_name": self.target_names[i],
                    "score": float(self.scores[i]),
                    "probability": None if self.probabilities is None else float(self.probabilities[i]),
                    "flags": list(self.flags[i]),
                }
                for i in range(len(self))
            ],
        }

    def save(self, path: str | Path) -> Path:
        """Write the maps and all about them to one `.npz` file, without pickle.

        Returns
        -------
        Path
            The file; `Explanation.load` reads it.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        arrays = {"maps": self.maps, "raw": self.raw, "scores": self.scores}
        if self.probabilities is not None:
            arrays["probabilities"] = self.probabilities
        # NumPy has no bfloat16, and a float64 map may hold what float32 cannot
        wide = {name: tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for name, tensor in arrays.items()}
        stored: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in wide.items()}
        explanation = np.frombuffer(json.dumps(self.to_json()).encode(), np.uint8)
        write_atomically(path, lambda file: np.savez_compressed(file, explanation=explanation, **stored))
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """Read what `save` wrote; nothing in the file is executed.

        Raises
        ------
        SourceError
            The file is missing, damaged, or no explanation.
        """
        try:
            # np.load leaves a damaged file open if it opens it itself
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "explanation"}
                about = json.loads(stored["explanation"].tobytes())
            rows = about["images"]
            return cls(
                maps=arrays["maps"],
                raw=arrays["raw"],
                targets=None if rows and rows[0]["target"] is None else tuple(row["target"] for row in rows),
                target_names=tuple(row["target_name"] for row in rows),
                scores=arrays["scores"],
                probabilities=arrays.get("probabilities"),
                flags=tuple(tuple(row["flags"]) for row in rows),
                images=tuple(row["image"] for row in rows),
                **{key: about[key] for key in ("layer", "method", "options", "of", "details", "model", "versions")},
            )
        except FileNotFoundError as error:
            raise SourceError(f"no such file: {path}") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise SourceError(f"{path} holds no explanation, or a damaged one ({error})") from error

    def _repr_html_(self) -> str:
        """Show the maps in a notebook."""
        from torchcam_suite.present.overlay import colorize

        cells = []
        for i in range(min(len(self), 16)):
            picture = io.BytesIO()
            Image.fromarray(colorize(self.maps[i].cpu().numpy())).save(picture, "PNG")
            data = base64.b64encode(picture.getvalue()).decode()
            note = "".join(f"<br>{html.escape(flag)}" for flag in self.flags[i])
            cells.append(
                f'<figure style="display:inline-block;margin:4px"><img src="data:image/png;base64,{data}" '
                f'width="160"><figcaption>{html.escape(self.images[i])}<br>{html.escape(self.target_names[i])} '
                f"{float(self.scores[i]):.3g}{note}</figcaption></figure>"
            )
        more = f"<p>and {len(self) - 16} more</p>" if len(self) > 16 else ""
        return f"<p>{html.escape(repr(self))}</p>{''.join(cells)}{more}"


def require_writable(path: Path) -> None:
    """Raise `SourceError` unless a file can be made here, before the work that fills it; nothing is made yet."""
    try:
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir():
            raise SourceError(f"cannot write {path}: it is a folder; name a file in it")
        if not folder.is_dir():
            raise SourceError(f"cannot write {path}: {folder} is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SourceError(f"cannot write {path}: no permission to write in {folder}")
    except OSError as error:
        raise SourceError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file that then takes the place of `path`: nobody sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=ENDING, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
