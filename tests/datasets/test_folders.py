"""Real data sets in the layouts in which they are handed out, as tiny copies: what goes where, and what is left out."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from original_sets import write_caltech101, write_dogs_vs_cats, write_outline, write_picture
from PIL import Image
from scipy.io import savemat

from torchcam_suite.datasets import PreparedSet, SourcePicture, caltech101, crops, dogs_vs_cats, prepare_folder
from torchcam_suite.datasets.outlines import read_outline
from torchcam_suite.datasets.preparing import split_of
from torchcam_suite.errors import AssumptionWarning, SourceError, TorchcamError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(folder: Path) -> set[str]:
    return set(contents(folder)) - {"dataset.json"}


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Kaggle's layout, with pictures that are all different."""
    write_dogs_vs_cats(tmp_path / "kaggle", each=30)
    return tmp_path / "kaggle"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Somebody's class folders, with folders in them."""
    for index in range(12):
        write_picture(tmp_path / f"own/ada/{index}.png", index, (30, 20))
        write_picture(tmp_path / f"own/ben/2024/{index}.jpg", 50 + index, (20, 30))
    (tmp_path / "own/notes.txt").write_text("mine")
    return tmp_path / "own"


# Splits


@pytest.mark.parametrize("seed", [0, 1])
def test_the_split_of_a_picture_is_the_hash_of_its_content(seed: int) -> None:
    for number in range(50):
        content = bytes([number])
        inner = hashlib.sha256(content).digest()
        share = int(hashlib.sha256(f"{seed}:".encode() + inner).hexdigest()[:16], 16) / 16**16
        expected = "test" if share < 0.2 else "val" if share < 0.5 else "train"
        assert split_of(content, 0.3, 0.2, seed) == expected


def test_splits_have_about_the_shares_that_were_asked() -> None:
    splits = [split_of(number.to_bytes(4), 0.1, 0.25, 7) for number in range(4000)]
    # three standard deviations of a share of 4000
    assert splits.count("val") / 4000 == pytest.approx(0.1, abs=0.015)
    assert splits.count("test") / 4000 == pytest.approx(0.25, abs=0.021)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_are_refused(val: float, test: float, own: Path, tmp_path: Path) -> None:
    with pytest.raises(TorchcamError, match="expected fractions from 0, together below 1"):
        crops(own, tmp_path / "out", val=val, test=test)
    assert not (tmp_path / "out").exists()


# Dogs vs. Cats


def test_kaggles_pictures_are_copied_into_classes(kaggle: Path, tmp_path: Path) -> None:
    before = contents(kaggle)
    found = dogs_vs_cats(kaggle, tmp_path / "out", val=0.2, test=0.2)
    assert contents(kaggle) == before
    assert found.class_names == ("cat", "dog")
    placed = {path.rpartition("/")[2]: path for path in listed(tmp_path / "out")}
    assert set(placed) == {path.removeprefix("train/") for path in before}
    for name, path in placed.items():
        assert path == f"{split_of(before[f'train/{name}'], 0.2, 0.2, 0)}/{name[:3]}/{name}"
        assert (tmp_path / "out" / path).read_bytes() == before[f"train/{name}"]
    assert sum(sum(by_class.values()) for by_class in found.counts.values()) == 60
    assert list(found.counts) == ["train", "val", "test"]
    assert all(min(by_class["cat"], by_class["dog"]) > 0 for by_class in found.counts.values())


