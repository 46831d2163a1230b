"""Charts of runs: what metrics.jsonl of each stage says, several runs of a stage on the same axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.configs import registry
from heedful.configs.stage import ChartSpec
from heedful.data.text import as_words
from heedful.files import rows_of
from heedful.plots.charts import Chart, Level, Series

Rows = list[dict[str, Any]]


CHANCE = {
    "accuracy": Level("chance", 0.5), "valid_accuracy": Level("chance", 0.5), "pair_loss": Level("chance", math.log(2)),
}  # fmt: skip


def stage_charts(
    stage: str, runs: Mapping[str, str | Path], levels: Mapping[str, Sequence[Level]] | None = None
) -> list[Chart]:
    """The charts of a stage; `runs`: name to directory, coloured in this order; `levels`: lines to compare, by metric.

    A metric that no run has logged gives no chart.
    """
    metrics = {name: rows_of(Path(path) / "metrics.jsonl") for name, path in runs.items()}
    lines = {**{metric: (level,) for metric, level in CHANCE.items()}, **(levels or {})}
    charts = []
    for spec in registry.stage(stage).charts:
        parts = [spec] if len(runs) == 1 else [_alone(spec, metric) for metric in spec.metrics]
        charts += [chart for part in parts if (chart := _chart(part, stage, metrics, lines)) is not None]
    return charts


def other_charts(stage: str, runs: Mapping[str, str | Path]) -> list[Chart]:
    """One chart for each metric that `stage_charts` leaves out."""
    metrics = {name: rows_of(Path(path) / "metrics.jsonl") for name, path in runs.items()}
    known = {"step", *(metric for spec in registry.stage(stage).charts for metric in spec.metrics)}
    found = dict.fromkeys(key for rows in metrics.values() for row in rows for key in row if key not in known)
    charts = [_chart(ChartSpec(as_words(name), stage, {name: name}), stage, metrics, {}) for name in found]
    return [chart for chart in charts if chart is not None]


def over_optimisation(runs: Mapping[str, str | Path], extra: Sequence[Series] = ()) -> Chart | None:
    """Score over the root of the KL (section O): a straight climb is cheap, a bend is where the score starts to lie."""
    series = []
    for colour, (name, path) in enumerate(runs.items()):
        rows = rows_of(Path(path) / "metrics.jsonl")
        both = [(row["kl"], row["score"]) for row in rows if _is_number(row.get("kl")) and _is_number(row.get("score"))]
        if both:
            kl, score = zip(*_steadied(both), strict=True)
            series.append(Series(name, [math.sqrt(max(0.0, value)) for value in kl], list(score), colour))
    if not series:
        return None
    caption = "What each step away from SFT has bought. Best of n spends less KL for the same score."
    return Chart("Score for its price", "reward model", "√KL from the start", [*series, *extra], caption)


def _alone(spec: ChartSpec, metric: str) -> ChartSpec:
    name = spec.metrics[metric]
    title = spec.title if len(spec.metrics) == 1 else f"{spec.title}, {name}"
    return replace(spec, title=title, metrics={metric: name})


def _chart(
    spec: ChartSpec, stage: str, runs: Mapping[str, Rows], levels: Mapping[str, Sequence[Level]]
) -> Chart | None:
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
    shown = list(dict.fromkeys(level for metric in spec.metrics for level in levels.get(metric, ())))
    return Chart(spec.title, spec.unit, registry.stage(stage).unit, series, spec.caption, shown)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _steadied(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so that a path over two noisy measures can be followed: about twenty points."""
    size = max(1, len(points) // 20)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(a for a, _ in part) / len(part), sum(b for _, b in part) / len(part)) for part in parts]
