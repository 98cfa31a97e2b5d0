"""An explanation is kept and read back whole, without pickle, and shows itself in a notebook."""

import base64
import io
import json
import pickle
import platform
import re
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from torchcam_suite import Explanation, explain, load
from torchcam_suite.errors import SourceError
from torchcam_suite.explanation import write_atomically
from torchcam_suite.present.overlay import colorize

NAMES = ["ember & ash", "moss", "tide"]


def explanation(images: Any = None, **options: Any) -> Explanation:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = load(net, input_size=(3, 8, 8), preprocessing="unit", class_names=NAMES, device="cpu")
    pictures = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) if images is None else images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explain(model, pictures, **{"layer": "1", "target": [0, 1, 2, 0]} | options)


def margin(logits: Tensor) -> Tensor:
    return logits[:, 0] - logits[:, 1]


CASES: dict[str, dict[str, Any]] = {
    "Grad-CAM": {},
    "Score-CAM": {"method": "scorecam", "variant": "keep-learning", "chunk_size": 2},
    "probability": {"of": "probability", "relu": "after"},
    "function": {"target": margin},
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_saved_is_read_back_whole(case: str, tmp_path: Path) -> None:
    saved = explanation(**CASES[case])
    assert saved.raw.std() > 0
    read = Explanation.load(saved.save(tmp_path / "maps.npz"))
    for field in fields(Explanation):
        before, after = getattr(saved, field.name), getattr(read, field.name)
        same = torch.equal(before, after) if isinstance(before, Tensor) else json_of(before) == json_of(after)
        assert same, field.name
        assert type(before) is type(after), field.name


def test_float64_is_not_rounded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)).double()
    model = load(net, input_size=(3, 8, 8), preprocessing="unit", device="cpu")
    saved = explain(model, torch.rand(2, 3, 8, 8), layer="0", method="hirescam", relu="after")
    read = Explanation.load(saved.save(tmp_path / "maps.npz"))
    assert not torch.equal(saved.raw, saved.raw.float().double())
    assert torch.equal(read.raw, saved.raw)
    assert torch.equal(read.scores, saved.scores)


def json_of(value: Any) -> Any:
    """As JSON has it, where tuples are lists."""
    return json.loads(json.dumps(value))


def test_a_flag_is_read_back(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    nn.init.constant_(net.get_parameter("3.weight"), -1)
    model = load(net, input_size=(3, 8, 8), preprocessing="unit", device="cpu")
    with pytest.warns(UserWarning, match="zero everywhere"):
        found = explain(model, torch.rand(1, 3, 8, 8), layer="1", target=1)
    read = Explanation.load(found.save(tmp_path / "maps.npz"))
    assert read.flags == found.flags == (("map is zero everywhere",),)


def test_the_file_gets_its_suffix_and_its_folder(tmp_path: Path) -> None:
    path = explanation().save(tmp_path / "new" / "folder" / "layer4.1")
    assert path == tmp_path / "new" / "folder" / "layer4.1.npz"
    assert path.is_file()


def test_the_file_is_read_without_pickle(tmp_path: Path) -> None:
    path = explanation().save(tmp_path / "maps.npz")
    with np.load(path, allow_pickle=False) as stored:
        assert {stored[name].dtype.kind for name in stored.files} <= {"f", "u"}
        assert stored["maps"].shape == (4, 8, 8)
        assert stored["raw"].shape == (4, 6, 6)


class Trap:
    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "sprung", True)


def with_pickle(path: Path) -> None:
    np.savez(path, maps=np.array([Trap()], dtype=object))


def truncated(path: Path) -> None:
    explanation().save(path)
    path.write_bytes(path.read_bytes()[:200])


