"""The pictures that `tcav` takes, those that it refuses, and what it says about them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from asking import IMAGES, RANDOM, RED, SIZE, ask, make, pictures
from PIL import Image
from torch import Tensor

from torchcam_suite.concepts import tcav
from torchcam_suite.concepts.probes import PROBES
from torchcam_suite.errors import ConceptError, ConceptWarning, ImageError, LayerError, TargetError
from torchcam_suite.models import Model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model() -> Model:
    return make(class_names=["a", "b", "c"])


# ---------------------------------------------------------------- the article's folders


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    def fill(name: str, batch: Tensor) -> None:
        (tmp_path / name).mkdir()
        for i, picture in enumerate(batch):
            array = (picture.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(array).save(tmp_path / name / f"{i:02}.png")

    for name, batch in {"red": RED, "noise": pictures(15, 7), "b": IMAGES}.items():
        fill(name, batch)
    for i in range(4):
        fill(f"random500_{i}", RANDOM[i])
    return tmp_path


def test_folders_as_the_article_lays_them_out(model: Model, folders: Path) -> None:
    result = tcav(model, layers="relu", concepts=["red", "noise"], target="b", data=folders)
    assert [row.concept for row in result.rows] == ["red", "noise"]
    assert list(result.settings["told_from"]) == [f"random500_{i}" for i in range(4)]
    assert len(result.settings["targets"]["b"]["pictures"]) == 30
    again = tcav(
        model,
        layers="relu",
        concepts={name: sorted((folders / name).iterdir()) for name in ("red", "noise")},
        target={"b": folders / "b"},
        random=[sorted((folders / f"random500_{i}").iterdir()) for i in range(4)],
    )
    assert [row.score for row in again.rows] == [row.score for row in result.rows]


@pytest.mark.filterwarnings("ignore:probes of red use 10:torchcam_suite.errors.ConceptWarning")
def test_pictures_of_several_sets_are_dealt_anew_on_request(model: Model, folders: Path) -> None:
    result = tcav(model, layers="relu", concepts=["red"], target="b", data=folders, redeal=True, runs=6)
    sets = [one["pictures"] for one in result.settings["told_from"].values()]
    assert [len(one) for one in sets] == [10] * 6
    assert len({path for one in sets for path in one}) == 60


def test_folders_that_share_pictures_are_dealt_into_sets_that_do_not(model: Model, folders: Path) -> None:
    shared = sorted((folders / "random500_0").iterdir())[:5]
    for i, path in enumerate(shared):
        (folders / "random500_1" / f"again_{i}.png").write_bytes(path.read_bytes())
    # no other warning: those of pictures on both sides would be errors here
    with pytest.warns(ConceptWarning, match="5 of 65 random pictures are copies of others, and are left out"):
        result = tcav(model, layers="relu", concepts=["red"], target="b", data=folders, redeal=True, runs=4)
    used = [Path(name) for part in result.settings["told_from"].values() for name in part["pictures"]]
    assert len({path.read_bytes() for path in used}) == len(used) == 60


def test_kept_activations_are_used_again_and_never_stale(model: Model, folders: Path, tmp_path: Path) -> None:
    question = {"layers": "relu", "concepts": ["red"], "target": "b", "data": folders, "folder": tmp_path / "kept"}
    first, again = tcav(model, **question), tcav(model, **question)  # type: ignore[arg-type]
    assert first.rows == again.rows
    Image.new("RGB", (SIZE, SIZE), "blue").save(folders / "red" / "00.png")
    assert tcav(model, **question).rows != first.rows  # type: ignore[arg-type]


# ---------------------------------------------------------------- what is refused, and what is said


REFUSED: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "unknown probe": ({"probe": "svm"}, ValueError, "probe='svm'; expected one of ridge"),
    "unknown test": ({"test": "t"}, ValueError, "test='t'; expected one of calibrated"),
    "unknown correction": ({"correction": "x"}, ValueError, "expected one of holm"),
    "level": ({"level": 5}, ValueError, "expected a number between 0 and 1"),
    "pool": ({"pool": "max"}, ValueError, "expected 'flatten'"),
    "gradient": ({"gradient": "probability"}, ValueError, "expected 'logit'"),
    "regularization": ({"regularization": -1.0}, ValueError, "a finite number over 0"),
    "regularization of none": ({"probe": "mean_difference", "regularization": 1.0}, ValueError, "takes no regul"),
    "unknown layer": ({"layers": "relo"}, LayerError, "did you mean 'relu'"),
    "unknown class": ({"target": "z"}, TargetError, "target 'z' is no class"),
    "no concepts": ({"concepts": {}}, ConceptError, "no concept was given"),
    "an empty concept": ({"concepts": {"red": []}}, ConceptError, "no picture of concept 'red'"),
    "relative to nothing": ({"concepts": {"red": RED}, "relative": True}, ConceptError, "only one was given"),
    "no random pictures": ({"random": []}, ConceptError, "no picture of the random ones"),
    "no random folders": ({"random": "random"}, ConceptError, "random= gives no pictures"),
    "few pictures": ({"concepts": {"red": RED[:5]}}, ConceptError, "'red' has 5 pictures; a probe needs at least 6"),
    "one random set": ({"random": [RANDOM[0]]}, ConceptError, "one random set only|make no 2 sets"),
    "too many runs": ({"runs": 50}, ConceptError, "there are 20 random sets; give more, or redeal=True"),
    "one run": ({"runs": 1}, ConceptError, "at least 2 random sets"),
    "images twice": ({"target": {1: IMAGES}}, ConceptError, "leave images= out"),
    "no images": ({"images": None}, ConceptError, "no images of target '1'"),
    "no target": ({"target": []}, ConceptError, "no target was given|goes with one target"),
    "two targets of a name": (
        {"target": {lambda logits: logits[:, 0]: IMAGES, lambda logits: logits[:, 1]: IMAGES}, "images": None},
        ConceptError,
        "several targets are called '<lambda>'",
    ),
    "two concepts of a name": ({"concepts": {1: RED, "1": RED}}, ConceptError, "several concepts are called '1'"),
    "a list of tensors": ({"concepts": {"red": list(RED)}}, ConceptError, "is a list of tensors"),
    "tensors and pictures": (
        {"concepts": {"red": [np.full((6, 6, 3), i, np.uint8) for i in range(15)]}},
        ConceptError,
        "some of the sets are tensors and some are pictures",
    ),
    "tensors of other sizes": ({"concepts": {"red": torch.rand(15, 3, 5, 5)}}, ConceptError, "expected one shape"),
    "loss of a function": (
        {"target": lambda logits: logits[:, 0], "gradient": "loss"},
        TargetError,
        "the target is a function",
    ),
    "a seed below 0": ({"seed": -1}, ValueError, "seed=-1; expected a whole number"),
    "name of both": ({"random": {"red": RANDOM[0], "x": RANDOM[1]}}, ConceptError, "names a concept and a random set"),
    "names without folder": ({"concepts": ["red"]}, ConceptError, "data= does not say in which folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(model: Model, case: str) -> None:
    options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        ask(model, **options)


def test_missing_folders_are_named(model: Model, folders: Path) -> None:
    with pytest.raises(ConceptError, match=r"has no folder 'rad'; did you mean 'red'"):
        tcav(model, layers="relu", concepts=["rad"], target="b", data=folders)
    with pytest.raises(ConceptError, match=r"begins with 'chance'"):
        tcav(model, layers="relu", concepts=["red"], target="b", data=folders, random="chance")
    (folders / "empty").mkdir()
    with pytest.raises(ConceptError, match="holds no picture"):
        tcav(model, layers="relu", concepts=["empty"], target="b", data=folders)


def test_a_folder_is_found_however_its_accents_are_written(model: Model, folders: Path) -> None:
    (folders / "red").rename(folders / "gru\u0308n")  # as macOS writes it
    result = tcav(model, layers="relu", concepts=["gr\u00fcn"], target="b", data=folders)
    assert result.rows[0].concept == "gr\u00fcn"
    assert len(result.settings["concepts"]["gr\u00fcn"]["pictures"]) == 15


def test_an_unreadable_picture_is_named(model: Model, folders: Path) -> None:
    (folders / "red" / "03.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"03\.png"):
        tcav(model, layers="relu", concepts=["red"], target="b", data=folders)


def test_pictures_of_a_concept_among_the_random_ones_are_told(model: Model) -> None:
    spoilt = [torch.cat([RED[:2], RANDOM[0][2:]]), *RANDOM[1:]]
    with pytest.warns(ConceptWarning, match=r"the same pictures are in red and random_0 \(2\)"):
        ask(model, random=spoilt)


@pytest.mark.parametrize("probe", PROBES)
def test_a_picture_that_overflows_is_named(model: Model, probe: str) -> None:
    with torch.no_grad():
        model.module.first.weight.mul_(1e30)  # type: ignore[union-attr,operator]
    red = RED.clone()
    red[3] *= 1e12
    with pytest.raises(ConceptError, match="'relu' gives NaN or infinity for image 3"):
        ask(model, probe=probe, concepts={"red": red}, layers="relu")


def test_one_picture_is_one_picture(model: Model) -> None:
    one = np.random.default_rng(0).uniform(size=(6, 6, 3)).astype(np.float32)
    sets = {name: list(batch.permute(0, 2, 3, 1).numpy()) for name, batch in {"red": RED.clamp(0, 1)}.items()}
    random = [list(batch.permute(0, 2, 3, 1).numpy()) for batch in RANDOM]
    result = ask(model, concepts=sets, random=random, images=one, layers="relu")
    assert result.settings["targets"]["1"]["pictures"] == ["image 0"]
    assert ask(model, images=IMAGES[0], layers="relu").settings["targets"]["1"]["pictures"] == ["image 0"]


def test_images_of_the_target_among_the_pictures_are_told(model: Model) -> None:
    with pytest.warns(ConceptWarning, match=r"images of target '1' are also in random_2 \(15\)"):
        ask(model, images=torch.cat([IMAGES, RANDOM[2]]))


def test_copies_within_a_set_are_told(model: Model) -> None:
    with pytest.warns(ConceptWarning, match=r"several times in red \(10\)"):
        ask(model, concepts={"red": RED[:5].repeat(3, 1, 1, 1)})


def test_a_small_random_set_that_makes_all_probes_small_is_named(model: Model) -> None:
    with pytest.warns(
        ConceptWarning, match="probes of red, noise use 7 of their pictures, since 'random_3' has no mor"
    ):
        result = ask(model, random=[*RANDOM[:3], RANDOM[3][:7], *RANDOM[4:]])
    assert any(note.startswith("Of red, noise only 7 pictures were used") for note in result.notes)


def test_how_many_pictures_were_used_is_said_of_each_concept(model: Model) -> None:
    sizes = {"few": 8, "some": 20, "many": 30}
    concepts = {name: pictures(size, 7 + i) for i, (name, size) in enumerate(sizes.items())}
    with pytest.warns(ConceptWarning):
        result = ask(model, concepts=concepts, random=[part[:12] for part in RANDOM])
    assert result.settings["pictures_used"] == {"few": 8, "some": 12, "many": 12}
    assert any(note.startswith("Of some, many only 12 pictures were used:") for note in result.notes)


@pytest.mark.parametrize(
    ("sizes", "used", "note"),
    [
        ((30, 16, 16), (30, 16, 16), None),  # two others have 32 together
        ((20, 10, 10), (20, 10, 10), None),
        ((40, 15, 15), (30, 15, 15), "Of a only 30 pictures were used:"),
        ((40, 8), (8, 8), "Of a only 8 pictures were used:"),
    ],
)
def test_a_relative_concept_is_told_from_as_many_as_the_others_have(
    model: Model, sizes: tuple[int, ...], used: tuple[int, ...], note: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    concepts = {name: pictures(size, 7 + i) for i, (name, size) in enumerate(zip("abc", sizes, strict=False))}
    result = ask(model, concepts=concepts, relative=True)
    assert tuple(result.settings["pictures_used"].values()) == used
    assert [text for text in result.notes if "were used" in text] == [
        f"{note} the sets that they are told from have no more." for _ in [note] if note
    ]
    assert all(str(warning.message).startswith("few pictures of") for warning in recwarn)


def test_sensitivities_that_are_0_are_told(model: Model) -> None:
    with torch.no_grad():
        model.module.second.bias.fill_(-100)  # type: ignore[union-attr,operator]
    result = ask(model, layers="relu")
    assert any("sensitivities are exactly 0" in note for note in result.notes)
    assert not any(row.significant for row in result.rows)


def test_few_pictures_are_told(model: Model) -> None:
    with pytest.warns(ConceptWarning, match=r"few pictures of red \(8\)"):
        ask(model, concepts={"red": RED[:8]})


def test_a_concept_that_is_not_there_is_told(model: Model) -> None:
    result = ask(model, concepts={"noise": pictures(15, 7)}, layers="act")
    assert any("noise at act" in note and "not clearly better than chance" in note for note in result.notes)


def test_the_table_fits_80_columns(model: Model) -> None:
    lines = str(ask(model)).splitlines()
    assert max(map(len, lines[: len(lines) - 2])) <= 80


def test_a_row_that_is_not_there_is_refused(model: Model) -> None:
    result = ask(model)
    with pytest.raises(ConceptError, match="several rows have concept='red'"):
        result.row("red")
    with pytest.raises(ConceptError, match="no row has concept='blue'"):
        result.row("blue")
