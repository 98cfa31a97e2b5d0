"""`torchcam-suite layers` of transformers: tokens are shown as the feature maps that they are."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torchvision
from torchvision.models import VisionTransformer

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision gives a ViT of two blocks, whatever is asked for."""
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: VisionTransformer(32, 8, 2, 2, 16, 32))


def test_tokens_are_shown_as_feature_maps_within_80_columns(run: Run) -> None:
    found = run("layers", "torchvision:vit_b_16", "--input-size", "32")
    assert found.status == 0
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [number for number, line in enumerate(lines) if line.endswith("default")]
    # a long name goes on in the next line
    assert lines[row].split()[0] + lines[row + 1].strip() == "encoder.layers.encoder_layer_1.ln_1"
    assert "16 x 4 x 4 of 17 tokens" in lines[row]
    assert "16 x 4 x 4  " in next(line for line in lines if line.startswith("conv_proj"))


def test_json_has_the_shape_of_the_output_and_of_the_maps(run: Run) -> None:
    about = json.loads(run("layers", "torchvision:vit_b_16", "--input-size", "32", "--json").stdout)
    rows = {row["name"]: (row["output_shape"], row["map_shape"]) for row in about["layers"]}
    assert about["default"] == "encoder.layers.encoder_layer_1.ln_1"
    assert rows["encoder.layers.encoder_layer_1.ln_1"] == ([17, 16], [16, 4, 4])
    assert rows["conv_proj"] == ([16, 4, 4], [16, 4, 4])
    assert rows["heads"] == ([1000], None)
