"""Plots as numbers: where bars and points stand in a frame of 640 by 220, with what is written beside them."""

from __future__ import annotations

from datetime import date

import pytest

from heedful.plots import rates as plots
from heedful.plots.rates import Rate


def test_bars_are_as_high_as_their_counts() -> None:
    plot = plots.daily("Work", [(date(2026, 3, day), count) for day, count in ((1, 0), (2, 5), (3, 10))], "judgements")
    assert plot is not None
    none, half, full = (bar.height for bar in plot.bars)
    assert none == 0
    assert full == pytest.approx(2 * half)
    assert plot.description == "15 judgements in 3 days, the most on 3 Mar: 10."
    assert plots.daily("Work", [(date(2026, 3, 1), 0)], "judgements") is None


@pytest.mark.parametrize("value", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_every_rate_has_a_place_on_its_axis(value: float) -> None:
    plot = plots.rates("Agreement", [Rate("ada", value, value, value, 3), Rate("bob", value, value, value, 3)])
    assert plot is not None
    heights = [mark.at for mark in plot.y_marks]
    assert heights == sorted(heights, reverse=True)  # upwards on the page
    assert plot.y_marks[-1].label == "100%"
    assert all(min(heights) - 60 <= point.y <= max(heights) for point in plot.points)
    assert plot.line == ""


def test_only_what_follows_one_another_is_joined() -> None:
    values = [Rate("2 Mar", 0.7, 0.6, 0.8, 9), Rate("9 Mar", 0.8, 0.7, 0.9, 9)]
    joined = plots.rates("By week", values, joined=True)
    assert joined is not None
    assert joined.line == " ".join(f"{point.x:.1f},{point.y:.1f}" for point in joined.points)
    assert joined.points[1].y < joined.points[0].y
    assert joined.description == "2 Mar: 70% (60% to 80%, n = 9); 9 Mar: 80% (70% to 90%, n = 9)"
