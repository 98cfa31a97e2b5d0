"""`embed` lays features out, measures the map, and says what it does not take."""

import re
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from feature_tables import clusters, noise
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

import torchcam_suite.embedding
from torchcam_suite.embedding import ENGINES, embed
from torchcam_suite.embedding.engines import Engine
from torchcam_suite.errors import AssumptionWarning, LayerError, MissingLibraryError

TSNE = ["opentsne", "sklearn"]


def require(engine: str) -> None:
    """Skip the test where the engine is not installed; importing UMAP to find out would bring TensorFlow."""
    module = ENGINES[engine].module
    if module is not None and find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def of_model(**changes: Any) -> Any:
    """What `torchcam_suite.features` gives, of two layers."""
    table, group = clusters(60)
    about = {
        "layers": {"dense_1": table, "dense_2": table[:, :5]},
        "ids": tuple(f"picture {i}" for i in range(60)),
        "paths": tuple(f"pictures/{i}.png" for i in range(60)),
        "logits": np.eye(4)[group] * 3,
        "model": {"name": "net", "head": "softmax", "class_names": ["ant", "bee", "cow", "dog"]},
    }
    return SimpleNamespace(**about | changes)


@pytest.mark.parametrize("engine", TSNE)
def test_clusters_of_the_features_are_clusters_of_the_map(engine: str) -> None:
    require(engine)
    table, group = clusters(120)
    found = embed(table, engine=engine, perplexity=15, labels=group)
    assert found.points.shape == (120, 2)
    assert found.quality.label_accuracy == found.quality.label_accuracy_in_features == 1
    assert found.quality.trustworthiness == pytest.approx(trustworthiness(table, found.points, n_neighbors=10))
    assert found.quality.trustworthiness > 0.93
    worse = embed(table, engine="pca", perplexity=15)
    assert found.quality.kl_divergence < worse.quality.kl_divergence
    assert found.quality.neighbour_preservation > worse.quality.neighbour_preservation


def test_a_class_is_the_same_however_its_accents_are_written() -> None:
    table, _ = clusters(40)
    ours, theirs = "gru\u0308n", "gr\u00fcn"
    found = embed(table, engine="pca", perplexity=5, labels=[ours] * 40, predictions=[theirs, "rot"] * 20)
    assert found.correct == (True, False) * 20
    assert found.labels == (theirs,) * 40


@pytest.mark.parametrize("engine", [*TSNE, "pca"])
def test_a_single_feature_has_a_map_too(engine: str) -> None:
    require(engine)
    logits = np.sort(noise(40, 1), axis=0)
    found = embed(logits, engine=engine, perplexity=5)
    assert found.points.shape == (40, 2)
    assert found.quality.trustworthiness > 0.85
    if found.place is not None:
        assert np.abs(found.transform(logits[:3]) - found.points[:3]).max() < 0.1 * np.ptp(found.points)


@pytest.mark.parametrize("engine", TSNE)
def test_the_same_seed_gives_the_same_map(engine: str) -> None:
    require(engine)
    table = clusters(80)[0]
    first, second = (embed(table, engine=engine, perplexity=10, seed=3) for _ in range(2))
    assert np.array_equal(first.points, second.points)


def test_pca_is_scikit_learns_up_to_the_sign() -> None:
    table = clusters(100, features=70)[0].astype(np.float64)
    found = embed(table, engine="pca", pca=None, perplexity=10)
    expected = PCA(2, svd_solver="full").fit(table)
    np.testing.assert_allclose(np.abs(found.points), np.abs(expected.transform(table)), atol=1e-8)
    assert found.options["variance"] == pytest.approx(expected.explained_variance_ratio_.sum())
    np.testing.assert_allclose(
        np.abs(embed(table, engine="pca", perplexity=10).points), np.abs(found.points), atol=1e-8
    )


def test_features_are_reduced_first_and_it_is_said() -> None:
    table = clusters(100, features=70)[0]
    found = embed(table, engine="pca", perplexity=10)
    assert found.options["pca"] == 50
    assert 0.5 < found.options["pca_variance"] < 1
    assert found.options["features"] == 70
    assert found.quality.trustworthiness == pytest.approx(trustworthiness(table, found.points, n_neighbors=10))
    assert embed(table[:, :50], engine="pca", perplexity=10).options["pca"] is None


def test_standardised_features_weigh_the_same() -> None:
    table = noise(60, 3) * (1, 1, 1e4)
    plain, scaled = (embed(table, engine="pca", perplexity=5, standardize=on) for on in (False, True))
    assert abs(np.corrcoef(plain.points[:, 0], table[:, 2])[0, 1]) == pytest.approx(1)
    assert abs(np.corrcoef(scaled.points[:, 0], table[:, 2])[0, 1]) < 0.99
    constant = np.column_stack([table, np.full(60, 0.1)])
    again = embed(constant, engine="pca", perplexity=5, standardize=True)
    np.testing.assert_allclose(again.points, scaled.points, atol=1e-8)


