"""Our own converters compute what ONNX prescribes (onnx's own evaluator, or a calculation by hand, is the judge)."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional

from converters.errors import UnsupportedModelError
from converters.module import build

LOWEST = np.iinfo(np.int64).min


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(op: str, shape: tuple[int, ...], *constants: np.ndarray | None, **attributes: object) -> onnx.ModelProto:
    """One node of `x` and constants, None for one that is left out; the batch is free."""
    names = ["" if constant is None else f"c{i}" for i, constant in enumerate(constants)]
    node = helper.make_node(op, ["x", *names], ["y"], op, **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, *shape[1:]))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(c, name) for name, c in zip(names, constants, strict=True) if c is not None]
    graph = helper.make_graph([node], "net", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def both(proto: onnx.ModelProto, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ours and the evaluator's."""
    module = build(proto, {})
    with torch.inference_mode():
        ours = module(torch.from_numpy(x)).numpy()
    theirs = np.asarray(ReferenceEvaluator(proto).run(None, {"x": x})[0])
    assert theirs.std() > 0.05
    return ours, theirs


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], [1]),
        ([0, 1], [2, 9], [2, 1], [1, 2]),
        ([-1], [LOWEST], [1], [-1]),
        ([-2], [0], [1], [-2]),
        ([-3], [-1], [-1], [1]),
    ],
)
def test_slices_are_cut_from_either_end(starts: list, ends: list, axes: list, steps: list) -> None:
    proto = model("Slice", (2, 6, 5), ints(*starts), ints(*ends), ints(*axes), ints(*steps))
    ours, theirs = both(proto, random(2, 6, 5))
    np.testing.assert_array_equal(ours, theirs)


def test_an_uneven_average_leaves_the_padding_out() -> None:
    proto = model("AveragePool", (1, 1, 3, 3), kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3).requires_grad_()
    result = build(proto, {})(x)
    assert result.flatten().tolist() == [(1 + 2 + 4 + 5) / 4, (3 + 6) / 2, (7 + 8) / 2, 9]
    result.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.25, 0.25, 0.5, 0.25, 0.25, 0.5, 0.5, 0.5, 1]


@pytest.mark.parametrize("pads", [[0, 0, 1, 1], [1, 0, 0, 2], [0, 1, 1, 0]])
def test_an_uneven_transposed_convolution_is_cut_where_it_should_be(pads: list[int]) -> None:
    weight, bias = random(3, 4, 3, 3, seed=1), random(4, seed=2)
    proto = model("ConvTranspose", (2, 3, 5, 6), weight, bias, strides=[2, 2], pads=pads, kernel_shape=[3, 3])
    ours, theirs = both(proto, random(2, 3, 5, 6))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_with_negative_padding_ends_in_its_bias() -> None:
    weight, bias = random(3, 4, 2, 2, seed=1), random(4, seed=2)
    proto = model("ConvTranspose", (2, 3, 5, 6), weight, bias, strides=[3, 3], pads=[0, 0, -1, -1])
    x = torch.from_numpy(random(2, 3, 5, 6))
    ours = build(proto, {})(x)
    full = functional.conv_transpose2d(x, torch.from_numpy(weight), torch.from_numpy(bias), stride=3)
    assert ours.shape == (2, 4, 15, 18)
    torch.testing.assert_close(ours[:, :, :14, :17], full)
    torch.testing.assert_close(ours[:, :, 14, :], torch.from_numpy(bias)[None, :, None].expand(2, 4, 18))


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.3333333, 0.7), (1.0, 1.0, 2.0, 3.0)])
def test_maps_are_resized_to_the_size_that_was_meant(scales: tuple[float, ...]) -> None:
    given = np.array(scales, np.float32)
    proto = model("Resize", (2, 3, 9, 10), None, given, mode="linear", coordinate_transformation_mode="half_pixel")
    x = torch.from_numpy(random(2, 3, 9, 10))
    sizes = [round(9 * scales[2]), round(10 * scales[3])]
    torch.testing.assert_close(build(proto, {})(x), functional.interpolate(x, sizes, mode="bilinear"))


def test_an_interpolation_that_torch_lacks_is_refused() -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    proto = model("Resize", (1, 1, 3, 3), None, scales, mode="linear", coordinate_transformation_mode="asymmetric")
    with pytest.raises(UnsupportedModelError, match="Resize with mode linear, asymmetric"):
        build(proto, {})


def test_a_thresholded_relu_keeps_what_is_above() -> None:
    ours, theirs = both(model("ThresholdedRelu", (2, 30), alpha=0.3), random(2, 30))
    assert 0 < (theirs == 0).sum() < theirs.size
    np.testing.assert_array_equal(ours, theirs)


def test_statistics_of_the_activations_themselves_have_a_gradient() -> None:
    mean = helper.make_node("ReduceMean", ["x"], ["m"], "m", axes=[0, 2], keepdims=0)
    variance = helper.make_node("Mul", ["m", "m"], ["v"], "v")
    norm = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], "n", epsilon=0.1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, 3, 4))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    scale, bias = random(3, seed=1), random(3, seed=2)
    held = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph([mean, variance, norm], "net", [x], [y], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    def by_hand(images: torch.Tensor) -> torch.Tensor:
        average = images.mean((0, 2), keepdim=True)
        normal = (images - average) / (average.square() + 0.1).sqrt()
        return normal * torch.from_numpy(scale)[:, None] + torch.from_numpy(bias)[:, None]

    images = torch.from_numpy(random(2, 3, 4)).requires_grad_()
    ours, theirs = build(proto, {})(images), by_hand(images)
    torch.testing.assert_close(ours, theirs)
    direction = torch.from_numpy(random(2, 3, 4, seed=3))
    (found,) = torch.autograd.grad((ours * direction).sum(), images)
    (wanted,) = torch.autograd.grad((theirs * direction).sum(), images)
    torch.testing.assert_close(found, wanted)


def test_a_normalisation_may_have_no_epsilon() -> None:
    scale, bias, mean, variance = (random(3, seed=seed) for seed in range(4))
    variance = np.abs(variance) + 0.1
    proto = model("BatchNormalization", (2, 3, 4), scale, bias, mean, variance, epsilon=0.0)
    images = random(2, 3, 4, seed=5)
    with torch.inference_mode():
        ours = build(proto, {})(torch.from_numpy(images)).numpy()
    by_hand = (images - mean[:, None]) / np.sqrt(variance[:, None]) * scale[:, None] + bias[:, None]
    assert by_hand.std() > 0.05
    np.testing.assert_allclose(ours, by_hand, rtol=1e-5, atol=1e-6)
