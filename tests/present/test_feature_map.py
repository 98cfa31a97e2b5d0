"""Maps for a page: which pictures are shown, where, in which colours, and in which files."""

import io
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import linear_sum_assignment

from torchcam_suite.embedding import Embedding, embed
from torchcam_suite.errors import AssumptionWarning, ImageError
from torchcam_suite.present import map_layout
from torchcam_suite.present.feature_map import feature_map, save_feature_map
from torchcam_suite.present.map_colours import OTHER, RAMP, available, colouring
from torchcam_suite.present.map_layout import apart, fitted, grid_cells, thumbnail_order
from torchcam_suite.present.thumbnails import placed_thumbnails, thumbnails

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200)}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture
def embedding() -> Embedding:
    """Ninety images of three colours, laid out by them."""
    names = [name for name in COLOURS for _ in range(30)]
    table = np.array([COLOURS[name] for name in names]) / 40 + noise(90, 3)
    guesses = ["red" if i % 10 == 0 else name for i, name in enumerate(names)]
    return embed(
        table, engine="pca", perplexity=10, labels=names, predictions=guesses, confidences=np.linspace(0, 1, 90)
    )


@pytest.fixture
def pictures(embedding: Embedding) -> list[np.ndarray]:
    return [np.full((20, 30, 3), COLOURS[str(name)], np.uint8) for name in embedding.labels or ()]


def drawn(embedding: Embedding, pictures: Sequence[np.ndarray] | None, **options: object) -> np.ndarray:
    """(H, W, 3) of the figure as PNG."""
    file = io.BytesIO()
    feature_map(embedding, pictures, **options).savefig(file, format="png", dpi=200)  # type: ignore[arg-type]
    return np.asarray(Image.open(file).convert("RGB"))


def share_of(canvas: np.ndarray, colour: tuple[int, ...]) -> float:
    return float((np.abs(canvas.astype(int) - colour).max(axis=2) < 3).mean())


# ---------------------------------------------------------------- where pictures go


@pytest.mark.parametrize("size", [0.3, 1.0, 5.0])
def test_pictures_never_cover_one_another_and_none_that_fits_is_left_out(size: float) -> None:
    places, order = noise(300, 2), np.random.default_rng(1).permutation(300)
    shown = apart(places, size, order)
    assert all(np.abs(places[i] - places[j]).max() >= size for i, j in combinations(shown, 2))
    hidden = set(range(300)) - set(shown.tolist())
    assert all(min(np.abs(places[i] - places[j]).max() for j in shown) < size for i in hidden)
    assert shown[0] == order[0]


def test_medoids_come_first_the_large_cluster_before_the_small() -> None:
    points = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [50, 0], [51, 0], [53, 0]])
    order = thumbnail_order(points, np.array([0, 0, 0, 0, 0, 1, 1, 1]))
    assert order[:2].tolist() == [2, 6]
    assert set(order[2:4].tolist()) == {1, 5}
    assert sorted(order.tolist()) == list(range(8))


def test_a_group_in_several_places_has_several_medoids() -> None:
    centres = np.array([[0, 0], [40, 0], [0, 40]])
    points = np.concatenate([centre + noise(200, 2, seed=i) for i, centre in enumerate(centres)])
    first = thumbnail_order(points, np.zeros(600, int))[:3]
    assert sorted(np.linalg.norm(points[first][:, None] - centres[None], axis=2).argmin(axis=1).tolist()) == [0, 1, 2]


def test_points_that_lie_on_one_another_have_an_order_too() -> None:
    order = thumbnail_order(np.repeat(noise(2, 2), 400, axis=0), np.zeros(800, int))
    assert sorted(order.tolist()) == list(range(800))


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_a_grid_is_the_best_assignment(count: int) -> None:
    points = noise(count, 2)
    cells, (rows, columns) = grid_cells(points)
    assert rows * columns >= count
    assert len({tuple(cell) for cell in cells.tolist()}) == count
    span = np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1)
    unit = (points - points.min(axis=0)) / span
    wanted = np.stack([(1 - unit[:, 1]) * (rows - 1), unit[:, 0] * (columns - 1)], axis=1)
    free = np.array([(row, column) for row in range(rows) for column in range(columns)])
    cost = np.square(wanted[:, None] - free[None]).sum(axis=2)
    assert np.square(wanted - cells).sum() == pytest.approx(cost[linear_sum_assignment(cost)].sum())


def test_points_on_a_grid_stay_in_their_cells() -> None:
    places = np.array([(column, -row) for row in range(6) for column in range(6)], float)
    cells, shape = grid_cells(places)
    assert shape == (6, 6)
    assert np.array_equal(cells, np.stack([-places[:, 1], places[:, 0]], axis=1))


