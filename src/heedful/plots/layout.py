"""Layout of a chart: turns values into coordinates, ticks and labels. The template draws them without arithmetic.

Coordinates are pixels from the top left of a box of WIDTH x HEIGHT. Lines are labelled at their end, not in a legend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from heedful.maths.statistics import Floats
from heedful.plots.charts import Chart, Level, Series

WIDTH, HEIGHT = 360, 216
TOP, BOTTOM, LEFT, RIGHT = 10, 30, 38, 8
LETTER, TICK_LETTER = 7.1, 6.2  # mean widths of a letter of a label at a line's end and of a tick
MOST_POINTS = 240
MOST_LETTERS = 16
WIDEST_BAR = 28.0
LINE_GAP = 14
FLAT = 1e-9  # a range this small, relative to its values, is rounding error


class Tick(NamedTuple):
    """A mark on an axis. `anchor` is that of SVG text."""

    at: float
    label: str
    anchor: str = "middle"

    @classmethod
    def below(cls, at: float, label: str) -> Tick:
        """A mark of the horizontal axis whose label stays inside the box, and off the labels of the other axis."""
        half = TICK_LETTER * len(label) / 2
        return cls(at, label, "end" if at + half > WIDTH else "start" if at < LEFT + 8 else "middle")

    @property
    def span(self) -> tuple[float, float]:
        """Left and right end of a label below the chart."""
        width = TICK_LETTER * len(self.label)
        start = self.at - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return start, start + width


class Label(NamedTuple):
    """Text at the end of a line. `colour` is None for a level."""

    x: float
    y: float
    text: str
    colour: int | None
    anchor: str = "start"


class Line(NamedTuple):
    """SVG path data: `raw` as measured, `smooth` over it (empty where the raw line is smooth enough)."""

    raw: str
    smooth: str
    colour: int


class Whisker(NamedTuple):
    """A point with its interval."""

    x: float
    y: float
    low: float
    high: float
    colour: int
    title: str


class Bar(NamedTuple):
    """A bar from the bottom of the chart up to y."""

    x: float
    y: float
    width: float
    colour: int
    title: str


@dataclass(frozen=True)
class Drawing:
    """A chart as coordinates."""

    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    whiskers: list[Whisker]
    bars: list[Bar]
    ends: list[Label]
    levels: list[float]
    diagonal: str
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


def draw(chart: Chart) -> Drawing | None:
    """Lay a chart out. Returns None if it has no finite point, or a range that no float holds."""
    curves = [_Curve(series, *_finite(series)) for series in chart.series]
    curves = [curve for curve in curves if len(curve.x)]
    extremes = [extreme for curve in curves for extreme in (curve.y.min(), curve.y.max())]
    if not curves or not math.isfinite(float(max(extremes)) - float(min(extremes))):
        return None
    levels = [level for level in chart.levels if math.isfinite(level.y)]
    names = [curve.end_label(alone=len(curves) == 1) for curve in curves]

    # 1) The labels at the right end decide how much width is left for the axis.
    letters = max([len(name) for name in names] + [len(short(level.name)) for level in levels])
    right = WIDTH - RIGHT - LETTER * letters
    x_axis, x_ticks = _horizontal(chart, curves, right)
    y_axis = _vertical(chart, curves, levels)

    # 2) Each curve becomes a line, points with intervals, or bars.
    lines, whiskers, bars, ends = [], [], [], []
    for curve, name in zip(curves, names, strict=True):
        style, colour = curve.series.style, curve.series.colour
        if style in ("line", "joined"):
            over = "" if curve.smooth is curve.y else _path(curve.x, curve.smooth, x_axis, y_axis)
            lines.append(Line(_path(curve.x, curve.y, x_axis, y_axis), over, colour))
        if style == "line":
            ends.append(_end(x_axis(curve.x[-1]), y_axis(curve.smooth[-1]), right, name, colour))
        elif style == "bars":
            width = max(1.0, min(x_axis(1) - x_axis(0) - 2, WIDEST_BAR))
            bars += [Bar(x_axis(x) - width / 2, y_axis(y), width, colour, title) for x, y, title in curve.points()]
        else:
            bounds = zip(curve.points(), curve.series.intervals, strict=True)
            whiskers += [
                Whisker(x_axis(x), y_axis(y), y_axis(low), y_axis(high), colour, title)
                for (x, y, title), (low, high) in bounds
            ]

    # 3) Lines to compare with, and the words for a screen reader.
    ends += [Label(right + 4, y_axis(level.y), short(level.name), None) for level in levels]
    span = (max(x_axis.low, y_axis.low), min(x_axis.high, y_axis.high))
    diagonal = " ".join(f"{x_axis(v):.1f},{y_axis(v):.1f}" for v in span) if chart.diagonal else ""
    summary = "; ".join(f"{c.series.name}: {number(c.smooth[0])} to {number(c.smooth[-1])}" for c in curves)
    whole = all(curve.series.style == "bars" for curve in curves)
    return Drawing(
        LEFT, right, TOP, HEIGHT - BOTTOM, x_ticks, y_axis.ticks(4, whole=whole), lines, whiskers, bars,
        _apart(ends), [y_axis(level.y) for level in levels], diagonal, chart.summary or summary,
    )  # fmt: skip


def short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"


def number(value: float) -> str:
    """Three significant digits, thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    return "0" if value == 0 else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


