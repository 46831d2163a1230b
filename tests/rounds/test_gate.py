"""The gate: figures by hand, an identical candidate, and a better one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from heedful.configs.round import GateConfig
from heedful.maths.statistics import WinRate
from heedful.rounds.gate import Difference, Evidence, decide, difference, planned, win

CONFIG = GateConfig(tax=0.1, length=1.5, flags={"hallucination": 0.02})
GOOD = Evidence(
    WinRate(0.6, 0.54, 0.66, 259), {"hallucination": Difference(0.0, -0.03, 0.03, 259)}, tax=0.05, length=1.1
)


def judged(seen: Evidence = GOOD, config: GateConfig = CONFIG, **changed: Any) -> tuple[str, str]:
    verdict = decide(config, 259, replace(seen, **changed))
    return verdict.outcome, " | ".join(verdict.reasons)


def test_the_number_of_prompts_by_hand() -> None:
    """At a power of 90 % (1.96 * 0.5 + 1.2816 * sqrt(0.24)) / 0.1 = 16.078, squared 258.5. At 80 % 193.8."""
    assert planned(GateConfig()) == 259
    assert planned(GateConfig(power=0.8)) == 194
    assert planned(GateConfig(power=0.8, design=2.0)) == 388
    assert planned(GateConfig(detect=0.99)) == 10  # an interval needs 10
    assert planned(GateConfig(prompts=40)) == 40


def test_a_difference_by_hand() -> None:
    """Ten users with one value each, five of 1 and five of 0: mean 0.5, error sqrt(0.25 * 10 / 9 / 10) = 0.16667."""
    values, users = [1, 0] * 5, [f"u{i}" for i in range(10)]
    found = difference(values, users)
    half = stats.t.ppf(0.975, 9) / 6
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half, 10), abs=2e-3)
    many = difference(values, users, bounds=11)
    assert many.low == pytest.approx(0.5 - stats.t.ppf(1 - 0.025 / 11, 9) / 6, abs=2e-2)
    one = difference([1.0] * 10 + [0.0] * 9, ["a"] * 10 + users[1:])  # one user has 10 of 19 values
    # without that user the mean moves by 10 * 9/19 / 9 = 10/19, without another one by 10/19 / 18 (9 of them)
    error = ((10 / 19) ** 2 + 9 * (10 / 19 / 18) ** 2) ** 0.5 * 0.9**0.5
    assert one.low == pytest.approx(10 / 19 - stats.t.ppf(0.975, 2) * error, rel=0.06)  # 361 / 109 = 3.3 equal users
    assert win([0.5] * 20, list(range(20))) == (0.5, None, None, 20)
    assert win([0.0] * 11 + [1.0], list(range(12))).low == 0.0  # 1 of 12: the plain interval ends below 0
    assert win([1.0] * 11 + [0.0], list(range(12))).high == 1.0
    # the same users twice: twice the values, and the same error
    assert difference(values * 2, users * 2)[:3] == pytest.approx(found[:3])
    assert difference(values[:9], users[:9]) == (pytest.approx(5 / 9), None, None, 9)


@pytest.mark.parametrize(
    ("changed", "outcome", "reason"),
    [
        ({}, "promote", "wins 60.0% of 259 prompts, at least 54.0%"),
        ({"win": WinRate(0.56, 0.5, 0.62, 259)}, "keep", "wins 56.0%, and the lower bound of 50.0% is not above"),
        ({"win": WinRate(0.9, 0.8, 0.95, 258)}, "undecided", "compared on 258 of 259 prompts, about 1 more"),
        ({"win": None}, "undecided", "compared on 0 of 259 prompts, about 259 more"),
        ({"win": WinRate(1.0, None, None, 259)}, "undecided", "fewer than 10 held-out users"),
        ({"flags": None}, "undecided", "nobody has rated the flags"),
        ({"flags": {"violent": Difference(0.1, None, None, 9)}}, "undecided", "flags were rated for fewer than 10"),
        ({"flags": {"violent": Difference(0.05, 0.01, 0.09, 259)}}, "keep", "5.0 points more often, at least 1.0"),
        ({"flags": {"hallucination": Difference(0.05, 0.02, 0.08, 259)}}, "promote", "wins"),
        ({"flags": {"hallucination": Difference(0.05, 0.021, 0.08, 259)}}, "keep", "The bound is 2.0"),
        ({"flags": {"satisfies_constraint": Difference(0.2, 0.1, 0.3, 259)}}, "promote", "wins"),
        ({"flags": {"satisfies_constraint": Difference(-0.2, -0.3, -0.1, 259)}}, "keep", "20.0 points less often"),
        ({"tax": 0.101}, "keep", "tax: the loss on held-out texts is 0.101 nats a token higher"),
        ({"tax": None}, "undecided", "the tax was not measured"),
        ({"length": 1.51}, "keep", "length: 1.51 times that of the served model"),
        ({"length": 0.66}, "keep", "length: 0.66 times"),
        ({"length": None}, "undecided", "the lengths were not measured"),
        ({"alarms": ["over-optimisation: x"]}, "keep", "over-optimisation: x"),
        ({"alarms": ["x"], "win": None}, "keep", "x"),
    ],
)  # fmt: skip
def test_every_bound_by_hand(changed: dict[str, Any], outcome: str, reason: str) -> None:
    found = judged(**changed)
    assert found[0] == outcome
    assert reason in found[1]


def test_bounds_that_are_off_are_not_needed() -> None:
    off = GateConfig(tax="off", length="off", unrated="allow")
    assert judged(config=off, tax=9.0, length=9.0, flags=None)[0] == "promote"
    assert (
        judged(config=GateConfig(unrated="allow", flag=0.02), flags={"x": Difference(0.1, 0.03, 0.2, 259)})[0] == "keep"
    )


def gates(rate: float, *, tilt: float = 0.0, count: int = 200) -> int:
    """How many of 200 simulated gates promote: heavy-tailed users, a fifth of ties, eleven flags with equal rates.

    `tilt`: how far the true rate of a user is from that of all, up or down.
    """
    config, draw = GateConfig(), np.random.default_rng(17)
    n, shares = planned(config), 1 / np.arange(1, 61)
    promoted = 0
    for _ in range(count):
        users = draw.choice(60, size=n, p=shares / shares.sum())
        own = np.clip(rate + tilt * draw.choice([-1, 1], size=60), 0, 1)[users]
        outcomes = (draw.random(n) < (own - 0.1) / 0.8).astype(float)  # 0.5 * a fifth + 0.8 * this = the rate
        outcomes[draw.random(n) < 0.2] = 0.5
        flags = {}
        for number in range(11):
            chance = 0.01 * (number + 1)
            theirs = (draw.random(n) < chance).astype(float) - (draw.random(n) < chance)
            flags[f"flag {number}"] = difference(theirs, list(users), 11)
        seen = Evidence(win(outcomes, list(users)), flags, length=1.0)
        promoted += decide(config, n, seen).outcome == "promote"
    return promoted


@pytest.mark.medium
@pytest.mark.parametrize("tilt", [0.0, 0.15])
def test_an_identical_candidate_is_promoted_in_at_most_five_percent(tilt: float) -> None:
    assert gates(0.5, tilt=tilt) <= 10


@pytest.mark.medium
def test_a_candidate_that_wins_sixty_percent_is_promoted_in_at_least_eighty_percent() -> None:
    assert gates(0.6) >= 160


def test_a_flag_that_is_truly_worse_stops_a_better_candidate() -> None:
    """Violent in 25 % and not in 5 % of the answers. The interval of 11 bounds ends well above 0."""
    draw = np.random.default_rng(3)
    users = [f"u{i % 60}" for i in range(259)]
    worse = (draw.random(259) < 0.25).astype(float) - (draw.random(259) < 0.05)
    found = difference(worse, users, 11)
    assert judged(flags={"violent": found})[0] == "keep"
