"""The headings of the demo's steps: number, name and the time that is left."""

from __future__ import annotations

REFERENCE = 190.0  # GFLOP/s of the machine on which the expected seconds were measured


class Clock:
    """Estimates the time left from the expected seconds of each step.

    `expected`: step -> seconds on the reference machine, in order. `finished`: steps that an earlier call finished.
    """

    def __init__(self, expected: dict[str, float], finished: dict[str, float]) -> None:
        self.expected, self._finished = dict(expected), set(finished)
        self._left = {name: seconds for name, seconds in expected.items() if name not in finished}
        self._taken = self._asked = 0.0
        self.scale = 1.0

    def start(self, rate: float) -> None:
        """Scale all expectations by the speed of this machine, in GFLOP/s."""
        self.scale = REFERENCE / rate

    def add(self, name: str, seconds: float) -> None:
        """One more step before the last."""
        *first, last = self.expected.items()
        self.expected = {**dict(first), name: seconds, **dict([last])}
        if name not in self._finished:
            self._left[name] = seconds

    def heading(self, name: str) -> str:
        """For example "[3/8] SFT, about 4 minutes left"."""
        number = list(self.expected).index(name) + 1
        return f"[{number}/{len(self.expected)}] {name}, {said(self.left())} left"

    def left(self) -> float:
        """Seconds of the steps that are not done, at the pace so far."""
        return self.scale * sum(self._left.values())

    def done(self, name: str, seconds: float) -> None:
        """Note what a step took. A step that an earlier call had finished says nothing about the pace."""
        expected = self._left.pop(name, None)
        if expected is None:
            return
        self._taken, self._asked = self._taken + seconds, self._asked + expected
        if self._asked > 0.1 * sum(self.expected.values()):
            self.scale = self._taken / self._asked


def said(seconds: float) -> str:
    """A time in words: "about 4 minutes", "less than a minute"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} minute{'s' * (minutes > 1)}"
