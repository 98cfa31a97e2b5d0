"""`torchcam-suite demo`."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from torchcam_suite.cli.explain import explain_all, write_all
from torchcam_suite.cli.options import Json
from torchcam_suite.cli.output import log, print_json, print_table, status, warnings_on_stderr
from torchcam_suite.demo import ASSETS, LAYERS, sample_images
from torchcam_suite.explanation import Explanation
from torchcam_suite.metrics.localisation import pointing_game
from torchcam_suite.sources import load


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("torchcam-demo"),
    as_json: Json = False,
) -> None:
    """Explain six sample pictures with a small Keras classifier that comes along, and check the maps.

    Imports model.json + weights.h5, proves the import, draws Grad-CAM and
    Score-CAM at a shallow, a middle and a deep layer, and counts how often
    the maximum of a map lies on the creature (pointing game).

    [dim]Example:  torchcam-suite demo -o torchcam-demo[/]
    """
    start = time.perf_counter()
    images = sample_images()
    with warnings_on_stderr():
        with status("importing the demo classifier (TensorFlow takes a few seconds to start)"):
            model = load(
                ASSETS / "model.json",
                weights=ASSETS / "weights.h5",
                preprocessing="unit",
                class_names=(ASSETS / "class_names.txt").read_text().split(),
            )
        found, _ = explain_all(model, images, {"gradcam": {}, "scorecam": {}}, list(LAYERS.values()), None)
        written = write_all(model, images, found, out, {})
    hits = {(item.method, item.layer): _hits(item, images) for item in found}
    if as_json:
        rows = [{"method": m, "layer": layer, "hits": h, "images": len(images)} for (m, layer), h in hits.items()]
        print_json({"pointing_game": rows, "files": [str(path) for path in written]})
        return
    print_table(
        ("depth", "layer", "Grad-CAM", "Score-CAM"),
        [
            (depth, layer, *(f"{hits[method, layer]} of {len(images)}" for method in ("gradcam", "scorecam")))
            for depth, layer in LAYERS.items()
        ],
        right=(2, 3),
    )
    right = sum(name == image.stem.split("_")[0] for name, image in zip(found[0].target_names, images, strict=True))
    log.print(
        f"(maps whose maximum lies on the creature; {right} of {len(images)} pictures classified right)\n"
        f"{len(written)} files in {time.perf_counter() - start:.0f} s; start with:"
    )
    for path in (written[0], out / "explanation.json"):
        print(path)


def _hits(explanation: Explanation, images: list[Path]) -> int:
    """Images whose map has its maximum on the creature."""
    _, height, width = explanation.maps.shape
    masks = []
    for image in images:
        with Image.open(image.with_name(f"{image.stem}_mask.png")) as mask:
            masks.append(np.asarray(mask.convert("L").resize((width, height))) > 127)
    return int(pointing_game(explanation.maps.cpu(), torch.from_numpy(np.stack(masks))).sum())
