"""Commands that tell people about runs and models: the report and the model card."""

from __future__ import annotations

from pathlib import Path

from heedful.commands.base import USE, argument, command, option


@command(
    "report", USE, argument("runs", "RUN...", "Run folders, and folders of heedful evaluate, benchmark and trust.",
                            nargs=-1, required=True),
    option("--out", type=Path, default=Path("report.html"), metavar="FILE", help="HTML file."),
)  # fmt: skip
def _report(runs: tuple[Path, ...], out: Path) -> None:
    """Write one page about runs and evaluations: tables, curves, lineage and answers side by side.

    Each chart is also an SVG and a CSV in a folder next to the page.
    """
    from heedful.report.run_report import write_for_runs

    print(write_for_runs(list(runs), out))


@command(
    "card", USE, argument("run", "RUN", "Run folder."),
    option("--evaluation", "evaluations", type=Path, multiple=True, metavar="DIR",
           help="Folder of heedful evaluate with figures for the card. Repeatable."),
    option("--intended", metavar="TEXT", help="What the model is meant for."),
    option("--survey", type=Path, metavar="FILE", help="Anonymous survey of the labelers: JSON Lines, a person each. "
           "Answers of fewer than five people are counted together."),
    option("--out", type=Path, metavar="FILE", help="Markdown file. Without it model/README.md of the run."),
)  # fmt: skip
def _card(
    run: Path, evaluations: tuple[Path, ...], intended: str | None, survey: Path | None, out: Path | None
) -> None:
    """Write the model card of a run, which ships with its model.

    Data and consent, labelers and their agreement, whom the model is aligned to, what was measured, and what was not.
    """
    from heedful.report import card

    print(card.write(run, out, evaluations=evaluations, intended=intended, survey=survey))
