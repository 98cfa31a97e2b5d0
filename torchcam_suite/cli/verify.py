"""`torchcam-suite verify`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchcam_suite.cli.options import Device, Json, Weights
from torchcam_suite.cli.output import print_json, print_table, status, warnings_on_stderr
from torchcam_suite.errors import SourceError
from torchcam_suite.models import find_device

if TYPE_CHECKING:
    from converters import Bundle, Certificate
    from converters.second_opinion import SecondOpinion


class Opinion(StrEnum):
    """Who can be asked for a second opinion."""

    onnxruntime = "onnxruntime"
    keras_torch = "keras-torch"


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as torchcam-suite convert wrote it.")],
    opinions: Annotated[
        list[Opinion] | None,
        typer.Option(
            "--with",
            help="A second opinion: onnxruntime runs the bundle's graph, keras-torch runs the checkpoint of --source "
            "in Keras 3 on its torch backend. May be given twice.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="The checkpoint that the bundle was made of, for --with keras-torch.", show_default=False),
    ] = None,
    weights: Weights = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Prove on this machine that a bundle computes what the original framework computed; exit status 3 if not.

    [dim]Example:  torchcam-suite verify model.bundle --with onnxruntime[/]
    """
    from converters import open_bundle

    asked = list(dict.fromkeys(opinions or []))
    _require_source(asked, source, weights)
    with warnings_on_stderr(), status(f"verifying {bundle}"):
        opened = open_bundle(bundle)
        certificate = opened.verify(str(find_device(device)))
        found = [_ask(opinion, opened, source, weights) for opinion in asked]
    if as_json:
        others = {"second_opinions": [opinion.to_json() for opinion in found]} if asked else {}
        print_json(certificate.to_json() | others)
    else:
        print_table(("proof", "figure", "where"), certificate_rows(certificate) + opinion_rows(found))


def _require_source(asked: list[Opinion], source: Path | None, weights: Path | None) -> None:
    if Opinion.keras_torch in asked and source is None:
        raise SourceError("--with keras-torch runs the checkpoint itself; give it: --source model.keras")
    if Opinion.keras_torch not in asked and (source is not None or weights is not None):
        raise SourceError("--source and --weights are read by --with keras-torch alone; add it, or leave them out")


def _ask(opinion: Opinion, bundle: "Bundle", source: Path | None, weights: Path | None) -> "SecondOpinion":
    from converters import second_opinion

    if opinion is Opinion.onnxruntime or source is None:
        return second_opinion.by_onnxruntime(bundle)
    return second_opinion.by_keras_torch(bundle, source, weights)


def opinion_rows(opinions: "list[SecondOpinion]") -> list[tuple[str, str, str]]:
    """Second opinions as a table: who, figure, where."""
    rows = []
    for opinion in opinions:
        rows.append((opinion.by, f"{opinion.from_original:.1e}", "from the original's output"))
        rows.append(("", f"{opinion.from_torch:.1e}", "from the torch module's output"))
    return rows


def certificate_rows(certificate: "Certificate") -> list[tuple[str, str, str]]:
    """The certificate as a table: what, figure, where."""
    return [
        ("largest error of the output", f"{certificate.prediction:.1e}", "relative to its maximum"),
        ("largest error of the logits", f"{certificate.logits:.1e}", ""),
        (
            f"largest error of {certificate.taps} layer calls",
            f"{certificate.worst_activation:.1e}",
            certificate.worst_tap,
        ),
        (
            f"least agreement of {certificate.gradients} gradients",
            f"cosine {certificate.worst_cosine:.7f}",
            certificate.worst_gradient,
        ),
        ("activations transposed at run time", str(certificate.runtime_transposes), ""),
    ]
