"""Charts as geometry: ticks, labels apart, what stays inside the box, and the curves of runs."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest

from heedful.plots import charts
from heedful.plots.charts import Chart, Level, Series, draw, number
from heedful.report.curves import other_charts, over_optimisation, rows_of, stage_charts


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
    assert all(b - a >= charts.LINE_GAP - 1e-9 for a, b in itertools.pairwise(heights))
    assert drawing.top <= heights[0] < heights[-1] <= drawing.bottom
    assert drawing.levels == [pytest.approx(points(drawing.lines[0].raw)[-1][1], abs=0.1)]
    assert {label.text for label in drawing.ends} == {"run 0 1", "run 1 1", "run 2 1", "run 3 1", "SFT"}


def test_noise_is_smoothed_and_long_lines_are_thinned() -> None:
    y = [1.0 + 0.5 * (-1) ** i for i in range(1000)]
    drawing = draw(chart(Series("a", list(range(1000)), y)))
    assert drawing is not None
    (line,) = drawing.lines
    assert len(points(line.raw)) == charts.MOST_POINTS
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


@pytest.mark.parametrize("y", [[0.0, 0.0], [5.0], [-3.0, -3.0], [1e-9, 2e-9], [1e12, 2e12]])
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
        "Cal", "", "", [Series("o", [0.5, 0.9], [0.5, 0.8], intervals=[(0.4, 0.6), (0.7, 0.9)])], diagonal=True
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


# --- curves of runs ----------------------------------------------------------------------------------------


def write(path: Path, rows: list[dict[str, float]]) -> Path:
    path.mkdir()
    (path / "metrics.jsonl").write_text("".join(json.dumps({"step": i, **row}) + "\n" for i, row in enumerate(rows)))
    return path


def test_ppo_runs_share_axes_and_keep_their_colours(tmp_path: Path) -> None:
    plain = write(tmp_path / "ppo", [{"score": 1.0, "kl": 0.0}, {"score": 2.0, "kl": 4.0}])
    mixed = write(tmp_path / "ptx", [{"score": 1.0, "kl": 0.0, "ptx_loss": 0.8}, {"score": 1.5, "kl": 1.0}])
    found = {c.title: c for c in stage_charts("ppo", {"PPO": plain, "PPO-ptx": mixed}, {"kl": [Level("limit", 10.0)]})}
    assert list(found) == ["Score", "KL from the start", "Loss on mixed-in text"]
    assert [(s.name, s.x, s.y, s.colour) for s in found["Score"].series] == [
        ("PPO", [1, 2], [1.0, 2.0], 0),
        ("PPO-ptx", [1, 2], [1.0, 1.5], 1),
    ]
    assert [(s.name, s.x, s.colour) for s in found["Loss on mixed-in text"].series] == [("PPO-ptx", [1], 1)]
    assert found["KL from the start"].levels == [("limit", 10.0)]
    price = over_optimisation({"PPO": plain, "PPO-ptx": mixed})
    assert price is not None
    assert [s.x for s in price.series] == [[0.0, 2.0], [0.0, 1.0]]  # the root of the KL
    assert [s.y for s in price.series] == [[1.0, 2.0], [1.0, 1.5]]


def test_one_run_shows_training_and_held_out_in_one_chart(tmp_path: Path) -> None:
    run = write(
        tmp_path / "rm",
        [{"pair_loss": 0.7, "accuracy": 0.5}, {"pair_loss": 0.6, "accuracy": 0.6, "valid_accuracy": 0.7}],
    )
    loss, accuracy = stage_charts("reward", {"rm": run})
    assert [s.name for s in loss.series] == ["training"]
    assert [(s.name, s.x, s.y) for s in accuracy.series] == [("training", [1, 2], [0.5, 0.6]), ("held out", [2], [0.7])]
    assert accuracy.levels == [("chance", 0.5)]
    two = stage_charts("reward", {"rm": run, "other": run})
    assert [c.title for c in two] == ["Ranking loss", "Ranking accuracy, training", "Ranking accuracy, held out"]


def test_other_metrics_are_found_and_odd_rows_are_not(tmp_path: Path) -> None:
    run = write(tmp_path / "sft", [{"loss": 1.0, "lr": 0.1}, {"loss": 0.9, "lr": 0.05}])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": NaN, "note": "x"}\n[1]\n{"step": 3, "lo')
    assert len(rows_of(run / "metrics.jsonl")) == 3
    assert [c.title for c in other_charts("sft", {"sft": run})] == ["lr"]
    assert stage_charts("sft", {"sft": run})[0].series[0].y == [1.0, 0.9]
    assert stage_charts("sft", {"sft": tmp_path / "nowhere"}) == []
    assert over_optimisation({"sft": run}) is None


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
