"""Comparison of models on the same prompts: one row a model, against one baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heedful.config import UserError
from heedful.data.text import as_words
from heedful.maths.statistics import Clusters, Interval, WinRate, ends, mean_interval, rate_interval, win_rate, wins


@dataclass(frozen=True)
class ModelResult:
    """Results of one model. Lists are aligned by prompt. Every model has the same prompts."""

    name: str
    utilities: list[float]
    """How good each answer is. The higher one wins."""
    lengths: list[float]
    """Tokens of each answer."""
    flags: dict[str, list[bool | None]] = field(default_factory=dict)
    """By flag, for each answer. None if the question does not arise."""
    kl: float | None = None
    """Mean sequence KL from the reference in nats."""
    corpus_loss: float | None = None
    """Nats a token on held-out base text (E6)."""
    completions: list[str] = field(default_factory=list)
    kl_bound: bool = False
    """Whether `kl` is an upper bound (best of n, O2) instead of a measurement."""


@dataclass(frozen=True)
class ModelRow:
    """One model of the table. `wins` is None for the baseline."""

    model: ModelResult
    wins: WinRate | None
    flags: dict[str, Interval | None]

    @property
    def length(self) -> float:
        """Mean tokens of an answer."""
        return float(np.mean(self.model.lengths))


@dataclass(frozen=True)
class Table:
    """Every model against one baseline. Rates are shares of 1, lengths in tokens, KL and loss in nats."""

    baseline: str
    rows: list[ModelRow]

    @property
    def flags(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row.flags))

    def text(self, width: int = 100) -> str:
        """The table for a terminal. Columns that do not fit into `width` go into a block below."""
        columns = [_Column(["", "", "model"], [row.model.name for row in self.rows], left=True)]
        columns.append(_wins_column(self))
        for flag in self.flags:
            shares = [row.flags.get(flag) for row in self.rows]
            cells = ["–" if share is None else f"{100 * share.mean:.1f}" for share in shares]
            columns.append(_Column(["", *short_heading(flag)], cells, unit="%"))
        columns.append(_Column(["", "", "length"], [f"{row.length:.1f}" for row in self.rows], unit="tokens"))
        moved = [f"{'≤' * row.model.kl_bound}{_number(row.model.kl, 2)}" for row in self.rows]
        columns.append(_Column(["", "", "KL"], moved, unit="nats"))
        losses = [_number(row.model.corpus_loss, 3) for row in self.rows]
        columns.append(_Column(["", "corpus", "loss"], losses, unit="nats"))
        return "\n\n".join("\n".join(_lines(block)) for block in _blocks(columns, width))


def demo_table(results: Sequence[ModelResult], baseline: str, clusters: Clusters = None) -> Table:
    """Compare every model with `baseline` (T3). `clusters` names the user of each prompt.

    Raises UserError for an unknown baseline and for lists of different lengths.
    """
    by_name = {result.name: result for result in results}
    if baseline not in by_name:
        raise UserError(f"no model {baseline!r} to compare with. Known: {', '.join(by_name)}")
    _check(results)
    reference = by_name[baseline]
    rows = [
        ModelRow(
            result,
            None if result is reference else head_to_head(result, reference, clusters),
            {name: flag_rate(result, name, clusters) for name in result.flags},
        )
        for result in results
    ]
    return Table(baseline, rows)


def head_to_head(a: ModelResult, b: ModelResult, clusters: Clusters = None) -> WinRate:
    """Win rate of A over B: the share of prompts on which its answer is better, ties half."""
    _check([a, b])
    margins = np.asarray(a.utilities) - np.asarray(b.utilities)
    return win_rate(wins(margins), clusters)


def flag_rate(result: ModelResult, flag: str, clusters: Clusters = None) -> Interval | None:
    """Share of answers with the flag among those where the question arises. None if it never arises."""
    values = result.flags[flag]
    asked = [index for index, value in enumerate(values) if value is not None]
    if not asked:
        return None
    return rate_interval([bool(values[index]) for index in asked], _chosen(clusters, asked))


def flag_change(before: ModelResult, after: ModelResult, flag: str, clusters: Clusters = None) -> Interval | None:
    """Change of a flag's share, on prompts where it arises for both models, with the interval of paired differences."""
    _check([before, after])
    pairs = zip(before.flags[flag], after.flags[flag], strict=True)
    both = {index: float(new) - float(old) for index, (old, new) in enumerate(pairs) if None not in (old, new)}  # type: ignore[arg-type]
    if not both:
        return None
    return mean_interval(list(both.values()), _chosen(clusters, list(both)))


