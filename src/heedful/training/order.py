"""Which rows a step sees. It depends on seed and step alone, so that a resumed run continues where it was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

POOL = 512  # rows that are sorted by length together


def endless(seed: int, step: int, batch: int, rows: int, stream: int = 0) -> list[int]:
    """Rows of 0-based `step` if a batch may span two epochs. Every epoch is a permutation of its own.

    `stream` separates the orders of several data sets under one seed.
    """
    wanted = np.arange(step * batch, (step + 1) * batch)
    chosen = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(wanted // rows):
        inside = wanted // rows == epoch
        chosen[inside] = _permutation(seed, stream, int(epoch), rows)[wanted[inside] % rows]
    return [int(row) for row in chosen]


def epochs(seed: int, step: int, batch: int, rows: int, stream: int = 0) -> list[int]:
    """Rows of 0-based `step` if every epoch ends with a shorter batch (`steps_per_epoch` steps each)."""
    epoch, position = divmod(step, steps_per_epoch(rows, batch))
    order = _permutation(seed, stream, epoch, rows)
    return [int(row) for row in order[position * batch : (position + 1) * batch]]


def steps_per_epoch(rows: int, batch: int) -> int:
    return -(-rows // batch)


class ByLength:
    """Batches of rows of similar length, with at most `tokens` tokens. Every epoch has an order of its own.

    A row longer than `tokens` is a batch of its own.
    """

    def __init__(self, seed: int, lengths: Sequence[int], tokens: int) -> None:
        self._seed, self._lengths, self._tokens = seed, np.asarray(lengths), tokens
        self._batches: list[list[int]] = []
        self._seen = [0]
        self._epoch = 0

    def __call__(self, step: int) -> list[int]:
        """Rows of 0-based `step`."""
        self._reach(step + 1)
        return self._batches[step]

    def seen(self, steps: int) -> int:
        """Real tokens of the first `steps` batches."""
        self._reach(steps)
        return self._seen[steps]

    def steps(self, tokens: int) -> int:
        """How many batches hold `tokens` real tokens."""
        while self._seen[-1] < tokens:
            self._grow()
        return int(np.searchsorted(self._seen, tokens))

    def _reach(self, steps: int) -> None:
        while len(self._batches) < steps:
            self._grow()

    def _grow(self) -> None:
        """Add an epoch: cut a permutation into pools, sort and cut each into batches, then shuffle all batches."""
        order = _permutation(self._seed, 0, self._epoch, len(self._lengths))
        batches: list[list[int]] = []
        for start in range(0, len(order), POOL):
            pool = order[start : start + POOL]
            batch: list[int] = []
            for row in pool[np.argsort(self._lengths[pool], kind="stable")]:
                if batch and (len(batch) + 1) * self._lengths[row] > self._tokens:
                    batches.append(batch)
                    batch = []
                batch.append(int(row))
            batches.append(batch)
        for position in _permutation(self._seed, 1, self._epoch, len(batches)):
            self._batches.append(batches[position])
            self._seen.append(self._seen[-1] + int(self._lengths[batches[position]].sum()))
        self._epoch += 1


def _permutation(seed: int, stream: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch]).permutation(rows)
