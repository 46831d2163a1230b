"""Charts of runs: what metrics.jsonl of each stage says, several runs of a stage on the same axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heedful.data.text import as_words
from heedful.files import rows_of
from heedful.plots.charts import Chart, Level, Series

Rows = list[dict[str, Any]]


class Spec(NamedTuple):
    """A chart of one or more metrics; with one run they share it, with several each has its own."""

    title: str
    unit: str
    metrics: dict[str, str]
    """Metric to its name in the chart."""
    caption: str = ""


LOSSES = {"loss": "training", "valid_loss": "held out", "pretrain_loss": "texts mixed in"}
ACCURACY = Spec("Ranking accuracy", "share of pairs", {"accuracy": "training", "valid_accuracy": "held out"})
CHANCE = {
    "accuracy": Level("chance", 0.5), "valid_accuracy": Level("chance", 0.5), "pair_loss": Level("chance", math.log(2)),
}  # fmt: skip

SPECS: dict[str, tuple[Spec, ...]] = {
    "pretrain": (Spec("Pretraining loss", "nats a token", LOSSES),),
    "sft": (Spec("SFT loss", "nats a token", LOSSES), Spec("Reward of samples", "score", {"valid_reward": "held out"})),
    "reward": (Spec("Ranking loss", "nats a pair", {"pair_loss": "training"}), ACCURACY),
    "dpo": (Spec("DPO loss", "nats a pair", {"loss": "training", "valid_loss": "held out"}), ACCURACY),
    "ppo": (
        Spec("Score", "reward model", {"score": "score"}, "What the reward model says, before the KL penalty."),
        Spec("Reward", "score − β·KL", {"reward": "reward"}, "What PPO maximises."),
        Spec("KL from the start", "nats an answer", {"kl": "KL"}, "How far the policy has moved from SFT."),
        Spec("Length", "tokens an answer", {"length": "length"}, "A score that only buys length shows here."),
        Spec("Entropy", "nats a token", {"entropy": "entropy"}, "How much choice is left in each token."),
        Spec("Base-corpus loss", "nats a token", {"corpus_loss": "loss"}, "The alignment tax, on held-out base text."),
        Spec("Loss on mixed-in text", "nats a token", {"ptx_loss": "loss"}, "The base text PPO-ptx goes on learning."),
        Spec(
            "Value net", "explained variance", {"explained_variance": "explained"},
            "1: it foresees the return of every answer; 0: it knows only their mean.",
        ),
        Spec("Answers that end", "share", {"finished": "finished"}, "The others ran into the length limit."),
    ),
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
    for spec in SPECS.get(stage, ()):
        parts = [spec] if len(runs) == 1 else [_alone(spec, metric) for metric in spec.metrics]
        charts += [chart for part in parts if (chart := _chart(part, stage, metrics, lines)) is not None]
    return charts


def other_charts(stage: str, runs: Mapping[str, str | Path]) -> list[Chart]:
    """One chart for each metric that `stage_charts` leaves out."""
    metrics = {name: rows_of(Path(path) / "metrics.jsonl") for name, path in runs.items()}
    known = {"step", *(metric for spec in SPECS.get(stage, ()) for metric in spec.metrics)}
    found = dict.fromkeys(key for rows in metrics.values() for row in rows for key in row if key not in known)
    charts = [_chart(Spec(as_words(name), stage, {name: name}), stage, metrics, {}) for name in found]
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


def _alone(spec: Spec, metric: str) -> Spec:
    name = spec.metrics[metric]
    title = spec.title if len(spec.metrics) == 1 else f"{spec.title}, {name}"
    return spec._replace(title=title, metrics={metric: name})


def _chart(spec: Spec, stage: str, runs: Mapping[str, Rows], levels: Mapping[str, Sequence[Level]]) -> Chart | None:
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
    return Chart(spec.title, spec.unit, "iteration" if stage == "ppo" else "step", series, spec.caption, shown)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _steadied(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so that a path over two noisy measures can be followed: about twenty points."""
    size = max(1, len(points) // 20)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(a for a, _ in part) / len(part), sum(b for _, b in part) / len(part)) for part in parts]
