"""Charts of runs from their metrics.jsonl. Several runs of a stage share the axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.configs import registry
from heedful.configs.stage import ChartSpec
from heedful.data.text import as_words
from heedful.files import Row
from heedful.plots.charts import Chart, Level, Series
from heedful.runs.run import metrics

CHANCE = {"accuracy": 0.5, "valid_accuracy": 0.5, "pair_loss": math.log(2)}
"""What guessing reaches, by metric."""


def stage_charts(stage: str, runs: Mapping[str, str | Path]) -> list[Chart]:
    """The charts of a stage. `runs` maps name to directory, in the order of their colours.

    A metric that no run has logged gives no chart.
    """
    logged = {name: metrics(path) for name, path in runs.items()}
    charts = []
    for spec in registry.stage(stage).charts:
        parts = [spec] if len(runs) == 1 else [_alone(spec, metric) for metric in spec.metrics]
        charts += [chart for part in parts if (chart := _chart(part, stage, logged)) is not None]
    return charts


def other_charts(stage: str, runs: Mapping[str, str | Path]) -> list[Chart]:
    """One chart for each metric that `stage_charts` leaves out."""
    logged = {name: metrics(path) for name, path in runs.items()}
    known = {"step", *(metric for spec in registry.stage(stage).charts for metric in spec.metrics)}
    found = dict.fromkeys(key for rows in logged.values() for row in rows for key in row if key not in known)
    charts = [_chart(ChartSpec(as_words(name), stage, {name: name}), stage, logged) for name in found]
    return [chart for chart in charts if chart is not None]


def over_optimisation(runs: Mapping[str, str | Path]) -> Chart | None:
    """Score over the square root of the KL divergence (Gao et al. 2022). None if no run logs both."""
    series = []
    for colour, (name, path) in enumerate(runs.items()):
        rows = metrics(path)
        both = [(row["kl"], row["score"]) for row in rows if _is_number(row.get("kl")) and _is_number(row.get("score"))]
        if both:
            kl, score = zip(*_steadied(both), strict=True)
            series.append(Series(name, [math.sqrt(max(0.0, value)) for value in kl], list(score), colour))
    if not series:
        return None
    caption = "What each step away from SFT gains. Best of n needs less KL for the same score."
    return Chart("Score for its price", "reward model", "√KL from the start", series, caption)


def watched(runs: Mapping[str, str | Path]) -> Chart | None:
    """The reward and what is watched next to it, on fixed prompts, over the square root of the KL divergence.

    Each is shown as its change from the first measurement, because two rewards have no common zero. None if no run
    watches anything.
    """
    series: list[Series] = []
    for run, path in runs.items():
        rows = [row for row in metrics(path) if _is_number(row.get("watch/kl")) and _is_number(row.get("watch/proxy"))]
        names = dict.fromkeys(key for row in rows for key in row if key.startswith("watch/") and key != "watch/kl")
        for key in names:
            points = [(row["watch/kl"], row[key]) for row in rows if _is_number(row.get(key))]
            x = [math.sqrt(max(0.0, kl)) for kl, _ in points]
            y = [value - points[0][1] for _, value in points]
            name = "the reward" if key == "watch/proxy" else key.removeprefix("watch/")
            series.append(Series(name if len(runs) == 1 else f"{run}, {name}", x, y, len(series)))
    if not series:
        return None
    caption = "Where the reward climbs and what is watched falls, the policy fools the reward."
    return Chart("Reward and watch", "change of the score", "√KL from the start", series, caption)


def _alone(spec: ChartSpec, metric: str) -> ChartSpec:
    name = spec.metrics[metric]
    title = spec.title if len(spec.metrics) == 1 else f"{spec.title}, {name}"
    return replace(spec, title=title, metrics={metric: name})


def _chart(spec: ChartSpec, stage: str, runs: Mapping[str, list[Row]]) -> Chart | None:
    series: list[Series] = []
    for run, rows in runs.items():
        for metric, name in spec.metrics.items():
            points = [(row["step"] + 1, row[metric]) for row in rows if _is_number(row.get(metric)) and "step" in row]
            if points:
                x, y = zip(*points, strict=True)
                single = len(runs) == 1
                colour = len(series) if single else list(runs).index(run)
                series.append(Series(name if single else run, list(x), list(y), colour))
    if not series:
        return None
    shown = [Level("chance", value) for value in {CHANCE[metric] for metric in spec.metrics if metric in CHANCE}]
    unit = "iteration" if registry.stage(stage).online else "step"
    return Chart(spec.title, spec.unit, unit, series, spec.caption, shown)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _steadied(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """About twenty means of neighbours, since a path through two noisy measures is hard to follow."""
    size = max(1, len(points) // 20)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(a for a, _ in part) / len(part), sum(b for _, b in part) / len(part)) for part in parts]
