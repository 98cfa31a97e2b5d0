"""The proof passes where the module computes the same, and fails, naming the layer, where it does not."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from stored import CHECKPOINTS
from torch import Tensor

import converters
from converters import graph
from converters.errors import ParityError
from converters.parity import TapRun, certify, run_exactly, run_taps
from converters.samples import sketch

Reference = dict[str, Tensor]
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def families() -> converters.Bundle:
    return CHECKPOINTS["tcav_families.h5"].convert()


@pytest.fixture
def proof(families: converters.Bundle) -> tuple[TapRun, Reference, dict[str, str]]:
    """What `certify` compares: a run of the module, the stored reference, and the table of taps."""
    reference = load_file(families.path / "proof.safetensors")
    modules = {row.tap: row.module.split("tap/", 1)[1] for row in families.layers}
    return run_taps(families.module(), reference, modules), reference, modules


@pytest.fixture
def copied(families: converters.Bundle, tmp_path: Path) -> converters.Bundle:
    """A bundle to tamper with."""
    return converters.open_bundle(shutil.copytree(families.path, tmp_path / "copy"))


# ---------------------------------------------------------------- it passes


def test_an_untouched_bundle_is_proved_again(families: converters.Bundle) -> None:
    again, first = families.verify(), families.certificate
    assert (again.taps, again.gradients, again.torch) == (first.taps, first.gradients, first.torch)
    # the last digits depend on the number of threads
    assert again.worst_cosine == pytest.approx(first.worst_cosine, abs=1e-9)
    assert max(again.prediction, again.logits, again.worst_activation) < 1e-5


def test_the_figures_are_those_of_a_direct_comparison(
    families: converters.Bundle, proof: tuple[TapRun, Reference, dict[str, str]]
) -> None:
    run, reference, modules = proof
    figures = certify(run, reference, modules, transposes=0)
    activations, gradients = by_plain_hooks(families, reference)
    errors, cosines = {}, {}
    for tap in modules:
        positions = reference[f"positions/{tap}"].numpy()
        ours, theirs = activations[tap][:, positions], reference[f"activation/{tap}"].numpy()
        errors[tap] = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if f"gradient/{tap}" in reference:
            sketches = np.stack([sketch(one) for one in gradients[tap]])
            theirs = reference[f"gradient/{tap}"].numpy().astype(np.float64)
            cosines[tap] = (sketches * theirs).sum() / np.sqrt((sketches**2).sum() * (theirs**2).sum())
    assert (figures.taps, figures.gradients) == (17, 16)
    # one picture at a time rounds otherwise than a batch
    assert figures.worst_activation == pytest.approx(max(errors.values()), abs=1e-6)
    assert figures.worst_cosine == pytest.approx(min(cosines.values()), abs=1e-9)


def by_plain_hooks(
    bundle: converters.Bundle, reference: Reference
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Whole activations and gradients of each tap, (N, values) in Keras' order, of the batch in one piece."""
    module = bundle.module()
    seen: dict[str, Tensor] = {}

    def keep(tap: str, output: Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
        seen[tap] = output

    for row in bundle.layers:
        part = module.get_submodule(row.module)
        part.register_forward_hook(lambda _, __, output, tap=row.tap: keep(tap, output))
    logits = module.logits(reference["batch"].clone().requires_grad_())
    module.head(logits.detach())
    (logits * reference["direction"]).sum().backward()
    gradients = {tap: keras_order(tensor.grad) for tap, tensor in seen.items() if tensor.grad is not None}
    return {tap: keras_order(tensor) for tap, tensor in seen.items()}, gradients


def keras_order(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().numpy()
    return (array.transpose(0, 2, 3, 1) if array.ndim == 4 else array).reshape(len(array), -1)


def test_the_reference_is_not_constant_anywhere(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    _, reference, modules = proof
    for tap in modules:
        assert reference[f"activation/{tap}"].std() > 0
        assert reference[f"activation/{tap}"].numel() <= 4096
    assert reference["batch"].shape == (3, 3, 64, 64)
    assert 0 == reference["batch"].min() < reference["batch"].max() <= 1
    assert reference["logits"].std(0).min() > 0


# ---------------------------------------------------------------- it fails


def put(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Reference], Reference]:
    return lambda reference: reference | {name: change(reference[name])}


def drop(start: str) -> Callable[[Reference], Reference]:
    return lambda reference: {name: tensor for name, tensor in reference.items() if not name.startswith(start)}


def one_changed(tensor: Tensor) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[tensor.abs().argmax()] *= 1.001
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put("activation/conv2d_4#0", one_changed),
            r"layer call 'conv2d_4#0' differs from the original by 1\.0e-03 of",
        ),
        (put("activation/dense_1#0", torch.neg), "layer call 'dense_1#0' differs from the original by 2.0e"),
        (put("activation/activation_6#0", one_changed), "layer call 'activation_6#0' differs"),
        (
            put("activation/conv2d_2#0", lambda values: values[:-1]),
            r"'conv2d_2#0': shape \(3, 1365\) in torch, \(2, 1365\)",
        ),
        (put("gradient/conv2d_5#0", torch.neg), r"'conv2d_5#0': the gradient differs .*: cosine -1\.0"),
        (put("gradient/conv2d_5#0", lambda values: 1.02 * values), r"'conv2d_5#0': .*cosine 1\.0.*, lengths "),
        (put("gradient/conv2d_5#0", torch.zeros_like), "'conv2d_5#0': the gradient differs"),
        (put("gradient/conv2d_5#0", lambda values: values.roll(1)), "'conv2d_5#0': the gradient differs"),
        (
            put("activation/conv2d_3#0", torch.ones_like),
            r"'conv2d_3#0': .* same value everywhere .*\(1\), which proves",
        ),
        (
            put("activation/conv2d_3#0", lambda values: values * torch.nan),
            "'conv2d_3#0': the original itself gives NaN",
        ),
        (put("logits", lambda values: values + 0.1), "the logits differs from the original"),
        (put("logits", torch.zeros_like), r"the logits: .* the same value everywhere .*\(0\), which proves nothing"),
        (put("logits", lambda values: values[:1].expand_as(values)), "the logits: .* the same value everywhere"),
        (put("prediction", one_changed), "the prediction differs from the original by 1.0e-03 of its maximum"),
        (put("prediction", lambda values: values[:, :2]), r"the prediction: shape \(3, 3\) in torch, \(3, 2\)"),
        (drop("gradient/"), "nothing was proved about gradients"),
    ],
)
def test_a_reference_that_differs_fails_the_proof(
    proof: tuple[TapRun, Reference, dict[str, str]], change: Callable[[Reference], Reference], message: str
) -> None:
    run, reference, modules = proof
    with pytest.raises(ParityError, match=message):
        certify(run, change(reference), modules, transposes=0)


