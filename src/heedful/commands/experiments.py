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
