"""What a chart shows: lines, points with intervals, or bars. `plots.svg` draws it for the app and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, NamedTuple

from heedful.maths.statistics import Interval, ends

Style = Literal["line", "points", "joined", "bars"]


@dataclass(frozen=True)
class Series:
    """One line, row of points or row of bars. A run keeps its `colour` (a place in the palette) in every chart."""

    name: str
    x: list[float]
    y: list[float]
    colour: int = 0
    style: Style = "line"
    """`joined` draws points and a line through them."""
    intervals: list[tuple[float, float]] = field(default_factory=list)
    """Low and high end of each point's interval."""
    titles: list[str] = field(default_factory=list)
    """Each point or bar in words, shown under the pointer."""


class Level(NamedTuple):
    """A horizontal line to compare with."""

    name: str
    y: float


@dataclass(frozen=True)
class Chart:
    """`unit` says what the vertical axis counts, `caption` what to look for."""

    title: str
    unit: str
    x_label: str
    series: list[Series]
    caption: str = ""
    levels: list[Level] = field(default_factory=list)
    diagonal: bool = False
    """Draw y = x: where a prediction comes true."""
    names: list[str] = field(default_factory=list)
    """What stands below the places 0, 1, 2, ... of the horizontal axis, instead of numbers."""
    y_range: tuple[float, float] | None = None
    """The ends of the vertical axis. By default the axis follows the values."""
    summary: str = ""
    """The chart in words, for screen readers. By default the first and last value of each series."""


def daily(title: str, days: Sequence[tuple[date, int]], unit: str) -> Chart | None:
    """A bar for each day. Include days without work. Returns None if every count is 0."""
    if not any(count for _, count in days):
        return None
    words = [f"{day_and_month(day)}: {count} {unit}" for day, count in days]
    total, best = sum(count for _, count in days), max(days, key=lambda day: day[1])
    summary = f"{total} {unit} in {len(days)} days, the most on {day_and_month(best[0])}: {best[1]}."
    counts = Series(unit, list(range(len(days))), [count for _, count in days], style="bars", titles=words)
    return Chart(title, "", "", [counts], names=[day_and_month(day) for day, _ in days], summary=summary)


def rates(
    title: str, named: Sequence[tuple[str, Interval]], level: Level | None = None, *, joined: bool = False
) -> Chart | None:
    """Shares in percent with their intervals, in the given order. `joined`: they follow one another, as weeks do."""
    if not named:
        return None
    values = [rate for _, rate in named]
    lowest = min([rate.mean if rate.low is None else rate.low for rate in values] + ([level.y] if level else []))
    bottom = min(90.0, max(0.0, 10.0 * math.floor(lowest * 10)))  # an axis needs some length even if all rates are 1
    words = [f"{name}: {rate.mean:.0%} ({ends(rate, '{:.0%}'.format)}, n = {rate.n:,})" for name, rate in named]
    shares = Series(
        title,
        list(range(len(values))),
        [100 * rate.mean for rate in values],
        style="joined" if joined else "points",
        intervals=[whisker(rate, 100) for rate in values],
        titles=words,
    )
    return Chart(
        title, "%", "", [shares],
        levels=[Level(level.name, 100 * level.y)] if level else [],
        names=[name for name, _ in named], y_range=(bottom, 100.0), summary="; ".join(words),
    )  # fmt: skip


def whisker(found: Interval, scale: float = 1.0) -> tuple[float, float]:
    """The ends of the line through a point. Without an interval the line has no length and is not seen."""
    if found.low is None or found.high is None:
        return scale * found.mean, scale * found.mean
    return scale * found.low, scale * found.high


def day_and_month(day: date) -> str:
    """A date as "3 May"."""
    return f"{day.day} {day:%b}"
