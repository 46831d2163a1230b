"""The four criteria of D7 at, above and below their cut-offs."""

from __future__ import annotations

import json

import pytest

from heedful.config import UserError
from heedful.feedback.quality.screening import Onboarding, ScreeningCutoffs, screen
from heedful.feedback.quality.types import Judgement, Ranking

GOLD: Ranking = ((0,), (1,), (2,))  # three pairs


def onboarding(**changes: object) -> Onboarding:
    key = {n: n < 4 for n in range(8)}
    answers: dict[str, object] = {
        "labeler": "cand",
        "flags": {**key, 0: False, 7: True, 99: True},  # six of eight; 99 has no key
        "flags_key": key,
        "rankings": [Judgement("cand", 1, GOLD, gold=GOLD), Judgement("cand", 2, ((0, 2), (1,)), gold=GOLD)],
        "demonstration_ratings": [7, 6, 5],
        "topics": ["Religion ", "dialects"],
    }
    return Onboarding(**(answers | changes))  # type: ignore[arg-type]


def test_a_candidate_who_just_meets_all_four() -> None:
    report = screen(onboarding())
    figures = {criterion.name: (criterion.figure, criterion.cutoff, criterion.met) for criterion in report.criteria}
    assert figures == {
        "sensitive flags": (0.75, 0.75, True),
        "rankings": (pytest.approx(4 / 5), 0.75, True),  # one of six pairs tied, one turned
        "demonstrations": (6.0, 6.0, True),
        "topics": (2.0, 1, True),
    }
    assert report.recommended is True
    assert report.text == "cand meets all four criteria. The cut-offs are soft. A person decides."
    flags = report.criteria[0].interval
    assert flags is not None
    assert flags == (0.75, None, None, 8)  # too few for an interval
    more = screen(onboarding(flags={i: i % 4 > 0 for i in range(12)}, flags_key=dict.fromkeys(range(12), True)))
    flags = more.criteria[0].interval
    assert flags is not None
    assert flags == (0.75, pytest.approx(0.4677, abs=1e-4), pytest.approx(0.9111, abs=1e-4), 12)  # Wilson's


@pytest.mark.parametrize(
    ("changes", "short"),
    [
        ({"flags": {0: True, 1: False, 7: True}}, "sensitive flags"),
        ({"rankings": [Judgement("cand", 2, ((0,), (2,), (1,)), gold=GOLD)]}, "rankings"),
        ({"demonstration_ratings": [7, 5, 5]}, "demonstrations"),
        ({"topics": []}, "topics"),
    ],
)
def test_one_criterion_missed_is_named(changes: dict[str, object], short: str) -> None:
    report = screen(onboarding(**changes))
    assert report.recommended is False
    assert [criterion.name for criterion in report.criteria if criterion.met is False] == [short]
    assert report.text.startswith(f"cand falls short on {short}.")


def test_what_was_not_asked_is_open() -> None:
    report = screen(onboarding(topics=None, demonstration_ratings=[]))
    assert report.recommended is None
    assert report.text.startswith("cand was not asked for demonstrations and topics.")
    assert screen(Onboarding("new")).recommended is None
    assert screen(onboarding(topics=None, demonstration_ratings=[1])).recommended is False


def test_every_cutoff_can_be_set() -> None:
    met = {"flags": 0.76, "rankings": 0.81, "demonstrations": 6.1, "topics": 3}
    for position, (name, cutoff) in enumerate(met.items()):
        report = screen(onboarding(), ScreeningCutoffs(**{name: cutoff}))
        assert [criterion.met for criterion in report.criteria] == [n != position for n in range(4)]
    assert screen(onboarding(), ScreeningCutoffs(wanted_topics=("religion", "age"))).criteria[3].figure == 1.0


def test_a_rating_off_the_scale_is_refused() -> None:
    with pytest.raises(UserError, match=r"a demonstration is rated 8\. Ratings go from 1 to 7"):
        screen(onboarding(demonstration_ratings=[6, 8]))


def test_the_report_is_json() -> None:
    row = json.loads(json.dumps(screen(onboarding()).row()))
    assert row["criteria"][2]["interval"]["mean"] == 6.0
    assert row["criteria"][3] == {"name": "topics", "figure": 2.0, "interval": None, "cutoff": 1, "met": True}
    assert row["recommended"] is True
