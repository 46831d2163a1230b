"""What `heedful reproduce` writes: a page in Markdown, an SVG and a CSV of each figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from heedful.files import write_text
from heedful.plots import files as chart_files
from heedful.plots.charts import Chart
from heedful.reproduce import claims, ensembles_page, overoptimisation_page, paper_figures
from heedful.reproduce.paper_figures import BySeed, Shown, table
from heedful.reproduce.parts import Figures, Ledger, Part

FIGURES: dict[str, Callable[[BySeed], Shown]] = {
    "sizes": paper_figures.sizes, "fig1": paper_figures.fig1, "fig3": paper_figures.fig3, "fig4": paper_figures.fig4,
    "tax-ptx": paper_figures.tax, "tax-kl": paper_figures.tax, "rm-folds": paper_figures.folds,
    "rm-labels": paper_figures.labels, "groups": paper_figures.groups, "public": paper_figures.public,
    "cost": paper_figures.cost,
    "baselines-labels": partial(paper_figures.baselines, title="equal labels"),
    "baselines-compute": partial(paper_figures.baselines, title="equal compute"),
}  # fmt: skip
"""By part, what the page shows of it. The other parts are not shown."""
FEWER = (
    "By default over-optimisation and ensembles run on seed 1 alone, because all figures on three seeds would take "
    "more than ten hours. The cross-validation trains each fold once in each world, where the paper trained it three "
    "times."
)
OVEROPT, ENSEMBLES = "overopt-", "ensembles-"


def write(docs: Path, ledger: Ledger, parts: Sequence[Part], command: str, *, quick: bool) -> Path:
    """Write DOCS/reproduce.md and the files that it shows in DOCS/reproduce. Returns the page.

    It shows all parts with a record, and names the others of `parts`.
    """
    records = [(part, ledger.record(part)) for part in parts]
    found: dict[str, BySeed] = {}
    for part, record in records:
        if record is not None:
            found.setdefault(part.name, {})[part.seed] = record["figures"]
    told = f"For people who want to compare heedful with the paper. `{command}` writes this page."
    judge = "The truth of the made-up world is the judge. How the figures are made: [reproducing.md](reproducing.md)."
    lines = ["# The paper and heedful", "", told, "", judge, ""]
    lines += ["**This is a quick run. Its figures mean nothing.**", ""] if quick else [FEWER, ""]
    lines += ["## What was reached", "", *_claims(found), ""]
    charts: list[Chart] = []
    for name, shown in FIGURES.items():
        if found.get(name):
            own, drawn = shown(found[name])
            lines, charts = lines + own, charts + drawn
    for start, of_seed in ((OVEROPT, _overopt), (ENSEMBLES, ensembles_page.shown)):
        for home in dict.fromkeys(part.home for part in parts if part.home.startswith(start)):
            own_seed = {part.name: record["figures"] for part, record in records if part.home == home and record}
            own, drawn = of_seed(home.removeprefix(start), own_seed)
            lines, charts = lines + own, charts + drawn
    (docs / "reproduce").mkdir(parents=True, exist_ok=True)
    made = chart_files.write(docs / "reproduce", charts)
    pictures = [f"![{path.stem[4:]}](reproduce/{path.name})" for path in made if path.suffix == ".svg"]
    if pictures:
        lines += ["## Charts", "", "Each has its values in a CSV of the same name.", "", *pictures, ""]
    lines += _missing(ledger, records)
    write_text(docs / "reproduce.md", "\n".join(lines))
    return docs / "reproduce.md"


def _claims(found: dict[str, BySeed]) -> list[str]:
    note = "Several seeds: mean ± standard error. One seed: with its 95 % interval over users. A figure is reached if "
    note += "it is at least the paper's less the paper's error."
    heading = ["figure", "claim", "paper", "ours", "verdict"]
    return [note, "", *table(heading, [list(row) for row in claims.claims(found)])]


def _overopt(seed: str, own: dict[str, Figures]) -> Shown:
    """The reward models of a seed of which both halves are there."""
    shown = {name: one for name, one in own.items()
             if not name.startswith("ppo-") or f"reward-{name.removeprefix('ppo-')}" in own}  # fmt: skip
    rows = overoptimisation_page.table(shown)
    if not rows:
        return [], []
    lines = [f"## Over-optimisation, seed {seed}", "", *table(overoptimisation_page.HEADING, rows), ""]
    return lines, overoptimisation_page.charts(shown)


def _missing(ledger: Ledger, records: Sequence[tuple[Part, dict | None]]) -> list[str]:
    """The parts that have not run."""
    groups: dict[str, list[str]] = {}
    for part, record in records:
        if record is None:
            old = " (its record has other settings)" if ledger.path(part).exists() else ""
            groups.setdefault(part.home, []).append(part.name + old)
    if not groups:
        return []
    rows = [f"- {home}: {', '.join(names)}" for home, names in groups.items()]
    return ["## Not run", "", "These parts have not run, so their figures are missing:", "", *rows, ""]
