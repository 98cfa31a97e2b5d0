"""Labelled pictures are found in class folders and CSV files, whatever else lies there."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from torchcam_suite.errors import SourceError
from torchcam_suite.labelled_images import (
    LabelledImages,
    labelled_csv,
    labelled_folder,
    labelled_images,
    shortlist,
)
from torchcam_suite.picture_files import ENDINGS


def made(folder: Path, *names: str) -> Path:
    """A folder with empty files: finding them is not opening them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found_in(images: LabelledImages, base: Path) -> list[tuple[str, str]]:
    return [(str(image.path.relative_to(base)), image.label) for image in images]


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return folder / "labels.csv"


# ---------------------------------------------------------------- folders


def test_the_name_of_a_class_folder_is_the_label(tmp_path: Path) -> None:
    made(tmp_path, "dog/2.png", "cat/b.JPG", "cat/a.jpeg", "dog/deeper/still/1.webp")
    images = labelled_folder(tmp_path)
    expected = [("cat/a.jpeg", "cat"), ("cat/b.JPG", "cat"), ("dog/2.png", "dog"), ("dog/deeper/still/1.webp", "dog")]
    assert found_in(images, tmp_path) == expected
    assert found_in(images, tmp_path) == expected  # read anew
    assert (images.kind, images.labels, dict(images.counts)) == ("folder", ("cat", "dog"), {"cat": 2, "dog": 2})
    assert len(images) == 4


def test_a_class_folder_without_pictures_is_a_class_all_the_same(tmp_path: Path) -> None:
    made(tmp_path, "a/1.png", "c/1.png")
    (tmp_path / "b").mkdir()
    assert dict(labelled_folder(tmp_path).counts) == {"a": 1, "b": 0, "c": 1}


def test_what_is_no_picture_of_a_class_is_counted_and_passed_over(tmp_path: Path) -> None:
    made(tmp_path, "a/1.png", "a/notes.txt", "a/weights.h5", "loose.png", "README.md")
    images = labelled_folder(tmp_path)
    assert found_in(images, tmp_path) == [("a/1.png", "a")]
    assert images.ignored == 4


def test_hidden_files_and_folders_are_not_there(tmp_path: Path) -> None:
    made(tmp_path, "a/1.png", "a/._1.png", "a/.DS_Store", ".ipynb_checkpoints/1.png", "a/.cache/2.png")
    images = labelled_folder(tmp_path)
    assert found_in(images, tmp_path) == [("a/1.png", "a")]
    assert images.labels == ("a",)
    assert images.ignored == 0


def test_links_are_followed_but_no_folder_of_a_class_is_read_twice(tmp_path: Path) -> None:
    made(tmp_path, "data/a/1.png", "data/a/in/2.png", "elsewhere/3.png")
    data = tmp_path / "data"
    (data / "a/in/loop").symlink_to(data / "a")
    (data / "a/again").symlink_to(data / "a/in")
    (data / "a/linked").symlink_to(tmp_path / "elsewhere")
    (data / "a/itself.png").symlink_to(data / "a/itself.png")
    (data / "b").symlink_to(tmp_path / "elsewhere")
    found = found_in(labelled_folder(data), data)
    # a link to itself has the name of a picture: the one who opens it will say what is wrong with it
    assert sorted(Path(path).name for path, label in found if label == "a") == ["1.png", "2.png", "3.png", "itself.png"]
    assert [path for path, label in found if label == "b"] == ["b/3.png"]


