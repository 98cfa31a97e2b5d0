"""The command line: parse, call the library, print.

Exit status: 0 done; 1 an error that the message explains; 2 wrong usage; 3 a proof of parity or a cross-check failed;
130 a cross-check or a training was interrupted.
"""

import io
import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.text import Text

from torchcam_suite.cli.compare import compare
from torchcam_suite.cli.convert import convert
from torchcam_suite.cli.crosscheck import crosscheck
from torchcam_suite.cli.data import data
from torchcam_suite.cli.demo import demo
from torchcam_suite.cli.evaluate import evaluate
from torchcam_suite.cli.explain import explain
from torchcam_suite.cli.features import features
from torchcam_suite.cli.layers import layers
from torchcam_suite.cli.map import map_features
from torchcam_suite.cli.methods import methods
from torchcam_suite.cli.output import log
from torchcam_suite.cli.score_maps import score_maps
from torchcam_suite.cli.tcav import tcav
from torchcam_suite.cli.train import train
from torchcam_suite.cli.verify import verify
from torchcam_suite.errors import ParityError, TorchcamError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(metadata.version("torchcam-suite"))
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See what an image classifier looks at, whatever framework it was trained in."""


_COMMANDS = (
    *(convert, verify, layers, methods, explain, compare, crosscheck, score_maps),
    *(evaluate, tcav, features, data, train),
)
for command in _COMMANDS:
    app.command()(command)
app.command("map")(map_features)  # `map` itself would hide Python's
app.command()(demo)


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be Unicode, and are printed as is
    try:
        app(prog_name="torchcam-suite")
    except ParityError as error:
        _fail(error, 3)
    except (TorchcamError, ValueError) as error:
        _fail(error, 1)


def _fail(error: Exception, status: int) -> None:
    log.print(Text("error: ", "bold red") + Text(str(error)), soft_wrap=True)
    sys.exit(status)
