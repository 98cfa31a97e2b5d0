"""A whole training against a loop over Keras' rules in float64: loss, L2, momentum, falling learning rate."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coloured import coloured_folder
from PIL import Image
from torch import Tensor
from torch.nn import functional

from torchcam_suite.architectures import ArticleNet, build
from torchcam_suite.training import RECIPES, Augmentation, StepDecay, train
from torchcam_suite.training.batch_statistics import reach_over_one_epoch
from torchcam_suite.training.checkpoint_file import read_checkpoint
from torchcam_suite.training.pictures import TrainingData, find_training_data, training_batches

pytestmark = pytest.mark.usefixtures("one_thread")
RATE, EPOCHS, BATCH, SIDE, SEED = 1e-4, 3, 8, 16, 5


def by_hand(data: TrainingData) -> ArticleNet:
    """The network of the dogs and cats after three epochs."""
    torch.manual_seed(SEED)
    net = build("dogs-and-cats", classes=2, input_size=(SIDE, SIDE), width=0.1).double().train()
    images = np.stack([np.asarray(Image.open(one.path)) for one in data.train]) / 255
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    labels = torch.tensor([float(one.label) for one in data.train], dtype=torch.float64)
    parameters = dict(net.named_parameters())
    velocity = {name: torch.zeros_like(one) for name, one in parameters.items()}
    for epoch in range(EPOCHS):
        batches = training_batches(len(data.train), BATCH, seed=SEED, epoch=epoch)
        reach_over_one_epoch(net, len(batches))
        for places in ([key.place for key in batch] for batch in batches):
            logits, wanted = net(pixels[places])[:, 0], labels[places]
            losses = -(wanted * functional.logsigmoid(logits) + (1 - wanted) * functional.logsigmoid(-logits))
            gradients = torch.autograd.grad(losses.mean(), list(parameters.values()))
            step(parameters, velocity, gradients, rate=RATE * 0.3**epoch)
    return net


@torch.no_grad()
def step(
    parameters: Mapping[str, Tensor], velocity: dict[str, Tensor], gradients: tuple[Tensor, ...], rate: float
) -> None:
    for (name, one), gradient in zip(parameters.items(), gradients, strict=True):
        l2 = 2 * 5.0 * one if name == "dense.linear.weight" else 0  # of 5 times the sum of the squares
        velocity[name] = 0.9 * velocity[name] - rate * (gradient + l2)
        one += velocity[name]


def test_a_training_takes_the_steps_of_keras(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path / "data", {"": 15}, side=SIDE, classes=2)
    recipe = replace(
        RECIPES["dogs-and-cats"],
        learning_rate=RATE,
        decay=StepDecay(0.3, every=1),
        l2={"dense": 5.0},
        batch_size=BATCH,
        augmentation=Augmentation(),
    )
    options = {"input_size": SIDE, "width": 0.1, "accelerator": "cpu", "progress": False}
    train(folder, recipe, out=tmp_path / "out", epochs=EPOCHS, seed=SEED, **options)  # type: ignore[arg-type]
    found = read_checkpoint(tmp_path / "out/checkpoints/last.safetensors")["state_dict"]
    torch.manual_seed(SEED)
    first = build("dogs-and-cats", classes=2, input_size=(SIDE, SIDE), width=0.1).state_dict()
    for name, expected in by_hand(find_training_data(folder, seed=SEED)).state_dict().items():
        change = (expected - first[name]).abs().max().item()
        assert change > 0
        assert (found[f"net.{name}"] - expected).abs().max().item() < 0.01 * change + 1e-6, name
