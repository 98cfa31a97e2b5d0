import errno
import os
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from torchcam_suite.errors import ImageError
from torchcam_suite.present.overlay import COLORMAPS, as_rgb, colorize, overlay, save_png, shrunk

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (28, 42, 3), dtype=np.uint8)
SALIENCY = RNG.random((7, 6), dtype=np.float32)
RAMP = np.linspace(0, 1, 256).reshape(8, 32)


def bilinear(values, height, width):
    """Resize in float64 loops, with half-pixel centres and repeated edges."""
    rows, columns = values.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            for a in range(rows):
                for b in range(columns):
                    result[i, j] += max(0, 1 - abs(y - a)) * max(0, 1 - abs(x - b)) * float(values[a, b])
    return result


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_of_opencv_s_colour_maps_have_a_name():
    constants = {name: getattr(cv2, name) for name in dir(cv2) if name.startswith("COLORMAP_")}
    assert {f"COLORMAP_{name.upper()}": constant for name, constant in COLORMAPS.items()} == constants
    assert {"jet", "turbo", "viridis", "inferno"} <= set(COLORMAPS)


@pytest.mark.parametrize("name", COLORMAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_colours_are_those_of_opencv_in_rgb(name, dtype):
    saliency = RAMP.astype(dtype)
    bgr = cv2.applyColorMap(np.uint8(255 * saliency), getattr(cv2, f"COLORMAP_{name.upper()}"))
    assert len(np.unique(bgr.reshape(-1, 3), axis=0)) > 30
    colours = colorize(saliency, name)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours, bgr[:, :, ::-1])


def test_jet_is_the_default_and_goes_from_blue_to_red():
    colours = colorize(np.array([[0.0, 1.0]]))
    assert colours.tolist() == [[[0, 0, 128], [128, 0, 0]]]


@pytest.mark.parametrize("given", [RAMP[::-1, ::2], RAMP.astype(np.float16), RAMP.T, RAMP.tolist(), RAMP[:1, :1]])
def test_any_floating_point_map_can_be_coloured(given):
    assert colorize(given).shape == (*np.shape(given), 3)


def test_strength_0_is_the_image_and_1_the_colours():
    saliency = RNG.random((28, 42))
    assert IMAGE.std() > 50
    assert saliency.std() > 0.2
    np.testing.assert_array_equal(overlay(IMAGE, saliency, strength=0), IMAGE)
    np.testing.assert_array_equal(overlay(IMAGE, saliency, strength=1), colorize(saliency))


@pytest.mark.parametrize("strength", [0.25, 0.4, 0.9])
@pytest.mark.parametrize("colormap", ["jet", "viridis"])
def test_the_blend_is_the_weighted_sum_rounded_to_the_nearest(strength, colormap):
    saliency = RNG.random((28, 42))
    exact = IMAGE.astype(float) * (1 - strength) + colorize(saliency, colormap).astype(float) * strength
    blend = overlay(IMAGE, saliency, strength=strength, colormap=colormap)
    assert blend.dtype == np.uint8
    assert np.abs(blend - exact).max() < 0.5001


def test_the_default_strength_is_four_tenths_of_jet():
    np.testing.assert_array_equal(
        overlay(IMAGE, SALIENCY),
        overlay(IMAGE, SALIENCY, strength=0.4, colormap="jet", interpolation="bilinear"),
    )


@pytest.mark.parametrize("size", [(28, 42), (31, 20), (7, 6), (9, 50)])
def test_bilinear_maps_are_resized_before_they_are_coloured(size):
    height, width = size
    # The colours of "bone" grow with the value, so that they can be compared as numbers.
    levels = np.arange(256, dtype=np.uint8)[None]
    order = cv2.applyColorMap(levels, cv2.COLORMAP_BONE)[0].astype(int).sum(axis=1)
    assert (np.diff(order) > 0).all()
    heat = overlay(np.zeros((height, width, 3), np.uint8), SALIENCY, strength=1, colormap="bone")
    expected = bilinear(SALIENCY, height, width)
    assert expected.std() > 0.1
    lower, upper = (order[np.clip(255 * expected + shift, 0, 255).astype(int)] for shift in (-0.01, 0.01))
    brightness = heat.astype(int).sum(axis=2)
    assert ((lower <= brightness) & (brightness <= upper)).all()


