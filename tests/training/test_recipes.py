"""Recipes: their numbers, Keras' penalty and optimizers, and what they refuse."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from torchcam_suite.architectures import ARCHITECTURES, build
from torchcam_suite.errors import SourceError
from torchcam_suite.training import RECIPES, Augmentation, Recipe, StepDecay
from torchcam_suite.training.optimization import make_optimizer, penalty, set_learning_rate
from torchcam_suite.training.recipes import find_recipe


def test_each_architecture_has_a_recipe() -> None:
    assert list(RECIPES) == list(ARCHITECTURES)
    assert all(recipe.architecture == name for name, recipe in RECIPES.items())


def test_dogs_and_cats_is_trained_as_in_the_article() -> None:
    recipe = RECIPES["dogs-and-cats"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == ("sgd", 0.01, 0.9)
    assert recipe.l2 == {"dense": 0.01}
    assert recipe.loss == "cross-entropy"


def test_the_learning_rate_falls_in_steps() -> None:
    recipe = Recipe("vgg", learning_rate=0.8, decay=StepDecay(0.5, every=3))
    assert [recipe.learning_rate_at(epoch) for epoch in range(7)] == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2]


@pytest.mark.parametrize("recipe", [*RECIPES.values(), Recipe("vgg", patience=None, loss="yu2018")])
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_the_penalty_is_the_factor_times_the_squares_of_the_kernel_alone() -> None:
    net = build("dogs-and-cats", classes=2, input_size=(16, 16), width=0.1)
    (kernel,) = (one for one in net.dense.parameters() if one.ndim == 2)
    expected = 0.01 * sum(value**2 for row in kernel.tolist() for value in row)
    found = penalty(net, RECIPES["dogs-and-cats"])
    assert expected > 0.01
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert kernel.grad is not None
    assert torch.allclose(kernel.grad, 0.02 * kernel)
    assert all(one.grad is None for one in net.parameters() if one is not kernel)


def test_without_l2_there_is_no_penalty() -> None:
    net = build("families", classes=3, input_size=(16, 16), width=0.1)
    assert penalty(net, RECIPES["families"]).item() == 0


def test_l2_of_a_layer_that_does_not_exist_is_told() -> None:
    net = build("families", classes=3, input_size=(16, 16), width=0.1)
    with pytest.raises(SourceError, match="l2 of the layer 'dense_9': families has no such layer with a kernel"):
        penalty(net, replace(RECIPES["families"], l2={"dense_9": 0.1}))


def keras_steps(optimizer: str, gradients: list[float]) -> float:
    """Where Keras' update rules take a weight of 1.0, in loops over their definitions."""
    weight, velocity, mean, square = 1.0, 0.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        if optimizer == "sgd":
            velocity = 0.9 * velocity - 0.01 * gradient
            weight += velocity
        elif optimizer == "rmsprop":
            square = 0.9 * square + 0.1 * gradient**2
            weight -= 0.01 * gradient / (square**0.5 + 1e-7)
        else:
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            rate = 0.01 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            weight -= rate * mean / (square**0.5 + 1e-7)
    return weight


@pytest.mark.parametrize(("optimizer", "size"), [("sgd", 1), ("rmsprop", 1), ("adam", 1), ("adam", 1e-6)])
def test_optimizers_make_the_steps_that_keras_makes(optimizer: Any, size: float) -> None:
    net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.ones_(net.weight)
    made = make_optimizer(net, Recipe("vgg", optimizer=optimizer, learning_rate=0.01))
    gradients = [0.5 * size, -0.25 * size, 2.0 * size, 0.125 * size]  # epsilon counts beside small ones
    for gradient in gradients:
        net.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        made.step()
    expected = keras_steps(optimizer, gradients)
    assert abs(expected - 1) > 0.005
    assert net.weight.item() == pytest.approx(expected, abs=1e-6)


def test_what_momentum_has_gathered_keeps_the_learning_rate_that_it_came_in_with() -> None:
    """As in Keras: velocity = momentum * velocity - rate * gradient."""
    net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.ones_(net.weight)
    made = make_optimizer(net, Recipe("vgg", optimizer="sgd", learning_rate=0.08))
    expected, velocity = 1.0, 0.0
    for rate, gradient in ((0.08, 0.5), (0.08, -0.25), (0.02, 2.0), (0.02, 0.125), (0.01, 1.0)):
        velocity = 0.9 * velocity - rate * gradient
        expected += velocity
        set_learning_rate(made, rate)
        net.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        made.step()
    assert net.weight.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "lion"}, "optimizer 'lion'; expected one of sgd, rmsprop, adam"),
        ({"learning_rate": 0.0}, "learning_rate=0.0; expected a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan; expected a positive number"),
        ({"momentum": 1.0}, "momentum=1.0; expected a number in [0, 1)"),
        ({"batch_size": 1}, "batch_size=1; expected a whole number, at least 2"),
        ({"epochs": 0}, "epochs=0; expected a whole number, at least 1"),
        ({"patience": 0}, "patience=0; expected a whole number, at least 1"),
        ({"loss": "cros-entropy"}, "did you mean 'cross-entropy'?"),
    ],
)
def test_values_out_of_range_are_told(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe("vgg", **wrong)


@pytest.mark.parametrize(("factor", "every"), [(0.0, 3), (1.5, 3), (0.5, 0)])
def test_a_decay_that_is_none_is_told(factor: float, every: int) -> None:
    with pytest.raises(ValueError, match=r"expected a factor in \(0, 1\] and 1 epoch or more"):
        StepDecay(factor, every)


@pytest.mark.parametrize(
    ("name", "message"),
    [("exception", "did you mean 'xception'"), ("resnet", "expected one of dogs-and-cats, families, vgg, xception")],
)
def test_an_unknown_recipe_is_told(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_recipe(name)


def test_a_recipe_of_ones_own_is_taken_as_it_is() -> None:
    mine = Recipe("xception", optimizer="rmsprop", augmentation=Augmentation(rotation=20))
    assert find_recipe(mine) is mine
