"""Every method is its formula on token grids too, as on feature maps."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_table import ROWS, Row
from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from token_cases import Patches, TokenCase, opened, patches, pictures, small_swin, small_vit, swin, vit
from torch import Tensor, nn

from torchcam_suite import Explanation, Model, explain, load
from torchcam_suite.cam import METHODS
from torchcam_suite.errors import LayerError
from torchcam_suite.grids import Ambiguity, Grid

pytestmark = [
    # random networks have classes without evidence, which is not what these tests are about
    pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning"),
    # of torch, for PyTorch's own transformer layers where they are built
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
]

CASES = {"vit": vit, "patches": patches, "swin": swin}
LAST_NORM = "encoder.layers.encoder_layer_1.ln_1"

EACH = [
    pytest.param(name, row, id="-".join([name, *map(str, row.options.values())]))
    for name, rows in ROWS.items()
    for row in rows
    if METHODS[name].takes_layer and row.layer is None and name != "cam"
]


def require_same(found: Any, wanted: Any, tolerance: float) -> None:
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    largest = np.abs(wanted).max()
    assert wanted.std() > 1e-3 * largest > 0
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < tolerance * largest


# ---------------------------------------------------------------- the formulas


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(("name", "row"), EACH)
def test_each_method_is_its_formula_in_loops(kind: str, name: str, row: Row) -> None:
    case = CASES[kind]()
    if name == "guidedgradcam" and kind != "patches":
        pytest.skip("the net has no ReLU")
    found = explain(
        case.model, case.images, method=name, layer=case.layer, target=case.classes, relu="after", **row.options
    )
    expected = np.stack([row.reference(case, image, **row.options) for image in range(len(case.images))])
    require_same(found.raw, expected, 1e-8)


@pytest.mark.parametrize(("method", "message"), [("cam", "pooling"), ("guidedgradcam", "ReLU")])
def test_methods_that_do_not_suit_a_transformer_say_what_they_need(method: str, message: str) -> None:
    case = vit()
    with pytest.raises(LayerError, match=message):
        explain(case.model, case.images, method=method, layer=case.layer, target=case.classes)


def theirs(method: type, case: TokenCase) -> np.ndarray:
    """What pytorch-grad-cam gives before ReLU and upsampling, (N, h, w)."""
    layer = case.model.module.get_submodule(case.layer)

    def reshape_transform(output: Tensor) -> Tensor:
        tokens = output[:, case.prefix :].reshape(len(output), *case.grid, -1) if case.flat else output
        return tokens.transpose(2, 3).transpose(1, 2)

    targets = [ClassifierOutputTarget(target) for target in case.classes]
    with method(case.model.module, [layer], reshape_transform=reshape_transform) as cam:
        cam(input_tensor=case.images.requires_grad_(), targets=targets)
        kept = cam.activations_and_grads
        gradients = kept.gradients[0].numpy() if kept.gradients else None
        return cam.get_cam_image(case.images, layer, targets, kept.activations[0].numpy(), gradients, False)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(("name", "method"), [("gradcam", GradCAM), ("hirescam", HiResCAM), ("layercam", LayerCAM)])
def test_gradient_methods_agree_with_pytorch_grad_cam(kind: str, name: str, method: type) -> None:
    case = CASES[kind]()
    found = explain(case.model, case.images, method=name, layer=case.layer, target=case.classes, relu="after")
    require_same(found.raw, theirs(method, case), 1e-6)


@pytest.mark.filterwarnings("ignore")  # of its progress bar
@pytest.mark.parametrize("kind", CASES)
def test_score_cam_agrees_with_pytorch_grad_cam(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_pixel_centres(size: tuple[int, int]) -> nn.Module:
        return nn.Upsample(size, mode="bilinear", align_corners=False)

    # theirs keeps the corners in place, which is a known difference
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", half_pixel_centres)
    case = CASES[kind]()
    found = explain(
        case.model, case.images, method="scorecam", variant="logit", layer=case.layer, target=case.classes, relu="after"
    )
    require_same(found.raw, theirs(ScoreCAM, case), 1e-5)


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam"])
def test_several_token_layers_are_explained_in_one_pass(method: str) -> None:
    case = vit()
    layers = ["conv_proj", "encoder.layers.encoder_layer_0", LAST_NORM]
    together = explain(case.model, case.images, method=method, layer=layers, target=case.classes, relu="after")
    for layer in layers:
        alone = explain(case.model, case.images, method=method, layer=layer, target=case.classes, relu="after")
        require_same(together[layer].raw, alone.raw, 1e-9)


# ---------------------------------------------------------------- which layer


def last_blocks_norm_counts() -> tuple[Model, str]:
    return opened(small_vit(), 16, 16), LAST_NORM


def head_of_zeros() -> tuple[Model, str]:
    net = small_vit()
    nn.init.zeros_(net.heads.head.weight)
    return opened(net, 16, 16), LAST_NORM


def no_patch_convolution() -> tuple[Model, str]:
    return opened(Patches(convolution=False), 24, 16), "blocks.1.norm1"


def mean_of_all_tokens() -> tuple[Model, str]:
    return opened(Patches(pooled=True), 24, 16), "norm"


def norms_after_attention() -> tuple[Model, str]:
    net = Patches()
    for block in net.blocks:
        block.norm_first = False
    return opened(net, 24, 16), "blocks.0.norm2"


def channels_first_at_the_end() -> tuple[Model, str]:
    return opened(small_swin()), "permute"


class Recurrent(nn.Module):
    """Rows of feature maps read by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
        self.wide = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.wide(self.conv(images).flatten(2).transpose(1, 2)).amax(dim=1))


