"""The examples of docs/transformers.md run, and its table of default layers is true."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from torchcam_suite import load

PAGE = (Path(__file__).parents[1] / "docs" / "transformers.md").read_text()


# random networks have classes without evidence; a sequence of tokens first is what the page is about
@pytest.mark.filterwarnings("ignore::torchcam_suite.errors.ZeroMapWarning")
def test_the_examples_run_one_after_the_other() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    names: dict[str, Any] = {}
    for example in examples:
        assert "assert " in example
        exec(compile(example, "docs/transformers.md", "exec"), names)  # noqa: S102 - our own page
    assert names["explanation"].method == "ablationcam"


def test_names_of_the_page_exist() -> None:
    swin = torchvision.models.SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=3)
    model = load(swin, input_size=32, device="cpu")
    assert model.default_layer in PAGE
    assert torch.Size(model.layers["permute"].map_shape or ()) == (24, 4, 4)