def test_both_folders_of_kaggle_mean_the_same(kaggle: Path, tmp_path: Path) -> None:
    above, within = dogs_vs_cats(kaggle, tmp_path / "a"), dogs_vs_cats(kaggle / "train", tmp_path / "b")
    assert above.counts == within.counts
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_broken_files_of_petimages_are_left_out_and_listed(tmp_path: Path) -> None:
    for label in ("Cat", "Dog"):
        for index in range(5):
            write_picture(tmp_path / f"kagglecatsanddogs/PetImages/{label}/{index}.jpg", 10 * len(label) + index)
        (tmp_path / f"kagglecatsanddogs/PetImages/{label}/Thumbs.db").write_bytes(b"windows")
    pets = tmp_path / "kagglecatsanddogs/PetImages"
    write_picture(pets / "Dog/0.jpg", 77)
    (pets / "Cat/666.jpg").write_bytes(b"")
    whole = (pets / "Dog/1.jpg").read_bytes()
    (pets / "Dog/11702.jpg").write_bytes(whole[: len(whole) // 2])
    found = dogs_vs_cats(tmp_path / "kagglecatsanddogs", tmp_path / "out", size=8, val=0, test=0)
    assert found.counts == {"train": {"cat": 5, "dog": 5}}
    assert [item.path for item in found.broken] == [pets / "Cat/666.jpg", pets / "Dog/11702.jpg"]
    assert "is not an image" in found.broken[0].reason
    assert f"{pets / 'Dog/11702.jpg'} is damaged or cannot be read" in found.broken[1].reason
    about = json.loads((tmp_path / "out/dataset.json").read_bytes())
    assert [item["path"] for item in about["broken"]] == [str(item.path) for item in found.broken]
    assert not [path for path in listed(tmp_path / "out") if "666" in path or "11702" in path]


def test_a_folder_of_another_layout_is_told_with_what_it_has(own: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"own has neither cat.0.jpg.* nor folders Cat and Dog .* it has 'ada', 'ben'"
    ):
        dogs_vs_cats(own, tmp_path / "out")


# Caltech 101


@pytest.fixture
def caltech(tmp_path: Path) -> Path:
    write_caltech101(tmp_path / "caltech", ("airplanes", "Leopards", "watch", "BACKGROUND_Google"), each=3)
    return tmp_path / "caltech"


def test_three_classes_of_caltech_are_taken_unless_others_are_named(caltech: Path, tmp_path: Path) -> None:
    shares = {"val": 0.0, "test": 0.0}
    three = caltech101(caltech, tmp_path / "three", **shares)
    assert three.counts == {"train": {"Leopards": 3, "airplanes": 3, "watch": 3}}
    one = caltech101(caltech / "101_ObjectCategories", tmp_path / "one", classes=["watch"], **shares)
    assert one.counts == {"train": {"watch": 3}}
    every = caltech101(caltech, tmp_path / "all", classes=None, **shares)
    assert every.class_names == ("Leopards", "airplanes", "watch")
    assert {one.masks, three.masks, every.masks} == {0}


def test_a_class_of_caltech_is_found_however_its_accents_are_written(tmp_path: Path) -> None:
    write_caltech101(tmp_path / "caltech", ("a\u0301guila", "watch"), each=3)
    found = caltech101(tmp_path / "caltech", tmp_path / "out", classes=["watch", "\u00e1guila"], val=0, test=0)
    assert found.counts == {"train": {"watch": 3, "\u00e1guila": 3}}


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["leopards"], "did you mean 'Leopards'"), (["zebra"], "it has 'BACKGROUND_Google', 'Leopards', 'airplanes'")],
)
def test_a_class_that_caltech_has_not_is_told(classes: list[str], message: str, caltech: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        caltech101(caltech, tmp_path / "out", classes=classes)


def test_outlines_become_masks_of_the_same_part_of_the_picture(caltech: Path, tmp_path: Path) -> None:
    # x 5 to 14 and y 3 to 10, counted from 1
    write_outline(caltech, "Airplanes_Side_2", 2, (3, 11, 5, 15))
    write_outline(caltech, "watch", 2, (3, 11, 12, 22))
    read = read_outline(caltech / "Annotations/Airplanes_Side_2/annotation_0002.mat")
    np.testing.assert_array_equal(read, [[5, 3], [14, 3], [14, 10], [5, 10]])
    found = caltech101(caltech, tmp_path / "whole", val=0, test=0)
    assert found.masks == 2
    with Image.open(tmp_path / "whole/masks/train/airplanes/image_0002.png") as file:
        mask = np.asarray(file)
    expected = np.zeros((20, 30), np.uint8)
    expected[3:11, 5:15] = 255
    np.testing.assert_array_equal(mask, expected)
    assert not (tmp_path / "whole/masks/train/airplanes/image_0001.png").exists()
    caltech101(caltech, tmp_path / "square", val=0, test=0, size=20)
    with Image.open(tmp_path / "square/masks/train/airplanes/image_0002.png") as file:
        np.testing.assert_array_equal(np.asarray(file), expected[:, 5:25])
    with Image.open(tmp_path / "square/train/airplanes/image_0002.jpg") as file:
        assert file.size == (20, 20)


def test_a_picture_whose_outline_is_damaged_goes_without_a_mask(caltech: Path, tmp_path: Path) -> None:
    (caltech / "Annotations/watch").mkdir(parents=True)
    (caltech / "Annotations/watch/annotation_0002.mat").write_bytes(b"not MATLAB")
    found = caltech101(caltech, tmp_path / "out", val=0, test=0)
    assert (found.masks, found.broken) == (0, ())
    ((path, reason),) = found.unmasked
    assert path == caltech / "101_ObjectCategories/watch/image_0002.jpg"
    assert "annotation_0002.mat has no outline" in reason
    assert (tmp_path / "out/train/watch/image_0002.jpg").is_file()


@pytest.mark.parametrize(
    "values",
    [
        {"obj_contour": np.zeros((3, 3)), "box_coord": np.zeros((1, 4))},
        {"obj_contour": np.full((2, 3), np.nan), "box_coord": np.zeros((1, 4))},
        {"other": 1},
        None,
    ],
)
def test_a_file_without_an_outline_is_told(values: dict[str, Any] | None, tmp_path: Path) -> None:
    file = tmp_path / "annotation_0001.mat"
    if values is None:
        file.write_bytes(b"not MATLAB")
    else:
        savemat(file, values)
    with pytest.raises(SourceError, match=r"annotation_0001.mat has no outline of Caltech 101"):
        read_outline(file)


# Pictures of one's own


def test_squares_are_cut_from_the_centre_and_resized(own: Path, tmp_path: Path) -> None:
    found = crops(own, tmp_path / "out", size=10, val=0, test=0)
    assert found.counts == {"train": {"ada": 12, "ben": 12}}
    assert listed(tmp_path / "out") == {f"train/ada/{i}.png" for i in range(12)} | {
        f"train/ben/2024-{i}.jpg" for i in range(12)
    }
    with Image.open(own / "ada/3.png") as file:
        expected = file.crop((5, 0, 25, 20)).resize((10, 10), Image.Resampling.LANCZOS)
    with Image.open(tmp_path / "out/train/ada/3.png") as file:
        assert np.asarray(expected).std() > 10
        np.testing.assert_array_equal(np.asarray(file), np.asarray(expected))
    with Image.open(own / "ben/2024/3.jpg") as file:
        expected = file.crop((0, 5, 20, 25)).resize((10, 10), Image.Resampling.LANCZOS)
    with Image.open(tmp_path / "out/train/ben/2024-3.jpg") as file:
        assert file.format == "JPEG"
        assert np.abs(np.asarray(file, float) - np.asarray(expected, float)).mean() < 6


def test_a_split_of_the_source_is_kept(tmp_path: Path) -> None:
    for split, label, seed in (("train", "ada", 1), ("train", "ben", 2), ("test", "ada", 3), ("test", "ben", 4)):
        write_picture(tmp_path / f"split/{split}/{label}/a.png", seed)
    found = crops(tmp_path / "split", tmp_path / "out", size=None)
    assert found.counts == {"train": {"ada": 1, "ben": 1}, "test": {"ada": 1, "ben": 1}}
    assert listed(tmp_path / "out") == listed(tmp_path / "split")
    with pytest.raises(TorchcamError, match="split has its own split"):
        crops(tmp_path / "split", tmp_path / "other", val=0.2)


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "Validation", "Testing")])
def test_a_split_of_the_source_has_other_names_too(names: tuple[str, ...], tmp_path: Path) -> None:
    for index, name in enumerate(names):
        write_picture(tmp_path / f"own/{name}/ada/{index}.png", index)
        write_picture(tmp_path / f"own/{name}/ben/{index}.png", 10 + index)
    found = crops(tmp_path / "own", tmp_path / "out", size=None)
    assert found.counts == {split: {"ada": 1, "ben": 1} for split in ("train", "val", "test")}


