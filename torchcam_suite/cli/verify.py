"""`torchcam-suite verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchcam_suite.cli.options import Json
from torchcam_suite.cli.output import print_json, print_table, status, warnings_on_stderr

if TYPE_CHECKING:
    from converters import Certificate


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as torchcam-suite convert wrote it.")],
    as_json: Json = False,
) -> None:
    """Prove on this machine that a bundle computes what the original framework computed; exit status 3 if not.

    [dim]Example:  torchcam-suite verify model.bundle[/]
    """
    from converters import open_bundle

    with warnings_on_stderr(), status(f"verifying {bundle}"):
        certificate = open_bundle(bundle).verify()
    if as_json:
        print_json(certificate.to_json())
    else:
        print_table(("proof", "figure", "where"), certificate_rows(certificate))


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
