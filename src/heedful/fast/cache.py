"""Keys and values of the rows in flight, written in place.

All rows share one timeline of columns. A row of n tokens holds the n columns before `end`. So one slice takes the next
token of every row, and distances between columns are distances between tokens (sliding windows stay right).

    prompts [a b c] and [d e]     one step: x, y      [p q r s t] joins: all others move to the right

    row 0:  a b c                 a b c x             . a b c x
    row 1:  . d e                 . d e y             . . d e y
    row 2:                                            p q r s t
                  ^ end = 3               ^ 4                   ^ 5

A row that is done is overwritten by one of the last rows. New rows are appended, right-aligned to `end`.
Columns before a row's first one are masked, as far as another row is read. They hold zeros or old values: a masked
column is multiplied by 0, and 0 * NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


def compaction(done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Former index of each remaining row: rows keep their place, and the last ones fill the gaps."""
    left = len(done_N) - int(done_N.sum())
    order = np.arange(left)
    order[done_N[:left]] = left + np.flatnonzero(~done_N[left:])
    return order


PARTS, PART_ROWS = 8, 32  # rows are read in at most PARTS parts, of at least PART_ROWS rows
FIRST = 64  # columns beyond the longest prompt at the start: most answers end long before they must
SLACK = 64  # columns beyond the longest row once rows join late: columns then move once in SLACK steps
UNTIDY = 1.3  # rows are sorted when the parts have UNTIDY times as many columns as they could have


class CachePart(NamedTuple):
    """Neighbouring rows, and the first column that one of them holds."""

    rows: slice
    start: int


