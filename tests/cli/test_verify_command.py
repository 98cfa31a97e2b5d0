"""`verify` with second opinions: what it prints, and which options belong together."""

import json
from pathlib import Path

import pytest
from commands import Run

from converters import Bundle, convert, open_bundle
from converters.errors import ParityError


@pytest.fixture
def bundle(families: Path) -> Bundle:
    return convert(families)


def test_onnx_runtime_gives_a_second_opinion(bundle: Bundle, run: Run) -> None:
    pytest.importorskip("onnxruntime")
    found = run("verify", bundle.path, "--with", "onnxruntime", "--json")
    assert found.status == 0
    about = json.loads(found.stdout)
    (opinion,) = about["second_opinions"]
    assert opinion["by"].startswith("ONNX Runtime")
    assert 0 <= opinion["from_original"] < 1e-5
    assert about.keys() - {"second_opinions"} == bundle.certificate.to_json().keys()
    printed = run("verify", bundle.path, "--with", "onnxruntime").stdout
    assert "from the original's output" in printed
    assert "least agreement of" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--with", "keras-torch"], "--with keras-torch runs the checkpoint itself; give it: --source model.keras"),
        (["--source", "model.keras"], "--source and --weights are read by --with keras-torch alone"),
        (["--with", "onnxruntime", "--weights", "w.h5"], "--source and --weights are read by --with keras-torch alone"),
        (["--device", "abacus"], "device 'abacus' is not known to torch; use 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    bundle: Bundle, run: Run, options: list[str], message: str
) -> None:
    found = run("verify", bundle.path, *options)
    assert found.status == 1
    assert message in found.stderr


def test_a_legacy_checkpoint_cannot_be_run_by_keras_on_torch(bundle: Bundle, families: Path, run: Run) -> None:
    found = run("verify", bundle.path, "--with", "keras-torch", "--source", families)
    assert found.status == 1
    assert "keras-torch reads what Keras 3 wrote" in found.stderr


def test_someone_unknown_cannot_be_asked(bundle: Bundle, run: Run) -> None:
    found = run("verify", bundle.path, "--with", "nobody")
    assert found.status == 2
    assert "onnxruntime" in found.stderr


def test_a_proof_that_fails_says_what_to_do(bundle: Bundle, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ParityError("layer call 'conv2d_1#0' differs")

    monkeypatch.setattr("converters.parity.certify", fail)
    found = run("verify", bundle.path)
    assert found.status == 3
    made = open_bundle(bundle.path).certificate.torch
    assert f"layer call 'conv2d_1#0' differs. The bundle passed with torch {made} on the CPU" in found.stderr
    assert f"if it fails too, use torch {made} and report it" in found.stderr