@pytest.mark.parametrize(("features", "standardize"), [(8, False), (70, True)])
@pytest.mark.parametrize("engine", ["opentsne", "pca"])
def test_new_images_land_among_their_like(engine: str, features: int, standardize: bool) -> None:
    require(engine)
    table, group = clusters(160, features=features, groups=3)
    before = embed(table[:120], engine=engine, perplexity=10, standardize=standardize)
    old = before.points.copy()
    placed = before.transform(table[120:])
    assert placed.shape == (40, 2)
    near = np.linalg.norm(placed[:, None] - before.points[None], axis=2).argmin(axis=1)
    assert (group[:120][near] == group[120:]).mean() > 0.95
    assert np.array_equal(before.points, old)
    again = before.transform(table[:120])
    spread = np.linalg.norm(old - old.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(again - old, axis=1).mean() < 0.1 * spread


def test_umap_maps_and_places() -> None:
    require("umap")
    table, group = clusters(120)
    found = embed(table[:100], engine="umap", perplexity=10, labels=group[:100])
    assert found.quality.label_accuracy == 1
    assert found.options["n_neighbors"] == 10
    assert found.transform(table[100:]).shape == (20, 2)
    assert "tensorflow" not in sys.modules


def test_scikit_learns_map_takes_no_new_images() -> None:
    table = clusters(60)[0]
    with pytest.raises(ValueError, match="because it is scikit-learn's t-SNE; make one with embed"):
        embed(table, engine="sklearn", perplexity=5).transform(table)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (noise(3, 5), "5 features an image; this map is of 8"),
        (np.full((3, 8), np.nan), "NaN or infinity in 3 of 3 rows"),
        (noise(8), re.escape("features of shape (8,); expected (N, F)")),
    ],
)
def test_new_images_of_another_kind_are_refused(new: np.ndarray, message: str) -> None:
    found = embed(clusters(60)[0], engine="pca", perplexity=5)
    with pytest.raises(ValueError, match=message):
        found.transform(new)


def test_a_layer_of_features_brings_what_is_known_of_the_images() -> None:
    found = embed(of_model(), layer="dense_2", engine="pca", perplexity=5)
    assert (found.layer, found.options["features"], found.model["name"]) == ("dense_2", 5, "net")
    assert (found.ids[1], found.paths[1]) == ("picture 1", "pictures/1.png")
    assert found.predictions is not None
    assert found.predictions[:5] == ("ant", "bee", "cow", "dog", "ant")
    assert found.confidences is not None
    assert found.confidences[0] == pytest.approx(np.exp(3) / (np.exp(3) + 3))
    with pytest.raises(LayerError, match="name one with layer=: dense_1, dense_2"):
        embed(of_model(), engine="pca")
    with pytest.raises(LayerError, match="'conv' is not among these features; there are: dense_1, dense_2"):
        embed(of_model(), layer="conv", engine="pca")
    with pytest.raises(ValueError, match="layer='dense_1' was given with an array"):
        embed(noise(9, 2), layer="dense_1", engine="pca")


@pytest.mark.parametrize(
    ("logits", "head", "prediction", "confidence"),
    [
        (np.full((60, 1), 2.0), "sigmoid", "bee", 1 / (1 + np.exp(-2))),
        (np.full((60, 1), -2.0), "sigmoid", "ant", 1 / (1 + np.exp(-2))),
        (np.tile([1.0, 2.0], (60, 1)), "sigmoid", "bee", 1 / (1 + np.exp(-2))),
        (np.tile([1.0, 2.0], (60, 1)), "softmax", "bee", 1 / (1 + np.exp(-1))),
        (np.tile([1.0, 2.0], (60, 1)), "none", "bee", None),
    ],
)
def test_predictions_are_those_of_the_head(
    logits: np.ndarray, head: str, prediction: str, confidence: float | None
) -> None:
    source = of_model(logits=logits, model={"head": head, "class_names": ["ant", "bee"]})
    found = embed(source, layer="dense_1", engine="pca", perplexity=5)
    assert found.predictions == (prediction,) * 60
    if confidence is None:
        assert found.confidences is None
    else:
        assert found.confidences == pytest.approx(np.full(60, confidence))