def changes_text(before: ModelResult, after: ModelResult, clusters: Clusters = None) -> str:
    """Every flag's change in percentage points, one line each."""
    lines = [f"{before.name} to {after.name}, in percentage points:"]
    names = [name for name in before.flags if name in after.flags]
    for name in names:
        change = flag_change(before, after, name, clusters)
        if change is not None:
            wide = max(len(other) for other in names)
            bounds = ends(change, lambda share: f"{100 * share:+.1f}")
            lines.append(f"  {as_words(name):<{wide}}  {100 * change.mean:+5.1f}  ({bounds})")
    return "\n".join(lines)


def short_heading(name: str) -> tuple[str, str]:
    """A flag's name as two lines. Long words end before a vowel: fails_instruction gives ("fails", "instr.")."""
    words = [word if len(word) <= 8 else word[:6].rstrip("aeiou ") + "." for word in as_words(name).split(" ", 1)]
    return ("", words[0]) if len(words) == 1 else (words[0], words[1])


@dataclass(frozen=True)
class _Column:
    heading: list[str]
    cells: list[str]
    unit: str = ""
    left: bool = False

    @property
    def lines(self) -> list[str]:
        return [*self.heading, self.unit, *self.cells]

    @property
    def width(self) -> int:
        return max(len(line) for line in self.lines)

    def padded(self) -> list[str]:
        return [f"{line:<{self.width}}" if self.left else f"{line:>{self.width}}" for line in self.lines]


def _wins_column(table: Table) -> _Column:
    rates = [50.0 if row.wins is None else 100 * row.wins.rate for row in table.rows]
    intervals = [
        "baseline" if row.wins is None else f"({ends(row.wins, lambda share: f'{100 * share:.1f}', 'too few')})"
        for row in table.rows
    ]
    unit = "95 % interval"
    wide = max(len(interval) for interval in [unit, *intervals])
    cells = [f"{rate:5.1f}  {interval:<{wide}}" for rate, interval in zip(rates, intervals, strict=True)]
    return _Column(["", "wins against", table.baseline], cells, unit=f"{'%':>5}  {unit:<{wide}}")


def _blocks(columns: list[_Column], width: int) -> list[list[_Column]]:
    """Distribute columns over blocks of at most `width`. Each block starts with the first column."""
    name, *rest = columns
    blocks: list[list[_Column]] = [[name]]
    for column in rest:
        if len(blocks[-1]) > 1 and sum(c.width + 2 for c in [*blocks[-1], column]) - 2 > width:
            blocks.append([name])
        blocks[-1].append(column)
    return blocks


def _lines(columns: list[_Column]) -> list[str]:
    lines = ["  ".join(parts).rstrip() for parts in zip(*(column.padded() for column in columns), strict=True)]
    head, cells = lines[:4], lines[4:]
    rule = "─" * max(len(line) for line in lines)
    return [*(line for line in head if line), rule, *cells]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def _chosen(clusters: Clusters, indices: Sequence[int]) -> Clusters:
    return None if clusters is None else [clusters[index] for index in indices]


def _check(results: Sequence[ModelResult]) -> None:
    prompts = len(results[0].utilities)
    for result in results:
        lists: dict[str, Sequence[Any]] = {"utilities": result.utilities, "lengths": result.lengths, **result.flags}
        if result.completions:
            lists["completions"] = result.completions
        for name, values in lists.items():
            if len(values) != prompts:
                raise UserError(f"{result.name}: {len(values)} {name} for {prompts} prompts. Give one for each")
