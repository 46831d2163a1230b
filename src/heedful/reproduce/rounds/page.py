"""What `heedful round demo` writes: a page with a table, and one figure as SVG and CSV.

All of it comes from the records of the parts. A part that has not run is named as not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heedful.files import write_text
from heedful.maths.statistics import Interval, ends, repeats
from heedful.plots import files as chart_files
from heedful.plots.charts import Chart, Level, Series, whisker
from heedful.reproduce.parts import Figures, Ledger, Part
from heedful.reproduce.rounds.measure import ALL, NEW, OLD
from heedful.runs.listing import duration

PAGE, FOLDER = "round-demo.md", "rounds"
FiguresOfSeeds = dict[int, dict[str, Figures]]
"""Figures of the parts that have run, by seed and name."""


class PageRow(NamedTuple):
    """A comparison: what it is, the part that measures it, where in its figures, and on which prompts."""

    text: str
    part: str
    path: tuple[str, ...]
    topics: str = ALL


def rows(rounds: int) -> list[PageRow]:
    """The comparisons in the order of the table."""
    found = [
        PageRow(f"round {number} over SFT", f"round-{number}", ("wins", "SFT"), ALL if number == rounds else OLD)
        for number in range(1, rounds + 1)
    ]
    found += [
        PageRow(f"round {number} over round {number - 1}", f"round-{number}", ("wins", "the round before"),
            ALL if number == rounds else OLD)
        for number in range(2, rounds + 1)
    ]  # fmt: skip
    return [
        *found,
        PageRow(f"round {rounds} over the same with the reward model of round 1, at equal KL", "frozen", ("wins",)),
        PageRow("restart from SFT over `start = \"last\"`", "last", ("wins",)),
        PageRow(f"round {rounds} over the policy before it, on its new topics", "topics", ("wins",), NEW),
        PageRow(f"round {rounds} over the policy before it, on the old topics", "topics", ("wins",), OLD),
        PageRow("round 2 over the same with a careless labeler, alerts ignored", "careless", ("ignored", "wins"), OLD),
        PageRow("round 2 over the same with a careless labeler, alerts heeded", "careless", ("heeded", "wins"), OLD),
        PageRow("alerts heeded over alerts ignored", "careless", ("wins",), OLD),
        PageRow(f"rankings over thumbs as the reward of round {rounds}, at equal KL", "thumbs", ("wins",)),
    ]  # fmt: skip


def read(plan: dict[Ledger, list[Part]]) -> tuple[FiguresOfSeeds, list[str]]:
    """The figures of the parts that have run with these settings, and those that have not, in words."""
    found: FiguresOfSeeds = {}
    missing: dict[int, list[str]] = {}
    for ledger, parts in plan.items():
        for part in parts:
            kept = ledger.record(part)
            if kept is not None:
                found.setdefault(part.seed, {})[part.name] = kept["figures"]
            else:
                old = (ledger.records / f"{part.name}.json").exists()
                named = part.name + (" (its record has other settings)" if old else "")
                missing.setdefault(part.seed, []).append(named)
    return found, [f"seed {seed}: {', '.join(names)}" for seed, names in missing.items()]


def write(docs: Path, plan: dict[Ledger, list[Part]], rounds: int, command: str, *, quick: bool) -> Path:
    """Write DOCS/round-demo.md and its figure in DOCS/rounds. Returns the page."""
    found, missing = read(plan)
    seeds = sorted({part.seed for parts in plan.values() for part in parts})
    made = _pictures(docs / FOLDER, found, rounds)
    lines = [
        "# Rounds, tried out", "",
        "For people who want to know whether another round helps. After this page you know what each round gained in "
        f"the made-up world, and what it cost. `{command}` writes it.", "",
    ]  # fmt: skip
    lines += ["**This is a quick run. Its figures mean nothing.**", ""] if quick else []
    lines += [STORY, ""]
    lines += ["## Win rates by the truth", "", *_table(_wins(found, seeds, rounds)), "", WINS, ""]
    lines += [f"![Win rates by the truth](rounds/{path.name})\n" for path in made if path.suffix == ".svg"]
    lines += [line for block in (_spent(found), _details(found)) for line in block]
    if missing:
        lines += ["## Not run", "", "These parts have not run, so their figures are missing:", ""]
        lines += [f"- {one}" for one in missing] + [""]
    write_text(docs / PAGE, "\n".join(lines))
    return docs / PAGE


STORY = """\
Simulated users ask a running `heedful serve` through the `openai` package. A few of them send most prompts. One in
twenty is abusive, and a fifth refuse the storage. Their thumbs like flattery and length. Simulated labelers rank
answers through the API of the labelling app. Held-out labelers judge for the gate. Every round goes through the steps
of [`heedful round run`](rounds.md). Before the last round nobody asks about the new topics, and the SFT model has not
learned from them either."""
WINS = """\
Ties count half. The intervals are 95 % bootstrap intervals over test users, who send nothing else. They hold for one
training run. Above 50 % the first of the two is better. A row says "better" or "worse" if the intervals of all seeds
are on one side of 50 %. At equal KL, up to four KL coefficients are tried until the KL at the end of training is within
15 % of that of the plain round. The KLs below are those on the test prompts."""


def _at(figures: Figures | None, row: PageRow) -> Interval | None:
    """The win rate of a row in the figures of its part."""
    found: Any = figures
    for name in (*row.path, row.topics):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return Interval(found["rate"], found["low"], found["high"], found["n"])


def _wins(found: FiguresOfSeeds, seeds: Sequence[int], rounds: int) -> list[list[str]]:
    table = [["", "win rate", *(f"seed {seed}" for seed in seeds), "mean ± standard error", "says"]]
    for place, row in enumerate(rows(rounds)):
        own = [_at(found.get(seed, {}).get(row.part), row) for seed in seeds]
        there = [one for one in own if one is not None]
        mean, error = repeats([one.mean for one in there])[:2] if there else (None, None)
        shown = "–" if mean is None else f"{mean:.1%}" + (f" ± {100 * error:.1f}" if error is not None else "")
        cells = [
            _cell(one, "left out" if row.part in found.get(seed, {}) else "not run")
            for one, seed in zip(own, seeds, strict=True)
        ]
        table.append([_letter(place), row.text, *cells, shown, verdict(there)])
    return table


def _cell(rate: Interval | None, without: str) -> str:
    return without if rate is None else f"{rate.mean:.1%} ({ends(rate, '{:.1%}'.format)})"


def verdict(rates: Sequence[Interval]) -> str:
    """What the intervals of all seeds say together."""
    if not rates:
        return "–"
    if all(one.low is not None and one.low > 0.5 for one in rates):
        return "better"
    if all(one.high is not None and one.high < 0.5 for one in rates):
        return "worse"
    return "no difference shown"


def _pictures(folder: Path, found: FiguresOfSeeds, rounds: int) -> list[Path]:
    """One chart: a point for each comparison and seed."""
    series = []
    for colour, (seed, figures) in enumerate(sorted(found.items())):
        points = [(place, _at(figures.get(row.part), row)) for place, row in enumerate(rows(rounds))]
        there = [(place, one) for place, one in points if one is not None]
        if there:
            series.append(
                Series(
                    f"seed {seed}", [place + 0.2 * colour for place, _ in there], [100 * one.mean for _, one in there],
                    colour, "points", [whisker(one, 100) for _, one in there],
                    [f"{_letter(place)}, seed {seed}: {one.mean:.1%}" for place, one in there],
                )
            )  # fmt: skip
    names = [_letter(place) for place in range(len(rows(rounds)))]
    chart = Chart("Win rate by the truth", "%", "", series, levels=[Level("equal", 50.0)], names=names)
    folder.mkdir(parents=True, exist_ok=True)
    return chart_files.write(folder, [chart] if series else [])


def _spent(found: FiguresOfSeeds) -> Iterator[str]:
    """What each round took from users and labelers, and what its gate said."""
    heading = ["seed", "round", "requests", "of refusing users, stored", "prompts", "labels", "labelers' time"]
    table = [[*heading, "computing", "gate"]]
    for seed, figures in sorted(found.items()):
        for name, own in figures.items():
            if not name.startswith("round-"):
                continue
            traffic, cost = own["traffic"], own["spent"]
            table.append([
                str(seed), name.removeprefix("round-"), f"{traffic.get('requests', 0):,}",
                f"{traffic.get('refused', 0):,}, {own['stored_of_refusing']}", f"{own['prompts']:,}",
                f"{cost['labels']:,}", duration(cost["labeler_seconds"]), duration(cost["compute_seconds"]),
                f"{own['gate']['outcome']}: {'; '.join(own['gate']['reasons'])}",
            ])  # fmt: skip
    if len(table) > 1:
        yield from ("## Prompts and labels spent", "", *_table(table), "")
        yield from ("The labels are those of training and of the gate. Labelers' time is simulated: 140 to 260 words a "
                    "minute. A batch of requests and a step of a round that a kill cut off are not counted, only their "
                    "repetition.", "")  # fmt: skip


def _details(found: FiguresOfSeeds) -> Iterator[str]:
    """What belongs to single comparisons."""
    told = []
    for seed, figures in sorted(found.items()):
        for name in ("frozen", "thumbs"):
            if name in figures:
                plain, changed = (max(0.0, figures[name][which]["kl"]) for which in ("plain", "changed"))
                first, coef = figures[name]["kl_coefs"]
                how = f"`kl_coef = {coef:.3g}`, of {len(figures[name]['tried'])} tried; {first:.3g} in the plain round"
                told.append(
                    f"seed {seed}, {name}: KL from SFT {changed:.1f} nats, {plain:.1f} in the plain round ({how})"
                )
        if "thumbs" in figures:
            own = figures["thumbs"]
            told.append(f"seed {seed}, thumbs: {own['choices']:,} choices made of thumbs. {own['agreement']}")
        if "careless" in figures and "heeded" in figures["careless"]:
            heeded = figures["careless"]["heeded"]["paused"]
            words = [f"{who} paused, {one['held']} items held back" for who, one in heeded.items()] or ["nobody paused"]
            told.append(f"seed {seed}, careless: {'; '.join(words)}")
        if "topics" in figures:
            before, after = figures["topics"]["before"][NEW]["mean"], figures["topics"]["after"][NEW]["mean"]
            told.append(f"seed {seed}, new topics: utility {before:.3f} before the last round, {after:.3f} after it")
    if told:
        yield from ("## Next to the win rates", "", *(f"- {one}" for one in told), "")


def _letter(place: int) -> str:
    return chr(ord("a") + place)


def _table(table: Sequence[Sequence[str]]) -> list[str]:
    heading, *rest = table
    return ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rest)]