def tokens_without_norms() -> tuple[Model, str]:
    return opened(Recurrent()), "conv"


@pytest.mark.parametrize(
    "make",
    [
        last_blocks_norm_counts,
        head_of_zeros,
        no_patch_convolution,
        mean_of_all_tokens,
        norms_after_attention,
        channels_first_at_the_end,
        tokens_without_norms,
    ],
    ids=lambda make: make.__name__,
)
def test_the_default_layer_is_the_last_whose_tokens_count(make: Callable[[], tuple[Model, str]]) -> None:
    model, layer = make()
    assert model.default_layer == layer
    assert model.default_layer == layer  # found once, remembered


def test_after_the_default_layer_no_gradient_arrives_at_the_patches() -> None:
    case = vit()
    names = [layer.name for layer in case.model.layers if layer.is_spatial]
    after = names[names.index(LAST_NORM) + 1 :]
    assert len(after) > 3
    found = explain(case.model, case.images, layer=[LAST_NORM, *after], target=case.classes, relu="after")
    assert found[LAST_NORM].raw.abs().max() > 1e-3
    assert all(found[name].raw.abs().max() == 0 for name in after)


def test_the_table_shows_tokens_as_feature_maps() -> None:
    lines = {line.split()[0]: line for line in str(vit().model.layers).splitlines()}
    assert lines[LAST_NORM].split("LayerNorm")[1].split("  ")[-2].strip() == "12 x 2 x 2 of 5 tokens"
    swin_lines = {line.split()[0]: line for line in str(swin().model.layers).splitlines()}
    assert "24 x 4 x 4, channels last" in swin_lines["features.3.0.norm1"]
    assert "24 x 4 x 4  " in swin_lines["permute"]


@pytest.mark.parametrize("make", [vit, swin], ids=["vit", "swin"])
def test_a_fused_transformer_keeps_its_grid(make: Callable[[], TokenCase]) -> None:
    case = make()
    fused = case.model.fuse(keep=case.layer)
    assert fused.default_layer == case.layer
    assert fused.layers[case.layer].grid == case.model.layers[case.layer].grid
    expected = explain(case.model, case.images, layer=case.layer, target=case.classes, relu="after")
    found = explain(fused, case.images, target=case.classes, relu="after")
    require_same(found.raw, expected.raw, 1e-9)


# ---------------------------------------------------------------- as the user says