def test_a_gradient_that_does_not_arrive_fails_the_proof(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    cut = dataclasses.replace(run, gradients=run.gradients | {"conv2d_3#0": None})
    with pytest.raises(ParityError, match="'conv2d_3#0': no gradient arrives, though it does in the original"):
        certify(cut, reference, modules, transposes=0)


def test_another_top_class_fails_the_proof_however_close(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    tied = torch.tensor([[1.0, 1.0 + 1e-6, 0.0], *reference["logits"][1:].tolist()])
    ours = dataclasses.replace(run, logits=tied.index_select(1, torch.tensor([1, 0, 2])))
    ours.logits[1:] = tied[1:]
    with pytest.raises(ParityError, match="the top class of the reference batch differs"):
        certify(ours, reference | {"logits": tied}, modules, transposes=0)


# ---------------------------------------------------------------- a bundle that was tampered with


def one_sign(weights: Tensor) -> None:
    weights.view(-1)[weights.abs().argmax()] *= -1


def two_channels(weights: Tensor) -> None:
    weights[[0, 1]] = weights[[1, 0]]


def rotated(weights: Tensor) -> None:
    weights.copy_(weights.flip(-1))


def tamper(bundle: converters.Bundle, layer: str, change: Callable[[Tensor], None]) -> None:
    weights = load_file(bundle.path / "weights.safetensors")
    (name,) = (name for name in weights if f"/{layer}/" in name)
    change(weights[name])
    save_file(weights, bundle.path / "weights.safetensors")


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        ("conv2d_2", one_sign),
        ("conv2d_2", two_channels),
        ("conv2d_5", two_channels),
        ("conv2d_5", rotated),
        ("dense_1", one_sign),
    ],
)
def test_wrong_weights_are_found_and_their_layer_is_named(
    copied: converters.Bundle, layer: str, change: Callable[[Tensor], None]
) -> None:
    tamper(copied, layer, change)
    with pytest.raises(ParityError, match=f"layer call '{layer}#0' differs from the original by"):
        copied.verify()


