"""Every method of the table: it is its formula, and it has the properties that any method must have."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import Case, toy
from method_table import ROWS, Row
from torch import nn

from torchcam_suite import explain, load
from torchcam_suite.cam import METHODS

pytestmark = [
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
    # of onnx2torch, for any UpSampling2D; the certificate proves that it is not so here
    pytest.mark.filterwarnings("ignore:Pytorch's nearest neighbor interpolation:UserWarning"),
]

EACH = [
    pytest.param(name, row, id="-".join([name, *map(str, row.options.values())]))
    for name, rows in ROWS.items()
    for row in rows
]


@pytest.fixture(scope="module")
def imported(data: Path) -> Case:
    """An imported Keras model with BatchNormalization, separable convolutions, an Add and a softmax of five."""
    model = load(data / "keras224/keras224_func.h5", preprocessing="unit", device="cpu")
    images = torch.rand(2, *model.input, generator=torch.Generator().manual_seed(7))
    return Case(model, "relu6", images, [1, 4])


def ours(case: Case, name: str, row: Row, images: torch.Tensor | None = None, layer: str | None = None) -> np.ndarray:
    """Raw maps (N, h, w), signed."""
    found = explain(
        case.model,
        case.images if images is None else images,
        method=name,
        layer=(layer or row.layer or case.layer) if METHODS[name].takes_layer else None,
        target=case.classes[: len(case.images if images is None else images)],
        **row.options,
        relu="after",
    )
    return found.raw.double().numpy()


def expected(case: Case, row: Row) -> np.ndarray:
    return np.stack([row.reference(case, image, **row.options) for image in range(len(case.images))])


def require_same(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    largest = np.abs(wanted).max()
    assert wanted.std() > 1e-3 * largest > 0
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < tolerance * largest


def test_every_method_has_a_row() -> None:
    assert set(ROWS) == set(METHODS)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_it_is_its_formula_in_loops(name: str, row: Row) -> None:
    case = toy(pooled=row.pooled)
    case = Case(case.model, row.layer or case.layer, case.images, case.classes)
    require_same(ours(case, name, row), expected(case, row), 1e-10)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_it_is_its_formula_in_an_imported_model(imported: Case, name: str, row: Row) -> None:
    if row.imported_layer is None:
        pytest.skip("the imported model has no layer that suits this method")
    case = Case(imported.model, row.imported_layer, imported.images, imported.classes)
    require_same(ours(case, name, row, layer=row.imported_layer), expected(case, row), 1e-4)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_batch_gives_what_its_images_give_alone(name: str, row: Row) -> None:
    case = toy(pooled=row.pooled)
    together = ours(case, name, row)
    for image in range(2):
        alone = Case(case.model, case.layer, case.images[image : image + 1], case.classes[image : image + 1])
        require_same(ours(alone, name, row), together[image : image + 1], 1e-10)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_the_order_of_the_channels_does_not_matter(name: str, row: Row) -> None:
    if not row.permutes or row.layer is not None:
        pytest.skip("the map depends on the order of the channels, or the layer is another")
    case, permuted = toy(pooled=row.pooled), toy(pooled=row.pooled)
    order = torch.tensor([3, 0, 4, 2, 1])
    net = permuted.model.module
    with torch.no_grad():
        net.get_parameter("3.weight").copy_(net.get_parameter("3.weight")[order])
        net.get_parameter("3.bias").copy_(net.get_parameter("3.bias")[order])
        weight = net.get_parameter("7.weight")
        weight.copy_(weight.view(4, 5, -1)[:, order].reshape(4, -1))
    require_same(ours(permuted, name, row), ours(case, name, row), 1e-9)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_symmetric_net_gives_mirrored_maps(name: str, row: Row) -> None:
    if not row.mirrors:
        pytest.skip("the map depends on positions")
    case = toy(pooled=row.pooled)
    net = case.model.module
    with torch.no_grad():
        for conv in (net.get_parameter("0.weight"), net.get_parameter("3.weight")):
            conv.copy_((conv + conv.flip(3)) / 2)
        dense = net.get_parameter("7.weight")
        grid = dense.view(4, 5, *((1, 1) if row.pooled else (4, 3)))
        dense.copy_(((grid + grid.flip(3)) / 2).reshape(4, -1))
    straight = ours(case, name, row)
    mirrored = ours(case, name, row, images=case.images.flip(3))
    require_same(mirrored[..., ::-1], straight, 1e-9)
    assert np.abs(mirrored - straight).max() > 1e-3 * np.abs(straight).max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "row"), EACH)
def test_the_default_dtype_changes_nothing(name: str, row: Row, dtype: torch.dtype) -> None:
    case = toy(dtype, pooled=row.pooled)
    layer = (row.layer or case.layer) if METHODS[name].takes_layer else None
    expected = explain(case.model, case.images, method=name, layer=layer, target=case.classes, **row.options)
    torch.set_default_dtype(torch.float64)
    try:
        found = explain(case.model, case.images, method=name, layer=layer, target=case.classes, **row.options)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.raw.dtype == expected.raw.dtype == dtype
    assert torch.equal(found.raw, expected.raw)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_the_default_device_changes_nothing(name: str, row: Row) -> None:
    """Nothing is made on it: tensors of the device "meta" have no values."""
    case = toy(pooled=row.pooled)
    layer = (row.layer or case.layer) if METHODS[name].takes_layer else None
    expected = explain(case.model, case.images, method=name, layer=layer, target=case.classes, **row.options)
    with torch.device("meta"):
        found = explain(case.model, case.images, method=name, layer=layer, target=case.classes, **row.options)
    assert torch.equal(found.raw, expected.raw)


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_map_without_evidence_is_zero_and_never_nan(name: str, row: Row) -> None:
    case = toy(pooled=row.pooled)
    module = copy.deepcopy(case.model.module)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.zero_()
                part.bias.zero_()
    model = load(module, input_size=(3, 16, 12), preprocessing="unit", head="softmax", device="cpu")
    blank = torch.zeros_like(case.images)
    layer = (row.layer or case.layer) if METHODS[name].takes_layer else None
    found = explain(model, blank, method=name, layer=layer, target=case.classes, **row.options)
    assert found.maps.isfinite().all()
    if METHODS[name].takes_layer and row.zero_without_evidence:
        assert found.flags == (("map is zero everywhere",),) * 2
        assert (found.maps == 0).all()