def to_maps(output: Tensor) -> Tensor:
    return output[2:].permute(1, 2, 0).unflatten(2, (3, 2))


def to_tokens(maps: Tensor, like: Tensor) -> Tensor:
    return torch.cat([like[:2], maps.flatten(2).permute(2, 0, 1)])


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_reshape_makes_maps_of_tokens_that_are_not_recognised(method: str) -> None:
    case, turned = patches(), opened(Patches(batch_first=False), 24, 16)
    assert turned.layers[case.layer].grid is None
    expected = explain(case.model, case.images, method=method, layer=case.layer, target=case.classes)
    found = explain(turned, case.images, method=method, layer=case.layer, target=case.classes, reshape=to_maps)
    require_same(found.raw, expected.raw, 1e-9)


def test_a_function_in_place_of_the_recognised_grid_gives_the_same(tmp_path: Path) -> None:
    case = vit()
    expected = explain(case.model, case.images, target=case.classes)

    def my_reshape(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].unflatten(1, (2, 2)).permute(0, 3, 1, 2)

    found = explain(case.model, case.images, target=case.classes, reshape=my_reshape)
    assert torch.equal(found.raw, expected.raw)
    assert found.options == expected.options | {"reshape": "my_reshape"}
    assert json.loads(json.dumps(found.to_json()))["options"]["reshape"] == "my_reshape"
    assert Explanation.load(found.save(tmp_path / "found")).options == found.options


def test_replaced_feature_maps_need_the_way_back() -> None:
    case = vit()

    def there(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].unflatten(1, (2, 2)).permute(0, 3, 1, 2)

    def back(maps: Tensor, like: Tensor) -> Tensor:
        return torch.cat([like[:, :1], maps.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)

    with pytest.raises(LayerError, match=r"replaces feature maps, so it needs the way back too: reshape=\("):
        explain(case.model, case.images, method="ablationcam", target=case.classes, reshape=there)
    found = explain(case.model, case.images, method="ablationcam", target=case.classes, reshape=(there, back))
    require_same(found.raw, explain(case.model, case.images, method="ablationcam", target=case.classes).raw, 1e-9)


def test_feature_maps_cannot_be_replaced_where_images_are_not_along_the_first_axis() -> None:
    model = opened(Patches(batch_first=False), 24, 16)
    options = {"method": "ablationcam", "layer": "blocks.1.norm1", "reshape": (to_maps, to_tokens)}
    with pytest.raises(LayerError, match=r"gives \(8, 2, 10\) for 2 images, which are not along the first axis"):
        explain(model, pictures(model), **options)


def test_tokens_that_are_not_recognised_are_an_error_that_names_reshape() -> None:
    model = opened(Patches(batch_first=False), 24, 16)
    with pytest.raises(LayerError, match=r"'blocks.1.norm1' gives 1 x 10 values an image; .* or reshape=, a function"):
        explain(model, pictures(model), layer="blocks.1.norm1")
    with pytest.raises(LayerError, match=r"'head' gives 4 values an image; .*, as 'embed' gives$"):
        explain(model, pictures(model), layer="head")


def test_a_model_without_any_recognised_layer_asks_for_reshape() -> None:
    class Sequence(nn.Module):
        """Rows of the picture are the tokens."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.block = nn.TransformerEncoderLayer(24, 2, 16, norm_first=True, batch_first=True)
            self.head = nn.Linear(24, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.block(images.transpose(1, 2).flatten(2)).mean(dim=1))

    model = opened(Sequence(), 11, 8)
    with pytest.raises(LayerError, match=r"none of the .* layers gives feature maps .*name it .*reshape="):
        explain(model, pictures(model))
    with pytest.raises(LayerError, match=r"none of the .* layers gives feature maps .*name it .*reshape="):
        explain(model, pictures(model), layer="block.norm1")
    rows = explain(model, pictures(model), layer="block.norm1", reshape=lambda rows: rows.mT[..., None])
    assert rows.raw.shape == (2, 11, 1)
    assert rows.maps.shape == (2, 11, 8)


class Heads(nn.Module):
    """A transformer block whose attention is a layer of its own, and windows that are put into the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.attention, self.norm, self.window = nn.Softmax(dim=-1), nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.embed(images).flatten(2).transpose(1, 2))
        heads = x.unflatten(2, (2, 4)).transpose(1, 2)
        x = (self.attention(heads @ heads.mT) @ heads).transpose(1, 2).flatten(2)
        windows = self.window(x.unflatten(1, (2, 2, 4)).transpose(0, 1).flatten(0, 1).flatten(1, 2))
        return self.head(windows.unflatten(0, (2, len(images))).mean(dim=(0, 2)))


