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
    philox = np.random.Philox(key=[seed % 2**64, 0], counter=[0, 0, row, iteration])
    return np.random.Generator(philox).random(n)
