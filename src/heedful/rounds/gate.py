"""The gate: whether a candidate replaces the model that is served. Pure functions over what was measured.

The number of prompts is fixed before. A gate looks once. Too few prompts are never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from heedful.configs.round import GateConfig
from heedful.maths.statistics import FEWEST, WinRate, equal_clusters, numbered, student

ONE_SIDED = 0.025
"""Chance that an equal candidate passes one bound. It is one side of a 95 % interval."""
GOOD = frozenset({"satisfies_constraint"})
"""Flags that are good: fewer of them are worse."""
NORMAL = NormalDist()
GateOutcome = Literal["promote", "keep", "undecided"]


class Difference(NamedTuple):
    """How much more often the candidate has a flag than the served model, with the ends of its interval."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Evidence:
    """What was measured of a candidate, against the served model and on the same prompts."""

    win: WinRate | None
    """Its win rate over the served model, ties half, with an interval over users. None: not compared yet."""
    flags: Mapping[str, Difference] | None = None
    """By name of the flag. None: nobody has rated."""
    tax: float | None = None
    """Its loss on held-out texts less that of the served model, in nats a token. None: not measured."""
    length: float | None = None
    """Its mean length over that of the served model. None: not measured."""
    alarms: Sequence[str] = ()
    """Alarms of its training: over-optimisation, and too far from its start."""


@dataclass(frozen=True)
class GateVerdict:
    """What a gate says, and why. `more`: about how many more prompts an undecided gate needs."""

    outcome: GateOutcome
    reasons: tuple[str, ...]
    more: int | None = None

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        return {"outcome": self.outcome, "reasons": list(self.reasons), "more": self.more}


def planned(config: GateConfig) -> int:
    """The number of prompts on which the gate decides.

    A win rate p is found with a chance of `power` where the interval's half width under 1/2 and the spread under p fit
    between 1/2 and p.

    >>> planned(GateConfig(detect=0.6, power=0.9))  # ((1.96 * 0.5 + 1.2816 * 0.4899) / 0.1) ** 2
    259
    """
    if config.prompts is not None:
        return config.prompts
    p = config.detect
    width = NORMAL.inv_cdf(1 - ONE_SIDED) * 0.5 + NORMAL.inv_cdf(config.power) * math.sqrt(p * (1 - p))
    return max(FEWEST, math.ceil(config.design * (width / (p - 0.5)) ** 2))


def difference(values: ArrayLike, users: Sequence[object], bounds: int = 1) -> Difference:
    """The mean of paired differences [N] with its interval over users, for one of `bounds` that are looked at together.

    A user's values vary together, so the variance is that of the jackknife over users. The degrees of freedom are those
    of as many users of equal share as have the same sum of squared shares: a user with half of the prompts would make
    an interval over users too narrow. Each end has a chance of error of `ONE_SIDED` over `bounds`. There is no
    interval from fewer than 10 users. Source of the degrees: Carter, Schnepel and Steigerwald 2017.
    """
    values = np.asarray(values, dtype=np.float64)
    index = numbered(users)
    count, n, mean = int(index.max()) + 1, values.size, float(values.mean())
    if count < FEWEST:
        return Difference(mean, None, None, n)
    share = np.bincount(index) / n
    moved = np.bincount(index, weights=values - mean) / (1 - share) / n  # of the mean, without the user
    error = math.sqrt(float(np.square(moved).sum()) * (count - 1) / count)
    half = student(max(1, round(equal_clusters(share)) - 1), NORMAL.inv_cdf(1 - ONE_SIDED / bounds)) * error
    return Difference(mean, mean - half, mean + half, n)


def win(outcomes: ArrayLike, users: Sequence[object]) -> WinRate:
    """The win rate of outcomes [N] in [0, 1], ties half, with the interval of `difference` within [0, 1].

    There is no interval where every outcome is a tie, because nothing was found out.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    found = difference(values, users)
    ties = bool((values == 0.5).all())
    low, high = (None if ties or end is None else min(max(end, 0.0), 1.0) for end in (found.low, found.high))
    return WinRate(found.mean, low, high, found.n)


def decide(config: GateConfig, prompts: int, seen: Evidence) -> GateVerdict:
    """The verdict on a candidate. `prompts`: the number that was fixed when the round began."""
    if seen.alarms:
        return GateVerdict("keep", tuple(seen.alarms))
    open_ = _open(config, prompts, seen)
    if open_ is not None:
        return open_
    against = [*_win(seen), *_flags(config, seen), *_sizes(config, seen)]
    if against:
        return GateVerdict("keep", tuple(against))
    rate = seen.win
    assert rate is not None
    assert rate.low is not None
    return GateVerdict("promote", (f"wins {rate.rate:.1%} of {rate.n:,} prompts, at least {rate.low:.1%}",))


def _open(config: GateConfig, prompts: int, seen: Evidence) -> GateVerdict | None:
    """Why the gate cannot decide, if so."""
    compared = seen.win.n if seen.win is not None else 0
    if compared < prompts:
        more = prompts - compared
        return GateVerdict(
            "undecided", (f"compared on {compared:,} of {prompts:,} prompts, about {more:,} more",), more
        )
    assert seen.win is not None
    missing = []
    if seen.win.low is None:
        missing.append(f"no interval: fewer than {FEWEST} held-out users, or every outcome is a tie")
    if seen.flags is None and config.unrated == "undecided":
        missing.append("nobody has rated the flags (D9)")
    elif any(found.low is None for found in (seen.flags or {}).values()):
        missing.append(f"flags were rated for fewer than {FEWEST} held-out users")
    if config.tax != "off" and seen.tax is None:
        missing.append("the tax was not measured")
    if config.length != "off" and seen.length is None:
        missing.append("the lengths were not measured")
    return GateVerdict("undecided", tuple(missing)) if missing else None


def _win(seen: Evidence) -> list[str]:
    rate = seen.win
    assert rate is not None
    assert rate.low is not None
    if rate.low > 0.5:
        return []
    return [f"wins {rate.rate:.1%}, and the lower bound of {rate.low:.1%} is not above one half"]


def _flags(config: GateConfig, seen: Evidence) -> list[str]:
    """Flags that are worse beyond their bound."""
    found = []
    for name, one in (seen.flags or {}).items():
        assert one.low is not None
        assert one.high is not None
        least = -one.high if name in GOOD else one.low
        worse = -one.mean if name in GOOD else one.mean
        bound = config.flags.get(name, config.flag)
        if least > bound:
            which = "less" if name in GOOD else "more"
            found.append(f"{name}: {100 * worse:.1f} points {which} often, at least {100 * least:.1f}. "
                         f"The bound is {100 * bound:.1f}")  # fmt: skip
    return found


def _sizes(config: GateConfig, seen: Evidence) -> list[str]:
    """Tax and length beyond their bounds."""
    found = []
    if config.tax != "off" and seen.tax is not None and seen.tax > config.tax:
        found.append(
            f"tax: the loss on held-out texts is {seen.tax:.3f} nats a token higher. The bound is {config.tax:g}"
        )
    if config.length != "off" and seen.length is not None and not 1 / config.length <= seen.length <= config.length:
        found.append(f"length: {seen.length:.2f} times that of the served model. The bound is {config.length:g}")
    return found
