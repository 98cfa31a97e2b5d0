"""Frozen graphs and SavedModels come out as TensorFlow computes them, layer by layer, under their layers' names."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored import DATA, channels_first, family_images, in_keras_order, require_equal, taps

import converters
from converters import assembly, worker
from converters.bundle import open_bundle
from converters.inspect import inspect

FAMILIES = DATA / "tcav_families"

# name of the source, and what has to be named
HONEST: dict[str, dict[str, Any]] = {
    "keras_2": {},
    "keras_3": {},
    "subclassed": {},
    "plain": {},
    "two_outputs": {"output": "shapes", "input_size": (16, 16)},
    "tensorflow_1": {},
    "switches.pb": {},
    "branches.pb": {},
    "one_picture.pb": {},
    "one_pixel.pb": {},
    "slim.pb": {},
    "whole_numbers.pb": {"output": "kinds"},
}
# jobs that the tracing process refuses, once it has looked closer
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "several outputs": ("whole_numbers.pb", {}, r"2 tensors .* its output: flags:0, kinds:0; name one: .* --output"),
    "unknown output": ("whole_numbers.pb", {"output": "kind"}, r"no tensor 'kind'.* it found kinds:0, flags:0"),
    "no class scores": ("whole_numbers.pb", {"output": "conv1/Relu"}, r"expected \(images, classes\) of floats"),
    "several inputs": ("two_inputs.pb", {}, r"2 tensors .* its input: left:0, right:0; name one: .* --input left:0"),
    "the other input": ("two_inputs.pb", {"input": "left"}, r"needs 'right' beside the pictures"),
    "wrong input": ("one_picture.pb", {"input": "conv1/bias"}, r"has shape \(8,\); expected pictures"),
    "several signature outputs": (
        "two_outputs",
        {"input_size": (16, 16)},
        r"the model has 2 outputs; choose one of 'colours', 'shapes'.* --output colours",
    ),
    "unknown signature output": ("two_outputs", {"output": "sizes"}, r"no output is named 'sizes'; choose one of"),
    "free size": ("two_outputs", {"output": "shapes"}, r"pictures of any size \(NonexNone\); .*--input-size 224"),
    "fixed size": ("plain", {"input_size": (20, 20)}, r"input is 16x16, which input_size=\(20, 20\) cannot change"),
    "keep_prob": ("keep_prob.pb", {}, r"needs 'keep_prob' beside the pictures; replace each by a constant"),
    "training mode": ("training_mode.pb", {}, r"draws random numbers \(RandomUniform\).*learning_phase"),
    "loop of TensorFlow 1": ("loop.pb", {}, r"part of a loop of TensorFlow 1"),
    "loop of TensorFlow 2": (
        "functional_loop.pb",
        {},
        r"is a loop \((Stateless)?While\), as an RNN has; save the Keras",
    ),
    "statistics of the batch": ("batch_statistics.pb", {}, r"is a BatchNormalization in training mode"),
    "condition": ("data_condition.pb", {}, r"a condition that depends on the input \(Switch\)"),
    "channels first": ("channels_first.pb", {}, r"node 'Conv2D' \(Conv2D\) wants its channels first"),
    "pictures that depend on each other": ("tied_batch.pb", {}, r"other results for several pictures than for each"),
    "variables lost": ("lost", {}, r"variables cannot be read"),
    "variables of another model": ("swapped", {}, r"has shape \(40, 3\) in the graph and \(3, 3, 3, 40\) in its"),
}


@dataclass(frozen=True)
class Traced:
    """What one tracing process made of all jobs, by the names above."""

    folder: Path
    sources: Path

    def outcome(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name / "outcome.json").read_text())

    def bundle(self, name: str) -> converters.Bundle:
        place = self.folder / name / "bundle"
        if not place.exists():
            facts = json.loads((place.parent / "facts.json").read_text())
            place.mkdir()
            assembly.assemble(inspect(self.sources / name), facts, place.parent, place)
        return open_bundle(place)

    def stored(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.sources / f"{name}.npz") as arrays:
            return dict(arrays)


@pytest.fixture(scope="module")
def traced(graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("traced")
    damaged(graphs)
    jobs = {name: (name, options) for name, options in HONEST.items()}
    jobs |= {name: (source, options) for name, (source, options, _) in REFUSED.items()}
    for name, (source, options) in jobs.items():
        (folder / name).mkdir()
        job = worker.job(inspect(graphs / source), worker.TraceOptions(**options))
        (folder / name / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-P", "-m", "converters.tracing", *(str(folder / name) for name in jobs)]
    done = subprocess.run(command, capture_output=True, timeout=500, text=True)
    assert done.returncode == 3, done.stderr[-2000:]  # some were refused, as they should be
    return Traced(folder, graphs)


def damaged(graphs: Path) -> None:
    """SavedModels whose variables are missing, or belong to other names."""
    shutil.copytree(graphs / "plain", graphs / "lost")
    (graphs / "lost" / "variables" / "variables.index").unlink()
    shutil.copytree(graphs / "plain", graphs / "swapped")
    file = graphs / "swapped" / "saved_model.pb"
    content, one, other = file.read_bytes(), b"kernel/.ATTRIBUTES", b"weight/.ATTRIBUTES"  # equally long
    swapped = content.replace(one, b"\0unused\0").replace(other, one).replace(b"\0unused\0", other)
    assert swapped != content
    file.write_bytes(swapped)


# ---------------------------------------------------------------- what comes out


@pytest.mark.parametrize("name", HONEST)
def test_the_predictions_are_those_of_tensorflow(traced: Traced, name: str) -> None:
    assert traced.outcome(name) == {"error": None}
    stored = traced.stored(name)
    ours = traced.bundle(name).module()(channels_first(stored["x"])).numpy()
    require_equal(ours, stored["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "slim.pb"])
def test_a_graph_is_called_by_the_name_that_its_user_gave(traced: Traced, name: str) -> None:
    assert traced.bundle(name).manifest["source"]["files"] == [name]


@pytest.mark.parametrize("name", HONEST)
def test_the_certificate_covers_every_layer_and_its_gradient(traced: Traced, name: str) -> None:
    bundle = traced.bundle(name)
    proof = bundle.certificate
    assert proof.taps == len(bundle.layers) >= 3
    assert proof.gradients == sum(row.module.startswith("trunk.") for row in bundle.layers) >= 2
    assert proof.worst_activation < 2e-5
    assert 0.99999 < proof.worst_cosine <= 1 + 1e-9
    assert proof.runtime_transposes == 0


@pytest.mark.parametrize("name", ["keras_2", "keras_3", "subclassed", "switches.pb", "branches.pb"])
def test_layers_give_what_they_give_in_keras(traced: Traced, name: str) -> None:
    stored = traced.stored(name)
    layers = [key.removeprefix("layer/") for key in stored if key.startswith("layer/")]
    assert layers
    seen = taps(traced.bundle(name), channels_first(stored["x"]))
    for layer in layers:
        require_equal(in_keras_order(seen[f"{layer}#0"]), stored[f"layer/{layer}"])


FUNCTIONAL = """
    conv2d#0 Conv2D, bn#0 BatchNormalization, pool#0 MaxPooling2D, inner/grouped#0 Conv2D, inner/relu#0 Activation,
    inner#0 Functional, plus#0 Add, conv2d_1#0 Conv2D, conv2d_1#1 Conv2D, drop#0 Dropout, gap#0 GlobalAveragePooling2D,
    classes#0 Dense
