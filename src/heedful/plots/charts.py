"""Charts as plain geometry: what a template draws as SVG. Small, quiet, labelled at the line and not in a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 360, 216
TOP, BOTTOM, LEFT, RIGHT = 10, 30, 38, 8
LETTER = 7.1  # mean width of a letter of a label
MOST_POINTS = 240
MOST_LETTERS = 16
LINE_GAP = 14

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One line. `colour` is its place in the page's palette: give a run the same one in every chart."""

    name: str
    x: list[float]
    y: list[float]
    colour: int = 0
    intervals: list[tuple[float, float]] | None = None
    """With these the points stand alone, each with its interval."""


class Level(NamedTuple):
    """A horizontal line to compare with."""

    name: str
    y: float


@dataclass(frozen=True)
class Chart:
    """`unit` says what the vertical axis counts; `caption` what to look for."""

    title: str
    unit: str
    x_label: str
    series: list[Series]
    caption: str = ""
    levels: list[Level] = field(default_factory=list)
    diagonal: bool = False
    """Draw y = x: where a prediction comes true."""


@dataclass(frozen=True)
class Group:
    """Charts under one heading; `more` are folded away."""

    title: str
    charts: list[Chart]
    text: str = ""
    more: list[Chart] = field(default_factory=list)


class Tick(NamedTuple):
    at: float
    label: str


class Label(NamedTuple):
    """Text at the end of a line; `colour` None for a level's."""

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
    x: float
    y: float
    low: float
    high: float
    colour: int


@dataclass(frozen=True)
class Drawing:
    """A chart laid out in a box of WIDTH x HEIGHT."""

    chart: Chart
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    whiskers: list[Whisker]
    ends: list[Label]
    levels: list[float]
    diagonal: str
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