class Timeline:
    """Columns [start, end) are in use by the first `rows` rows. Row i holds those from starts[i] on.

    There are `columns` so far. The longest row can get `longest` tokens. `late`: rows joined later than others.
    """

    def __init__(self, max_rows: int) -> None:
        self.columns = self.longest = self.rows = self.start = self.end = 0
        self.late = False
        self.starts: NDArray[np.int64] = np.zeros(max_rows, dtype=np.int64)

    @property
    def most(self) -> int:
        """Columns that the rows need at most."""
        return self.longest + (SLACK if self.late else 0)

    def refresh(self) -> None:
        self.start = int(self.starts[: self.rows].min()) if self.rows else self.end

    def parts(self) -> list[CachePart]:
        """All rows, cut so that few columns are read that their rows do not hold."""
        cuts, starts = _parts(self.starts[: self.rows])
        return [CachePart(slice(a, b), start) for (a, b), start in zip(pairwise(cuts), starts.tolist(), strict=True)]

    def order(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """`compaction`, or the longest rows first where the filled gaps have mixed long and short rows."""
        order = compaction(done_N)
        tidy = order[np.argsort(self.starts[order], kind="stable")]
        return tidy if self._columns(order) > UNTIDY * self._columns(tidy) else order

    def _columns(self, order: NDArray[np.int64]) -> int:
        cuts, starts = _parts(self.starts[order])
        return int(np.dot(np.diff(cuts), self.end - starts))


def _parts(starts_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each part begins and the last one ends, and the first column of each part."""
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
        self.write(key_states[:, :, 0], value_states[:, :, 0])
        return self.read(CachePart(slice(0, self.timeline.rows), self.timeline.start))

    def write(self, k_NHE: Tensor, v_NHE: Tensor) -> None:
        """Set the column at `end` of every row."""
        at = self.timeline
        keys, values = self.both()
        keys[: at.rows, :, at.end] = k_NHE
        values[: at.rows, :, at.end] = v_NHE

    def put(self, rows: list[int], key_states: Tensor, value_states: Tensor) -> None:
        """Copy left-padded keys and values [rows heads width E] to the ascending `rows` of the cache."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.timeline.start, self.timeline.end
        # neighbours as a slice: that takes an eighth of the time
        to = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] < len(rows) else rows
        for whole, states in zip(self.both(), (key_states, value_states), strict=True):
            first = end - states.shape[2]
            whole[to, :, start:first] = 0
            whole[to, :, first:end] = states.to(whole.dtype)

    def read(self, part: CachePart) -> tuple[Tensor, Tensor]:
        """Keys and values [n heads C E] of some rows, the column at `end` included."""
        keys, values = self.both()
        used = (part.rows, slice(None), slice(part.start, self.timeline.end + 1))
        return keys[used], values[used]

    def move(self, shift: int) -> None:
        """Move the columns in use by `shift` to the right, into as many columns as the timeline has now."""
        if self.is_initialized:
            self.keys, self.values = (self._moved(whole, shift) for whole in self.both())

    def _moved(self, whole: Tensor, shift: int) -> Tensor:
        at = self.timeline
        rows, heads, columns, width = whole.shape
        used = whole[: at.rows, :, at.start : at.end]
        if columns == at.columns:
            to, used = whole, used.clone()
        else:
            to = whole.new_empty(rows, heads, at.columns, width)
        to[: at.rows, :, at.start + shift : at.end + shift] = used
        return to

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
    """What a model reads and writes during a rollout, one token a row at a time.

    `dtype`: what keys and values are kept as. None: as they come.
    """

    def __init__(self, layers: int, max_rows: int, dtype: torch.dtype | None = None) -> None:
        self.timeline = Timeline(max_rows)
        super().__init__(layers=[RowLayer(self.timeline, dtype) for _ in range(layers)])

    def admit(self, lengths: Sequence[int], rooms: Sequence[int]) -> range:
        """Make room for rows of `lengths` tokens that can get `rooms` more. Returns their places, for layers to `put`.

        A row that is longer than all columns so far moves the others to the right.
        """
        at = self.timeline
        if at.rows == 0:
            at.start = at.end = at.longest = 0
            at.late = False
        else:
            at.late = True
        width = max(lengths)
        at.longest = max(at.longest, *(length + room for length, room in zip(lengths, rooms, strict=True)))
        if width > at.end:
            columns = at.columns if width < at.columns else min(at.most, width + FIRST)
            self._move(width - at.end, columns)
        new, start = range(at.rows, at.rows + len(lengths)), at.start
        at.starts[new.start : new.stop] = at.end - np.array(lengths)
        at.rows = new.stop
        at.refresh()
        if new.start and at.start < start:
            for layer in self.layers:
                for whole in layer.both():
                    whole[: new.start, :, at.start : start] = 0
        return new

    def advance(self) -> None:
        """The column at `end` has been written. At the right edge the columns double, or all move to the left."""
        at = self.timeline
        at.end += 1
        if at.end < at.columns:
            return
        if at.columns < at.most and at.start < at.columns // 2:
            self._move(0, min(at.most, 2 * at.columns))
        else:
            assert at.start > 0, "the cache is too narrow for its rows"
            self._move(-at.start, at.columns)

    def _move(self, shift: int, columns: int) -> None:
        at = self.timeline
        at.columns = columns
        for layer in self.layers:
            layer.move(shift)
        at.starts[: at.rows] += shift
        at.start, at.end = at.start + shift, at.end + shift

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


class Prefill(NamedTuple):
    """Distinct prompts for one forward pass. Row rows[i] of the call starts with prompt of[i]. Rows ascend."""

    prompts: list[tuple[int, ...]]
    rows: list[int]
    of: list[int]


def prefills(prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[Prefill]:
    """Passes of at most `max_tokens` tokens, padding included. A prompt that several rows share is in one pass once."""
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(tuple(prompt), []).append(row)
    distinct = sorted(rows_of, key=len, reverse=True)
    while distinct:
        count = max(1, max_tokens // len(distinct[0]))
        group, distinct = distinct[:count], distinct[count:]
        pairs = sorted((row, index) for index, prompt in enumerate(group) for row in rows_of[prompt])
        yield Prefill(group, [row for row, _ in pairs], [index for _, index in pairs])
