"""What `heedful reproduce` writes: a page in Markdown, an SVG and a CSV of each figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from heedful.demo.records import BASE, PPO, PROMPTED, PTX, SFT
from heedful.files import write_text
from heedful.maths.statistics import Interval, ends, repeats
from heedful.plots import files as chart_files
from heedful.plots.charts import Chart, Level, rates
from heedful.reproduce import overoptimisation_page
from heedful.reproduce.parts import Figures

PAPER_WINS = {f"{PTX} over {BASE}": "85 ± 3 %", f"{PTX} over {PROMPTED}": "71 ± 4 %"}
PAPER_COST = {"sft": "0.13 %", "ppo_ptx": "1.6 %"}
MISSING = (
    "Not there yet: fig1 at three sizes, fig3, fig4, tax, rm, groups, public and baselines. Cost has no labeler hours, "
    "because simulated labelers take no leases, and no money. The models here have one size."
)
Found = dict[tuple[str, int], dict[str, Figures]]
"""Figures of parts by (models or overopt, seed)."""


def write(docs: Path, found: Found, command: str, *, quick: bool) -> Path:
    """Write DOCS/reproduce.md and the files that it shows in DOCS/reproduce. Returns the page."""
    models = {seed: own for (kind, seed), own in found.items() if kind == "models"}
    told = f"For people who want to compare heedful with the paper. `{command}` writes this page."
    lines = ["# The paper in miniature", "", told, "", "The truth of the made-up world is the judge.", ""]
    lines += ["**This is a quick run. Its figures mean nothing.**", ""] if quick else []
    charts: list[Chart] = []
    fig1 = {seed: own["fig1"] for seed, own in models.items() if "fig1" in own}
    if fig1:
        lines += _fig1(fig1)
        charts += _wins(fig1)
    cost = {seed: own["cost"] for seed, own in models.items() if "cost" in own}
    lines += _cost(cost) if cost else []
    for (kind, seed), own in found.items():
        if kind == "overopt":
            lines += [f"## Over-optimisation, seed {seed}", "", *_rows(overoptimisation_page.HEADING,
                      overoptimisation_page.table(own)), ""]  # fmt: skip
            charts += overoptimisation_page.charts(own)
    (docs / "reproduce").mkdir(parents=True, exist_ok=True)
    made = chart_files.write(docs / "reproduce", charts)
    pictures = [f"![{path.stem[4:]}](reproduce/{path.name})" for path in made if path.suffix == ".svg"]
    lines += ["## Charts", "", "Each has its values in a CSV of the same name.", "", *pictures, "", MISSING, ""]
    write_text(docs / "reproduce.md", "\n".join(lines))
    return docs / "reproduce.md"


def _fig1(by_seed: dict[int, Figures]) -> list[str]:
    """Win rates of every two models: each seed with its interval, and the mean with its standard error."""
    rows = []
    for pair in next(iter(by_seed.values()))["wins"]:
        own = [figures["wins"][pair] for figures in by_seed.values()]
        mean, error, _ = repeats([one["rate"] for one in own])
        shown = f"{100 * mean:.1f} %" + (f" ± {100 * error:.1f}" if error is not None else "")
        rows.append([pair, PAPER_WINS.get(pair, "–"), shown, *(f"{one['rate']:.1%} ({ends(one)})" for one in own)])
    heading = [
        "win rate",
        "paper, 175B",
        "ours, mean ± standard error over seeds",
        *(f"seed {seed}" for seed in by_seed),
    ]
    return ["## Figure 1", "", *_rows(heading, rows), ""]


def _wins(by_seed: dict[int, Figures]) -> list[Chart]:
    """Win rates over SFT, a chart for each seed."""
    found = []
    for seed, figures in by_seed.items():
        wins = figures["wins"]
        over = {name: wins[f"{name} over {SFT}"] for name in (PPO, PTX)}
        for name in (BASE, PROMPTED):  # kept as SFT over them
            one = wins[f"{SFT} over {name}"]
            low, high = (None if one[end] is None else 1 - one[end] for end in ("high", "low"))
            over[name] = {"rate": 1 - one["rate"], "low": low, "high": high, "n": one["n"]}
        named = [(name, Interval(*over[name].values())) for name in (BASE, PROMPTED, PPO, PTX)]
        chart = rates(f"Win rate over SFT, seed {seed}", named, Level("SFT", 0.5))
        found += [chart] if chart is not None else []
    return found


def _cost(by_seed: dict[int, Figures]) -> list[str]:
    """FLOPs of each stage, as the mean over seeds."""
    own = list(by_seed.values())
    rows = [
        [name, f"{fmean(one['flops'][name] for one in own):.2e}",
         f"{100 * fmean(one['share'][name] for one in own):.2f} %", PAPER_COST.get(name, "–")]
        for name in own[0]["flops"]
    ]  # fmt: skip
    labels = " and ".join(f"{count:,} {name}" for name, count in own[0]["labels"].items())
    text = f"Labels in training: {labels}. FLOPs by E7: 6 N a trained token, 2 N a token that is read or sampled."
    heading = ["stage", "FLOPs", "of pretraining, ours", "of pretraining, paper"]
    return ["## Cost", "", text, "", *_rows(heading, rows), ""]


def _rows(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rows)]