def draw(chart: Chart) -> Drawing | None:
    """Lay a chart out; None where it has no finite point."""
    curves = [_Curve(series, *_finite(series)) for series in chart.series]
    curves = [curve for curve in curves if len(curve.x)]
    if not curves:
        return None
    levels = [level for level in chart.levels if math.isfinite(level.y)]
    names = [curve.end_label(alone=len(curves) == 1) for curve in curves]
    letters = max([len(name) for name in names] + [len(short(level.name)) for level in levels])
    right = WIDTH - RIGHT - LETTER * letters
    all_x = np.concatenate([curve.x for curve in curves])
    x_axis = _Axis.over(all_x, LEFT, right, tight=not chart.diagonal)
    x_ticks = x_axis.ticks(4, whole=bool((all_x == np.round(all_x)).all()))
    y_axis = _Axis.over(_vertical(chart, curves, levels), HEIGHT - BOTTOM, TOP)
    lines, whiskers, ends = [], [], []
    for curve, name in zip(curves, names, strict=True):
        series, x, y = curve
        if series.intervals is None:
            even = curve.smooth
            over = "" if even is y else _path(x, even, x_axis, y_axis)
            lines.append(Line(_path(x, y, x_axis, y_axis), over, series.colour))
            ends.append(_end(x_axis(x[-1]), y_axis(even[-1]), right, name, series.colour))
        else:
            bounds = zip(x, y, *np.asarray(series.intervals, dtype=np.float64).T, strict=True)
            whiskers += [
                Whisker(x_axis(a), y_axis(b), y_axis(low), y_axis(high), series.colour) for a, b, low, high in bounds
            ]
    ends += [Label(right + 4, y_axis(level.y), short(level.name), None) for level in levels]
    span = (max(x_axis.low, y_axis.low), min(x_axis.high, y_axis.high))
    diagonal = " ".join(f"{x_axis(v):.1f},{y_axis(v):.1f}" for v in span) if chart.diagonal else ""
    summary = "; ".join(f"{c.series.name}: {number(c.smooth[0])} to {number(c.smooth[-1])}" for c in curves)
    return Drawing(
        chart, LEFT, right, TOP, HEIGHT - BOTTOM, x_ticks, y_axis.ticks(4), lines, whiskers,
        _apart(ends), [y_axis(level.y) for level in levels], diagonal, summary,
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
        if low == high:
            low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
        elif not tight:
            room = 0.06 * (high - low)
            # an axis that almost reaches zero should
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
        values = [round(index * step, 10) for index in range(first, last + 1)]
        labels = [number(value) for value in values]
        rounded = any("k" not in label and float(label) != value for label, value in zip(labels, values, strict=True))
        if rounded or len(set(labels)) < len(labels):  # a narrow range far from 0: as many digits as the step has
            digits = next(d for d in range(12) if math.isclose(step * 10**d, round(step * 10**d), rel_tol=1e-9))
            labels = [f"{value:,.{digits}f}" for value in values]
        return [Tick(self(value), label) for value, label in zip(values, labels, strict=True)]


class _Curve(NamedTuple):
    """A series without what is not finite."""

    series: Series
    x: Floats
    y: Floats

    @property
    def smooth(self) -> Floats:
        return self.y if self.series.intervals else _smoothed(self.y)

    def end_label(self, *, alone: bool) -> str:
        if self.series.intervals:
            return ""
        last = number(self.smooth[-1])
        return last if alone else f"{short(self.series.name)} {last}"


def _finite(series: Series) -> tuple[Floats, Floats]:
    x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
    assert x.shape == y.shape, f"{series.name}: {x.shape} against {y.shape}"
    assert series.intervals is None or np.isfinite(y).all(), f"{series.name}: an interval around nothing"
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _smoothed(y: Floats) -> Floats:
    """Centred moving average over about a tenth of the line; a short line stays itself."""
    if len(y) < 24:
        return y
    half = max(1, min(len(y) // 20, 25))
    sums = np.concatenate([[0.0], np.cumsum(y)])
    index = np.arange(len(y))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(y))
    return (sums[last] - sums[first]) / (last - first)


def _vertical(chart: Chart, curves: Sequence[_Curve], levels: Sequence[Level]) -> Floats:
    """What the vertical axis must show: the smooth lines, nearly all raw points, the levels."""
    shown = [np.array([level.y for level in levels])]
    for curve in curves:
        # a steep start would flatten all that follows: let it leave the chart
        later = len(curve.y) // 10
        first = later if np.ptp(curve.smooth) > 2 * np.ptp(curve.smooth[later:]) else 0
        shown += [curve.smooth[first:], np.quantile(curve.y[first:], [0.02, 0.98])]
        if curve.series.intervals:
            shown.append(np.asarray(curve.series.intervals, dtype=np.float64).ravel())
        if chart.diagonal:
            shown.append(curve.x)
    return np.concatenate(shown)


def _path(x: Floats, y: Floats, x_axis: _Axis, y_axis: _Axis) -> str:
    """Path data through at most MOST_POINTS points, each the mean of its neighbours where there are more."""
    if len(x) > MOST_POINTS:
        parts = np.array_split(np.arange(len(x)), MOST_POINTS)
        x, y = (np.array([line[part].mean() for part in parts]) for line in (x, y))
    points = [f"{x_axis(a):.1f},{y_axis(b):.1f}" for a, b in zip(x, y, strict=True)]
    return f"M{points[0]}h0" if len(points) == 1 else "M" + "L".join(points)


def _end(x: float, y: float, right: float, text: str, colour: int) -> Label:
    """In the margin beside the line's end, or above it where the line ends inside the chart."""
    return Label(right + 4, y, text, colour) if x > right - 40 else Label(x - 2, y - 9, text, colour, "end")


def _apart(labels: list[Label]) -> list[Label]:
    """Move labels up and down until none covers another; the order stays."""
    order = sorted(range(len(labels)), key=lambda index: labels[index].y)
    placed = [labels[index].y for index in order]
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + LINE_GAP)
    limit = float(HEIGHT - BOTTOM)
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - LINE_GAP
    return [labels[index]._replace(y=y) for index, y in zip(order, placed, strict=True)]