"""
LAYERS = {
    "keras_2": FUNCTIONAL,
    # Keras 3 leaves Dropout out of an inference graph
    "keras_3": FUNCTIONAL.replace("drop#0 Dropout, ", ""),
    "subclassed": """conv2d#0 Conv2D, batch_normalization#0 BatchNormalization, Relu#0 Activation,
        Mean#0 GlobalAveragePooling2D, dense#0 Dense, Softmax#0 Activation""",
    "tensorflow_1": "block1/conv#0 Conv2D, block1#0 Functional, logits#0 Dense",
    "switches.pb": """conv2d_1#0 Conv2D, batch_normalization_1#0 BatchNormalization, activation_1#0 Activation,
        dropout_1#0 Dropout, flatten_1#0 Flatten, dense_1#0 Dense""",
    "slim.pb": """Conv2d_1a#0 Conv2D, Mixed_5b/Branch_0#0 Conv2D, Mixed_5b/Branch_1#0 Conv2D, Mixed_5b#0 Functional,
        Logits/Dropout_1b#0 Dropout, Logits#0 Functional, Predictions#0 Activation""",
}
LAYERS["branches.pb"] = LAYERS["switches.pb"]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_found_at_the_boundaries_of_their_scopes(traced: Traced, name: str) -> None:
    rows = [f"{row.tap} {row.class_name}" for row in traced.bundle(name).layers]
    assert rows == [row.strip() for row in LAYERS[name].split(",")]


