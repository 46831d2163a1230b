"""Bars a day and rates with intervals: their size, their axis, and what a screen reader says of them."""

from __future__ import annotations

import re
from datetime import date

import pytest

from heedful.maths.statistics import Interval
from heedful.plots import files
from heedful.plots.charts import Chart, Level, Series, daily, rates
from heedful.plots.layout import Drawing, draw
from heedful.plots.svg import svg


def drawn(*args: object, **options: object) -> Drawing:
    chart = rates(*args, **options)  # type: ignore[arg-type]
    assert chart is not None
    drawing = draw(chart)
    assert drawing is not None
    return drawing


def test_bars_are_as_high_as_their_counts() -> None:
    chart = daily("Work", [(date(2026, 3, day), count) for day, count in ((1, 0), (2, 5), (3, 10))], "judgements")
    assert chart is not None
    drawing = draw(chart)
    assert drawing is not None
    none, half, full = (drawing.bottom - bar.y for bar in drawing.bars)
    assert none == 0
    assert full == pytest.approx(2 * half)
    assert [tick.label for tick in drawing.x_ticks] == ["1 Mar", "2 Mar", "3 Mar"]
    assert all(float(tick.label) % 1 == 0 for tick in drawing.y_ticks)  # counts are whole
    assert drawing.summary == "15 judgements in 3 days, the most on 3 Mar: 10."
    assert daily("Work", [(date(2026, 3, 1), 0)], "judgements") is None


@pytest.mark.parametrize("value", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_every_rate_has_a_place_on_its_axis(value: float) -> None:
    drawing = drawn("Agreement", [("ada", Interval(value, value, value, 3)), ("bob", Interval(value, value, value, 3))])
    heights = [tick.at for tick in drawing.y_ticks]
    assert heights == sorted(heights, reverse=True)  # upwards on the page
    assert drawing.y_ticks[-1].label == "100"
    assert all(drawing.top <= whisker.y <= drawing.bottom for whisker in drawing.whiskers)
    assert drawing.lines == []


def test_only_what_follows_one_another_is_joined() -> None:
    values = [("2 Mar", Interval(0.7, 0.6, 0.8, 9)), ("9 Mar", Interval(0.8, 0.7, 0.9, 9))]
    drawing = drawn("By week", values, joined=True)
    assert drawing.lines[0].raw == "M" + "L".join(f"{one.x:.1f},{one.y:.1f}" for one in drawing.whiskers)
    assert drawing.whiskers[1].y < drawing.whiskers[0].y
    assert drawing.summary == "2 Mar: 70% (60% to 80%, n = 9); 9 Mar: 80% (70% to 90%, n = 9)"


def test_long_names_do_not_touch_and_stay_inside() -> None:
    """A name of 16 letters is about 99 pixels wide, and the axis 314: the last one ends at its place."""
    people = [(f"a labeler called {i}", Interval(0.7, 0.6, 0.8, 9)) for i in range(7)]
    ticks = drawn("Agreement", people).x_ticks
    assert [tick.anchor for tick in ticks] == ["middle", "end"]
    assert ticks[0].span[1] < ticks[1].span[0] < ticks[1].span[1] < 360
    few = [(f"p{i}", Interval(0.7, 0.6, 0.8, 9)) for i in range(7)]
    assert [tick.label for tick in drawn("Agreement", few).x_ticks] == [f"p{i}" for i in range(7)]


def test_the_picture_says_everything_in_words_and_escapes_names() -> None:
    hostile = "</title><script>\u202e"
    shown = svg(rates("Agreement", [(hostile, Interval(0.7, 0.6, 0.8, 9))], Level("all: 71%", 0.71)))
    assert "<script" not in shown
    assert "\u202e" not in shown
    assert "[U+202E]" in shown
    assert re.search(r'aria-label="Agreement\. .*70% \(60% to 80%, n = 9\)"', shown)
    assert ">all: 71%</text>" in shown
    assert svg(None) == svg(rates("Agreement", [])) == ""


def test_a_picture_that_stands_alone_names_the_points_of_several_series() -> None:
    spans = [(0.5, 1.5), (1.5, 2.5)]
    names = ("a<b", "other")
    joined = [Series(name, [0.0, 1.0], [1.0, 2.0], i, "joined", spans) for i, name in enumerate(names)]
    shown = files.picture(Chart("Wins", "%", "size", joined))
    assert shown is not None
    assert '<circle class="dot c1"' in shown
    assert [">a&lt;b</text>" in shown, ">other</text>" in shown] == [True, True]
    alone, lined = files.picture(Chart("Wins", "%", "size", joined[:1])), joined[0]
    assert alone is not None
    assert ">a&lt;b</text>" not in alone
    line = Series(lined.name, [0.0, 1.0], [1.0, 2.0], 0)  # its name is at its end
    both = files.picture(Chart("Wins", "%", "size", [lined, line]))
    assert both is not None
    assert 'class="dot c0" cx="6"' in shown
    assert 'class="dot c0" cx="6"' not in both