def test_a_wrong_weight_of_a_silent_channel_is_found_by_its_gradient(copied: converters.Bundle) -> None:
    # its input is zero on the whole batch, so that no activation can tell
    tamper(copied, "conv2d_5", one_sign)
    with pytest.raises(ParityError, match="layer call 'max_pooling2d_2#0': the gradient differs from the original's"):
        copied.verify()


def test_a_wrong_bias_in_the_graph_is_found(copied: converters.Bundle) -> None:
    proto = onnx.load(copied.path / "graph.onnx", load_external_data=False)
    (bias,) = (tensor for tensor in proto.graph.initializer if "conv2d_3/BiasAdd/" in tensor.name)
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1e-2), bias.name))
    (copied.path / "graph.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ParityError, match="layer call 'conv2d_3#0' differs from the original"):
        copied.verify()


def test_a_changed_number_in_the_stored_proof_is_found(copied: converters.Bundle) -> None:
    stored = load_file(copied.path / "proof.safetensors")
    save_file(put("activation/max_pooling2d_2#0", one_changed)(stored), copied.path / "proof.safetensors")
    with pytest.raises(ParityError, match=r"layer call 'max_pooling2d_2#0' differs from the original by 1\.0e-03"):
        copied.verify()


def test_a_conversion_that_computes_something_else_leaves_no_bundle(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = graph.bind_weights

    def bind_wrongly(proto: onnx.ModelProto, weights: Arrays) -> Arrays:
        return {name: array * np.float32(1.001) for name, array in plain(proto, weights).items()}

    monkeypatch.setattr(graph, "bind_weights", bind_wrongly)
    with pytest.raises(ParityError, match="layer call 'd#0' differs from the original"):
        converters.convert(CHECKPOINTS["seq.h5"].source, out=tmp_path / "seq.bundle")
    assert list(own_cache.rglob("*")) == [own_cache / "bundles"]
    assert not (tmp_path / "seq.bundle").exists()


def test_a_gradient_that_is_not_finite_is_found(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    ours = run.gradients["conv2d_5#0"]
    assert ours is not None
    ours[0, 0] = float("nan")
    with pytest.raises(ParityError, match="layer call 'conv2d_5#0': NaN or infinity in the gradient"):
        certify(run, reference, modules, transposes=0)


@pytest.mark.parametrize(("theirs", "proved"), [(1e-9, True), (1e-5, False)])
def test_a_gradient_that_is_rounding_has_no_direction(
    proof: tuple[TapRun, Reference, dict[str, str]], theirs: float, proved: bool
) -> None:
    run, reference, modules = proof
    ours, name = run.gradients["conv2d_5#0"], "gradient/conv2d_5#0"
    assert ours is not None
    size = float((reference["logits"] * reference["direction"]).abs().max() / reference["activation/conv2d_5#0"].max())
    ours *= 1e-9 * size / ours.norm()
    changed = reference | {name: reference[name].flip(1) * theirs * size / reference[name].norm()}
    if proved:
        assert certify(run, changed, modules, transposes=0).gradients == len(modules) - 1
        return
    with pytest.raises(ParityError, match="layer call 'conv2d_5#0': the gradient differs"):
        certify(run, changed, modules, transposes=0)


def test_what_lies_too_deep_to_be_differentiated_is_compared_by_its_activation(
    families: converters.Bundle, proof: tuple[TapRun, Reference, dict[str, str]]
) -> None:
    _, reference, modules = proof
    deep = list(modules)[:6]
    less = {name: tensor for name, tensor in reference.items() if name.removeprefix("gradient/") not in deep}
    run = run_taps(families.module(), less, modules)
    figures = certify(run, less, modules, transposes=0)
    assert (figures.taps, figures.gradients) == (17, 10)
    whole = proof[0].gradients["conv2d_5#0"]
    assert whole is not None
    assert torch.equal(run.gradients["conv2d_5#0"], whole)


# ---------------------------------------------------------------- rounding of float32


def shifted(run: TapRun, by: float) -> TapRun:
    """A run whose activations differ by a share of each tap's maximum."""
    moved = {name: values + by * values.abs().max() for name, values in run.activations.items()}
    return dataclasses.replace(run, activations=moved)


def of_one(run: TapRun, picture: int) -> TapRun:
    """The run of one picture alone."""
    return dataclasses.replace(
        run,
        activations={name: values[picture : picture + 1] for name, values in run.activations.items()},
        prediction=run.prediction[picture : picture + 1],
        logits=run.logits[picture : picture + 1],
    )


def test_what_float32_rounds_away_is_measured_and_granted(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    ours = shifted(run, 4e-5)  # of the maximum: more than the tolerance at small values
    with pytest.raises(ParityError, match=r"differs from the original by 4\.0e-05"):
        certify(ours, reference, modules, transposes=0)
    # float64 lies in the middle, so that half the difference is rounding of ours
    certificate = certify(
        ours, reference, modules, transposes=0, exact=lambda picture: of_one(shifted(run, 2e-5), picture)
    )
    assert certificate.rounding == pytest.approx(3 * 2e-5, rel=0.01)


def test_what_is_no_rounding_is_not_granted(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    with pytest.raises(ParityError, match=r"differs from the original by 4\.0e-05"):
        certify(
            shifted(run, 4e-5),
            reference,
            modules,
            transposes=0,
            exact=lambda picture: of_one(shifted(run, 4e-5), picture),
        )


def test_more_rounding_than_is_usual_is_not_granted(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    with pytest.raises(ParityError, match=r"by 1\.0e-03 .* \+ 1e-04 of the maximum for the rounding of float32"):
        certify(shifted(run, 1e-3), reference, modules, transposes=0, exact=lambda picture: of_one(run, picture))


def test_only_the_picture_that_needs_it_runs_in_float64(proof: tuple[TapRun, Reference, dict[str, str]]) -> None:
    run, reference, modules = proof
    ours = shifted(run, 4e-5)
    for name, values in run.activations.items():
        ours.activations[name][:2] = values[:2]
    asked = []

    def exact(picture: int) -> TapRun:
        asked.append(picture)
        return of_one(shifted(run, 2e-5), picture)

    assert certify(ours, reference, modules, transposes=0, exact=exact).rounding > 0
    assert asked == [2]


def test_the_rounding_of_one_picture_is_not_granted_to_another(
    proof: tuple[TapRun, Reference, dict[str, str]],
) -> None:
    run, reference, modules = proof
    # all are off; float64 agrees with the last picture, so that nothing of its difference is rounding
    exact = {0: shifted(run, 2e-5), 1: shifted(run, 2e-5), 2: shifted(run, 4e-5)}
    with pytest.raises(ParityError, match=r"differs from the original by 4\.0e-05"):
        certify(
            shifted(run, 4e-5), reference, modules, transposes=0, exact=lambda picture: of_one(exact[picture], picture)
        )


def test_float64_is_not_asked_where_float32_will_do(families: converters.Bundle) -> None:
    assert families.certificate.rounding == 0


def test_a_run_in_float64_is_close_and_not_the_same(
    families: converters.Bundle, proof: tuple[TapRun, Reference, dict[str, str]]
) -> None:
    run, reference, modules = proof
    exact = run_exactly(families.module(), reference, modules, picture=1)
    differences = [
        float((run.activations[name][1] - exact.activations[name][0]).abs().max() / run.activations[name].abs().max())
        for name in modules.values()
    ]
    assert 0 < max(differences) < 1e-5
    assert exact.logits.dtype == torch.float64
    assert exact.logits.shape == (1, run.logits.shape[1])