def test_shapes_are_known_where_the_graph_computes_them_at_run_time(traced: Traced) -> None:
    shapes = {row.name: row.shape for row in traced.bundle("switches.pb").layers}
    assert shapes["conv2d_1"] == (20, 14, 14)
    assert shapes["flatten_1"] == (20 * 14 * 14,)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("keras_2", "softmax"),
        ("plain", "sigmoid"),
        ("tensorflow_1", None),
        ("one_picture.pb", "softmax"),
        ("one_pixel.pb", "softmax"),
        ("slim.pb", "softmax"),
    ],
)
def test_logits_are_what_goes_into_the_softmax_or_sigmoid(traced: Traced, name: str, activation: str | None) -> None:
    bundle, stored = traced.bundle(name), traced.stored(name)
    assert (bundle.manifest["head"] or {}).get("activation") == activation
    logits = bundle.module().logits(channels_first(stored["x"]))
    again = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, None: lambda x: x}[activation](logits)
    require_equal(again.numpy(), stored["y"])


def test_whether_pixels_are_scaled_is_read_from_the_graph(traced: Traced) -> None:
    raw = {name for name in HONEST if traced.bundle(name).manifest["takes_raw_pixels"]}
    assert raw == {"plain", "whole_numbers.pb"}


def test_a_graph_for_one_picture_works_on_many(traced: Traced) -> None:
    module, x = traced.bundle("one_picture.pb").module(), channels_first(traced.stored("one_picture.pb")["x"])
    alone = torch.cat([module(x[i : i + 1]) for i in range(len(x))])
    require_equal(module(x).numpy(), alone.numpy())


def test_what_a_saved_model_runs_when_it_is_loaded_never_runs(traced: Traced) -> None:
    # its main_op writes a file; only the serving function is looked at
    assert traced.outcome("tensorflow_1") == {"error": None}
    assert (traced.sources / "proof_that_it_is_live").read_text() == "serving"
    assert list((traced.sources / "canary").iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [(name, row[2]) for name, row in REFUSED.items()], ids=list(REFUSED))
def test_what_cannot_be_converted_is_refused_with_advice(traced: Traced, name: str, message: str) -> None:
    outcome = traced.outcome(name)
    assert outcome["error"] == ("CheckpointError" if "variables" in name else "UnsupportedModelError")
    assert re.search(message, outcome["message"]), outcome["message"]


# ---------------------------------------------------------------- a real one


@pytest.fixture(scope="module")
def families() -> tuple[converters.Bundle, converters.Bundle]:
    """The same model, from the Keras file and from the frozen graph."""
    return converters.convert(FAMILIES / "model.h5"), converters.convert(FAMILIES / "model.pb")


def test_the_article_s_frozen_graph_has_the_layers_of_the_keras_file(
    families: tuple[converters.Bundle, converters.Bundle],
) -> None:
    keras, frozen = ([(row.tap, row.class_name, row.shape) for row in bundle.layers] for bundle in families)
    assert keras == frozen
    assert ("conv2d_1#0", "Conv2D", (16, 64, 64)) in frozen
    assert families[0].manifest["head"] == families[1].manifest["head"]


def test_the_article_s_frozen_graph_computes_what_it_computed_then(
    families: tuple[converters.Bundle, converters.Bundle],
) -> None:
    reference = np.load(FAMILIES / "reference.npz")
    images = family_images(reference["names"])
    require_equal(families[1].module()(images).numpy(), reference["prediction"], rtol=1e-4, atol=0)
    keras, frozen = (taps(bundle, images) for bundle in families)
    for tap, activation in keras.items():
        require_equal(frozen[tap].numpy(), activation.numpy(), rtol=1e-5, atol=1e-5)
