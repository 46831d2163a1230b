"""What came of an attack, one row for each, and the table of them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from heedful import files

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "build" / "siege"
SLOW = 2.0  # seconds: the longest that a page of somebody else may take during an attack
FORMS = ("full", "short")
BEGIN, END = "<!-- siege: begin -->", "<!-- siege: end -->"


@dataclass
class Outcome:
    """`failed`: one line for each try that got through. `done`: parts that are finished, of `parts`."""

    tried: int = 0
    failed: list[str] = field(default_factory=list)
    loads: int = 0
    slowest: float = 0.0
    """Of the page loads of somebody else, in seconds."""
    seconds: float = 0.0
    done: int = 0
    parts: int = 1

    def add(self, wrong: Iterable[str], tried: int = 1) -> None:
        self.tried += tried
        self.failed += wrong

    def watched(self, times: list[float], errors: list[str], limit: float = SLOW) -> None:
        """Count the page loads of somebody else."""
        self.loads, self.slowest = self.loads + len(times), max([self.slowest, *times])
        slow = sum(time > limit for time in times)
        self.failed += [f"a page of somebody else: {error}" for error in errors]
        self.failed += [f"{slow} pages of somebody else took more than {limit:g} s"] if slow else []
        self.failed += [] if times else ["nobody else loaded a page"]


@dataclass
class Row:
    """An outcome as it is kept. `revisions`: of the code, the last one where it ended."""

    attack: str
    form: str
    outcome: Outcome
    date: str = ""
    revisions: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.outcome.done >= self.outcome.parts

    def write(self, folder: Path) -> None:
        """Write the row as JSON, whole or not at all, so that a kill loses one part at most."""
        self.date = f"{datetime.now(UTC):%Y-%m-%d}"
        path = folder / self.form / f"{self.attack}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read(folder: Path, attack: str, form: str) -> Row | None:
    """A row that an earlier run wrote. None if there is none."""
    path = folder / form / f"{attack}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return Row(**{**found, "outcome": Outcome(**found["outcome"])})


def widest(folder: Path, attacks: Iterable[str]) -> list[Row]:
    """Of each attack the row in which most was tried."""
    found = ([row for form in FORMS if (row := read(folder, name, form))] for name in attacks)
    return [max(rows, key=lambda row: row.outcome.tried) for rows in found if rows]


def revision() -> str:
    """The revision of the code, with a plus sign if files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    found = git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{found}+" if git("status", "--porcelain", "--", "src", "tests", "benchmarks") else found


def lines(rows: Sequence[Row], missing: Iterable[str] = ()) -> list[str]:
    """The table as Markdown. `missing`: attacks that have no row."""
    head = [
        "| attack | form | tried | failed | pages of others, the slowest | minutes | date, revision |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    return head + [_line(row) for row in rows] + [f"| {name} | not run | | | | | |" for name in missing]


def _line(row: Row) -> str:
    one = row.outcome
    loads = f"{one.loads:,}, {one.slowest:.2f} s" if one.loads else "–"
    form = row.form if row.finished else f"{row.form}, {one.done} of {one.parts} parts"
    cells = (row.attack, form, f"{one.tried:,}", f"{len(one.failed):,}", loads, f"{one.seconds / 60:.1f}")
    return f"| {' | '.join(cells)} | {row.date}, {' '.join(row.revisions)} |"


def into_page(page: Path, table: list[str]) -> None:
    """Put the table in the place that the page marks for it."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{page}: the marks {BEGIN} and {END} are missing"
    page.write_text("\n".join([before + BEGIN, "", *table, "", END + after]), encoding="utf-8")
