"""Ensembles in `heedful reproduce`: flipped rankings, best of n by hand, the plan, the page and what was reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heedful.data.records import Comparison
from heedful.reproduce import claims, ensembles, ensembles_page, overoptimisation


def test_a_share_of_the_rankings_is_turned_round() -> None:
    rows = [Comparison(prompt=f"p{i}", completions=["a", "b", "c"], ranking=[[2], [0, 1]]) for i in range(40)]
    found = ensembles.turned(rows, 0.25, 1)
    flipped = [i for i, row in enumerate(found) if row.pairs() == [(0, 2), (1, 2)]]
    assert len(flipped) == 10
    assert all(row.pairs() == [(2, 0), (2, 1)] for i, row in enumerate(found) if i not in flipped)
    assert rows[flipped[0]].ranking == [[2], [0, 1]]
    assert ensembles.turned(rows, 0.0, 1) == rows
    assert [row.ranking for row in ensembles.turned(rows, 0.25, 2)] != [row.ranking for row in found]


@pytest.mark.parametrize(
    ("kind", "gold", "proxy"),
    [
        ("one", (10 + 40) / 2, (4.0 + 5.0) / 2),  # the first member takes answer 0, the second one answer 3
        ("mean", 20, 2.5),  # 1.5, 2.5, 2, 2
        ("worst", 30, 2.0),  # -1, 1, 2, -1
        ("weighted", 30, 2.0),  # less half of 2.5, 1.5, 0 and 3: 0.25, 1.75, 2, 0.5
    ],
)
def test_the_best_of_four_by_each_reward(kind: str, gold: float, proxy: float) -> None:
    scores = np.array([[[4.0, 4.0 - 3.0, 2.0, -1.0]], [[-1.0, 4.0, 2.0, 5.0]]])
    means, rising = ensembles.chosen(kind, scores, np.array([[10.0, 20.0, 30.0, 40.0]]), [1, 4], 0.5)
    assert means.tolist() == [[25.0, pytest.approx(gold)]]
    assert rising[0, 1] == pytest.approx(proxy)


def test_the_plan_has_every_reward_on_both_kinds_of_rankings() -> None:
    parts = ensembles.parts(1, home="ensembles-1", shared="overopt-1")
    names = [part.name for part in parts]
    assert names[:3] == ["members-clean", "members-flipped", "best-of-n"]
    assert {*names[3:]} == {f"climb-{labels}-{kind}" for labels in ("clean", "flipped") for kind in ensembles.KINDS}
    assert all(part.minutes <= 30 for part in parts)
    assert len({part.hash for part in parts}) == len(parts)
    theirs = {part.place: part.hash for part in overoptimisation.parts(1, home="overopt-1")}
    shared = {before.place: before.hash for before in parts[0].after}
    assert shared.keys() == {"overopt-1/world", "overopt-1/answers", "overopt-1/body-small"}
    assert shared.items() <= theirs.items()


def interval(mean: float, spread: float = 0.1) -> dict[str, Any]:
    return {"mean": mean, "low": mean - spread, "high": mean + spread, "n": 40}


def curve(*gold: float) -> dict[str, Any]:
    shown = [{"mean": 0.0, "low": None, "high": None}, *map(interval, gold)]
    return {"distance": [float(i) for i in range(len(shown))], "gold": shown, "proxy": [0.0] * len(shown), "fit": None}


def best_of_n(worst: float) -> dict[str, Any]:
    """Differences of `worst` for the worst case, and of 0.3 for the others, on both kinds of rankings."""
    kinds = {"mean": 0.3, "worst": worst, "weighted": 0.3}
    both = ("clean", "flipped")
    return {
        "curves": {labels: {kind: curve(0.5, 0.1) for kind in ensembles.KINDS} for labels in both},
        "over_one": {labels: {kind: [interval(0.0), interval(own)] for kind, own in kinds.items()} for labels in both},
        "peak_shift": {labels: {kind: interval(own) for kind, own in kinds.items()} for labels in both},
        "more_flipped": {kind: interval(own) for kind, own in kinds.items()},
    }


def told(figures: dict[str, Any]) -> list[tuple[str, str]]:
    found = claims.claims({name: {1: own} for name, own in figures.items()})
    return [(one.ours, one.verdict) for one in found if one.figure == "ensembles"]


def test_a_claim_is_reached_if_every_difference_is_above_zero() -> None:
    assert told({}) == [("not run", "not run")] * 4
    assert [verdict for _, verdict in told({"best-of-n": best_of_n(0.2)})] == ["reached"] * 3 + ["not run"]
    ours, verdict = told({"best-of-n": best_of_n(0.05)})[1]
    assert ours.startswith("gold reward over one reward model. worst case, clean: +0.050 (-0.050 to +0.150); ")
    assert verdict == "missed: not above zero beyond the interval for worst case, clean; worst case, flipped"
    less = best_of_n(0.2)
    less["peak_shift"]["flipped"]["weighted"] = None
    assert told({"best-of-n": less})[0][1].endswith("for uncertainty-weighted, flipped")
    assert "uncertainty-weighted, flipped: no peak" in told({"best-of-n": less})[0][0]


def test_policies_end_higher_if_their_intervals_are_apart() -> None:
    figures = {"climb-clean-one": curve(0.3, -0.5), "climb-clean-worst": curve(0.2, -0.2),
               "climb-flipped-weighted": curve(0.2, 0.1)}  # fmt: skip
    assert told(figures)[3] == ("gold reward after the last iteration. worst case, clean: -0.200 against -0.500",
                                "reached for these")  # fmt: skip
    figures["climb-flipped-one"] = curve(0.0, -0.05)
    assert told(figures)[3][1] == "missed: intervals are not apart for uncertainty-weighted, flipped"


def test_the_page_has_a_row_for_each_curve_and_charts_for_each_method() -> None:
    assert ensembles_page.shown("1", {"members-clean": {}}) == ([], [])
    members = {"members": 4, "rankings": 3300, "turned": 825, "accuracy": [0.651, 0.66]}
    figures = {"members-flipped": members, "best-of-n": best_of_n(0.2), "climb-flipped-mean": curve(0.4, -0.1)}
    lines, charts = ensembles_page.shown("1", figures)
    assert lines[0] == "## Ensembles of reward models, seed 1"
    assert lines[2] == (
        "Flipped: 4 reward models learn from 3,300 rankings, 825 of them turned round. "
        "They are right on 65.1 to 66.0 % of held-out pairs."
    )
    rows = ensembles_page.rows(figures)
    assert len(rows) == 9
    top = "too few distances to fit. The points rise to 0.500 at √KL 1.00 and fall"
    assert rows[5] == ["flipped", "mean", "best of n", top, "2.00", "+0.100 (+0.000 to +0.200)",
                       "+0.300 (+0.200 to +0.400)", "–", "–"]  # fmt: skip
    assert rows[4][6] == rows[8][6] == "–"
    assert rows[8][:3] == ["flipped", "mean", "PPO"]
    assert [chart.title for chart in charts] == [
        f"ensembles, {method}{end}"
        for method in ("best of n, clean", "best of n, flipped", "PPO, flipped") for end in ("", ", proxy")
    ]  # fmt: skip
    assert [series.name for series in charts[0].series] == ["one", "mean", "worst case", "uncertainty-weighted"]