def test_nearest_gives_blocks_of_one_colour():
    heat = overlay(IMAGE, SALIENCY, strength=1, interpolation="nearest")
    blocks = heat.reshape(7, 4, 6, 7, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    np.testing.assert_array_equal(blocks[:, 0, :, 0], colorize(SALIENCY))
    assert len(np.unique(blocks[:, 0, :, 0].reshape(-1, 3), axis=0)) > 30


def test_nearest_takes_the_cell_under_the_pixel_s_centre_when_sizes_do_not_divide():
    image = np.zeros((50, 32, 3), np.uint8)
    heat = overlay(image, SALIENCY, strength=1, interpolation="nearest")
    for i in range(50):
        for j in range(32):
            cell = SALIENCY[int((i + 0.5) * 7 / 50), int((j + 0.5) * 6 / 32)]
            assert heat[i, j].tolist() == colorize(np.array([[cell]]))[0, 0].tolist()


def test_a_grey_image_is_taken_as_equal_red_green_and_blue():
    grey = IMAGE[:, :, 0]
    np.testing.assert_array_equal(overlay(grey, SALIENCY), overlay(np.dstack([grey] * 3), SALIENCY))
    np.testing.assert_array_equal(overlay(grey, SALIENCY, strength=0)[:, :, 2], grey)


def test_nothing_that_was_given_is_changed():
    image, saliency = IMAGE.copy(), SALIENCY.copy()
    overlay(image, saliency)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(saliency, SALIENCY)


def with_value(value):
    saliency = SALIENCY.copy()
    saliency[3, 2] = value
    return saliency


@pytest.mark.parametrize(
    ("saliency", "message"),
    [
        (with_value(1.5), r"values from 0\.\d+ to 1\.5 .*normalise"),
        (with_value(-0.25), r"values from -0\.25 to "),
        (with_value(np.nan), r"1 NaN or infinite values of 42"),
        (with_value(np.inf), r"1 NaN or infinite values of 42"),
        (SALIENCY[None], r"shape \(1, 7, 6\) was given; expected one map"),
        (SALIENCY[0], r"shape \(6,\)"),
        (SALIENCY[:0], r"shape \(0, 6\)"),
        (np.uint8(255 * SALIENCY), r"type uint8 was given; expected floats"),
    ],
)
def test_a_map_that_is_no_saliency_map_is_named(saliency, message):
    with pytest.raises(ValueError, match=message):
        colorize(saliency)
    with pytest.raises(ValueError, match=message):
        overlay(IMAGE, saliency)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE / 255, r"type float64 was given; expected uint8"),
        (IMAGE.transpose(2, 0, 1), r"shape \(3, 28, 42\) was given; expected \(height, width, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (IMAGE[None], r"shape \(1, 28, 42, 3\)"),
        (IMAGE[:0], r"shape \(0, 42, 3\)"),
    ],
)
def test_an_array_that_is_no_image_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        as_rgb(image)
    with pytest.raises(ValueError, match=message):
        overlay(image, SALIENCY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.01}, r"strength 1\.01 was given"),
        ({"strength": -0.1}, r"strength -0\.1 was given"),
        ({"strength": float("nan")}, r"strength nan was given"),
        ({"interpolation": "cubic"}, r"'cubic' was given; expected 'bilinear' or 'nearest'"),
        ({"colormap": "virdis"}, r"'virdis'; did you mean 'viridis' or .*\? There are: autumn, .*winter$"),
        ({"colormap": "JET"}, r"did you mean 'jet'"),
        ({"colormap": "qqqq"}, r"'qqqq'; There are: autumn"),
    ],
)
def test_an_unknown_option_is_named_with_what_was_expected(options, message):
    with pytest.raises(ValueError, match=message):
        overlay(IMAGE, SALIENCY, **options)


