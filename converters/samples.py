"""What is kept of a large tensor, so that two computations of it can be compared without storing either.

NumPy only: both the TensorFlow process and the torch side use it.
"""

import numpy as np

POSITIONS = 1365  # values of a tensor that are kept, for each picture
BUCKETS = 1021  # numbers in a sketch; a prime, so that no layout of the tensor falls into step with it
_BLOCK = 1024 * BUCKETS  # values that are worked on at a time: 4 MB


def positions(values: np.ndarray) -> np.ndarray:
    """Seeded positions in a flat array, the largest value among them so that a sparse layer is not all zeros.

    Returns
    -------
    array (S,) int32
        Sorted; every position if there are no more than `POSITIONS`.
    """
    if values.size <= POSITIONS:
        return np.arange(values.size, dtype=np.int32)
    chosen = np.random.default_rng(values.size).choice(values.size, POSITIONS, replace=False, shuffle=False)
    chosen[0] = max(values.argmax(), values.argmin(), key=lambda place: abs(values[place]))
    return np.sort(chosen).astype(np.int32)


def sketch(values: np.ndarray) -> np.ndarray:
    """A random projection of a flat array of any size, (`BUCKETS`,) float64.

    It is linear, so the distance of two sketches estimates the distance of the two arrays, within a few percent
    for a thousand buckets: each value is added to bucket `position mod BUCKETS` with a random sign (Charikar,
    Chen and Farach-Colton 2002; the signs depend on the array's size alone).
    """
    signs = np.random.default_rng(values.size)
    total = np.zeros(BUCKETS)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK].astype(np.float32)  # a copy: the signs are put into it
        bits = np.unpackbits(np.frombuffer(signs.bytes(-(-block.size // 8)), np.uint8), count=block.size)
        block.view(np.uint32)[:] ^= bits.astype(np.uint32) << np.uint32(31)
        rest = block.size % BUCKETS
        whole = block[: block.size - rest].reshape(-1, BUCKETS)
        total += whole.sum(0, dtype=np.float64)
        total[:rest] += block[block.size - rest :]
    return total
