"""What a chart shows: lines, points with intervals, or bars. `plots.svg` draws it for the app and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, NamedTuple

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


class Rate(NamedTuple):
    """A share between 0 and 1 with its interval, from n observations."""

    name: str
    value: float
    low: float
    high: float
    n: int


def daily(title: str, days: Sequence[tuple[date, int]], unit: str) -> Chart | None:
    """A bar for each day. Include days without work. Returns None if every count is 0."""
    if not any(count for _, count in days):
        return None
    words = [f"{_day(day)}: {count} {unit}" for day, count in days]
    total, best = sum(count for _, count in days), max(days, key=lambda day: day[1])
    summary = f"{total} {unit} in {len(days)} days, the most on {_day(best[0])}: {best[1]}."
    counts = Series(unit, list(range(len(days))), [count for _, count in days], style="bars", titles=words)
    return Chart(title, "", "", [counts], names=[_day(day) for day, _ in days], summary=summary)


def rates(title: str, values: Sequence[Rate], level: Level | None = None, *, joined: bool = False) -> Chart | None:
    """Shares in percent with their intervals, in the given order. `joined`: they follow one another, as weeks do."""
    if not values:
        return None
    lowest = min([rate.low for rate in values] + ([level.y] if level else []))
    bottom = min(90.0, max(0.0, 10.0 * math.floor(lowest * 10)))  # an axis needs some length even if all rates are 1
    words = [f"{rate.name}: {rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%}, n = {rate.n:,})" for rate in values]
    shares = Series(
        title,
        list(range(len(values))),
        [100 * rate.value for rate in values],
        style="joined" if joined else "points",
        intervals=[(100 * rate.low, 100 * rate.high) for rate in values],
        titles=words,
    )
    return Chart(
        title, "%", "", [shares],
        levels=[Level(level.name, 100 * level.y)] if level else [],
        names=[rate.name for rate in values], y_range=(bottom, 100.0), summary="; ".join(words),
    )  # fmt: skip


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"
