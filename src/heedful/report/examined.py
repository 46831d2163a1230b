"""The results of `heedful benchmark` and `heedful trust` as parts of a page: tables with intervals, and charts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heedful.config import UserError
from heedful.evaluation.benchmark.words import number
from heedful.evaluation.result import Result
from heedful.files import read_json
from heedful.maths.statistics import Interval, ends
from heedful.plots.charts import Chart, Level, Series, rates, whisker
from heedful.report.comparison import Compared
from heedful.report.page import Fact, Figure, Grid, Group

BENCHMARK, TRUST = "benchmark.json", "trust.json"
JUDGES = {"reward": "reward", "longer_wins": "longer wins", "bag_of_words": "bag of words", "agreement": "labelers"}
D12 = "The paper's labelers agree on 72.6 ± 1.5 %, held-out ones on 77.3 ± 1.3 % (D12)."


def is_examined(path: Path) -> bool:
    """Whether a folder holds the result of `heedful benchmark` or `heedful trust`."""
    return (path / BENCHMARK).is_file() or (path / TRUST).is_file()


def of_folder(name: str, folder: Path) -> Compared:
    """The parts of the page for the result in a folder. UserError for a file that is no such result."""
    file = folder / (BENCHMARK if (folder / BENCHMARK).is_file() else TRUST)
    try:
        found: Result = read_json(file)
        return _benchmark(name, found) if file.name == BENCHMARK else _trust(name, found)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{file}: not a result of heedful {file.stem}. Run the command again") from None


def _benchmark(name: str, result: Result) -> Compared:
    names, base = list(result["models"]), result["baseline"]
    figures = [
        Figure(f"{len(result['rows'])}", "measures on public sets", f"{len(names)} models, changes from {base}"),
        Figure(f"{len(result['findings'])}", "changes beyond their interval"),
    ]
    note = f"{result['note']} ~ marks a value that is not above chance, so that it says little about the model."
    heading = ["set and measure", *names, "chance", "items", "paper, 175B: GPT / SFT / PPO / PPO-ptx"]
    grids = [
        Grid(f"{name}: values with 95 % intervals", heading, [_values(row, names) for row in result["rows"]], note)
    ]
    others = [one for one in names if one != base]
    if others:
        moved = [
            [_title(row), *(_change(row, one) for one in others), row["paper"]["says"] if row["paper"] else ""]
            for row in result["rows"]
        ]
        told = "The difference on the same items, with its interval. The last column is what the paper found (E6)."
        grids.append(Grid(f"Change from {base}", ["set and measure", *others, "in the paper"], moved, told))
    if result["truthful"]:
        rows = [
            [m, *(_percent(one[k]) for k in ("true", "true_and_informative"))] for m, one in result["truthful"].items()
        ]
        told = "Published answers of the paper's models to the QA prompt, judged at one half."
        grids.append(
            Grid("TruthfulQA, the paper's models", ["model", "true, %", "and informative, %"], rows, told, True)
        )
    facts = [Fact(model, ref) for model, ref in result["models"].items()] + [Fact("public sets", str(result["data"]))]
    proxy: Result = result["toxicity"] or {}
    if proxy.get("rank_correlation") is not None:
        facts.append(Fact("proxy toxicity", f"rank correlation with Perspective {proxy['rank_correlation']:.2f}"))
    for field, words in (
        ("not_there", "sets that the folder lacks"),
        ("needs_lm_eval", "not measured without lm_eval"),
    ):
        facts += [Fact(words, ", ".join(result[field]))] if result[field] else []
    charts = [_of_models(row, names) for row in result["rows"]]
    group = Group(f"{name}: public sets", charts[:12], more=charts[12:])
    return Compared(figures, grids, [group], facts, [], None, "", (), list(result["findings"]))


def _title(row: Result) -> str:
    return f"{row['title']}: {row['metric']}{', lower is better' if row['better'] == 'low' else ''}"


def _values(row: Result, names: list[str]) -> list[str]:
    cells = []
    for name in names:
        one = row["models"][name]
        bounds = ends(one, number)
        cells.append(f"{'' if one['above_chance'] else '~ '}{number(one['mean'])} ({bounds})")
    chance = "" if row["chance"] is None else f"{number(row['chance'])}, {row['chance_is']}"
    paper = " / ".join(map(number, row["paper"]["values"])) if row["paper"] else ""
    return [_title(row), *cells, chance, f"{row['items']:,}", paper]


def _change(row: Result, name: str) -> str:
    moved = row["models"][name]["change"]
    if moved is None:
        return ""
    return f"{number(moved['mean'], sign=True)} ({ends(moved, lambda value: number(value, sign=True))})"


def _of_models(row: Result, names: list[str]) -> Chart:
    """The value of each model, in the order of training, next to chance."""
    found = [_interval(row["models"][name]) for name in names]
    words = [f"{name}: {number(one.mean)} ({ends(one, number)})" for name, one in zip(names, found, strict=True)]
    spans = [whisker(one) for one in found]
    series = Series(row["metric"], list(range(len(names))), [one.mean for one in found], 0, "joined", spans, words)
    levels = [] if row["chance"] is None else [Level("chance", row["chance"])]
    caption = f"In the paper: {row['paper']['says']}." if row["paper"] else ""
    unit = f"{row['metric']}{', lower is better' if row['better'] == 'low' else ''}"
    return Chart(row["title"], unit, "", [series], caption, levels, names=names, summary=". ".join(words))


def _trust(name: str, result: Result) -> Compared:
    accuracy, error = result["accuracy"], result["calibration"]["error"]
    figures = [
        Figure(f"{accuracy['reward']['mean']:.0%}", "of held-out pairs ordered as people did",
               ends(accuracy["reward"], "{:.0%}".format)),
        Figure(f"{accuracy['longer_wins']['mean']:.0%}", "by 'longer wins'",
               ends(accuracy["longer_wins"], "{:.0%}".format)),
    ]  # fmt: skip
    if error["mean"] is not None:
        figures.append(Figure(f"{error['mean']:.1%}", "calibration error", _beyond_chance(error)))
    grids = [_accuracy(name, result), *_parts(result), _best_of_k(result), *_distance(result["distance"])]
    grids.append(_shortcuts(result["shortcuts"]))
    facts = [Fact("reward", " + ".join(result["reward"])), Fact("held-out file", str(result["data"]["path"]))]
    facts += [Fact("training file", str(result["training_data"]))] if result["training_data"] else []
    charts = _trust_charts(result)
    return Compared(figures, grids, [Group(f"{name}: reward health", charts)], facts, [], None, "", (),
                    list(result["findings"]))  # fmt: skip


def _beyond_chance(error: Result) -> str:
    """The interval of a calibration error. It leaves out the gap that chance makes, so the figure can lie above it."""
    return ends(error, "{:.1%}".format) + ("" if error["low"] is None else " without the gap that chance makes")


def _judges(figures: Result) -> dict[str, str]:
    return {key: words for key, words in JUDGES.items() if figures.get(key)}


def _accuracy(name: str, result: Result) -> Grid:
    judges = _judges(result["accuracy"])
    rows = [["all pairs", *_shares(result["accuracy"], judges)]]
    rows += [[path, *_shares(one["accuracy"], judges)] for path, one in result["external"].items()]
    note = f"Share of pairs ordered as people did, in percent with 95 % intervals. {D12}"
    return Grid(f"{name}: accuracy", ["pairs", *judges.values(), "number"], rows, note)


def _parts(result: Result) -> list[Grid]:
    judges = _judges(result["accuracy"])
    return [
        Grid(f"By {title.replace('_', ' ')}", ["pairs", *judges.values(), "number"],
             [[part, *_shares(own, judges)] for part, own in parts.items()], folded=True)
        for title, parts in result["by"].items()
    ]  # fmt: skip


def _shares(figures: Result, judges: dict[str, str]) -> list[str]:
    cells = [_percent(figures[key]) if figures.get(key) else "–" for key in judges]
    return [*cells, f"{figures['reward']['n']:,}"]


def _best_of_k(result: Result) -> Grid:
    rows = [
        [JUDGES.get(key, key), f"{100 * one:.1f}" if isinstance(one, float) else _percent(one)]
        for key, one in result["best_of_k"].items()
    ]
    return Grid("Best of K", ["judge", "its favourite is one that people ranked first, %"], rows, folded=True)


def _distance(found: Result) -> list[Grid]:
    heading = ["answers", "AUROC", "beyond the bound, %"]
    if "auroc" not in found:
        return [Grid("Distance from the training answers", heading, [], f"Not measured: {found['why']}.")]
    rows = [
        [key, f"{one['mean']:.3f} ({ends(one, '{:.3f}'.format)})", f"{100 * one['beyond']:.1f}"]
        for key, one in found["auroc"].items()
    ]
    beyond = f"{found['held_out_beyond']:.1%} of the held-out ones are beyond"
    note = f"95 % of the training answers are within the bound, {beyond}."
    return [Grid("Distance from the training answers", heading, rows, note)]


def _shortcuts(found: Result) -> Grid:
    rows = []
    for name, one in found.items():
        truth = one.get("truth")
        cells = [one["why"], ""] if "why" in one else [_moved(one), _flips(one)]
        rows.append([name, *cells, *([_moved(truth), _flips(truth)] if truth else ["", ""])])
    if not any(row[3] for row in rows):
        rows = [row[:3] for row in rows]
    heading = ["one thing changes", "score, standard deviations", "flipped pairs, %", "truth", "truth flips, %"]
    note = (
        "How much a change that makes no answer better moves the score, and in which pairs the worse answer overtakes."
    )
    return Grid("Shortcuts", heading[: len(rows[0])] if rows else heading, rows, note)


def _moved(one: Result) -> str:
    moved = one["in_deviations"]
    return f"{moved['mean']:+.2f} ({ends(moved, '{:+.2f}'.format)})" if moved else "all scores are equal"


def _flips(one: Result) -> str:
    return f"{100 * one['flipped']['mean']:.1f}" if one["flipped"] else "no pair"


def _trust_charts(result: Result) -> list[Chart]:
    """Accuracy next to the baselines, the calibration curve, shortcuts."""
    accuracy, found = result["accuracy"], []
    named = [(words, _interval(accuracy[key])) for key, words in _judges(accuracy).items()]
    found.append(rates("Accuracy on held-out pairs", named, Level("chance", 0.5)))
    curve = [(one["predicted"], _interval(one)) for one in result["calibration"]["curve"]]
    if curve:
        spans = [whisker(one) for _, one in curve]
        points = Series("observed", [x for x, _ in curve], [one.mean for _, one in curve], 0, "points", spans)
        caption = "On the line the reward is as sure as it should be. Below it, it is too sure."
        unit, label = "right, share of pairs", "predicted by σ(score difference)"
        found.append(Chart("Calibration", unit, label, [points], caption, diagonal=True))
    for title, parts in result["by"].items():
        if 1 < len(parts) <= 12:
            named = [(part, _interval(own["reward"])) for part, own in parts.items()]
            found.append(rates(f"Accuracy by {title.replace('_', ' ')}", named, Level("chance", 0.5)))
    return [chart for chart in (*found, _shortcut_chart(result["shortcuts"])) if chart is not None]


def _shortcut_chart(shortcuts: Result) -> Chart | None:
    shown = {name: one for name, one in shortcuts.items() if one.get("in_deviations")}
    if not shown:
        return None
    names, series = list(shown), []
    kinds: dict[str, Callable[[Result], Result | None]] = {
        "reward": lambda one: one["in_deviations"],
        "truth": lambda one: (one.get("truth") or {}).get("in_deviations"),
    }
    for colour, (kind, of) in enumerate(kinds.items()):
        own = [(i, _interval(moved)) for i, name in enumerate(names) if (moved := of(shown[name]))]
        if own:
            spans = [whisker(one) for _, one in own]
            series.append(Series(kind, [i for i, _ in own], [one.mean for _, one in own], colour, "points", spans))
    caption = "Above 0 the change alone raises the score. PPO will find such a change."
    return Chart("Shortcuts", "standard deviations", "", series, caption, [Level("no change", 0.0)], names=names)


def _percent(one: Result) -> str:
    bounds = ends(one, lambda value: f"{100 * value:.1f}")
    return f"{100 * one['mean']:.1f} ({bounds})"


def _interval(one: Result) -> Interval:
    return Interval(one["mean"], one["low"], one["high"], one.get("n", 0))
