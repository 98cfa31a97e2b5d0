"""The procedural sets: what is drawn depends on its own numbers alone, and the masks are those of the objects."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchcam_suite.datasets import PROCEDURAL, draw, faces, leopards, pets
from torchcam_suite.datasets.coats import FURS, PATTERNS, draw_coat
from torchcam_suite.datasets.drawing import Part, curve, ellipse, flat, paint, ribbon
from torchcam_suite.datasets.figures import supersampling
from torchcam_suite.datasets.procedural import generator_of
from torchcam_suite.errors import TorchcamError

CLASSES = [(name, label) for name, known in PROCEDURAL.items() for label in known.class_names]
ANY = pytest.mark.parametrize(("name", "label"), CLASSES)


@cache
def pixels(name: str, label: str, seed: int, size: int = 64) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    picture, mask = draw(name, label, np.random.default_rng(seed), size)
    assert (picture.mode, picture.size) == ("RGB", (size, size))
    assert (mask.mode, mask.size) == ("L", (size, size))
    assert set(np.unique(np.asarray(mask))) == {0, 255}
    return np.asarray(picture, dtype=np.float64), np.asarray(mask) == 255


def test_the_sets_have_the_classes_that_they_are_known_for() -> None:
    assert {name: known.class_names for name, known in PROCEDURAL.items()} == {
        "pets": ("cat", "dog"),
        "families": ("ember", "ripple", "sprout"),
        "faces": ("anna", "bruno", "chloe", "daniel", "esther", "felix"),
        "objects": ("aeroplane", "leopard", "watch"),
    }
    assert all(list(known.class_names) == sorted(known.class_names) for known in PROCEDURAL.values())


@ANY
def test_the_same_numbers_give_the_same_pixels_and_others_others(name: str, label: str) -> None:
    picture, mask = pixels(name, label, 3)
    again, mask_again = (np.asarray(drawn) for drawn in draw(name, label, np.random.default_rng(3), 64))
    other, _ = pixels(name, label, 4)
    assert picture.std() > 10
    np.testing.assert_array_equal(picture, again)
    np.testing.assert_array_equal(mask, mask_again == 255)
    assert np.abs(picture - other).mean() > 5


@ANY
def test_one_seed_gives_one_scene_at_any_size(name: str, label: str) -> None:
    large, large_mask = pixels(name, label, 5, 128)
    small, small_mask = pixels(name, label, 5, 64)
    halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 3
    assert np.abs(halved - pixels(name, label, 6, 64)[0]).mean() > 10
    assert (large_mask[::2, ::2] != small_mask).mean() < 0.02


@pytest.mark.parametrize("size", [256, 300, 448])
def test_large_pictures_are_drawn_less_finely_and_look_the_same(size: int) -> None:
    assert supersampling(size) == {256: 4, 300: 3, 448: 2}[size]
    large, mask = draw("objects", "watch", np.random.default_rng(2), size)
    small, small_mask = pixels("objects", "watch", 2)
    assert np.abs(np.asarray(large.resize((64, 64), Image.Resampling.BOX)) - small).mean() < 3
    assert (np.asarray(mask.resize((64, 64), Image.Resampling.NEAREST)) == 255).mean() == pytest.approx(
        small_mask.mean(), abs=0.02
    )


@ANY
def test_the_mask_is_a_fair_part_of_the_picture_and_wanders(name: str, label: str) -> None:
    masks = np.stack([pixels(name, label, seed, 32)[1] for seed in range(16)])
    areas = masks.mean(axis=(1, 2))
    assert areas.min() > 0.015
    assert areas.max() < 0.6
    assert areas.max() > 1.2 * areas.min()
    assert masks.mean(axis=0).max() < 0.95


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["pets", "families"])
def test_the_scene_does_not_know_the_class(name: str, seed: int) -> None:
    drawings = [pixels(name, label, seed) for label in PROCEDURAL[name].class_names]
    # a pixel that the object touches by less than half is outside its mask and still a blend, as whiskers are
    touched = np.any([grow(mask) for _, mask in drawings], axis=0)
    scenes = [picture[~touched] for picture, _ in drawings]
    assert scenes[0].std() > 10
    for other in scenes[1:]:
        assert (scenes[0] != other).any(axis=1).mean() < 0.004
    assert np.abs(drawings[0][0] - drawings[1][0])[drawings[0][1]].mean() > 5


def grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


@pytest.mark.parametrize("label", faces.PEOPLE)
def test_a_face_without_its_head_is_the_same_for_all(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # light, clothes and background are drawn before it is known who it is, but for the neck
    monkeypatch.setattr(faces, "_head", lambda *_: [])
    picture, mask = faces.draw(label, np.random.default_rng(8), 64)
    reference, _ = faces.draw("anna", np.random.default_rng(8), 64)
    assert not np.asarray(mask).any()
    differs = np.abs(np.asarray(picture, float) - np.asarray(reference, float)).max(axis=2) > 0
    assert differs.mean() < 0.04
    assert np.asarray(reference).std() > 10


@ANY
def test_the_mask_is_where_the_object_is_painted(name: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without paint, the same numbers give the scene: it differs from the picture in the mask, and hardly elsewhere."""
    picture, mask = draw(name, label, np.random.default_rng(1), 64)
    bare = without_figure(name, label, monkeypatch)
    changed = np.abs(np.asarray(picture, float) - bare).max(axis=2) > 2
    inside = np.asarray(mask) == 255
    assert changed[inside].mean() > 0.9
    assert changed[~grow(inside)].mean() < 0.004


