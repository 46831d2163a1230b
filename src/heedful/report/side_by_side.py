"""Which prompts a report shows: counts over all of them, and a few drawn in the shares of wins, ties and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

WIN, TIE, LOSS = "better", "equal", "worse"


@dataclass(frozen=True)
class PairTally:
    """On how many prompts the first model's answer is better than, equal to or worse than the second's."""

    first: str
    second: str
    outcomes: tuple[str, ...]
    """`better`, `equal` or `worse` for each prompt."""

    @classmethod
    def of(cls, first: str, second: str, a: Sequence[float], b: Sequence[float]) -> PairTally:
        """Compare the utilities of two models, aligned by prompt."""
        found = (WIN if x > y else LOSS if x < y else TIE for x, y in zip(a, b, strict=True))
        return cls(first, second, tuple(found))

    def count(self, outcome: str) -> int:
        return self.outcomes.count(outcome)

    def draw(self, size: int, seed: int) -> list[int]:
        """`size` prompts at random, in the true shares of the outcomes (largest remainders), in the order of the file.

        The draw looks at nothing but the outcome, so nobody has chosen the examples.
        """
        total = len(self.outcomes)
        size = min(size, total)
        exact = {outcome: size * self.count(outcome) / max(1, total) for outcome in (WIN, TIE, LOSS)}
        quota = {outcome: int(share) for outcome, share in exact.items()}
        by_remainder = sorted(exact, key=lambda outcome: quota[outcome] - exact[outcome])
        for outcome in by_remainder[: size - sum(quota.values())]:
            quota[outcome] += 1
        rng = Random(seed)
        places = {outcome: [i for i, found in enumerate(self.outcomes) if found == outcome] for outcome in quota}
        return sorted(i for outcome, number in quota.items() for i in rng.sample(places[outcome], number))
