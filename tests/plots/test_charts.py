"""Charts as geometry: ticks, labels apart, and what stays inside the box."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from heedful.plots import layout
from heedful.plots.charts import Chart, Level, Series
from heedful.plots.layout import draw, number

ROUNDING = [1.0, 1 + 2e-16, 1 - 1e-13]  # a ratio of probabilities when a step sees its samples only once


def chart(*series: Series, levels: list[Level] | None = None) -> Chart:
    return Chart("Title", "unit", "step", list(series), levels=levels or [])


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


def test_a_line_runs_from_corner_to_corner() -> None:
    """y from 0 to 10: the axis starts at 0 and has 6 % of room above; x is tight."""
    drawing = draw(chart(Series("a", [0, 1, 2], [0, 5, 10])))
    assert drawing is not None
    (line,) = drawing.lines
    assert line.smooth == ""
    first, middle, last = points(line.raw)
    height = drawing.bottom - drawing.top
    assert first == (drawing.left, drawing.bottom)
    assert last == (pytest.approx(drawing.right, abs=0.05), pytest.approx(drawing.top + height * 0.6 / 10.6, abs=0.05))
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)
    assert [tick.label for tick in drawing.y_ticks] == ["0", "2.5", "5", "7.5", "10"]
    assert [tick.label for tick in drawing.x_ticks] == ["0", "1", "2"]  # steps are whole
    assert [label.text for label in drawing.ends] == ["10"]


def test_labels_of_lines_that_meet_stand_apart() -> None:
    drawing = draw(
        chart(*(Series(f"run {i}", [0, 1], [0, 1 + i / 1000], i) for i in range(4)), levels=[Level("SFT", 1.0)])
    )
    assert drawing is not None
    heights = sorted(label.y for label in drawing.ends)
    assert len(heights) == 5
    assert all(b - a >= layout.LINE_GAP - 1e-9 for a, b in itertools.pairwise(heights))
    assert drawing.top <= heights[0] < heights[-1] <= drawing.bottom
    assert drawing.levels == [pytest.approx(points(drawing.lines[0].raw)[-1][1], abs=0.1)]
    assert {label.text for label in drawing.ends} == {"run 0 1", "run 1 1", "run 2 1", "run 3 1", "SFT"}


def test_the_label_of_a_line_that_ends_early_stays_inside() -> None:
    """Of two lines over 0 to 16, one ends at 4. Its label would begin left of the box."""
    long = Series("ppo", [0.0, 16.0], [0.0, 1.0], 0)
    drawing = draw(Chart("t", "", "", [long, Series("ppo_of_one_run", [0.0, 4.0], [0.0, 0.5], 1)]))
    assert drawing is not None
    label = next(one for one in drawing.ends if one.colour == 1)
    assert (label.x, label.anchor) == (40, "start")
    later = draw(Chart("t", "", "", [long, Series("b", [0.0, 9.0], [0.0, 0.5], 1)]))  # short enough
    assert later is not None
    assert next(one for one in later.ends if one.colour == 1).anchor == "end"


def test_noise_is_smoothed_and_long_lines_are_thinned() -> None:
    y = [1.0 + 0.5 * (-1) ** i for i in range(1000)]
    drawing = draw(chart(Series("a", list(range(1000)), y)))
    assert drawing is not None
    (line,) = drawing.lines
    assert len(points(line.raw)) == layout.MOST_POINTS
    smooth = [y for _, y in points(line.smooth)]
    assert max(smooth) - min(smooth) < 0.15 * (drawing.bottom - drawing.top)
    assert drawing.ends[0].text == "1"  # the mean there, not the last value of 0.5


def test_a_steep_start_does_not_flatten_the_rest() -> None:
    y = [100.0] * 3 + [2 - i / 200 for i in range(197)]
    drawing = draw(chart(Series("a", list(range(200)), y)))
    assert drawing is not None
    assert points(drawing.lines[0].raw)[0][1] < drawing.top  # it comes in from above
    assert float(drawing.y_ticks[-1].label) < 5


def test_what_is_not_finite_is_left_out() -> None:
    nan = math.nan
    assert draw(chart(Series("a", [0, 1], [nan, math.inf]))) is None
    assert draw(chart()) is None
    drawing = draw(chart(Series("a", [0, 1, 2], [1.0, nan, 3.0]), Series("b", [0], [nan]), levels=[Level("x", nan)]))
    assert drawing is not None
    assert len(drawing.lines) == 1
    assert "nan" not in repr(drawing.lines + drawing.y_ticks + drawing.ends)


@pytest.mark.parametrize(
    "y",
    [
        [0.0, 0.0],
        [5.0],
        [-3.0, -3.0],
        [1e-9, 2e-9],
        [1e12, 2e12],
        [1.0, 1 + 1e-15],
        [7.0, 7 - 1e-10],
        [0.0, 1e-12],
        [1e-15, 3e-15],
    ],
)
def test_flat_tiny_and_huge_lines_have_an_axis(y: list[float]) -> None:
    drawing = draw(chart(Series("a", list(range(len(y))), y)))
    assert drawing is not None
    assert 2 <= len(drawing.y_ticks) <= 8
    assert all(drawing.top - 1 <= tick.at <= drawing.bottom + 1 for tick in drawing.y_ticks)


def test_a_single_step_has_a_point_and_one_tick() -> None:
    drawing = draw(chart(Series("a", [1], [0.5])))
    assert drawing is not None
    assert [tick.label for tick in drawing.x_ticks] == ["1"]
    assert drawing.lines[0].raw.endswith("h0")
    assert len(points(drawing.lines[0].raw)) == 1


def test_intervals_are_whiskers() -> None:
    spec = Chart(
        "Cal",
        "",
        "",
        [Series("o", [0.5, 0.9], [0.5, 0.8], style="points", intervals=[(0.4, 0.6), (0.7, 0.9)])],
        diagonal=True,
    )
    drawing = draw(spec)
    assert drawing is not None
    assert drawing.lines == []
    assert len(points(drawing.diagonal)) == 2
    for whisker in drawing.whiskers:
        assert drawing.top <= whisker.high < whisker.y < whisker.low <= drawing.bottom


def test_numbers_are_short() -> None:
    shown = {0: "0", 0.12345: "0.123", 12.345: "12.3", 1234.5: "1234", 123456: "123k", -0.5: "-0.5"}
    assert {value: number(value) for value in shown} == shown


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        ([-3.0002, -3.0018], ["-3.0015", "-3.0010", "-3.0005"]),
        ([6.2641, 6.2652], ["6.26450", "6.26475", "6.26500"]),
        ([5.944, 6.051], ["5.950", "5.975", "6.000", "6.025", "6.050"]),
        ([10_010.0, 10_036.0], ["10,010", "10,020", "10,030"]),
        ([0.0, 3.0], ["0", "1", "2", "3"]),
    ],
)
def test_no_two_ticks_say_the_same_and_none_is_rounded(y: list[float], labels: list[str]) -> None:
    drawing = draw(Chart("t", "u", "step", [Series("a", [1, 2], y)]))
    shown = [tick.label for tick in drawing.y_ticks]
    assert len(set(shown)) == len(shown)
    assert set(labels) <= set(shown)