def test_what_only_looks_like_feature_maps_is_an_error_that_says_why() -> None:
    model = opened(Heads(), 16, 16)
    assert isinstance(model.layers["attention"].grid, Ambiguity)
    message = r"layer 'attention' gives 2 x 16 x 16 values, which seem to be those of 16 tokens in each of 2 heads; "
    with pytest.raises(LayerError, match=message):
        explain(model, pictures(model), layer="attention")


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_windows_in_the_batch_are_an_error_and_reshape_can_put_them_together(method: str) -> None:
    model = opened(Heads(), 16, 16)
    images = pictures(model)

    def whole(windows: Tensor) -> Tensor:
        rows = windows.unflatten(0, (2, -1)).unflatten(2, (2, 4))  # (2, N, 2, 4, C)
        return rows.permute(1, 4, 0, 2, 3).flatten(2, 3)

    with pytest.raises(LayerError, match=r"gives 4 outputs for 2 images"):
        explain(model, images, method=method, layer="window", reshape=lambda w: w.unflatten(1, (2, 4)).movedim(3, 1))
    assert explain(model, images, method=method, layer="window", reshape=whole).raw.shape == (2, 4, 4)


def test_a_method_without_a_layer_takes_neither_a_layer_nor_reshape() -> None:
    case = vit()
    method = next(name for name, method in METHODS.items() if not method.takes_layer)
    with pytest.raises(LayerError, match=f"{method} explains the input and takes no layer, but got 'conv_proj'"):
        explain(case.model, case.images, method=method, layer="conv_proj")
    with pytest.raises(LayerError, match=f"{method} explains the input and takes no layer, but got reshape="):
        explain(case.model, case.images, method=method, reshape=to_maps)


# ---------------------------------------------------------------- imported


@pytest.fixture(scope="module")
def keras_vit(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A Keras ViT with a class token, on pictures of 24 x 16."""
    file = tmp_path_factory.mktemp("keras_vit") / "vit.keras"
    script = Path(__file__).parent / "keras_vit.py"
    subprocess.run([sys.executable, str(script), str(file)], check=True, timeout=300, capture_output=True)
    return load(file, preprocessing="unit", device="cpu")


def test_an_imported_vit_has_token_grids_and_a_default_layer_that_counts(keras_vit: Model) -> None:
    grids = {layer.name: layer.grid for layer in keras_vit.layers}
    assert grids["embed"] is None
    assert grids["patches"] == Grid(3, 2)
    assert grids["tokens"] == grids["norm0a"] == grids["norm"] == Grid(3, 2, prefix=1)
    assert grids["class_token"] is None
    assert keras_vit.layers["embed"].output_shape == (8, 3, 2)
    assert keras_vit.default_layer == "norm1a"


@pytest.mark.parametrize(
    ("name", "row"), [param for param in EACH if param.values[0] in ("gradcam", "scorecam", "ablationcam")]
)
def test_methods_are_their_formulas_in_an_imported_vit(keras_vit: Model, name: str, row: Row) -> None:
    images = pictures(keras_vit).float()
    path = keras_vit.layers.site("norm1a").module
    assert path
    case = TokenCase(keras_vit, "norm1a", images, [1, 3], (3, 2), 1)
    found = explain(keras_vit, images, method=name, layer="norm1a", target=[1, 3], relu="after", **row.options)
    require_same(found.raw, np.stack([row.reference(case, image, **row.options) for image in range(2)]), 1e-4)
