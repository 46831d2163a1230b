"""The result of `heedful evaluate` as parts of a page: tables with intervals, charts, and answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as with_default
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Choice, Completions, Prompt, PromptText, as_text
from heedful.data.text import as_words, counted
from heedful.evaluation.result import Result
from heedful.files import read_json
from heedful.maths.statistics import Interval, ends
from heedful.plots.charts import Chart, Level, rates
from heedful.report.page import Fact, Figure, Grid, Group, SampleAnswer, SampleView
from heedful.report.side_by_side import LOSS, TIE, WIN, PairTally

RESULT, ANSWERS, CHOICES = "result.json", "answers.jsonl", "choices.{}.jsonl"
SAMPLES = 20
RULE = (
    "{count} prompts, drawn at random with seed {seed} in these shares by the verdicts of {judge}. "
    "Within each outcome, prompts with a flag or on which judges disagree come first."
)
PARTS = {
    "by_use_case": "use case",
    "by_source": "source of the prompts",
    "by_group": "group",
    "by_labelers": "labelers",
}


@dataclass(frozen=True)
class Compared:
    """What a page shows of one evaluation."""

    figures: list[Figure]
    grids: list[Grid]
    groups: list[Group]
    facts: list[Fact]
    samples: list[SampleView]
    tally: PairTally | None
    samples_note: str
    shown: tuple[str, ...]
    signs: list[str] = with_default(default_factory=list)
    """What to know first."""


def is_evaluation(path: Path) -> bool:
    """Whether a folder holds the result of `heedful evaluate`."""
    return (path / RESULT).is_file() and "judges" in read_json(path / RESULT)


def of_folder(name: str, folder: Path, seed: int = 0) -> Compared:
    """The parts of the page for the result in a folder."""
    result = read_json(folder / RESULT)
    grids = [grid for judge, found in result["judges"].items() for grid in _grids(judge, found, result["baseline"])]
    grids += [_agreement(result["agreement"])] if result["agreement"] else []
    charts = [chart for judge, found in result["judges"].items() for chart in _charts(judge, found, result["baseline"])]
    samples, tally, note, shown = _side_by_side(folder, result, seed)
    return Compared(
        _figures(result), grids, [Group(f"{name}: win rates", charts)], _facts(result), samples, tally, note, shown
    )


def _figures(result: Result) -> list[Figure]:
    """How often each model wins over the baseline, by the first judge."""
    found: Result = next(iter(result["judges"].values()), {"win_rates": {}})
    return [
        Figure(
            f"{rate['rate']:.0%}", f"of prompts: {model} better than {result['baseline']}", ends(rate, "{:.0%}".format)
        )
        for model, rate in found["win_rates"].items()
    ]


def _grids(judge: str, found: Result, baseline: str) -> list[Grid]:
    counts = (
        f"{counted(found['prompts'], 'prompts')}, {counted(found['verdicts'], 'verdicts')}, {found['ties']:,} tied."
    )
    note = f"{counts} Intervals of 95 % count {found['cluster']}s."
    rows = []
    for model, rate in found["win_rates"].items():
        controlled, needed = found["controlled"][model], found["prompts_needed"][model]
        equal = controlled.get("why") or _rate(controlled)
        more = "" if needed is None else "settled" if needed == 0 else f"{needed:,}"
        rows.append([model, _rate(rate), equal, more, f"{rate['n']:,}"])
    heading = ["model", f"wins over {baseline}, %", "at equal length, %", "more prompts to settle it", "prompts"]
    grids = [Grid(f"Judge {judge}", heading, rows, note + _bias(found))]
    if found["differences"]:
        differences = [
            [
                f"{one['a']} over {one['b']}",
                f"{100 * one['mean']:+.1f} ({ends(one, lambda share: f'{100 * share:+.1f}')})",
                f"{one['n']:,}",
            ]
            for one in found["differences"]
        ]
        grids.append(Grid("Paired differences", ["models", "points", "prompts"], differences, folded=True))
    if found["scale"] is not None:
        strengths = sorted(found["scale"]["strengths"].items(), key=lambda item: -item[1]["mean"])
        scale = [[model, f"{one['mean']:+.2f} ({ends(one, '{:+.2f}'.format)})"] for model, one in strengths]
        grids.append(Grid("Bradley-Terry scale", ["model", "strength"], scale, folded=True))
    for field, label in PARTS.items():
        if len(parts := found.get(field, {})) > 1:
            cells = [
                [as_words(part), model, _rate(rate), f"{rate['n']:,}"]
                for part, own in parts.items()
                for model, rate in own.items()
            ]
            grids.append(Grid(f"By {label}", [label, "model", "%", "prompts"], cells, folded=True))
    return grids + _ratings(found)


def _ratings(found: Result) -> list[Grid]:
    grids = []
    for label, models in (found.get("ratings") or {}).items():
        flags = list(dict.fromkeys(flag for rated in models.values() for flag in rated["flags"]))
        rows = []
        for model, rated in models.items():
            overall = rated["overall"]
            cells = ["–" if overall is None else f"{overall['mean']:.2f} ({ends(overall, '{:.2f}'.format)})"]
            cells += [_share(rated["flags"].get(flag)) for flag in flags]
            rows.append([model, *cells])
        whose = "Ratings" if label == "models" else f"Ratings of {as_words(label)} labelers"
        grids.append(Grid(whose, ["model", "overall, 1 to 7", *(f"{as_words(flag)}, %" for flag in flags)], rows))
    return grids


def _bias(found: Result) -> str:
    turned = found.get("position_bias", {}).get("turned")
    return "" if turned is None else f" {turned:.1%} of its verdicts turn with the order and count as ties."


def _agreement(agreed: list[Result]) -> Grid:
    rows = [
        [" and ".join(one["judges"]), "–" if one["rate"] is None else f"{one['rate']:.1%}", f"{one['pairs']:,}"]
        for one in agreed
    ]
    return Grid(
        "Judges that decide alike", ["judges", "share", "comparisons"], rows, "Without those that one of them ties."
    )


def _rate(rate: Result) -> str:
    return f"{100 * rate['rate']:.1f} ({ends(rate, lambda share: f'{100 * share:.1f}')})"


def _share(rate: Result | None) -> str:
    return "–" if rate is None else f"{100 * rate['mean']:.1f} ({ends(rate, lambda share: f'{100 * share:.1f}')})"


def _charts(judge: str, found: Result, baseline: str) -> list[Chart]:
    def named(table: Result) -> list[tuple[str, Interval]]:
        known = {model: rate for model, rate in table.items() if "rate" in rate}
        return [(model, Interval(rate["rate"], rate["low"], rate["high"], rate["n"])) for model, rate in known.items()]

    level = Level(baseline, 0.5)
    charts = [rates(f"Wins over {baseline} by {judge}", named(found["win_rates"]), level)]
    charts.append(rates(f"At equal length by {judge}", named(found["controlled"]), level))
    return [chart for chart in charts if chart is not None]


def _facts(result: Result) -> list[Fact]:
    facts = [Fact(f"model {name}", ref) for name, ref in result["models"].items()]
    left_out = {why: count for why, count in result.get("left_out", {}).items() if count}
    facts += (
        [Fact("left out", ", ".join(f"{count:,} {as_words(why)}" for why, count in left_out.items()))]
        if left_out
        else []
    )
    return [*facts, Fact("baseline", result["baseline"]), Fact("seed of the evaluation", str(result["seed"]))]


def _side_by_side(
    folder: Path, result: Result, seed: int
) -> tuple[list[SampleView], PairTally | None, str, tuple[str, ...]]:
    """Twenty prompts in the true shares of wins, ties and losses of the last model, those to look at first first."""
    if not result["judges"]:
        return [], None, "", ()
    baseline = result["baseline"]
    model = [name for name in result["models"] if name != baseline][-1]
    if (folder / ANSWERS).is_file():
        rows = formats.read(folder / ANSWERS, Completions)
    else:
        rows = _judged_answers(folder / CHOICES.format(1), (baseline, model))
    judged = [_outcomes(folder / CHOICES.format(place), model, baseline) for place, _ in enumerate(result["judges"], 1)]
    first = judged[0]
    rows = [row for row in rows if _key(row.prompt) in first]
    if not rows:
        return [], None, "", ()
    tally = PairTally.of(model, baseline, [first[_key(row.prompt)] for row in rows], [0.5] * len(rows))
    disputed = {
        _key(row.prompt) for row in rows if len({_side(one.get(_key(row.prompt))) for one in judged} - {None}) > 1
    }
    flagged = {_key(row.prompt): marks for row in rows if (marks := _flags(row))}
    first_ones = [_key(row.prompt) in disputed or _is_flagged(row, (baseline, model)) for row in rows]
    drawn = _ordered(tally.draw(SAMPLES, seed), tally, first_ones)
    samples = []
    for place in drawn:
        row = rows[place]
        answers = [
            SampleAnswer(str(name), text, None, flagged.get(_key(row.prompt), {}).get(number, []))
            for number, (name, text) in enumerate(zip(row.models or [], row.completions, strict=True))
        ]
        samples.append(
            SampleView(as_text(row.prompt), answers, row.use_case, tally.outcomes[place], _key(row.prompt) in disputed)
        )
    note = RULE.format(count=len(samples), seed=seed, judge=next(iter(result["judges"])))
    return samples, tally, note, (baseline, model)


def _ordered(drawn: list[int], tally: PairTally, first: list[bool]) -> list[int]:
    """The drawn prompts: wins, ties, losses. Within each those to look at come first, else in the order of the file."""
    return sorted(drawn, key=lambda place: ((WIN, TIE, LOSS).index(tally.outcomes[place]), not first[place], place))


def _outcomes(path: Path, model: str, baseline: str) -> dict[str, float]:
    """How often the model wins over the baseline on each prompt, by the verdicts of one judge."""
    if not path.is_file():
        raise UserError(f"{path}: is missing from the evaluation. Run heedful evaluate again")
    found: dict[str, list[float]] = {}
    for choice in formats.read(path, Choice):
        sides = (choice.a.model, choice.b.model)
        if sides in ((model, baseline), (baseline, model)):
            won = {"a": 1.0, "tie": 0.5, "b": 0.0}[choice.preferred]
            found.setdefault(_key(choice.prompt), []).append(won if sides[0] == model else 1 - won)
    return {prompt: fmean(outcomes) for prompt, outcomes in found.items()}


def _side(outcome: float | None) -> str | None:
    return None if outcome is None else WIN if outcome > 0.5 else LOSS if outcome < 0.5 else TIE


def _flags(row: Completions) -> dict[int, list[str]]:
    """Answers that a person should see: empty ones, cut ones, and ones that repeat themselves."""
    found: dict[int, list[str]] = {}
    for place, text in enumerate(row.completions):
        words = text.split()
        marks = ["empty"] if not words else []
        marks += ["cut_off"] if row.finish and row.finish[place] == "length" else []
        marks += ["repeats_itself"] if len(words) >= 12 and len(set(pairwise(words))) < len(words) / 2 else []
        if marks:
            found[place] = marks
    return found


def _is_flagged(row: Completions, models: Sequence[str]) -> bool:
    """Whether an answer of these models has a flag. The answers of the others are hidden at first."""
    return any((row.models or [])[place] in models for place in _flags(row))


def _judged_answers(path: Path, models: Sequence[str]) -> list[Completions]:
    """The answers of two models to each prompt as people judged them, where a file of judgements is all that is there.

    Of several answers of a model to a prompt, the first one counts.
    """
    found: dict[str, tuple[Choice, dict[str, str]]] = {}
    for choice in formats.read(path, Choice):
        sides = {str(side.model): side.text for side in (choice.a, choice.b)}
        if sides.keys() == set(models):
            found.setdefault(_key(choice.prompt), (choice, sides))
    return [
        Completions.model_validate({
            **{name: getattr(choice, name) for name in Prompt.model_fields},
            "completions": [sides[name] for name in models], "models": list(models),
        })
        for choice, sides in found.values()
    ]  # fmt: skip


def _key(prompt: PromptText) -> str:
    return as_text(prompt)
