"""What an attack is, what came of it, and the table that the siege prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

SLOW = 2.0  # seconds: the longest that a page of somebody else may take during an attack


@dataclass
class Outcome:
    """`failed`: one line for each try that got through."""

    tried: int = 0
    failed: list[str] = field(default_factory=list)
    loads: int = 0
    slowest: float = 0.0
    """Of the page loads of somebody else, in seconds."""
    seconds: float = 0.0

    def add(self, wrong: Iterable[str], tried: int = 1) -> None:
        self.tried += tried
        self.failed += wrong

    def watched(self, times: list[float], errors: list[str], limit: float = SLOW) -> None:
        """Count the page loads of somebody else."""
        self.loads, self.slowest = len(times), max(times, default=0.0)
        slow = sum(time > limit for time in times)
        self.failed += [f"a page of somebody else: {error}" for error in errors]
        self.failed += [f"{slow} pages of somebody else took more than {limit:g} s"] if slow else []
        self.failed += [] if times else ["nobody else loaded a page"]


@dataclass(frozen=True)
class Scale:
    """How much is tried: 1.0 is everything."""

    share: float

    def of(self, full: int, least: int = 1) -> int:
        return max(least, round(full * self.share))


Attack = Callable[[Path, Scale], Outcome]


def lines(outcomes: dict[str, Outcome]) -> list[str]:
    """The table as Markdown."""
    head = [
        "| attack | tried | failed | pages of others, the slowest | minutes |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows = []
    for name, one in outcomes.items():
        loads = f"{one.loads:,}, {one.slowest:.2f} s" if one.loads else "–"
        rows.append(f"| {name} | {one.tried:,} | {len(one.failed):,} | {loads} | {one.seconds / 60:.1f} |")
    return head + rows
