"""Which rows a step sees: a function of seed and step alone, so that a resumed run goes on where it was."""

from __future__ import annotations

import numpy as np


def endless(seed: int, step: int, batch: int, rows: int, stream: int = 0) -> list[int]:
    """Rows of 0-based `step` when epochs follow each other without a seam; every epoch is its own permutation.

    `stream` separates the orders of several data sets under one seed.
    """
    wanted = np.arange(step * batch, (step + 1) * batch)
    chosen = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(wanted // rows):
        inside = wanted // rows == epoch
        chosen[inside] = _permutation(seed, stream, int(epoch), rows)[wanted[inside] % rows]
    return [int(row) for row in chosen]


def epochs(seed: int, step: int, batch: int, rows: int, stream: int = 0) -> list[int]:
    """Rows of 0-based `step` when every epoch ends with a shorter batch (`steps_per_epoch` steps each)."""
    epoch, position = divmod(step, steps_per_epoch(rows, batch))
    order = _permutation(seed, stream, epoch, rows)
    return [int(row) for row in order[position * batch : (position + 1) * batch]]


def steps_per_epoch(rows: int, batch: int) -> int:
    return -(-rows // batch)


def _permutation(seed: int, stream: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch]).permutation(rows)
