"""ResNet50 of ImageNet: where it looks, by Grad-CAM at three depths.

The pictures are yours (`--data`, any folder of them; where it has train and test, those in test), or drawn aeroplanes,
leopards and watches, which are classes of ImageNet too. The weights are

- `--weights imagenet`: those of `keras.applications`, which Keras downloads; imported and proved equal (the default);
- `--weights torchvision`: torchvision's own, which torchvision downloads;
- `--weights FILE`: any checkpoint of a classifier that `torchcam_suite.load` opens;
- `--weights none`: no download: a residual network with one block for each stage of ResNet50 is trained on the spot on
  drawn pictures, or on those of `--data` in train/CLASS and test/CLASS. This is what `--quick` does.

    python scripts/articles/imagenet_resnet50.py --quick
    python scripts/articles/imagenet_resnet50.py --data photos -o resnet50
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from summary import (
    Options,
    Scale,
    Summary,
    draw_pictures,
    find_data,
    localise,
    parse,
    run_as_script,
    score,
    some_pictures,
    tell_agreement,
)
from torch import nn

from torchcam_suite import Model, load
from torchcam_suite.compare import compare
from torchcam_suite.comparison.pictures import evenly
from torchcam_suite.explanation import write_atomically
from torchcam_suite.labelled_images import LabelledImage, labelled_folder
from torchcam_suite.picture_files import find_pictures

SOURCES = {"imagenet": "keras.applications:ResNet50", "torchvision": "torchvision:resnet50?weights=DEFAULT"}
DEPTHS = ("shallow", "middle", "deep")
FULL = Scale(size=224, pictures=3000, tests=60, width=1, epochs=30, batch_size=32, learning_rate=1e-3, explained=60)
QUICK = Scale(size=112, pictures=360, tests=150, width=0.25, epochs=6, batch_size=16, learning_rate=1e-3, explained=60)


def main(arguments: Sequence[str] | None = None) -> Path:
    options = parse(__doc__, FULL, QUICK, arguments, add=add_options)
    weights = options.others.weights or ("none" if options.quick else "imagenet")
    title = "A small residual network, in the place of ResNet50" if weights == "none" else "Where ResNet50 looks"
    summary = Summary(title, options)
    if weights == "none":
        data = find_data(options, summary, "objects")
        model = train_small(options, summary, data)
        summary.heading("How well it tells them apart")
        score(summary, model, data / "test")
        pictures = some_pictures(data / "test", options.scale.explained)
    else:
        model = open_weights(options, summary, weights)
        data = options.data or draw_pictures(options, summary, "objects", train=0)
        pictures = any_pictures(data, options.scale.explained)

    summary.heading("Where it looks")
    paths = [picture.path for picture in pictures]
    with summary.step("explain"):
        found = compare(model, paths, layers=DEPTHS, drawn=6)
        found.save(summary.out / "comparison")
    summary.picture("comparison/grid.png", "Evidence for the predicted class, from shallow to deep")
    tell_predictions(summary, model, [paths[i] for i in evenly(len(paths), 12)])
    localise(summary, model, data, pictures, {column.layer: column.explanation for column in found.columns})
    tell_agreement(summary, found)
    summary.text(
        "Look at how the evidence moves: shallow maps follow edges everywhere, the deep one should lie on what the "
        "class names. A deep map beside the object means that the class is told from its surroundings."
    )
    return summary.write()


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", help="imagenet, torchvision, a checkpoint, or none (imagenet; with --quick none)")


def open_weights(options: Options, summary: Summary, weights: str) -> Model:
    with summary.step(f"open {weights}"):
        model = load(SOURCES.get(weights, weights), device=options.device)
    summary.fact("weights", f"{SOURCES.get(weights, weights)}, fingerprint {model.fingerprint[:16]}")
    return model


def any_pictures(data: Path, count: int) -> list[LabelledImage]:
    """Those of the test split, where a folder has splits; otherwise the first ones below it."""
    if (data / "test").is_dir():
        return some_pictures(data / "test", count)
    return [LabelledImage(path, path.parent.name) for path in find_pictures([data])[:count]]


def train_small(options: Options, summary: Summary, data: Path) -> Model:
    """Train ResNet50's bottleneck blocks, one for each of its four stages; the weights are kept in OUT."""
    from safetensors.torch import save
    from torchvision.models.resnet import Bottleneck, ResNet

    scale, images = options.scale, labelled_folder(data / "train")
    with summary.step("train"):
        torch.manual_seed(options.seed)
        net = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=len(images.labels), width_per_group=round(64 * scale.width))
        model = load(net, input_size=scale.size, class_names=images.labels, device=options.device)
        batch = model.prepare([image.path for image in images])
        labels = torch.tensor([images.labels.index(image.label) for image in images], device=model.device)
        fit(net, batch, labels, scale)
        content = save({name: tensor.cpu() for name, tensor in net.state_dict().items()})
        write_atomically(summary.out / "weights.safetensors", lambda file: file.write(content))
    summary.fact(
        "weights",
        f"none of ImageNet's: trained here, {scale.epochs} epochs, batches of {scale.batch_size}, "
        f"width {scale.width:g}, input {scale.size} pixels; `weights.safetensors`",
    )
    return model


def fit(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, scale: Scale) -> None:
    """Adam on cross-entropy, pictures mirrored at random; the network is in eval mode afterwards."""
    optimizer = torch.optim.Adam(net.parameters(), scale.learning_rate)
    net.train()
    for epoch in range(scale.epochs):
        for chosen in torch.randperm(len(images)).split(scale.batch_size):
            if len(chosen) > 1:  # batch normalization takes no single picture
                mirrored = images[chosen].flip(3) if torch.rand(()) < 0.5 else images[chosen]
                loss = nn.functional.cross_entropy(net(mirrored), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        print(f"epoch {epoch + 1}/{scale.epochs}  loss of the last batch {loss:.3f}", file=sys.stderr)
    net.eval()


def tell_predictions(summary: Summary, model: Model, paths: Sequence[Path]) -> None:
    """A table of the three most probable classes of each picture."""
    with torch.inference_mode():
        shares = model.probabilities(model.prepare(paths)).cpu()
    shares = torch.cat([1 - shares, shares], dim=1) if shares.shape[1] == 1 else shares
    names = model.class_names or [f"class {number}" for number in range(shares.shape[1])]
    best, rows = shares.topk(min(3, shares.shape[1])), []
    for path, values, classes in zip(paths, best.values.tolist(), best.indices.tolist(), strict=True):
        answers = [f"{names[number]} {share:.2f}" for share, number in zip(values, classes, strict=True)]
        rows.append((f"{path.parent.name}/{path.name}", *answers))
    summary.table(("picture", "first", "second", "third")[: len(rows[0])], rows)


if __name__ == "__main__":
    run_as_script(main)
