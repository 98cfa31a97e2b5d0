"""Six people: a network like VGG16, Grad-CAM as blocks, and a t-SNE map of what it takes for alike.

The article's network is trained from scratch on faces of six people. Grad-CAM at the last convolution is shown twice:
smooth, and with the cells of the layer as blocks, as the article draws them. The features of `dense_3` are laid out in
two dimensions, where faces that the network confuses lie beside each other.

    python scripts/articles/vgg_gradcam_tsne.py --quick
    python scripts/articles/vgg_gradcam_tsne.py --data faces -o six-people
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from summary import (
    Scale,
    Summary,
    find_data,
    full_scale,
    localise,
    parse,
    run_as_script,
    score,
    some_pictures,
    train_network,
)

from torchcam_suite import Embedding, Explanation, Model, embed, explain, features
from torchcam_suite.architectures import ARCHITECTURES
from torchcam_suite.comparison.pictures import evenly
from torchcam_suite.images import open_picture, region
from torchcam_suite.labelled_images import LabelledImage, labelled_folder
from torchcam_suite.present.comparison import caption
from torchcam_suite.present.feature_map import feature_map, save_feature_map
from torchcam_suite.present.grid import Cell, Row, grid
from torchcam_suite.present.overlay import overlay, save_png
from torchcam_suite.training import RECIPES, Augmentation

RECIPE = "vgg"
LAYER, FEATURES = ARCHITECTURES[RECIPE].layers["deep"], "dense_3"
FULL = full_scale(RECIPE, size=224, pictures=3000, tests=600)
QUICK = Scale(size=64, pictures=750, tests=240, width=0.25, epochs=24, batch_size=16, learning_rate=3e-4, explained=60)
# without BatchNormalization this depth learns nothing for hundreds of steps, and longer with augmentation
QUICK_RECIPE = replace(RECIPES[RECIPE], augmentation=Augmentation())


def main(arguments: Sequence[str] | None = None) -> Path:
    options = parse(__doc__, FULL, QUICK, arguments)
    summary = Summary("Six people: Grad-CAM and a map of features", options)
    data = find_data(options, summary, "faces")
    trained = train_network(options, summary, data, QUICK_RECIPE if options.quick else RECIPES[RECIPE])
    model = trained.model(options.device)

    summary.heading("How well it tells them apart")
    score(summary, model, data / "test")
    summary.picture("evaluation/confusion.png", "Test pictures by true and predicted person")
    summary.picture("training/curves.png", "Loss and accuracy by epoch")

    summary.heading(f"Where it looks, at {LAYER}")
    pictures = some_pictures(data / "test", options.scale.explained)
    paths = [picture.path for picture in pictures]
    with summary.step("explain"):
        smooth = explain(model, paths, layer=LAYER)
        blocks = explain(model, paths, layer=LAYER, interpolation="nearest")
        smooth.save(summary.out / "heat_maps.npz")
    columns = {f"Grad-CAM at {LAYER}": smooth, "as blocks": blocks}
    draw_heat_maps(model, pictures, columns, summary.out / "heat_maps.png")
    summary.picture(
        "heat_maps.png", "Evidence for the predicted person, with its probability; right: the cells of the layer"
    )
    localise(summary, model, data, pictures, {"Grad-CAM": smooth, "Grad-CAM as blocks": blocks})

    summary.heading(f"What it takes for alike: {FEATURES} by t-SNE")
    test = list(labelled_folder(data / "test"))
    with summary.step("map features"):
        found = features(model, [picture.path for picture in test], FEATURES)
        embedding = embed(found, labels=[picture.label for picture in test], seed=options.seed)
        embedding.save(summary.out / "map.npz")
        save_feature_map(feature_map(embedding, color_by="label"), summary.out / "map.png")
    summary.picture("map.png", f"Test pictures by their features of {FEATURES}; frames: who it is")
    tell_quality(summary, embedding)
    summary.text(
        "Look at the faces that lie among those of another person: the network takes them for that person, and the "
        "heat maps show by which part of the picture. Only near neighbours mean something on the map; distances "
        "between groups do not."
    )
    return summary.write()


def draw_heat_maps(
    model: Model, pictures: Sequence[LabelledImage], columns: Mapping[str, Explanation], file: Path, most: int = 6
) -> None:
    """Draw a row a picture: what the model saw, then each column's map over it, with class and probability."""
    rows = []
    for i in evenly(len(pictures), most):
        seen = np.asarray(region(open_picture(pictures[i].path), model.preprocessing).convert("RGB"))
        cells = [Cell(seen, f"is {pictures[i].label}")]
        for explanation in columns.values():
            way = explanation.options.get("interpolation", "bilinear")
            drawn = overlay(seen, explanation.maps[i].cpu().numpy(), interpolation=way)
            cells.append(Cell(drawn, caption(explanation, i), "; ".join(explanation.flags[i])))
        rows.append(Row("", cells))
    save_png(grid(rows, headers=["picture", *columns], cell=192, colorbar="jet"), file)


def tell_quality(summary: Summary, embedding: Embedding) -> None:
    quality, k = embedding.quality, embedding.quality.k
    summary.table(
        (f"map of {len(embedding)} pictures", "value"),
        [
            ("trustworthiness", quality.trustworthiness),
            (f"{k} nearest neighbours that the map keeps", quality.neighbour_preservation),
            (f"label of most of the {k} neighbours is right, on the map", quality.label_accuracy),
            ("the same in the features", quality.label_accuracy_in_features),
            ("divergence (nats)", quality.kl_divergence),
        ],
    )


if __name__ == "__main__":
    run_as_script(main)
