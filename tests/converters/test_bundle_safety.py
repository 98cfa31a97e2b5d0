"""A bundle holds all that it uses, and nothing outside it is read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from stored import CHECKPOINTS

import converters
from converters.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> converters.Bundle:
    """A bundle of one's own, to damage."""
    return converters.open_bundle(shutil.copytree(CHECKPOINTS["seq.h5"].convert().path, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["graph.onnx", "weights.safetensors", "proof.safetensors", "manifest.json"])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_bundle_holds_its_own_files(
    bundle: converters.Bundle, tmp_path: Path, name: str, link: Callable[[Path, Path], None]
) -> None:
    file = bundle.path / name
    file.rename(tmp_path / name)
    link(file, tmp_path / name)
    with pytest.raises(BundleError, match=f"{name} is a link or not a plain file"):
        converters.open_bundle(bundle.path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "other.bin"])
def test_a_constant_outside_the_bundle_is_never_read(bundle: converters.Bundle, tmp_path: Path, location: str) -> None:
    np.full(4, 0.8125, "float32").tofile(tmp_path / "secret.bin")
    proto = onnx.load(bundle.path / "graph.onnx", load_external_data=False)
    tensor = onnx.TensorProto(name="secret", dims=[4], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    proto.graph.node.append(onnx.helper.make_node("Constant", [], ["secret"], value=tensor))
    onnx.save(proto, bundle.path / "graph.onnx")
    for use in (bundle.module, bundle.verify):
        with pytest.raises(BundleError, match=rf"points to '{location}', outside weights\.safetensors"):
            use()
