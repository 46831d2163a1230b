"""Keys and values of the rows in flight, written in place; few columns at first, more when answers get long.

All rows share one timeline of columns: a row of n tokens holds the n columns before `end`, so that one slice takes the
next token of every row, and distances between columns are distances between tokens (sliding windows stay right). A row
that is done is overwritten by one of the last; new rows are appended, right-aligned to `end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


def compaction(done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Former index of each row when those done are dropped: rows keep their place, the last ones fill the gaps."""
    left = len(done_N) - int(done_N.sum())
    order = np.arange(left)
    order[done_N[:left]] = left + np.flatnonzero(~done_N[left:])
    return order


PARTS, PART_ROWS = 8, 32  # rows are read in so many parts at most, of so many rows at least
FIRST = 64  # columns beyond the longest prompt to begin with: most answers end long before they must
UNTIDY = 1.3  # rows are put in order when the parts have so many times as many columns as they could have


class Part(NamedTuple):
    """Neighbouring rows, and the first column that one of them holds."""

    rows: slice
    start: int


class Timeline:
    """Columns [start, end) are in use by `rows` rows; row i holds those from starts[i] on. There are `columns` so far,
    and can be `most`.
    """

    def __init__(self, max_rows: int, most: int) -> None:
        self.most = most
        self.columns = self.rows = self.start = self.end = 0
        self.starts: NDArray[np.int64] = np.zeros(max_rows, dtype=np.int64)

    def refresh(self) -> None:
        self.start = int(self.starts[: self.rows].min()) if self.rows else self.end

    def parts(self) -> list[Part]:
        """All rows, so that few columns are read that their rows do not hold."""
        cuts, starts = _parts(self.starts[: self.rows])
        return [Part(slice(a, b), start) for (a, b), start in zip(pairwise(cuts), starts.tolist(), strict=True)]

    def order(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """`compaction`, or the longest rows first where the gaps that were filled have mixed long and short ones."""
        order = compaction(done_N)
        tidy = order[np.argsort(self.starts[order], kind="stable")]
        return tidy if self._columns(order) > UNTIDY * self._columns(tidy) else order

    def _columns(self, order: NDArray[np.int64]) -> int:
        cuts, starts = _parts(self.starts[order])
        return int(np.dot(np.diff(cuts), self.end - starts))


def _parts(starts_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the parts of so many rows begin and the last one ends; the first column of each part."""
    rows = len(starts_N)
    size = max(PART_ROWS, -(-rows // PARTS))
    cuts = np.append(np.arange(0, rows, size), rows)
    return cuts, np.minimum.reduceat(starts_N, cuts[:-1]) if rows else cuts[:0]


class RowLayer(CacheLayerMixin):
    """One layer: keys and values [max_rows, heads, columns, head width]."""

    def __init__(self, timeline: Timeline, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.timeline, self.kept_as = timeline, dtype

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, columns = len(self.timeline.starts), self.timeline.columns
        self.keys, self.values = (
            states.new_empty(rows, states.shape[1], columns, states.shape[3], dtype=self.kept_as or states.dtype)
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        at = self.timeline
        keys, values = self.both()
        keys[: at.rows, :, at.end] = key_states[:, :, 0]
        values[: at.rows, :, at.end] = value_states[:, :, 0]
        return self.read(Part(slice(0, at.rows), at.start))

    def put(self, new: slice, key_states: Tensor, value_states: Tensor, row_of_N: Tensor) -> None:
        """Rows `row_of_N` of left-padded keys and values [rows heads width E] into places that are free.

        In front of them stand zeros as far as other rows are read: a masked column is multiplied by 0, and 0 * NaN is
        NaN. No later row begins further left, since the longest prompts come first.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.timeline.start, self.timeline.end
        for whole, states in zip(self.both(), (key_states, value_states), strict=True):
            first = end - states.shape[2]
            whole[new, :, start:first] = 0
            whole[new, :, first:end] = states[row_of_N]

    def read(self, part: Part) -> tuple[Tensor, Tensor]:
        """Keys and values [n heads C E] of some rows, the column at `end` included."""
        keys, values = self.both()
        used = (part.rows, slice(None), slice(part.start, self.timeline.end + 1))
        return keys[used], values[used]

    def widen(self) -> None:
        """Take the columns that the timeline has now, with what is in use."""
        at = self.timeline
        self.keys, self.values = (self._wider(whole, slice(at.start, at.end)) for whole in self.both())

    def _wider(self, whole: Tensor, used: slice) -> Tensor:
        rows, heads, _, width = whole.shape
        wider = whole.new_empty(rows, heads, self.timeline.columns, width)
        wider[: self.timeline.rows, :, used] = whole[: self.timeline.rows, :, used]
        return wider

    def both(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.timeline.end - self.timeline.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return self.timeline.most


class RowCache(Cache):
    """What transformers' models read and write during a rollout, one token a row at a time. `dtype`: what keys and
    values are kept as; None: as they come.
    """

    def __init__(self, layers: int, max_rows: int, columns: int, dtype: torch.dtype | None = None) -> None:
        self.timeline = Timeline(max_rows, columns)
        super().__init__(layers=[RowLayer(self.timeline, dtype) for _ in range(layers)])

    def append(
        self, prefilled: Sequence[tuple[Tensor, Tensor]], row_of_N: Tensor, lengths_N: NDArray[np.int64]
    ) -> None:
        """Add rows: the i-th is row `row_of_N[i]` of left-padded keys and values, its last `lengths_N[i]` columns."""
        new = self.admit(prefilled[0][0].shape[2], lengths_N)
        for layer, source in zip(self.layers, prefilled, strict=True):
            layer.put(new, *source, row_of_N)

    def admit(self, width: int, lengths_N: NDArray[np.int64]) -> slice:
        """Make room for rows of these lengths, `width` the longest: their places, for every layer to `put` them."""
        at = self.timeline
        if at.rows == 0:
            at.end = width
            at.columns = at.columns or min(at.most, width + FIRST)
        assert width <= at.end, "the longest prompts come first"
        new = slice(at.rows, at.rows + len(lengths_N))
        at.starts[new] = at.end - lengths_N
        at.rows = new.stop
        at.refresh()
        return new

    def advance(self) -> None:
        """The column at `end` has been written. At the right edge there come more columns, as many again, or everything
        moves to the left where that makes as much room.
        """
        at = self.timeline
        at.end += 1
        if at.end < at.columns:
            return
        if at.columns < at.most and at.start < at.columns // 2:
            at.columns = min(at.most, 2 * at.columns)
            for layer in self.layers:
                layer.widen()
        else:
            self._shift()

    def _shift(self) -> None:
        at = self.timeline
        shift = at.start
        assert shift > 0, "the cache is too narrow for its rows"
        for layer in self.layers:
            for whole in layer.both():
                whole[: at.rows, :, : at.end - shift] = whole[: at.rows, :, shift : at.end].clone()
        at.starts[: at.rows] -= shift
        at.end -= shift
        at.refresh()

    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop rows: the former index of each row that remains."""
        at = self.timeline
        order = at.order(done_N)
        gaps = np.flatnonzero(order != np.arange(len(order)))
        if len(gaps):
            used = slice(at.start, at.end)
            for layer in self.layers:
                for whole in layer.both():
                    to, source = (torch.from_numpy(rows).to(whole.device) for rows in (gaps, order[gaps]))
                    whole[to, :, used] = whole[source, :, used]
        at.starts[: len(order)] = at.starts[order]
        at.rows = len(order)
        at.refresh()
        return order
