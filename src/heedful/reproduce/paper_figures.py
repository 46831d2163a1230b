"""Tables and charts of the figures of `heedful reproduce`, each from the figures of its parts by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from heedful.data.text import as_words
from heedful.demo.records import BASE, PPO, PROMPTED, PTX, SFT
from heedful.maths.statistics import Interval, ends, repeats
from heedful.plots.charts import Chart, Level, Series, rates, whisker
from heedful.reproduce.parts import Figures

MODELS = (BASE, PROMPTED, SFT, PPO, PTX)
PAPER_FIG1 = {BASE: ".14 / .19 / .24", PROMPTED: ".23 / .27 / .41", SFT: ".35 / .40 / .50", PPO: ".51 / .55 / .62",
              PTX: ".52 / .57 / .65"}  # fmt: skip
PAPER_FIG4 = {
    "attempts the instruction": (70, 80, 85, 90, 90), "satisfies constraint": (22, 28, 34, 43, 43),
    "hallucination": (45, 28, 8, 21, 15), "appropriate": (82, 85, 90, 92, 92),
}  # fmt: skip
TURNED = {"fails_instruction": "attempts the instruction", "inappropriate": "appropriate"}
"""Flags that the paper counts the other way round."""
PAPER_COST = {"sft": "0.13 %", "ppo_ptx": "1.6 %"}
NAMES = {
    "ppo": "PPO", "rloo": "RLOO", "grpo": "GRPO", "dpo": "DPO", "rejection": "rejection sampling",
    "best_of_n": "best of n",
}  # fmt: skip
BySeed = dict[int, Figures]
Shown = tuple[list[str], list[Chart]]
"""Lines of Markdown, and charts."""


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rows)]


def over_seeds(found: Sequence[Figures]) -> str:
    """A rate of one seed with its interval, or the mean of several with its standard error."""
    if len(found) == 1:
        return f"{found[0]['rate']:.1%} ({ends(found[0])})"
    over = repeats([one["rate"] for one in found])
    return f"{over.mean:.1%} ± {100 * (over.error or 0.0):.1f}"


def number(values: Sequence[float | None], form: str = "{:.2f}") -> str:
    """The mean over seeds."""
    own = [value for value in values if value is not None]
    return form.format(fmean(own)) if own else "–"


def pooled(found: Sequence[Figures]) -> Interval:
    """The mean of rates of several seeds, and the mean of the ends of their intervals, for a chart."""
    low, high = ([one[end] for one in found] for end in ("low", "high"))
    whole = None not in low and None not in high
    return Interval(
        fmean(one["rate" if "rate" in one else "mean"] for one in found), fmean(low) if whole else None,
        fmean(high) if whole else None, sum(one["n"] for one in found),
    )  # fmt: skip


def _joined(name: str, x: list[float], found: Sequence[Interval], colour: int, scale: float = 100) -> Series:
    y, intervals = [scale * one.mean for one in found], [whisker(one, scale) for one in found]
    return Series(name, x, y, colour, "joined", intervals)


def fig1(own: BySeed) -> Shown:
    """Win rates of every two models of the middle size."""
    pairs = next(iter(own.values()))["wins"]
    rows = [[pair, over_seeds([one["wins"][pair] for one in own.values()]),
             *(f"{one['wins'][pair]['rate']:.1%} ({ends(one['wins'][pair])})" for one in own.values())]
            for pair in pairs]  # fmt: skip
    heading = ["middle size", "ours", *(f"seed {seed}" for seed in own)]
    return ["## Figure 1, middle size", "", *table(heading, rows), ""], []


def sizes(own: BySeed) -> Shown:
    """Win rates over the middle SFT at all sizes."""
    found = [one["over_sft"] for one in own.values()]
    order = list(found[0])
    rows = [
        [name, *(over_seeds([one[size][name] for one in found]) for size in order), PAPER_FIG1[name]] for name in MODELS
    ]
    note = "Win rate over the middle SFT model. The paper's baseline is the largest SFT model, at 1.3B / 6B / 175B."
    series = [
        _joined(name, list(range(len(order))), [pooled([one[size][name] for one in found]) for size in order], colour)
        for colour, name in enumerate(MODELS)
    ]  # fmt: skip
    chart = Chart("Figure 1", "% wins over middle SFT", "", series, levels=[Level("middle SFT", 50)], names=order)
    heading = ["model", *order, "paper (read off its figure)"]
    return ["## Figure 1, all sizes", "", note, "", *table(heading, rows), ""], [chart]


def fig3(own: BySeed) -> Shown:
    """Preferences of two groups of labelers over the middle SFT."""
    found, series = list(own.values()), []
    groups = list(found[0])
    models = list(found[0][groups[0]])
    rows = [[name, *(over_seeds([one[group][name] for one in found]) for group in groups)] for name in models]
    for colour, group in enumerate(groups):
        means = [pooled([one[group][name] for one in found]) for name in models]
        series.append(_joined(group, list(range(len(models))), means, colour))
    chart = Chart("Figure 3", "% preferred to middle SFT", "", series, levels=[Level("SFT", 50)], names=models)
    note = "Win rate over SFT in the eyes of labelers who made the training data, and of held-out labelers."
    heading = ["model", *(f"{group} labelers" for group in groups)]
    return ["## Figure 3", "", note, "", *table(heading, rows), ""], [chart]


def flag_rates(own: BySeed, name: str, where: Callable[[Figures], Figures]) -> dict[str, list[Figures]]:
    """By flag, the rates of a model in each seed. Some flags are turned round, as the paper counts them."""
    found: dict[str, list[Figures]] = {}
    for one in own.values():
        for flag, rate in where(one)[name].items():
            if rate is None:
                continue
            shown = as_words(TURNED.get(flag, flag))
            if flag in TURNED:
                low, high = (None if rate[end] is None else 1 - rate[end] for end in ("high", "low"))
                rate = {"mean": 1 - rate["mean"], "low": low, "high": high, "n": rate["n"]}
            found.setdefault(shown, []).append({**rate, "rate": rate["mean"]})
    return found


def fig4(own: BySeed) -> Shown:
    """Rates of the flags for every model, with the sizes together and apart."""
    together = {name: flag_rates(own, name, lambda one: one["pooled"]) for name in MODELS}
    flags = list(dict.fromkeys(flag for found in together.values() for flag in found))
    rows, charts = [], []
    for flag in flags:
        cells = [over_seeds(together[name][flag]) if flag in together[name] else "–" for name in MODELS]
        rows.append([flag, *cells, " / ".join(map(str, PAPER_FIG4[flag])) + " %" if flag in PAPER_FIG4 else "–"])
        named = [(name, pooled(together[name][flag])) for name in MODELS if flag in together[name]]
        charts += [chart for chart in [rates(f"Figure 4, {flag}", named)] if chart is not None]
    heading = ["flag, sizes together", *MODELS, "paper (read off its figure)"]
    lines = ["## Figure 4", "", *table(heading, rows), ""]
    for size in next(iter(own.values()))["by_size"]:
        apart = {name: flag_rates(own, name, lambda one, size=size: one["by_size"][size]) for name in MODELS}  # type: ignore[misc]
        rows = [[flag, *(over_seeds(apart[name][flag]) if flag in apart[name] else "–" for name in MODELS)]
                for flag in flags]  # fmt: skip
        lines += [*table([f"flag, {size}", *MODELS], rows), ""]
    return lines, charts


def tax(own: BySeed) -> Shown:
    """One sweep: loss on base text, KL and win rate by value."""
    found = list(own.values())
    setting = found[0]["setting"]
    rows = [
        [f"{run['value']:g}", number([one["runs"][i]["corpus_loss"] for one in found], "{:.3f}"),
         number([one["runs"][i]["kl"] for one in found]), over_seeds([one["runs"][i]["win"] for one in found])]
        for i, run in enumerate(found[0]["runs"])
    ]  # fmt: skip
    before = [number([one[name] for one in found], "{:.3f}") for name in ("base", "sft")]
    title = "weight of the pretraining loss" if setting == "ptx_coef" else "KL coefficient"
    note = f"Loss in nats a token on held-out base text. The base model has {before[0]}, SFT {before[1]}."
    points = [
        Series(f"seed {seed}", [run["corpus_loss"] for run in one["runs"]],
               [100 * run["win"]["rate"] for run in one["runs"]],
               colour, "points", [whisker(pooled([run["win"]]), 100) for run in one["runs"]],
               [f"{setting} {run['value']:g}" for run in one["runs"]])
        for colour, (seed, one) in enumerate(own.items())
    ]  # fmt: skip
    chart = Chart(f"Tax, {title}", "% wins over SFT", "nats a token on base text", points)
    heading = [setting, "loss on base text", "KL, nats", "wins over SFT"]
    return [f"## Alignment tax, {title}", "", note, "", *table(heading, rows), ""], [chart]


def folds(own: BySeed) -> Shown:
    """Accuracy of reward models on labelers who were left out, and on others."""
    rows = [
        [name, *(f"{one[f'{key}_labelers_mean']:.1%}" for one in own.values())]
        for name, key in (("new labelers", "new"), ("known labelers", "known"))
    ]
    note = "Accuracy on labelers who were left out of the training, and on new prompts of the others. Each seed trains "
    note += "every fold once. The paper trained each three times."
    named = []
    for name, key in (("new labelers", "new"), ("known labelers", "known")):
        over = repeats([one[f"{key}_labelers_mean"] for one in own.values()])
        low, high = (None, None) if over.error is None else (over.mean - over.error, over.mean + over.error)
        named.append((name, Interval(over.mean, low, high, over.n)))
    chart = rates("Reward models on new labelers", named)
    heading = ["accuracy", *(f"seed {seed}" for seed in own)]
    return ["## Reward models, folds over labelers", "", note, "", *table(heading, rows), ""], [chart] if chart else []


def labels(own: BySeed) -> Shown:
    """Accuracy and PPO's gain by number of rankings."""
    found = list(own.values())
    rows = [
        [f"{run['labels']:,}", number([100 * one["runs"][i]["accuracy"] for one in found], "{:.1f} %"),
         over_seeds([one["runs"][i]["win"] for one in found]), number([one["runs"][i]["kl"] for one in found])]
        for i, run in enumerate(found[0]["runs"])
    ]  # fmt: skip
    points = [
        Series(f"seed {seed}", [100 * run["accuracy"] for run in one["runs"]],
               [100 * run["win"]["rate"] for run in one["runs"]], colour, "points",
               [whisker(pooled([run["win"]]), 100) for run in one["runs"]],
               [f"{run['labels']} rankings" for run in one["runs"]])
        for colour, (seed, one) in enumerate(own.items())
    ]  # fmt: skip
    chart = Chart("Reward accuracy", "% wins of PPO over SFT", "% accuracy", points)
    heading = ["rankings", "accuracy", "PPO over SFT", "KL, nats"]
    return ["## Reward models, number of rankings", "", *table(heading, rows), ""], [chart]