@pytest.mark.parametrize("image", [IMAGE, IMAGE[:, :, 0], Image.fromarray(IMAGE)], ids=["rgb", "grey", "pillow"])
def test_a_saved_picture_reads_back_with_the_same_pixels(tmp_path, image):
    path = save_png(image, tmp_path / "new" / "folders" / "a.png")
    assert path == tmp_path / "new" / "folders" / "a.png"
    with Image.open(path) as read:
        assert read.format == "PNG"
        np.testing.assert_array_equal(np.asarray(read), as_rgb(np.asarray(image)))
    assert names_in(path.parent) == ["a.png"]


def test_a_saved_picture_replaces_an_older_one(tmp_path):
    save_png(IMAGE, str(tmp_path / "a.PNG"))
    save_png(255 - IMAGE, str(tmp_path / "a.PNG"))
    with Image.open(tmp_path / "a.PNG") as read:
        np.testing.assert_array_equal(np.asarray(read), 255 - IMAGE)


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX")
def test_a_saved_picture_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "plain", save_png(IMAGE, tmp_path / "a.png"))]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["write", "sync", "rename"])
def test_a_failed_save_leaves_the_older_file_and_nothing_else(tmp_path, monkeypatch, failure, moment):
    path = save_png(IMAGE, tmp_path / "a.png")
    before = path.read_bytes()

    def fail(*arguments, **_):
        if moment == "write":
            arguments[1].write(b"\x89PNG")
        raise failure

    owner, name = {"write": (Image.Image, "save"), "sync": (os, "fsync"), "rename": (Path, "replace")}[moment]
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(ImageError if isinstance(failure, OSError) else KeyboardInterrupt):
        save_png(255 - IMAGE, path)
    assert names_in(tmp_path) == ["a.png"]
    assert path.read_bytes() == before


def test_the_file_is_whole_on_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, Path.replace

    def recorded_sync(descriptor):
        steps.append(("sync", os.fstat(descriptor).st_size))
        sync(descriptor)

    def recorded_replace(temporary, target):
        steps.append(("rename", temporary.stat().st_size))
        assert temporary.parent == target.parent
        return replace(temporary, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    size = save_png(IMAGE, tmp_path / "a.png").stat().st_size
    assert steps == [("sync", size), ("rename", size)]


def test_the_error_of_a_failed_save_names_the_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=r"cannot write the picture '.*file.a\.png'"):
        save_png(IMAGE, tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"'.*folder\.png': Is a directory"):
        save_png(IMAGE, tmp_path / "folder.png")
    assert names_in(tmp_path) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["a.jpg", "a", ".png"])
def test_a_name_of_another_format_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"expected one that ends in \.png"):
        save_png(IMAGE, tmp_path / name)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(("longest", "size"), [(21, (14, 21)), (1, (1, 1)), (42, (28, 42)), (100, (28, 42))])
def test_a_picture_is_shrunk_to_its_longest_side_and_never_enlarged(longest, size):
    found = shrunk(IMAGE, longest)
    assert found.shape == (*size, 3)
    assert found.dtype == np.uint8
    if size == IMAGE.shape[:2]:
        np.testing.assert_array_equal(found, IMAGE)


def test_a_shrunk_picture_keeps_its_colours_in_their_places():
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, :40], halves[:, 40:] = (200, 10, 30), (5, 100, 250)
    found = shrunk(halves, 8)
    np.testing.assert_allclose(found[:, :2], np.broadcast_to([200, 10, 30], (4, 2, 3)), atol=8)
    np.testing.assert_allclose(found[:, -2:], np.broadcast_to([5, 100, 250], (4, 2, 3)), atol=8)
    np.testing.assert_array_equal(shrunk(halves[..., 2], 8), np.stack([found[..., 2]] * 3, axis=-1))