class _Axis(NamedTuple):
    """Maps low..high to start..end."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Floats, start: float, end: float, *, tight: bool = False) -> _Axis:
        low, high = float(values.min()), float(values.max())
        if high - low <= FLAT * max(abs(low), abs(high)):
            low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
        elif not tight:
            room = 0.06 * (high - low)
            # An axis that almost reaches zero is extended to it.
            low = 0.0 if 0 <= low < 0.35 * high else low - room
            high = 0.0 if low * 0.35 < high <= 0 else high + room
        return cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, wanted: int, *, whole: bool = False) -> list[Tick]:
        """About `wanted` round numbers inside the axis, `whole` ones if asked for."""
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
        step = min((power * factor for factor in factors), key=lambda size: abs(math.log(size / rough)))
        step = max(1.0, step) if whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [round(index * step, 2 - math.floor(math.log10(step))) for index in range(first, last + 1)]
        labels = [number(value) for value in values]
        rounded = any("k" not in label and float(label) != value for label, value in zip(labels, values, strict=True))
        if rounded or len(set(labels)) < len(labels):  # A narrow range far from 0 needs as many digits as the step.
            digits = next((d for d in range(7) if math.isclose(step * 10**d, round(step * 10**d), rel_tol=1e-9)), None)
            labels = [f"{value:.3g}" if digits is None else f"{value:,.{digits}f}" for value in values]
        return [Tick(self(value), label) for value, label in zip(values, labels, strict=True)]


class _Curve(NamedTuple):
    """A series and its finite points."""

    series: Series
    x: Floats
    y: Floats

    @property
    def smooth(self) -> Floats:
        return _smoothed(self.y) if self.series.style == "line" else self.y

    def points(self) -> Iterator[tuple[float, float, str]]:
        """x, y and title of each point."""
        return zip(self.x.tolist(), self.y.tolist(), self.series.titles or [""] * len(self.x), strict=True)

    def end_label(self, *, alone: bool) -> str:
        if self.series.style != "line":
            return ""
        last = number(self.smooth[-1])
        return last if alone else f"{short(self.series.name)} {last}"


def _finite(series: Series) -> tuple[Floats, Floats]:
    x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
    assert x.shape == y.shape, f"{series.name}: {x.shape} against {y.shape}"
    assert series.style == "line" or np.isfinite(y).all(), f"{series.name}: an interval around nothing"
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _smoothed(y: Floats) -> Floats:
    """Centred moving average over about a tenth of the line. A short line stays as it is."""
    if len(y) < 24:
        return y
    half = max(1, min(len(y) // 20, 25))
    sums = np.concatenate([[0.0], np.cumsum(y)])
    index = np.arange(len(y))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(y))
    return (sums[last] - sums[first]) / (last - first)


def _horizontal(chart: Chart, curves: Sequence[_Curve], right: float) -> tuple[_Axis, list[Tick]]:
    """The axis of x, and its ticks: names of places or round numbers."""
    if not chart.names:
        all_x = np.concatenate([curve.x for curve in curves])
        axis = _Axis.over(all_x, LEFT, right, tight=not chart.diagonal)
        ticks = axis.ticks(4, whole=bool((all_x == np.round(all_x)).all()))
        return axis, [Tick.below(tick.at, tick.label) for tick in ticks]
    axis = _Axis(-0.5, len(chart.names) - 0.5, LEFT, right)
    ticks = [Tick.below(axis(place), short(name)) for place, name in enumerate(chart.names)]
    every = next(step for step in range(1, len(ticks) + 1) if _fit(ticks[::-1][::step][::-1]))
    return axis, ticks[::-1][::every][::-1]  # the last place always has its name


def _fit(ticks: Sequence[Tick]) -> bool:
    """Whether no label touches the next one."""
    return all(a.span[1] + 8 <= b.span[0] for a, b in pairwise(ticks))


def _vertical(chart: Chart, curves: Sequence[_Curve], levels: Sequence[Level]) -> _Axis:
    """The axis of y. It shows the smooth lines, nearly all raw points, intervals and levels."""
    if chart.y_range:
        return _Axis(*chart.y_range, HEIGHT - BOTTOM, TOP)
    shown = [np.array([level.y for level in levels])]
    for curve in curves:
        # A steep start would flatten everything after it. It may leave the chart.
        later = len(curve.y) // 10
        first = later if np.ptp(curve.smooth) > 2 * np.ptp(curve.smooth[later:]) else 0
        shown += [curve.smooth[first:], np.quantile(curve.y[first:], [0.02, 0.98])]
        shown.append(np.asarray(curve.series.intervals, dtype=np.float64).ravel())
        if curve.series.style == "bars":
            shown.append(np.array([0.0, curve.y.max()]))
        if chart.diagonal:
            shown.append(curve.x)
    return _Axis.over(np.concatenate(shown), HEIGHT - BOTTOM, TOP)


def _path(x: Floats, y: Floats, x_axis: _Axis, y_axis: _Axis) -> str:
    """Path data through at most MOST_POINTS points, each the mean of its neighbours where there are more."""
    if len(x) > MOST_POINTS:
        parts = np.array_split(np.arange(len(x)), MOST_POINTS)
        x, y = (np.array([line[part].mean() for part in parts]) for line in (x, y))
    points = [f"{x_axis(a):.1f},{y_axis(b):.1f}" for a, b in zip(x, y, strict=True)]
    return f"M{points[0]}h0" if len(points) == 1 else "M" + "L".join(points)


def _end(x: float, y: float, right: float, text: str, colour: int) -> Label:
    """A label in the margin next to the end of a line, or above an end inside the chart. It stays inside the axes."""
    if x > right - 40:
        return Label(right + 4, y, text, colour)
    if x - 2 - LETTER * len(text) < LEFT:
        return Label(LEFT + 2, y - 9, text, colour)
    return Label(x - 2, y - 9, text, colour, "end")


def _apart(labels: list[Label]) -> list[Label]:
    """Move labels up and down until none covers another. Their order stays."""
    order = sorted(range(len(labels)), key=lambda index: labels[index].y)
    placed = [labels[index].y for index in order]
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + LINE_GAP)
    limit = float(HEIGHT - BOTTOM)
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - LINE_GAP
    return [labels[index]._replace(y=y) for index, y in zip(order, placed, strict=True)]
