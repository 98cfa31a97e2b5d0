"""What is found in folders, how it is split, checked, put in order and read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coloured import coloured_folder
from PIL import Image

from torchcam_suite import load
from torchcam_suite.errors import ImageError, SourceError
from torchcam_suite.images import find_preprocessing
from torchcam_suite.training.augmentation import Augmentation
from torchcam_suite.training.pictures import (
    Examples,
    Key,
    check_pictures,
    collate,
    find_training_data,
    training_batches,
    validation_batches,
)

# ---------------------------------------------------------------- folders


def test_train_val_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 5, "val": 2, "test": 1})
    data = find_training_data(folder)
    assert data.class_names == ("blue", "green", "red")
    assert {part: len(pictures) for part, pictures in data.parts.items()} == {"train": 15, "val": 6, "test": 3}
    assert data.train[5].name == "train/green/0.png"
    assert [picture.label for picture in data.val] == [0, 0, 1, 1, 2, 2]


def test_a_class_is_the_same_however_its_accents_are_written(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 5, "val": 2, "test": 1})
    decomposed, composed = "gru\u0308n", "gr\u00fcn"
    for part, name in (("train", decomposed), ("val", composed), ("test", decomposed)):
        (folder / part / "green").rename(folder / part / name)
    (folder / "train" / composed).mkdir()
    (folder / "train" / decomposed / "4.png").rename(folder / "train" / composed / "4.png")
    data = find_training_data(folder)
    assert data.class_names == ("blue", composed, "red")
    for part, each in (("train", 5), ("val", 2), ("test", 1)):
        assert [picture.label for picture in data.parts[part]].count(1) == each
    assert all(picture.path.is_file() for part in data.parts.values() for picture in part)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_validation_folders_have_other_names_too(name: str, tmp_path: Path) -> None:
    data = find_training_data(coloured_folder(tmp_path, {"train": 3, name: 2}))
    assert {picture.name.split("/")[0] for picture in data.val} == {name}
    assert len(data.train) == 9


@pytest.mark.parametrize("part", ["", "train"])
def test_a_fifth_of_each_class_is_split_off_where_there_is_no_folder(part: str, tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {part: 10})
    data = find_training_data(folder, seed=1)
    assert [sum(one.label == label for one in data.val) for label in range(3)] == [2, 2, 2]
    names = [one.name for one in (*data.train, *data.val)]
    assert len(set(names)) == 30
    assert find_training_data(folder, seed=1) == data
    assert find_training_data(folder, seed=2).val != data.val


def test_a_new_picture_moves_none_of_the_others_but_at_the_border(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"": 10})
    before = {one.name for one in find_training_data(folder).val}
    Image.new("RGB", (8, 8)).save(folder / "red" / "new.png")
    after = {one.name for one in find_training_data(folder).val}
    assert len(before - after) <= 1


def test_a_folder_of_masks_beside_the_parts_is_no_class(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 3, "masks": 3})
    assert find_training_data(folder).class_names == ("blue", "green", "red")


@pytest.mark.parametrize("names", [("val", "test"), ("training", "Validation")])
def test_parts_without_a_folder_train_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, dict.fromkeys(names, 3))
    with pytest.raises(SourceError, match=r"and no folder 'train'; expected .*/train/CLASS/"):
        find_training_data(folder)


def empty(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)


@pytest.mark.parametrize(
    ("counts", "others", "message"),
    [
        ({}, [], "has no folder in it"),
        ({}, ["cat", "dog"], "no picture in them"),
        ({"train": 3}, ["train/violet"], "no picture in the class folder 'violet'"),
        ({"train": 3, "val": 1}, ["val/violet"], "the class 'violet', of which there are no training pictures"),
        ({"": 1}, [], "has 1 picture; expected two or more"),
    ],
)
def test_folders_that_do_not_fit_are_told(
    counts: dict[str, int], others: list[str], message: str, tmp_path: Path
) -> None:
    coloured_folder(tmp_path, counts)
    empty(tmp_path, *others)
    with pytest.raises(SourceError, match=message):
        find_training_data(tmp_path)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    coloured_folder(tmp_path, {"": 3}, classes=1)
    with pytest.raises(SourceError, match="has one class, 'blue'; expected two class folders or more"):
        find_training_data(tmp_path)


def test_a_class_that_is_missing_in_val_is_told(tmp_path: Path) -> None:
    coloured_folder(tmp_path, {"train": 2})
    coloured_folder(tmp_path, {"val": 2}, classes=2)
    with pytest.raises(SourceError, match="val has no picture of 'red'; add some, or remove the folder"):
        find_training_data(tmp_path)


@pytest.mark.parametrize("name", ["none", "file"])
def test_no_folder_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="expected a folder with class folders in it"):
        find_training_data(tmp_path / name)


# ---------------------------------------------------------------- the check


def test_broken_pictures_are_all_named_at_once(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 3})
    (folder / "train/red/broken.png").write_bytes(b"no picture")
    whole = (folder / "train/blue/0.png").read_bytes()
    (folder / "train/blue/0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="2 pictures cannot be read: ") as caught:
        check_pictures(find_training_data(folder))
    assert "blue/0.png is damaged" in str(caught.value)
    assert "broken.png is not an image that Pillow knows" in str(caught.value)


def test_the_hash_changes_with_content_and_name(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 4})
    first = check_pictures(find_training_data(folder))
    assert check_pictures(find_training_data(folder)) == first
    (folder / "train/red/3.png").rename(folder / "train/red/4.png")
    renamed = check_pictures(find_training_data(folder))
    Image.new("RGB", (16, 16), "red").save(folder / "train/red/4.png")
    assert len({first, renamed, check_pictures(find_training_data(folder))}) == 3


# ---------------------------------------------------------------- order


def places(batches: list[list[Key]]) -> list[int]:
    return [key.place for batch in batches for key in batch if key.counts]


def test_each_epoch_has_all_pictures_once_in_an_order_of_its_own() -> None:
    orders = [places(training_batches(50, 8, seed=3, epoch=epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[2] == places(training_batches(50, 8, seed=3, epoch=2))
    assert orders[2] != places(training_batches(50, 8, seed=4, epoch=2))


@pytest.mark.parametrize(("count", "devices"), [(48, 2), (48, 3), (50, 4)])
def test_the_devices_share_the_steps_of_one_device(count: int, devices: int) -> None:
    alone = training_batches(count - count % devices, 12, seed=0, epoch=1)
    shared = [training_batches(count, 12, seed=0, epoch=1, rank=rank, devices=devices) for rank in range(devices)]
    assert len({tuple(map(len, batches)) for batches in shared}) == 1
    together = [sorted(key.place for batches in shared for key in batches[step]) for step in range(len(shared[0]))]
    everything = [place for step in together for place in step]
    assert len(everything) == len(set(everything)) == count - count % devices
    if count % devices == 0:
        assert together == [sorted(key.place for key in batch) for batch in alone]


@pytest.mark.parametrize(("count", "sizes"), [(9, [4, 5]), (10, [4, 4, 2]), (3, [3])])
def test_no_batch_has_one_picture(count: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in training_batches(count, 4, seed=0, epoch=0)] == sizes


@pytest.mark.parametrize(("count", "devices"), [(7, 1), (7, 2), (1, 3), (12, 4)])
def test_each_validation_picture_counts_once_on_all_devices_together(count: int, devices: int) -> None:
    shared = [validation_batches(count, 4, rank=rank, devices=devices) for rank in range(devices)]
    assert sorted(place for batches in shared for place in places(batches)) == list(range(count))
    assert len({tuple(map(len, batches)) for batches in shared}) == 1


# ---------------------------------------------------------------- pixels


def examples(folder: Path, augmentation: Augmentation, seed: int = 0) -> Examples:
    data = find_training_data(folder)
    return Examples(data, data.train, (12, 20), find_preprocessing("unit"), augmentation, seed)


def test_training_sees_the_pixels_that_explaining_sees(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 2, "val": 1}, side=33)
    found = examples(folder, Augmentation())
    model = load(torch.nn.Flatten(), input_size=(12, 20), preprocessing="unit", device="cpu", head="none")
    batch = collate(found[Key(0, place)] for place in range(6))
    expected = model.prepare([picture.path for picture in find_training_data(folder).train])
    assert expected.std() > 0.1
    assert torch.equal(batch.image, expected)
    assert batch.label.tolist() == [0, 0, 1, 1, 2, 2]
    assert (batch.complementary != batch.label).all()


def test_changes_depend_on_seed_epoch_and_picture_alone(tmp_path: Path) -> None:
    folder = coloured_folder(tmp_path, {"train": 3, "val": 1})
    augmentation = Augmentation(flip=True, rotation=20, zoom=0.2)
    first, again = examples(folder, augmentation), examples(folder, augmentation)
    np.random.default_rng().random()
    torch.rand(3)
    assert torch.equal(first[Key(4, 1)].image, again[Key(4, 1)].image)
    other = examples(folder, augmentation, seed=1)
    assert not torch.equal(first[Key(4, 1)].image, other[Key(4, 1)].image)
    assert not torch.equal(first[Key(4, 1)].image, first[Key(5, 1)].image)
