"""One random stream per episode, independent of rank, batch and order (P22)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heedful.rollout.types import Stream


def uniforms(stream: Stream | tuple[int, int, int], n: int) -> NDArray[np.float64]:
    """The first `n` draws of a stream, float64 in [0, 1).

    Philox with the seed as key and (iteration, row) as the upper half of the counter. Streams never overlap, and a
    longer read starts with the shorter one.
    """
    seed, iteration, row = stream
    key = np.array([seed % 2**64, 0], np.uint64)  # as a list, 2**63 and more would be rounded
    philox = np.random.Philox(key=key, counter=[0, 0, row, iteration])
    return np.random.Generator(philox).random(n)