def test_a_class_is_the_same_however_its_accents_are_written(tmp_path: Path) -> None:
    for split, label, seed in (("train", "Zoe\u0308", 1), ("val", "Zo\u00eb", 2), ("test", "Zoe\u0308", 3)):
        write_picture(tmp_path / f"split/{split}/{label}/a.png", seed)
    found = crops(tmp_path / "split", tmp_path / "out", size=None)
    assert found.counts == {split: {"Zo\u00eb": 1} for split in ("train", "val", "test")}
    assert listed(tmp_path / "out") == {f"{split}/Zo\u00eb/a.png" for split in ("train", "val", "test")}


def test_pictures_of_a_split_without_a_class_are_named(tmp_path: Path) -> None:
    for index, path in enumerate(("train/ada/0.png", "train/ben/1.png", "test/2.png")):
        write_picture(tmp_path / "own" / path, index)
    with pytest.warns(AssumptionWarning, match=r"own/test has pictures outside of class folders, .*: '2.png'"):
        found = crops(tmp_path / "own", tmp_path / "out", size=8)
    assert found.counts == {"train": {"ada": 1, "ben": 1}}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for index, name in enumerate(("bus", "train")):
        write_picture(tmp_path / f"own/{name}/{index}.png", index)
    assert crops(tmp_path / "own", tmp_path / "out", val=0, test=0).counts == {"train": {"bus": 1, "train": 1}}