def test_predictions_are_right_or_wrong_where_there_is_a_label() -> None:
    found = embed(noise(4, 3), engine="pca", perplexity=1, labels=["a", "b", None, 1], predictions=["a", "a", "a", 1])
    assert found.correct == (True, False, None, True)
    assert embed(noise(4, 3), engine="pca", perplexity=1, labels=list("abcd")).correct is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tensors_are_features_too(dtype: torch.dtype) -> None:
    table = torch.from_numpy(noise(30, 4)).to(dtype).requires_grad_()
    found = embed(table, engine="pca", perplexity=5)
    expected = embed(table.detach().double().numpy(), engine="pca", perplexity=5)
    np.testing.assert_allclose(found.points, expected.points)


def test_labels_in_another_language_than_predictions_are_noticed() -> None:
    with pytest.warns(AssumptionWarning, match="predictions are like '0', labels like 'cat'; class_names="):
        embed(noise(4, 3), engine="pca", perplexity=1, labels=["cat"] * 4, predictions=[0, 1, 0, 1])


@pytest.mark.parametrize(("count", "used"), [(40, 13), (4, 1)])
def test_too_large_a_perplexity_is_brought_down_and_said(count: int, used: float) -> None:
    with pytest.warns(
        AssumptionWarning, match=f"perplexity 30 is too large for {count} images; {used} is used instead"
    ):
        found = embed(noise(count, 5), engine="pca")
    assert found.options["perplexity"] == used
    assert found.quality.k == min(10, (count - 1) // 2)


@pytest.mark.parametrize("engine", TSNE)
def test_the_smallest_maps_are_made(engine: str) -> None:
    require(engine)
    with pytest.warns(AssumptionWarning, match="1 is used instead"):
        found = embed(noise(4, 3), engine=engine)
    assert np.isfinite(found.points).all()


def test_copies_are_counted() -> None:
    table = noise(30, 4)
    table[10:13] = table[0]
    table[20] = table[19]
    with pytest.warns(AssumptionWarning, match="4 of 30 rows of features are copies of another row"):
        embed(table, engine="pca", perplexity=5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.where(np.arange(20)[:, None] == 7, np.nan, noise(20, 3)), r"NaN or infinity in 1 of 20 rows .*\(7\)"),
        (np.where(np.arange(20)[:, None] > 5, np.inf, noise(20, 3)), r"in 14 of 20 rows .*\(6, .*, 13, \.\.\.\)"),
        (noise(20, 3, 4), r"features of shape \(20, 3, 4\); expected \(N, F\).*flatten or pool"),
        (noise(20), r"features of shape \(20,\)"),
        (noise(3, 5), "features of 3 images; a map needs at least 4"),
        (np.empty((0, 5)), "features of 0 images"),
        (np.empty((5, 0)), r"features of shape \(5, 0\)"),
        (np.ones((20, 5)), "all 20 rows of features are the same"),
        (np.full((20, 5), "a"), "features of type <U1; expected real numbers"),
        (noise(20, 3) * 1j, "features of type complex128"),
    ],
)
def test_what_is_no_table_of_features_is_refused(table: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embed(table, engine="pca", perplexity=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tsne"}, "engine 'tsne' is not known; expected one of opentsne, sklearn, pca, umap"),
        ({"perplexity": 0}, "perplexity=0; expected a number of neighbours"),
        ({"perplexity": float("nan")}, "perplexity=nan"),
        ({"pca": 1}, "pca=1; expected at least 2 components, or None"),
        ({"k": 0}, "k=0; expected a number of neighbours"),
        ({"labels": ["a"]}, "1 labels for 20 images; expected one an image"),
        ({"predictions": ["a"] * 21}, "21 predictions for 20 images"),
        ({"confidences": [0.5]}, r"confidences of shape \(1,\) for 20 images"),
        ({"confidences": [1.5] * 20}, r"not in \[0, 1\]; expected probabilities"),
        ({"ids": ["a"] * 20}, "19 of 20 ids are there twice"),
        ({"paths": []}, "0 paths for 20 images"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embed(noise(20, 3), **{"engine": "pca", "perplexity": 5} | options)


def test_an_engine_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Engine(ENGINES["opentsne"].lay_out, "no_such_module", "openTSNE", "maps")
    monkeypatch.setitem(ENGINES, "opentsne", absent)
    with pytest.raises(
        MissingLibraryError, match=re.escape("'torchcam-suite[maps]' (engines 'sklearn' and 'pca' need")
    ):
        embed(noise(20, 3))


def test_importing_brings_no_engine() -> None:
    assert torchcam_suite.embedding
    import subprocess

    code = "import sys, torchcam_suite.embedding, torchcam_suite.present.map_page, torchcam_suite.present.feature_map"
    heavy = "{'openTSNE', 'sklearn', 'scipy', 'umap', 'matplotlib', 'jinja2', 'tensorflow'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{code}; print({heavy})"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
