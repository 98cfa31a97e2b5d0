"""Tables fit the terminal: a column of names gives way before anything is folded."""

import warnings
from collections.abc import Callable

import pytest
from rich.console import Console

from torchcam_suite.cli import output
from torchcam_suite.errors import AssumptionWarning, FontWarning

LAYER = "encoder.layers.encoder_layer_11.self_attention.out_proj"
HEADERS = ("image", "method", "layer", "target", "score", "probability")

Printed = Callable[..., list[str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Printed:
    """Lines of a table in a terminal of so many columns."""

    def print_it(columns: int, layers: list[str], **options: object) -> list[str]:
        monkeypatch.setattr(output, "data", Console(markup=False, highlight=False, width=columns))
        rows = [(f"{i}.png", "smoothgradcam++", layer, "ember", "12.3", "0.9876") for i, layer in enumerate(layers)]
        output.print_table(HEADERS, rows, right=(4, 5), whole=(2,), **options)
        return capfd.readouterr().out.splitlines()

    return print_it


@pytest.mark.parametrize("columns", [70, 80, 100])
def test_a_long_name_loses_its_middle_and_no_cell_is_folded(printed: Printed, columns: int) -> None:
    lines = printed(columns, [LAYER, "conv_proj"], short=2)
    assert len(lines) == 3
    assert max(map(len, lines)) <= columns
    name = lines[1].split()[2]
    head, tail = name.split("…")
    assert LAYER.startswith(head)
    assert LAYER.endswith(tail)
    assert len(tail) > len(head) > 3
    assert lines[2].split()[2] == "conv_proj"


def test_names_stay_whole_where_there_is_room_or_they_would_be_one(printed: Printed) -> None:
    assert LAYER in printed(140, [LAYER], short=2)[1]
    twins = [LAYER, LAYER.replace("_11", "_12")]
    text = "".join(printed(80, twins, short=2))
    assert "…" not in text
    assert "layer_12" in text


def test_a_name_is_not_shortened_unless_that_is_asked_for(printed: Printed) -> None:
    assert LAYER in "".join(printed(80, [LAYER]))


def test_a_warning_is_one_line_on_stderr_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "log", Console(stderr=True, markup=False, highlight=False, width=20))
    with output.warnings_on_stderr():
        for text in ("two of them are drawn as boxes", "assumed", "two of them are drawn as boxes"):
            warnings.warn(text, AssumptionWarning if text == "assumed" else FontWarning, stacklevel=1)
        warnings.warn("of a library", UserWarning, stacklevel=1)
    assert capfd.readouterr() == ("", "note: two of them are drawn as boxes\nnote: assumed\n")
