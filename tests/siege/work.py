"""The work of an attack: how much is tried, in parts that can be continued, each with a time limit."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from siege.table import Outcome

PROGRESS = 10.0  # seconds between two lines
LONGEST = 300.0  # seconds that one part may take


class TooLong(Exception):
    """A part did not end in its time."""


def nothing() -> None:
    """What is called after a part, where no row is kept."""


@dataclass
class Work:
    """`share`: how much is tried, of 1.0. `keep` is called after each part. `until`: when to stop (monotonic clock)."""

    share: float
    name: str = ""
    outcome: Outcome = field(default_factory=Outcome)
    keep: Callable[[], None] = nothing
    until: float | None = None
    told: float = field(default_factory=time.monotonic)

    def of(self, full: int, least: int = 1) -> int:
        """The size in this form of what is `full` in the full one."""
        return max(least, round(full * self.share))

    def parts(self, count: int, longest: float = LONGEST) -> Iterator[int]:
        """Numbers of the parts that are not done yet. A part that takes longer raises TooLong where it is."""
        self.outcome.parts = count
        while self.outcome.done < count and not self.is_over():
            with limited(longest):
                yield self.outcome.done
            self.outcome.done += 1
            self.keep()
            self._tell()

    def is_over(self) -> bool:
        return self.until is not None and time.monotonic() > self.until

    def _tell(self) -> None:
        if time.monotonic() - self.told > PROGRESS:
            self.told = time.monotonic()
            one = self.outcome
            words = f"  {self.name}: {one.done:,} of {one.parts:,} parts, {one.tried:,} tried, {len(one.failed)} failed"
            print(words, file=sys.stderr, flush=True)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TooLong in the main thread when the time is over."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"it took more than {seconds:g} s")

    before, begin = signal.signal(signal.SIGALRM, over), time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # of a limit around this one
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - begin)))


Attack = Callable[[Path, Work], None]