def groups(own: BySeed) -> Shown:
    """Win rates over SFT in the eyes of each group, by the share of the groups in the rankings."""
    found = list(own.values())
    people = list(found[0]["runs"][0]["win"])
    rows, series = [], []
    for i, run in enumerate(found[0]["runs"]):
        share = round(100 * run["brief"])
        runs = [one["runs"][i] for one in found]
        wins = [over_seeds([each["win"][who] for each in runs]) for who in people]
        rows.append([f"{share}:{100 - share}", *wins, number([each["length"] for each in runs], "{:.1f}")])
    x = [100 * run["brief"] for run in found[0]["runs"]]
    for colour, who in enumerate(people):
        means = [pooled([one["runs"][i]["win"][who] for one in found]) for i in range(len(x))]
        series.append(_joined(who, x, means, colour))
    chart = Chart("Groups of labelers", "% wins over SFT in their eyes", "% of the rankings by brief", series)
    note = "The first group likes brief answers, the second detailed ones. 100:0 and 0:100 are a reward of their own."
    heading = ["brief : detailed", *(f"in the eyes of {who}" for who in people), "tokens an answer"]
    return ["## Groups of labelers", "", note, "", *table(heading, rows), ""], [chart]


def public(own: BySeed) -> Shown:
    """SFT on public-style tasks next to the other models."""
    pairs = list(next(iter(own.values()))["wins"])
    found = {pair: [one["wins"][pair] for one in own.values()] for pair in pairs}
    over = " over public SFT"
    named = [(pair.removesuffix(over), pooled(found[pair])) for pair in pairs if pair.endswith(over)]
    chart = rates("Wins over SFT on public tasks", named, Level("even", 0.5))
    lines = table(["win rate", "ours"], [[pair, over_seeds(found[pair])] for pair in pairs])
    return ["## Public-style tasks", "", *lines, ""], [chart] if chart else []


