"""Rows of the table: the value of each model with its interval, the paired change, and what chance would give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from heedful.evaluation.benchmark import metrics
from heedful.evaluation.benchmark.published import TABLE_14
from heedful.evaluation.result import Result
from heedful.maths.statistics import Floats, Interval, mean_interval, rate_interval, sums_interval


@dataclass(frozen=True)
class BenchmarkScores:
    """The scores of every model on the same items of a set."""

    name: str
    title: str
    metric: str
    values: dict[str, Floats]
    """By model: one score an item [N], or the counts that BLEU adds up [N, 10]."""
    clusters: list[str]
    better: Literal["high", "low"] = "high"
    chance: float | None = None
    chance_is: str = ""
    """What the chance level is: a guess, or the best constant answer."""
    left_out: dict[str, int] = field(default_factory=dict)
    same_items: dict[str, Interval] = field(default_factory=dict)
    """The published models on the same items."""


def row(scores: BenchmarkScores, baseline: str) -> Result:
    """One row of the table as JSON: values, changes from the baseline on the same items, whether above chance."""
    base = scores.values[baseline]
    models: Result = {}
    for name, values in scores.values.items():
        found = value(values, scores.clusters)
        above = scores.chance is None or (found.low is not None and found.low > scores.chance)
        moved = change(base, values, scores.clusters)._asdict() if name != baseline else None
        models[name] = {**found._asdict(), "change": moved, "above_chance": above}
    paper = TABLE_14.get(scores.name)
    return {
        "name": scores.name, "title": scores.title, "metric": scores.metric, "better": scores.better,
        "items": len(base), "left_out": scores.left_out, "chance": scores.chance, "chance_is": scores.chance_is,
        "models": models,
        "paper": {"values": list(paper.values), "says": paper.says} if paper else None,
        "same_items": {name: one._asdict() for name, one in scores.same_items.items()},
    }  # fmt: skip


def value(values: Floats, clusters: list[str]) -> Interval:
    """The value of a model: BLEU of the corpus, a share, or a mean."""
    if values.ndim == 2:
        return sums_interval(metrics.bleu, values, clusters, n=len(values))
    if ((values >= 0) & (values <= 1)).all():
        return rate_interval(values, clusters)
    return mean_interval(values, clusters)


def change(before: Floats, after: Floats, clusters: list[str]) -> Interval:
    """How much a value changes on the same items."""
    if before.ndim == 1:
        return mean_interval(after - before, clusters)
    half = before.shape[1]
    return sums_interval(
        lambda sums: metrics.bleu(sums[:, half:]) - metrics.bleu(sums[:, :half]),
        np.concatenate([before, after], axis=1), clusters, n=len(before),
    )  # fmt: skip


def findings(rows: list[Result], baseline: str) -> list[str]:
    """What changed beyond its interval, and what a model does no better than chance."""
    found = []
    for one in rows:
        for name, figures in one["models"].items():
            moved = figures["change"]
            if moved is None or moved["low"] is None or moved["low"] <= 0 <= moved["high"]:
                continue
            worse = (moved["mean"] < 0) == (one["better"] == "high")
            greyed = "" if figures["above_chance"] or one["models"][baseline]["above_chance"] else ", both at chance"
            found.append(
                f"{one['title']} ({one['metric']}): {name} is {'worse' if worse else 'better'} than {baseline} by "
                f"{abs(moved['mean']):.3g} ({moved['low']:+.3g} to {moved['high']:+.3g}){greyed}"
            )
    return found