def test_a_picture_in_two_splits_of_the_source_is_named(tmp_path: Path) -> None:
    for split, label, seed in (("train", "ada", 1), ("train", "ben", 2), ("test", "ada", 1), ("test", "ben", 4)):
        write_picture(tmp_path / f"split/{split}/{label}/a.png", seed)
    with pytest.warns(AssumptionWarning, match=r"1 of the pictures .* trained on: .*train/ada/a.png.*test/ada/a.png'$"):
        found = crops(tmp_path / "split", tmp_path / "out", size=None)
    assert len(found.duplicates) == 1


def test_copies_of_a_picture_go_into_one_split_and_are_listed(own: Path, tmp_path: Path) -> None:
    for index in range(12):
        (own / f"ada/copy-{index}.png").write_bytes((own / f"ada/{index}.png").read_bytes())
    (own / "ben/same.png").write_bytes((own / "ada/0.png").read_bytes())
    found = crops(own, tmp_path / "out", val=0.3, test=0.3)
    splits = {path.rpartition("/")[2]: path.partition("/")[0] for path in listed(tmp_path / "out")}
    assert len({splits[f"{index}.png"] for index in range(12)}) > 1
    assert all(splits[f"{index}.png"] == splits[f"copy-{index}.png"] for index in range(12))
    assert len(found.duplicates) == 12
    assert found.contradictions == ((own / "ada/0.png", own / "ada/copy-0.png", own / "ben/same.png"),)