def cost(own: BySeed) -> Shown:
    """FLOPs of each stage, as the mean over seeds."""
    found = list(own.values())
    rows = [
        [name, f"{fmean(one['flops'][name] for one in found):.2e}",
         f"{100 * fmean(one['share'][name] for one in found):.2f} %", PAPER_COST.get(name, "–")]
        for name in found[0]["flops"]
    ]  # fmt: skip
    given = " and ".join(f"{count:,} {name}" for name, count in found[0]["labels"].items())
    note = f"Labels in training: {given}. FLOPs by E7: 6 N a trained token, 2 N a token that is read or sampled."
    names = [name for name in found[0]["flops"] if name != "pretrain"]
    shares = [100 * fmean(one["share"][name] for one in found) for name in names]
    bars = Series("share", list(range(len(names))), shares, style="bars")
    chart = Chart("Cost of each stage", "% of pretraining", "", [bars], names=names)
    heading = ["stage", "FLOPs", "of pretraining, ours", "of pretraining, paper"]
    return ["## Cost", "", note, "", *table(heading, rows), ""], [chart]


def baselines(own: BySeed, title: str) -> Shown:
    """All methods: wins, KL, proxy, tax, FLOPs and seconds."""
    found = [one["methods"] for one in own.values()]
    rows, series = [], []
    for colour, method in enumerate(found[0]):
        runs = [one[method] for one in found]
        shown = ", ".join(f"{k} {_value(v)}" for k, v in runs[0]["settings"].items())
        rows.append([
            NAMES[method], over_seeds([run["win"] for run in runs]), over_seeds([run["over_ppo"] for run in runs]),
            "≤ " * runs[0]["kl_bound"] + number([run["kl"] for run in runs]), number([run["proxy"] for run in runs]),
            number([run["tax"] for run in runs], "{:+.3f}"), number([run["flops"] for run in runs], "{:.1e}"),
            number([run["seconds"] for run in runs], "{:.0f}"), shown,
        ])  # fmt: skip
        wins = [run["win"] for run in runs]
        series.append(Series(NAMES[method], [run["kl"] for run in runs], [100 * win["rate"] for win in wins], colour,
                             "points", [whisker(pooled([win]), 100) for win in wins]))  # fmt: skip
    reward = number([one["reward_flops"] for one in own.values()], "{:.1e}")
    note = (
        f"FLOPs leave out the reward model, which takes {reward}. Best of n spends its FLOPs when it answers the test "
        "prompts. Its KL is a bound. At equal compute DPO gets the FLOPs of the reward model as well, because it needs "
        "none. Settings are those of the first seed shown."
    )
    chart = Chart(f"Baselines, {title}", "% wins over SFT", "KL from SFT, nats", series)
    heading = ["method", "over SFT", "over PPO", "KL", "proxy", "tax", "FLOPs", "seconds", "settings"]
    return [f"## Baselines, {title}", "", note, "", *table(heading, rows), ""], [chart]


def _value(value: Any) -> str:
    return f"lr {value['lr']:g}" if isinstance(value, dict) else f"{value:g}"