def test_a_link_to_the_folder_of_the_classes_makes_no_class_of_the_others(tmp_path: Path) -> None:
    made(tmp_path, "data/a/1.png", "data/b/2.png")
    data = tmp_path / "data"
    (data / "a/all").symlink_to("..")
    (data / "c").symlink_to(data)
    found = labelled_folder(data)
    assert found_in(found, data) == [("a/1.png", "a"), ("b/2.png", "b")]
    assert found.counts == {"a": 1, "b": 1, "c": 0}


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path: Path) -> None:
    made(tmp_path, "a/1.png")
    name = os.fsdecode(b"a/caf\xe9.png")
    (tmp_path / name).touch()
    assert ("a/caf\udce9.png", "a") in found_in(labelled_folder(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no folder in it; expected one folder a class"),
        (("1.png", "2.png"), "no folder in it; expected one folder a class"),
        (("a/1.txt", "b/2.txt"), "class folders 'a', 'b', but no picture in them"),
    ],
)
def test_a_folder_without_labelled_pictures_is_refused(files: Sequence[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        labelled_folder(made(tmp_path, *files))


# ---------------------------------------------------------------- CSV files


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat\nsub/b.png,dog\n",
        "label;id;Filename\ncat;7;a.png\ndog;8;sub/b.png\n",
        "image\tclass\na.png\tcat\nsub/b.png\tdog",
        "a.png,cat\nsub/b.png,dog\n",
        "a.png|cat\r\nsub/b.png|dog\r\n",
        '"path" ,"label"\n"a.png"," cat"\n\n  \nsub/b.png,dog\n',
        "\ufeffpath,label\na.png,cat\nsub/b.png,dog\n",
    ],
    ids=["header", "semicolons and more columns", "tabs", "no header", "bars", "quotes and empty lines", "byte mark"],
)
def test_delimiter_and_columns_are_found(text: str, tmp_path: Path) -> None:
    images = labelled_csv(written(tmp_path, text))
    assert found_in(images, tmp_path) == [("a.png", "cat"), ("sub/b.png", "dog")]
    assert (images.kind, dict(images.counts), images.ignored) == ("csv", {"cat": 1, "dog": 1}, 0)


def test_delimiter_and_columns_can_be_named(tmp_path: Path) -> None:
    file = written(tmp_path, "where:what:path\na.png:cat:x\n")
    images = labelled_csv(file, path_column="where", label_column="what", delimiter=":", root="/data")
    assert found_in(images, Path("/data")) == [("a.png", "cat")]


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    file = written(tmp_path, "path,label\n/pictures/a.png,1\n")
    assert [tuple(image) for image in labelled_csv(file)] == [(Path("/pictures/a.png"), "1")]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("picture_of,species\na.png,cat\n", {}, r"no column of paths .* and labels .* among 'picture_of', 'species'"),
        ("path,species\na.png,cat\n", {}, r"no column of labels \(label, class, class_name, ...\) among 'path', 's"),
        ("path,label\na.png,cat\n", {"label_column": "kind"}, "no column of labels .named 'kind'"),
        ("path,label\na.png,cat\n", {"delimiter": ", "}, "delimiter ', '; expected one character"),
        ("path,label\na.png,cat\nb.png\n", {}, "line 3: 1 columns, but the first line has 2"),
        ("path,label\na,b.png,cat\n", {}, "line 2: 3 columns.*double quotes"),
        ("path,label\na.png,\n", {}, "line 2: no label"),
        ("path,label\n,cat\n", {}, "line 2: no path"),
        ("path,label\n", {}, "names no pictures"),
        ("", {}, "no column of paths"),
    ],
)
def test_a_csv_file_that_leaves_doubt_is_refused(text: str, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        labelled_csv(written(tmp_path, text), **options)


def test_another_encoding_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read as CSV in UTF-8"):
        labelled_csv(written(tmp_path, "path,label\ncafé.png,cat\n", "latin-1"))


# ---------------------------------------------------------------- either


def test_a_folder_or_a_file_is_told_apart(tmp_path: Path) -> None:
    made(tmp_path, "a/1.png")
    assert labelled_images(str(tmp_path)).kind == "folder"
    assert labelled_images(written(tmp_path, "a/1.png,x"), path_column=None).labels == ("x",)


def test_options_of_csv_files_are_not_for_folders(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"label_column is for a CSV file; .* is a folder"):
        labelled_images(made(tmp_path, "a/1.png"), label_column="x", root=None)


def test_what_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such folder or file: .*nowhere"):
        labelled_images(tmp_path / "nowhere")


def test_every_ending_is_of_a_picture_that_pillow_opens() -> None:
    Image.init()
    assert {Image.EXTENSION[ending] for ending in ENDINGS} <= set(Image.OPEN)


def test_many_names_are_cut() -> None:
    assert shortlist([str(i) for i in range(10)]) == "'0', '1', '2', '3', '4', '5', '6', '7' and 2 more"