def test_pictures_that_were_added_leave_the_others_where_they_are(own: Path, tmp_path: Path) -> None:
    crops(own, tmp_path / "out", size=8, val=0.2, test=0.2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*g")}
    assert len(before) == 24
    write_picture(own / "ada/0-new.png", 900)
    found = crops(own, tmp_path / "out", size=8, val=0.2, test=0.2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((tmp_path / "out").rglob("*.*g"))) == 25
    about = json.loads((tmp_path / "out/dataset.json").read_bytes())
    assert sum(sum(by_class.values()) for by_class in about["counts"].values()) == 25
    assert about["counts"] == found.counts


def test_other_options_are_not_mixed_into_a_folder(own: Path, tmp_path: Path) -> None:
    crops(own, tmp_path / "out", size=8)
    with pytest.raises(SourceError, match="holds a data set with size=8, but size=16 was asked for"):
        crops(own, tmp_path / "out", size=16)


def test_what_was_stopped_is_completed(own: Path, tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crops(own, tmp_path / "out", size=8, progress=stop)
    assert (tmp_path / "out/.unfinished.json").exists()
    assert not (tmp_path / "out/dataset.json").exists()
    crops(own, tmp_path / "out", size=8)
    crops(own, tmp_path / "whole", size=8)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out/.unfinished.json").exists()


def test_pictures_of_one_name_are_kept_apart(own: Path, tmp_path: Path) -> None:
    write_picture(own / "ada/0.jpg", 500)
    write_picture(own / "ada/sub/x.png", 501)
    write_picture(own / "ada/sub-x.png", 502)
    found = crops(own, tmp_path / "out", size=None, val=0, test=0)
    assert found.counts["train"]["ada"] == 15
    assert len(list((tmp_path / "out/train/ada").iterdir())) == 15


def test_pictures_of_one_name_are_called_the_same_from_anywhere(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(own / "ada/0.jpg", 500)
    crops(own, tmp_path / "out", size=8, val=0, test=0)
    before = contents(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    crops("own", "out", size=8, val=0, test=0)
    assert contents(tmp_path / "out") == before


def test_what_the_source_has_no_more_is_named(own: Path, tmp_path: Path) -> None:
    crops(own, tmp_path / "out", size=8, val=0, test=0)
    (own / "ada/3.png").rename(own / "ada/three.png")
    with pytest.warns(AssumptionWarning, match=r"also holds 1 picture that .*: 'train/ada/3.png'; delete them"):
        found = crops(own, tmp_path / "out", size=8, val=0, test=0)
    assert found.counts == {"train": {"ada": 12, "ben": 12}}
    (tmp_path / "out/train/ada/3.png").unlink()
    assert crops(own, tmp_path / "out", size=8, val=0, test=0) == found


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("name", ["ada/3.png", "ben/2024/3.jpg"])
def test_what_the_source_has_changed_stays_and_is_named(size: int | None, name: str, own: Path, tmp_path: Path) -> None:
    first = crops(own, tmp_path / "out", size=size, val=0, test=0)
    before = contents(tmp_path / "out")
    write_picture(own / name, 700, (30, 30))
    target = f"train/{name.replace('2024/', '2024-')}"
    with pytest.warns(AssumptionWarning, match=rf"holds 1 picture that the source would .*: '{target}'; delete them"):
        found = crops(own, tmp_path / "out", size=size, val=0, test=0)
    assert found == first
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / target).unlink()
    crops(own, tmp_path / "out", size=size, val=0, test=0)
    crops(own, tmp_path / "new", size=size, val=0, test=0)
    assert contents(tmp_path / "out") == contents(tmp_path / "new")


def test_a_split_without_pictures_of_a_class_is_warned_of(tmp_path: Path) -> None:
    for index in range(3):
        write_picture(tmp_path / f"own/ada/{index}.png", index)
        write_picture(tmp_path / f"own/ben/{index}.png", 10 + index)
    with pytest.warns(AssumptionWarning, match=r"val has no picture of 'ada', 'ben'.*give more pictures"):
        crops(tmp_path / "own", tmp_path / "out", val=1e-9, test=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda here: crops(here / "none", here / "out"), "no such folder: .*none"),
        (lambda here: crops(here / "pets.zip", here / "out"), r"not a folder: .*pets.zip; unpack it first"),
        (lambda here: crops(here / "empty", here / "out"), "empty has no class folders with pictures.*nothing in it"),
        (lambda here: crops(here / "own", here / "own"), "own is not empty"),
        (lambda here: crops(here / "own", here / "own/out"), r"own/out lies in .*own, .* name a folder outside"),
        (lambda here: crops(here / "own", here / "out", size=0), "size=0; expected the side of the squares"),
        (lambda here: crops(here / "own", here / "out", size=10**8), "size=100000000; expected .* 1 to 4096, or None"),
        (lambda here: caltech101(here / "own", here / "out"), "class 'airplanes' is no folder of .*own; it has 'ada'"),
    ],
)
def test_what_cannot_be_prepared_is_told(
    call: Callable[[Path], PreparedSet], message: str, own: Path, tmp_path: Path
) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    before = contents(own)
    with pytest.raises(TorchcamError, match=message):
        call(tmp_path)
    assert contents(own) == before
    assert not (tmp_path / "out").exists()


def test_pictures_from_anywhere_can_be_prepared(tmp_path: Path) -> None:
    pictures = [
        SourcePicture(write_picture(tmp_path / f"{i}.png", i), "ab"[i % 2], f"n/{i}", "val" if i < 2 else None)
        for i in range(4)
    ]
    found = prepare_folder(pictures, tmp_path / "out", options={"name": "mine"}, val=0, test=0)
    assert listed(tmp_path / "out") == {"val/a/n-0.png", "val/b/n-1.png", "train/a/n-2.png", "train/b/n-3.png"}
    assert found.to_json()["counts"] == {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 1}}
    with pytest.raises(SourceError, match="the source has no picture"):
        prepare_folder([], tmp_path / "other", options={"name": "mine"})


@pytest.mark.parametrize(
    ("label", "split", "message"),
    [
        ("..", None, "class name '..' cannot be a folder's name"),
        ("a/b", None, "class name 'a/b' cannot"),
        ("a", "valid", "split 'valid' is unknown; expected None, or one of train, val, test"),
    ],
)
def test_nothing_is_written_outside_the_layout(label: str, split: str | None, message: str, tmp_path: Path) -> None:
    picture = SourcePicture(write_picture(tmp_path / "0.png", 0), label, "0", split)
    with pytest.raises(TorchcamError, match=message):
        prepare_folder([picture], tmp_path / "out", options={"name": "mine"}, val=0, test=0)
    assert not (tmp_path / "out").exists()
