"""`torchcam-suite layers`."""

from torchcam_suite.cli.options import (
    Custom,
    Input,
    InputSize,
    Json,
    ModelArgument,
    NoCache,
    Output,
    Weights,
    open_model,
)
from torchcam_suite.cli.output import log, print_json, print_table, status, warnings_on_stderr
from torchcam_suite.errors import LayerError
from torchcam_suite.layers import shape_text
from torchcam_suite.models import Model


def layers(
    model: ModelArgument,
    weights: Weights = None,
    input_size: InputSize = None,
    input: Input = None,
    output: Output = None,
    custom: Custom = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """List the layers of a model: name, class, output shape, calls; the default one is marked.

    [dim]Example:  torchcam-suite layers model.h5[/]
    """
    # the preprocessing does not matter here, so nothing has to be assumed
    with warnings_on_stderr(), status(f"opening {model}"):
        opened = open_model(model, weights, input_size, "raw", None, "cpu", no_cache, input, output, custom)
    default = _default_layer(opened)
    if as_json:
        rows = [
            {
                "name": layer.name,
                "class": layer.class_name,
                "output_shape": list(layer.output_shape),
                "map_shape": None if layer.map_shape is None else list(layer.map_shape),
                "calls": layer.calls,
            }
            for layer in opened.layers
        ]
        print_json({"default": default, "layers": rows})
        return
    print_table(
        ("layer", "class", "output shape", "calls", ""),
        [
            (
                layer.name,
                layer.class_name,
                shape_text(layer),
                str(layer.calls),
                "default" if default is not None and default.split("#")[0] == layer.name else "",
            )
            for layer in opened.layers
        ],
        right=(2, 3),
    )
    channels, height, width = opened.input
    log.print(f"{len(opened.layers)} layers; input {channels} x {height} x {width}; head {opened.head}")


def _default_layer(model: Model) -> str | None:
    try:
        return model.default_layer
    except LayerError:
        return None