@pytest.mark.parametrize("count", [5000, 4907])
def test_a_large_grid_is_made_in_parts_and_is_nearly_as_good(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = noise(count, 2)
    cells, (rows, columns) = grid_cells(points)
    assert len({tuple(cell) for cell in cells.tolist()}) == count
    assert (cells >= 0).all()
    assert (cells < (rows, columns)).all()
    few = noise(900, 2, seed=3)
    whole = grid_cells(few)[0]
    monkeypatch.setattr(map_layout, "_BLOCK", 100)
    parts = grid_cells(few)[0]
    unit = (few - few.min(axis=0)) / np.ptp(few, axis=0)
    wanted = np.stack([(1 - unit[:, 1]) * 29, unit[:, 0] * 29], axis=1)
    best, found = (np.square(wanted - one).sum() for one in (whole, parts))
    assert best <= found < 1.4 * best


def test_a_map_fills_its_picture_without_being_stretched() -> None:
    places = fitted(np.array([[0.0, 0], [10, 5], [5, 2.5]]), (400, 300), 50)
    assert places.tolist() == [[50, 225], [350, 75], [200, 150]]


# ---------------------------------------------------------------- colours


def test_a_class_has_one_colour_whether_label_or_prediction(embedding: Embedding) -> None:
    label, prediction = colouring(embedding, "label"), colouring(embedding, "prediction")
    assert label.names == prediction.names == ("blue", "green", "red")
    assert (label.colours, label.shapes) == (prediction.colours, prediction.shapes)
    assert [label.names[i] for i in label.group] == list(embedding.labels or ())
    assert [prediction.names[i] for i in prediction.group] == list(embedding.predictions or ())


def test_right_and_wrong_differ_in_colour_and_shape(embedding: Embedding) -> None:
    found = colouring(embedding, "correctness")
    assert found.names == ("right", "wrong")
    assert len(set(found.colours)) == len(set(found.shapes)) == 2
    assert (found.group == 1).sum() == 6


def test_confidences_take_the_ramp_in_order(embedding: Embedding) -> None:
    found = colouring(embedding, "confidence")
    assert found.colours == RAMP
    assert found.group[[0, 44, 89]].tolist() == [0, 7, 15]
    assert (np.diff(found.group) >= 0).all()


def of_labels(labels: Sequence[object]) -> Embedding:
    return embed(noise(len(labels), 3), engine="pca", perplexity=1, labels=labels)


def test_numbers_are_in_the_order_of_their_values() -> None:
    assert colouring(of_labels([10, 9, "b", 1, "a", 10])).names == ("1", "9", "10", "a", "b")


def test_forty_two_classes_can_be_told_apart_and_the_rarest_of_more_are_grey() -> None:
    labels = [f"class {i}" for i in range(42) for _ in range(2)]
    found = colouring(of_labels([*labels, "rare", None]))
    styles = list(zip(found.colours, found.shapes, strict=True))
    assert len(set(styles)) == 43
    assert (found.names[-1], found.colours[-1]) == ("other", OTHER)
    assert (found.group == 42).sum() == 2


def test_every_colour_stands_out_from_white() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    found = colouring(of_labels([f"class {i}" for i in range(42)]))
    assert min(1.05 / (luminance(colour) + 0.05) for colour in found.colours) > 2


def test_what_a_map_lacks_cannot_colour_it(embedding: Embedding) -> None:
    assert available(embedding) == ("label", "prediction", "correctness", "confidence")
    plain = embed(noise(9, 3), engine="pca", perplexity=1)
    assert available(plain) == ()
    assert set(colouring(plain).group) == {0}
    with pytest.raises(ValueError, match="color_by='label'; this map has nothing to colour by: give embed"):
        colouring(plain, "label")
    with pytest.raises(ValueError, match=r"color_by='class' .expected one of label, .*; this map has label, pred"):
        colouring(embedding, "class")


# ---------------------------------------------------------------- pictures


def test_thumbnails_are_whole_and_square(tmp_path: Path) -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, :20] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (small,) = thumbnails([tmp_path / "wide.png"], 20)
    pixels = np.asarray(small)
    assert pixels.shape == (20, 20, 3)
    assert (pixels[10, 1] == 255).all()
    assert (pixels[10, 18] == 0).all()
    assert (pixels[1] == pixels[1, 0]).all()
    (line,) = placed_thumbnails([np.zeros((1, 3000, 3), np.uint8)], 20)
    assert line.box == (0, 9, 20, 10)
    assert not np.asarray(line.picture.crop(line.box)).any()