def flipped(path: Path) -> None:
    explanation().save(path)
    content = bytearray(path.read_bytes())
    for position in range(200, len(content) // 2):
        content[position] ^= 0xFF
    path.write_bytes(bytes(content))


def other_arrays(path: Path) -> None:
    np.savez(path, weights=np.zeros(3))


def no_json(path: Path) -> None:
    np.savez(path, maps=np.zeros((1, 2, 2)), explanation=np.frombuffer(b"{nonsense", np.uint8))


def another_json(path: Path) -> None:
    np.savez(path, maps=np.zeros((1, 2, 2)), explanation=np.frombuffer(b"[1, 2]", np.uint8))


@pytest.mark.parametrize(
    "damage",
    [
        with_pickle,
        truncated,
        flipped,
        other_arrays,
        no_json,
        another_json,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("hello"),
        lambda path: path.write_bytes(pickle.dumps(Trap())),
        lambda path: path.mkdir(),
    ],
    ids=[
        "pickle",
        "truncated",
        "flipped",
        "arrays",
        "no JSON",
        "another JSON",
        "empty",
        "text",
        "bare pickle",
        "folder",
    ],
)
def test_a_damaged_file_is_refused_and_nothing_in_it_runs(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    damage(path)
    with pytest.raises(SourceError, match=r"maps\.npz holds no explanation, or a damaged one"):
        Explanation.load(path)
    assert not Trap.sprung


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file: .*maps\.npz"):
        Explanation.load(tmp_path / "maps.npz")


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = explanation().save(tmp_path / "maps.npz")
    before = path.read_bytes()

    def interrupted(file: Any, **_: Any) -> None:
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explanation().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def write(file: Any) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    with path.open() as reader:
        write_atomically(path, write)
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- what it says of itself


def test_the_json_says_how_the_maps_were_made() -> None:
    found = explanation(of="probability", relu="after", interpolation="nearest")
    about = json.loads(json.dumps(found.to_json()))
    assert about["schema"] == 1
    assert (about["method"], about["layer"], about["of"]) == ("gradcam", "1", "probability")
    assert about["options"] == {"of": "probability", "relu": "after", "normalize": "max", "interpolation": "nearest"}
    assert about["versions"]["torch"] == torch.__version__
    assert about["versions"]["numpy"] == np.__version__
    assert about["versions"]["python"] == platform.python_version()
    assert about["versions"]["device"] == "cpu"
    assert re.fullmatch(r"\d+\.\d+.*", about["versions"]["torchcam_suite"])
    assert re.fullmatch("[0-9a-f]{64}", about["model"]["fingerprint"])
    assert about["model"]["class_names"] == NAMES
    assert about["model"]["preprocessing"]["name"] == "unit"
    assert about["model"]["name"] == "Sequential"


def test_the_json_of_score_cam_names_every_parameter() -> None:
    about = explanation(method="scorecam", chunk_size=2).to_json()
    assert about["options"] == {
        "variant": "official",
        "of": "probability",
        "chunk_size": 2,
        "relu": "after",
        "normalize": "minmax",
        "interpolation": "bilinear",
        "precision": "float32",
        "compile": False,
    }
    assert about["details"]["chunk_size"] == 2
    assert about["of"] == "probability"


def test_the_json_has_one_row_an_image() -> None:
    found = explanation()
    assert found.probabilities is not None
    rows = found.to_json()["images"]
    assert [row["image"] for row in rows] == [f"image {i}" for i in range(4)]
    assert [row["target"] for row in rows] == [0, 1, 2, 0]
    assert [row["target_name"] for row in rows] == [NAMES[i] for i in (0, 1, 2, 0)]
    assert [row["score"] for row in rows] == pytest.approx(found.scores.tolist())
    assert [row["probability"] for row in rows] == pytest.approx(found.probabilities.tolist())
    assert [tuple(row["flags"]) for row in rows] == list(found.flags)


def test_the_same_options_make_the_same_maps_again() -> None:
    found = explanation(method="scorecam", variant="logit")
    again = explanation(method=found.method, **found.options)
    assert torch.equal(found.maps, again.maps)


def test_it_has_a_length_and_a_name() -> None:
    found = explanation()
    assert len(found) == 4
    assert repr(found) == (
        "Explanation(gradcam at '1' of 'Sequential': 4 maps of 8 x 8, targets ember & ash, moss, tide)"
    )


def pictures_in(text: str) -> list[np.ndarray]:
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(item)))) for item in encoded]


def test_a_notebook_shows_the_maps() -> None:
    found = explanation()
    shown = found._repr_html_()
    pictures = pictures_in(shown)
    assert len(pictures) == 4
    for picture, one in zip(pictures, found.maps, strict=True):
        assert np.array_equal(picture, colorize(one.numpy()))
    assert "ember &amp; ash" in shown
    assert "image 3" in shown


def test_a_notebook_shows_names_as_text(tmp_path: Path) -> None:
    path = tmp_path / "<script>.png"
    Image.new("RGB", (8, 8), "red").save(path)
    shown = explanation(path, target=0)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;.png" in shown


def test_a_notebook_shows_at_most_sixteen_maps() -> None:
    shown = explanation(torch.rand(18, 3, 8, 8), target=0)._repr_html_()
    assert len(pictures_in(shown)) == 16
    assert "and 2 more" in shown
