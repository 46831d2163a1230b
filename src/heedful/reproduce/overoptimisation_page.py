"""What `heedful overoptimisation` shows: a table of the fits, and charts of gold and proxy reward against √KL."""

from __future__ import annotations

from pathlib import Path

from heedful.maths.statistics import ends
from heedful.plots.charts import Chart, Series
from heedful.report import page
from heedful.report.page import Fact, Grid, Group, Report
from heedful.reproduce.parts import Figures

METHODS = {"reward": "best of n", "ppo": "PPO"}
HEADING = ["reward model", "method", "gold reward", "accuracy", "largest √KL", "alpha", "beta"]
STORY = """\
A reward model is a proxy for what people want. Optimise it too far, and the true reward falls while the proxy still \
rises (Gao et al. 2022). Here the truth of a made-up world is the gold reward.

The curves are d(α - β d) for best of n and d(α - β ln d) for PPO, with d = √KL from the SFT model. Intervals are 95 % \
bootstrap intervals over users. They hold for this one training run of each model. A peak counts if it is in the \
measured range and β is above 0 beyond its interval."""


def table(figures: dict[str, Figures]) -> list[list[str]]:
    """A row of `HEADING` for each reward model and method."""
    rows = []
    for name, found in figures.items():
        kind, _, model = name.partition("-")
        if kind not in METHODS:
            continue
        accuracy = figures[f"reward-{model}"]["accuracy"]["rate"]
        numbers = [f"{100 * accuracy:.1f} %", f"{max(found['distance']):.2f}"]
        rows.append([_shown(model), METHODS[kind], words(found), *numbers, *fitted(found)])
    return rows


def fitted(found: Figures) -> list[str]:
    """Alpha and beta of a curve with their intervals."""
    if found["fit"] is None:
        return ["–", "–"]
    return [with_ends(found["fit"][name]) for name in ("alpha", "beta")]


def with_ends(interval: Figures, form: str = "{:.3f}") -> str:
    """A mean and its interval."""
    return f"{form.format(interval['mean'])} ({ends(interval, form.format)})"


def words(found: Figures) -> str:
    """What a curve does: the fitted peak in words, and the measured one where the fitted form shows none."""
    fit = found["fit"]
    said = "too few distances to fit" if fit is None else str(fit["words"])
    if (fit is None or fit["peak"] is None) and (top := measured_peak(found)) is not None:
        said += f". The points rise to {top[1]:.3f} at √KL {top[0]:.2f} and fall"
    return said


def measured_peak(found: Figures) -> tuple[float, float] | None:
    """(√KL, gold reward) of the highest point, if it is above zero and above the last point beyond their intervals."""
    points = list(zip(found["distance"], found["gold"], strict=True))
    (distance, top), (_, last) = max(points, key=lambda one: float(one[1]["mean"])), points[-1]
    if top["low"] is None or last["high"] is None or top["low"] <= max(0.0, last["high"]):
        return None
    return float(distance), float(top["mean"])


def text(figures: dict[str, Figures]) -> str:
    """The table for a terminal."""
    rows = [HEADING, *table(figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADING))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def charts(figures: dict[str, Figures]) -> list[Chart]:
    """For each method and number of labels: gold reward with the fits, and the proxy."""
    found = []
    for kind, method in METHODS.items():
        models = [name.partition("-")[2] for name in figures if name.startswith(f"{kind}-")]
        for labels in dict.fromkeys(model.rpartition("-")[2] for model in models):
            own = {m.rpartition("-")[0]: figures[f"{kind}-{m}"] for m in models if m.rpartition("-")[2] == labels}
            found += pictures(f"{method}, {labels} rankings", own)
    return found


def write(out: Path, figures: dict[str, Figures], seed: int, *, quick: bool) -> Path:
    """Write the page with its SVG and CSV files."""
    told = STORY + ("\n\nThis is a quick run. Its figures mean nothing." if quick else "")
    grid = Grid("Fits", HEADING, table(figures), "Alpha and beta with 95 % intervals. Accuracy on held-out pairs.")
    answers = figures["answers"]
    content = Report(
        "Over-optimisation in a small world", story=told, grids=[grid],
        groups=[Group("Reward against √KL", charts(figures))],
        facts=[Fact("seed", str(seed)), Fact("prompts for best of n", str(answers["prompts"]))],
    )  # fmt: skip
    return page.write(out / "report.html", content)


def pictures(title: str, models: dict[str, Figures]) -> list[Chart]:
    """Gold reward with the fits, and the proxy, of the curves in `models`."""
    return [_gold(title, models), _proxy(f"{title}, proxy", models)]


def _gold(title: str, models: dict[str, Figures]) -> Chart:
    series = []
    for colour, (size, found) in enumerate(models.items()):
        means = [one["mean"] for one in found["gold"]]
        spans = [
            (one["mean"], one["mean"]) if one["low"] is None else (one["low"], one["high"]) for one in found["gold"]
        ]
        series.append(Series(size, found["distance"], means, colour, "points", spans))
        if found["fit"] is not None:
            line = found["fit"]["line"]
            series.append(Series(size, line["distance"], line["gold"], colour))
    return Chart(title, "gain in gold reward", "√KL from SFT", series, "Points are measured, lines are fitted.")


def _proxy(title: str, models: dict[str, Figures]) -> Chart:
    series = [Series(size, one["distance"], one["proxy"], colour) for colour, (size, one) in enumerate(models.items())]
    return Chart(title, "gain in reward", "√KL from SFT", series, "What the reward model itself says.")


def _shown(model: str) -> str:
    size, _, labels = model.rpartition("-")
    return f"{size}, {labels} rankings"