def test_a_picture_that_cannot_be_read_is_an_empty_frame_and_said_once(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    sources = [tmp_path / "broken.png", tmp_path / "absent.png", None, np.zeros((5, 5), np.uint8)]
    with pytest.warns(AssumptionWarning, match=r"2 of 4 pictures cannot be shown .*: .*broken\.png is not an image"):
        found = thumbnails(sources, 16)
    assert np.array_equal(found[0], found[2])
    assert not np.asarray(found[3]).any()


@pytest.mark.parametrize("layout", ["map", "grid"])
def test_the_pictures_are_on_the_map(embedding: Embedding, pictures: list[np.ndarray], layout: str) -> None:
    canvas = drawn(embedding, pictures, layout=layout)
    assert canvas.shape == (1750, 2000, 3)
    for name in COLOURS:
        assert share_of(canvas, COLOURS[name]) > (0.003 if layout == "map" else 0.07)
        assert share_of(drawn(embedding, pictures, layout=layout, style="dots"), COLOURS[name]) == 0


def test_frames_have_the_colour_of_the_group(embedding: Embedding, pictures: list[np.ndarray]) -> None:
    found = colouring(embedding, "correctness")
    wrong = tuple(int(found.colours[1][i : i + 2], 16) for i in (1, 3, 5))
    with_errors = share_of(drawn(embedding, pictures, layout="grid", color_by="correctness"), wrong)
    assert with_errors > 3 * share_of(drawn(embedding, pictures, layout="grid", color_by="confidence"), wrong)


def test_text_is_drawn_where_the_points_are(embedding: Embedding) -> None:
    axes = feature_map(embedding, style="text").axes[0]
    offsets = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections])
    places = fitted(embedding.points, (1600, 1600), 30)
    groups = colouring(embedding).group
    np.testing.assert_allclose(offsets, np.concatenate([places[groups == group] for group in range(3)]))
    sizes = {name: part.get_sizes()[0] for name, part in zip(("blue", "green", "red"), axes.collections, strict=True)}
    assert sizes["green"] > sizes["blue"] > sizes["red"]


def test_the_legend_counts_and_nothing_is_read_as_mathematics() -> None:
    odd = of_labels(["$x^2$", "a" * 60, "<b>", "<b>"])
    axes = feature_map(odd, title="costs $1$").axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        r"\$x^2\$ (1)",
        "<b> (2)",
        f"{'a' * 13}…{'a' * 8} (1)",
    ]
    drawn(odd, None, style="text", title="costs $1$")


def test_names_that_are_not_unicode_or_show_nothing_are_drawn() -> None:
    odd = of_labels(["caf\udce9", "", " ", "red"])
    for style in ("text", "dots"):
        canvas = drawn(odd, None, style=style, title="caf\udce9")
        assert canvas.std() > 0


@pytest.mark.parametrize("style", ["text", "dots"])
def test_no_name_is_cut_off_at_the_sides(style: str) -> None:
    names = [f"{'w' * 20}{i % 4}" for i in range(40)]
    found = embed(np.random.default_rng(0).uniform(size=(40, 2)), engine="pca", perplexity=5, labels=names)
    figure = feature_map(found, style=style)  # type: ignore[arg-type]
    figure.draw_without_rendering()
    whole, (axes,) = figure.bbox, figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x1 <= whole.x1
    canvas = drawn(found, None, style=style)
    side = round(axes.get_window_extent().x1)
    for column in (0, side - 1):
        assert (canvas[:, column] == 255).all()


def test_the_figures_of_quality_stand_below(embedding: Embedding) -> None:
    texts = [text.get_text() for text in feature_map(embedding).texts]
    assert texts[0] == "PCA · 90 images"
    assert f"trustworthiness {embedding.quality.trustworthiness:.3f}" in texts[1]
    assert "label accuracy" in texts[1]


@pytest.mark.parametrize(("ending", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_files_are_of_the_kind_that_their_names_say_and_the_same_each_time(
    embedding: Embedding, ending: str, magic: bytes, tmp_path: Path
) -> None:
    path = save_feature_map(feature_map(embedding), tmp_path / "new" / f"map{ending}")
    again = save_feature_map(feature_map(embedding), tmp_path / f"again{ending}")
    assert path.read_bytes().startswith(magic)
    assert path.read_bytes() == again.read_bytes()


def test_files_that_cannot_be_written_are_refused(embedding: Embedding, tmp_path: Path) -> None:
    figure = feature_map(embedding)
    with pytest.raises(ValueError, match=r"expected one that ends in \.png or \.pdf"):
        save_feature_map(figure, tmp_path / "map.svg")
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot write the picture"):
        save_feature_map(figure, tmp_path / "file" / "map.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": []}, "0 pictures for a map of 90 images"),
        ({"style": "points"}, "style 'points' is not known; expected one of pictures, dots, text"),
        ({"layout": "hexagon"}, "layout 'hexagon' is not known; expected one of map, grid"),
        ({"thumbnail": 5}, "thumbnail=5; expected pixels, 8 to 400"),
        ({"color_by": "size"}, "color_by='size'"),
    ],
)
def test_options_out_of_range_are_refused(embedding: Embedding, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        feature_map(embedding, **options)
