"""Commands that run experiments in the made-up world, in parts that resume."""

from __future__ import annotations

from pathlib import Path

from heedful import terminal
from heedful.commands.base import TRAIN, command, option

AGAIN = "interrupted. Run the same command again to continue"


@command(
    "overoptimisation", TRAIN,
    option("--out", type=Path, required=True, metavar="DIR", help="Folder for results. The same command continues."),
    option("--seed", type=int, default=1, metavar="N", help="Random seed, which also makes the world."),
    option("--quick", is_flag=True, help="Run tiny parts in seconds. The figures mean nothing."),
)  # fmt: skip
def _overoptimisation(out: Path, seed: int, quick: bool) -> None:
    """Measure how far rewards can be optimised before answers get worse, in a simulated world.

    Best of n up to 1,024 and PPO without a KL penalty, for reward models of three sizes and three numbers of rankings.
    Each part is listed with its minutes first, and leaves a small JSON in OUT/parts.
    """
    from heedful.reproduce import overoptimisation, overoptimisation_page
    from heedful.reproduce.parts import Ledger

    with terminal.guard(out, interrupted=f"{out}: {AGAIN}"):
        ledger = Ledger(out / "work", out / "parts")
        figures = ledger.run(overoptimisation.parts(seed, quick=quick), terminal.say)
        print(overoptimisation_page.text(figures))
        print(f"\nReport: {overoptimisation_page.write(out, figures, seed, quick=quick)}")


@command(
    "reproduce", TRAIN,
    option("--out", type=Path, required=True, metavar="DIR", help="Folder for runs and answers. It becomes large."),
    option("--docs", type=Path, metavar="DIR", help="Folder for reproduce.md and reproduce/, with a JSON of each part. "
           "Without it the folder docs here, or that in OUT with --quick."),
    option("--seeds", type=int, multiple=True, metavar="N", help="Seeds of worlds, as in --seeds 1 2 3. Without it "
           "1, 2 and 3, for overopt and ensembles 1 alone, or 1 with --quick."),
    option("--only", multiple=True, metavar="FIGURE", help="Make this figure only: fig1, fig3, fig4, tax, rm, groups, "
           "public, cost, baselines, overopt or ensembles. Repeatable."),
    option("--quick", is_flag=True, help="Run tiny parts in about a minute. The figures mean nothing."),
)  # fmt: skip
def _reproduce(out: Path, docs: Path | None, seeds: tuple[int, ...], only: tuple[str, ...], quick: bool) -> None:
    """Make figures of the paper in a simulated world.

    All parts are listed with their minutes first. A rerun skips parts that are up to date, also after `kill -9`.
    """
    from heedful.reproduce import paper, paper_page

    docs = docs or (out / "docs" if quick else Path("docs"))
    seeds = seeds or ((1,) if quick else ())
    with terminal.guard(out, interrupted=f"{out}: {AGAIN}"):
        ledger, parts = paper.ledger(out, docs), paper.plan(seeds, only, quick=quick)
        called = " ".join(
            ["heedful reproduce", *["--seeds", *map(str, seeds)] * bool(seeds), *["--only", *only] * bool(only)]
        )
        try:
            ledger.run(parts, terminal.say)
        finally:  # also after an interruption: the page shows what is there
            shown = paper.shown(ledger, parts, seeds, quick=quick)
            if any(ledger.record(part) for part in shown):
                print(paper_page.write(docs, ledger, shown, called + " --quick" * quick, quick=quick))
