"""Plots as geometry for templates: inline SVG with classes, no inline style, every figure also in words.

A template draws a Plot with `lead/_plot.html`; coordinates are pixels from the top left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

WIDTH, HEIGHT = 560, 190
TOP, BOTTOM, LEFT, RIGHT = 12, 28, 40, 14
MOST_LABELS = 6


class Mark(NamedTuple):
    """A number in a text position, or a line at it."""

    at: float
    label: str


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    title: str


class Point(NamedTuple):
    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Plot:
    """`description` says in words what the plot shows, for those who do not see it."""

    title: str
    description: str
    y_marks: list[Mark]
    x_marks: list[Mark]
    bars: list[Bar]
    points: list[Point]
    line: str  # points of a polyline
    level: Mark | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


class Rate(NamedTuple):
    """A rate with its interval."""

    name: str
    value: float
    low: float
    high: float
    n: int


def daily(title: str, days: Sequence[tuple[date, int]], unit: str) -> Plot | None:
    """A bar for each day, days without anything included by the caller; None where there is nothing to see."""
    if not any(count for _, count in days):
        return None
    ticks = _whole_ticks(max(count for _, count in days))
    top = ticks[-1]
    step = (WIDTH - LEFT - RIGHT) / len(days)
    bars = []
    for i, (day, count) in enumerate(days):
        height = (HEIGHT - TOP - BOTTOM) * count / top
        words = f"{_day(day)}: {count} {unit}"
        bars.append(Bar(LEFT + i * step + 1, HEIGHT - BOTTOM - height, max(1.0, min(step - 2, 28.0)), height, words))
    total, best = sum(count for _, count in days), max(days, key=lambda day: day[1])
    described = f"{total} {unit} in {len(days)} days, the most on {_day(best[0])}: {best[1]}."
    labels = [Mark(bar.x + bar.width / 2, _day(day)) for bar, (day, _) in zip(bars, days, strict=True)]
    y_marks = [Mark(_height(tick, 0, top), f"{tick:,}") for tick in ticks]
    return Plot(title, described, y_marks, _thinned(labels), bars, [], "")


def rates(
    title: str, values: Sequence[Rate], level: tuple[str, float] | None = None, *, joined: bool = False
) -> Plot | None:
    """Rates between 0 and 1 with their intervals, in their order; `level` is a line to compare with; `joined`: they
    follow one another, as weeks do.
    """
    if not values:
        return None
    lowest = min([rate.low for rate in values] + ([level[1]] if level else []))
    low = min(0.9, max(0.0, math.floor(lowest * 10) / 10))  # all of them 1: still an axis
    step = (WIDTH - LEFT - RIGHT) / len(values)
    points = [
        Point(
            LEFT + (i + 0.5) * step,
            _height(rate.value, low, 1.0),
            _height(rate.low, low, 1.0),
            _height(rate.high, low, 1.0),
            f"{rate.name}: {rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%}, n = {rate.n:,})",
        )
        for i, rate in enumerate(values)
    ]
    spacing = 0.1 if low >= 0.5 else 0.2 if low >= 0.2 else 0.25
    ticks = [low + i * spacing for i in range(int((1.0 - low) / spacing + 1e-9) + 1)]
    return Plot(
        title,
        "; ".join(point.title for point in points),
        [Mark(_height(tick, low, 1.0), f"{tick:.0%}") for tick in ticks],
        _thinned([Mark(point.x, rate.name) for point, rate in zip(points, values, strict=True)]),
        [],
        points,
        " ".join(f"{point.x:.1f},{point.y:.1f}" for point in points) if joined else "",
        Mark(_height(level[1], low, 1.0), level[0]) if level else None,
    )


def _height(value: float, low: float, high: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low)), 1)


def _whole_ticks(most: int) -> list[int]:
    """0 and up to four steps of 1, 2 or 5 times a power of ten."""
    step = 1
    while step * 4 < most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, step * math.ceil(most / step) + 1, step))


def _thinned(labels: list[Mark]) -> list[Mark]:
    """So few labels that they do not touch, the last one always among them."""
    every = math.ceil(len(labels) / MOST_LABELS)
    return labels[::-1][::every][::-1]


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"
