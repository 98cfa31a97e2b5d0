"""Samples and sketches tell two tensors apart as the tensors themselves would."""

import numpy as np
import pytest

from converters.samples import BUCKETS, POSITIONS, positions, sketch


def tensor(seed: int, size: int = 200_000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def test_a_sketch_is_the_sum_of_signed_values_by_position_modulo_the_buckets() -> None:
    values = tensor(0, 5 * BUCKETS + 17)
    signs = sum(sketch_of_one(values.size, place) for place in range(0, values.size, 97))
    assert set(np.unique(signs)) <= {-1.0, 0.0, 1.0}
    by_hand = np.zeros(BUCKETS)
    for place in range(values.size):
        one = sketch_of_one(values.size, place)
        assert np.flatnonzero(one).tolist() == [place % BUCKETS]
        by_hand += values[place] * one
    np.testing.assert_allclose(sketch(values), by_hand, atol=1e-4)


def sketch_of_one(size: int, place: int) -> np.ndarray:
    values = np.zeros(size, np.float32)
    values[place] = 1
    return sketch(values)


@pytest.mark.parametrize("size", [1, 10, BUCKETS, 1_000_000, 3_000_001])
def test_a_sketch_is_linear_and_its_length_that_of_the_tensor(size: int) -> None:
    one, other = tensor(1, size), tensor(2, size)
    np.testing.assert_allclose(sketch(one) + 2 * sketch(other), sketch(one + 2 * other), atol=2e-3)
    assert np.linalg.norm(sketch(one)) == pytest.approx(np.linalg.norm(one), rel=0.15)


@pytest.mark.parametrize("wrong", ["noise", "a channel", "a row", "an edge", "one value"])
def test_the_cosine_of_sketches_is_that_of_the_tensors(wrong: str) -> None:
    ours = tensor(3).reshape(40, 50, 100)
    theirs = ours.copy()
    if wrong == "noise":
        theirs += 0.02 * tensor(4).reshape(theirs.shape)
    elif wrong == "a channel":
        theirs[:, :, 7] *= -1
    elif wrong == "a row":
        theirs[5] = 0
    elif wrong == "an edge":
        theirs[:, -1] += 0.3
    else:
        theirs[20, 20, 20] += 10
    exact, estimated = 1 - cosine(ours, theirs), 1 - cosine(sketch(ours.reshape(-1)), sketch(theirs.reshape(-1)))
    assert exact > 1e-4
    assert estimated == pytest.approx(exact, rel=0.2)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.reshape(-1).astype(np.float64), other.reshape(-1).astype(np.float64)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def test_positions_are_sorted_distinct_and_hold_the_largest_value() -> None:
    values = tensor(5)
    values[123_456] = -9
    chosen = positions(values)
    assert chosen.dtype == np.int32
    assert len(np.unique(chosen)) == len(chosen) == POSITIONS
    assert (np.diff(chosen) > 0).all()
    assert 123_456 in chosen
    # spread over the whole tensor
    assert np.histogram(chosen, 10, (0, values.size))[0].min() > POSITIONS / 20


def test_a_small_tensor_is_kept_whole() -> None:
    assert positions(tensor(6, POSITIONS)).tolist() == list(range(POSITIONS))