def without_figure(name: str, label: str, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float64]:
    from torchcam_suite.datasets import aeroplanes, creatures, figures, watches

    def keep_scene(
        picture: Image.Image, parts: list[Part], _pose: object, finer: int
    ) -> tuple[Image.Image, Image.Image]:
        list(parts)
        return figures.halves(picture, Image.new("L", picture.size), finer)

    for module in (aeroplanes, creatures, faces, leopards, pets, watches):
        monkeypatch.setattr(module, "figure", keep_scene)
    return np.asarray(draw(name, label, np.random.default_rng(1), 64)[0], float)


def test_a_number_stands_for_a_picture_of_the_default_training_set() -> None:
    by_number, _ = draw("pets", "dog", 7, 32)
    by_stream, _ = draw("pets", "dog", generator_of(0, "train", 1, 7), 32)
    np.testing.assert_array_equal(np.asarray(by_number), np.asarray(by_stream))
    np.testing.assert_array_equal(np.asarray(by_number), np.asarray(draw("pets", "dog", np.int64(7), 32)[0]))
    assert not np.array_equal(np.asarray(by_number), np.asarray(draw("pets", "dog", 8, 32)[0]))


def test_no_two_pictures_share_their_random_numbers() -> None:
    streams = [(s, split, c, i) for s in (0, 1) for split in ("train", "val", "test") for c in (0, 1) for i in (0, 1)]
    assert len({generator_of(*stream).random() for stream in streams}) == len(streams) == 24


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw("birds", "crow"), "data set 'birds' is unknown; the procedural ones are pets, families, faces"),
        (lambda: draw("pets", "bird"), "class 'bird' is not in 'pets'; choose one of cat, dog"),
        (lambda: draw("pets", "cat", 0, 8), "size=8; expected a side of 16 to 4096 pixels"),
        (lambda: draw("pets", "cat", 0, 100_000_000), "size=100000000; expected a side of 16 to 4096 pixels"),
        (lambda: draw("pets", "cat", -1), "picture -1; expected a number of 0 or more"),
    ],
)
def test_what_does_not_exist_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TorchcamError, match=message):
        call()


def colours(name: str, split: str, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean colours of pictures, and their classes."""
    labels = np.arange(count) % len(PROCEDURAL[name].class_names)
    means = [
        np.asarray(
            draw(name, PROCEDURAL[name].class_names[label], generator_of(0, split, int(label), index), 16)[0]
        ).mean(axis=(0, 1))
        for index, label in enumerate(labels)
    ]
    return np.array(means), labels


def test_cats_and_dogs_are_not_told_apart_by_mean_colour() -> None:
    learn = make_pipeline(StandardScaler(), LogisticRegression()).fit(*colours("pets", "train", 90))
    assert learn.score(*colours("pets", "test", 60)) < 0.65


def test_fur_has_every_colour_and_pattern() -> None:
    coats = [draw_coat(np.random.default_rng(seed)) for seed in range(200)]
    assert {coat.pattern for coat in coats} == set(PATTERNS)
    nearest = {min(FURS, key=lambda fur: np.abs(np.subtract(fur[0], coat.base)).sum()) for coat in coats}
    assert nearest == set(FURS)


def test_marks_stay_on_what_they_mark() -> None:
    picture, mask = Image.new("RGB", (64, 64), "white"), Image.new("L", (64, 64))
    disc = ellipse(32, 32, 20, 20)
    stripe = flat(curve("-10 24!, 80 24!, 80 40!, -10 40!"), (0, 0, 255))
    paint(picture, [Part(disc, (255, 0, 0), inked=False, marks=[stripe])], 0, mask)
    drawn, inside = np.asarray(picture).astype(int), np.asarray(mask) == 255
    np.testing.assert_array_equal(drawn[~inside], 255)
    assert tuple(drawn[32, 32]) == (0, 0, 255)
    assert tuple(drawn[16, 32]) == (255, 0, 0)
    assert inside.mean() == pytest.approx(np.pi * 20**2 / 64**2, rel=0.06)


def test_a_moved_part_takes_its_marks_along() -> None:
    part = Part(ellipse(0, 0, 1, 1), (1, 2, 3), marks=[flat(ellipse(0, 0, 0.5, 0.5), (4, 5, 6))])
    moved = part.moved(lambda outline: 2 * outline + 1)
    np.testing.assert_allclose(moved.outline, 2 * part.outline + 1)
    np.testing.assert_allclose(moved.marks[0].outline, 2 * part.marks[0].outline + 1)
    assert moved.colour == part.colour


def test_a_straight_ribbon_is_a_rectangle() -> None:
    outline = ribbon([(0, 0), (10, 0)], [2, 2])
    assert outline.min(axis=0).tolist() == [0, -1]
    assert outline.max(axis=0).tolist() == [10, 1]
    x, y = outline.T
    assert abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 == pytest.approx(20)
