"""Patterns worth a look: each alert at its cut-off and just under it, with the figure it names."""

from __future__ import annotations

import math

import pytest

from heedful.data.records import Rating
from heedful.feedback.quality import alerts
from heedful.feedback.quality.alerts import Alert, AlertCutoffs
from heedful.feedback.quality.types import Judgement, Ranking, WrittenDemonstration

AB: Ranking = ((0,), (1,))
BA: Ranking = ((1,), (0,))
TIED: Ranking = ((0, 1),)


def found(work: list[Judgement], cutoffs: AlertCutoffs | None = None) -> list[tuple[str, float, float, int]]:
    raised = alerts.alerts(work, cutoffs=cutoffs)
    return [(alert.kind, alert.figure, alert.cutoff, alert.n) for alert in raised]


def ten(*given: tuple[Ranking, tuple[int, ...] | None], **rest: object) -> list[Judgement]:
    assert len(given) == 10
    return [Judgement("x", item, r, order=o, **rest) for item, (r, o) in enumerate(given)]  # type: ignore[arg-type]


def test_always_the_first_or_the_last_shown() -> None:
    first = ten(*[(AB, (0, 1))] * 3, *[(BA, (1, 0))] * 3, *[(AB, (1, 0))] * 4)
    assert found(first) == [("first_shown", 0.6, 0.6, 10)]
    assert found(first[:9], AlertCutoffs(least=9)) == [("first_shown", pytest.approx(6 / 9), 0.6, 9)]
    assert found(first[:9]) == []
    last = ten(*[(BA, (0, 1))] * 6, *[(TIED, (0, 1))] * 4)
    assert found(last) == [("last_shown", 0.6, 0.6, 10)]
    even = ten(*[(AB, (0, 1))] * 5, *[(AB, (1, 0))] * 5)
    assert found(even) == []
    assert found(ten(*[(AB, None)] * 10)) == []  # nobody knows what was shown first
    (alert,) = alerts.alerts(first)
    assert alert.text == "the first answer shown is the best: in 60% of 10 judgements (cut-off 60%)"
    assert (alert.labeler, alert.items) == ("x", (0, 1, 2, 3, 4, 5))


def test_a_tie_at_the_top_is_not_the_first_shown() -> None:
    assert found(ten(*[(((0, 1), (2,)), (0, 1, 2))] * 10)) == []


def test_all_tied() -> None:
    assert found(ten(*[(TIED, None)] * 8, *[(AB, None)] * 2)) == [("all_tied", 0.8, 0.8, 10)]
    assert found(ten(*[(TIED, None)] * 7, *[(AB, None)] * 3)) == []


def test_too_fast_to_have_read() -> None:
    """600 words in 60 s are just readable, in 59 s not."""
    slow = [Judgement("x", item, AB, seconds=60.0, words=600) for item in range(8)]
    fast = [Judgement("x", item, AB, seconds=59.0, words=600) for item in range(8, 10)]
    assert found(slow + fast) == [("too_fast", 0.2, 0.2, 10)]
    assert found(slow + fast[:1] + [Judgement("x", 9, AB, seconds=60.0, words=600)]) == []
    assert found(slow + fast, AlertCutoffs(words_per_minute=700)) == []
    untimed = [Judgement("x", item, AB, words=600) for item in range(10)]
    assert found(untimed) == []
    assert alerts.words_per_minute(fast[0]) == pytest.approx(610.17, abs=0.01)
    assert alerts.words_per_minute(Judgement("x", 1, AB, seconds=0.0, words=5)) == math.inf
    assert alerts.words_per_minute(untimed[0]) is None
    (alert,) = alerts.alerts(slow + fast)
    assert "faster than 600 words a minute: in 20% of 10 judgements (cut-off 20%)" in alert.text
    assert alert.items == (8, 9)


def test_straight_lining_of_ratings() -> None:
    def rated(item: int, *overall: int | None) -> Judgement:
        return Judgement("x", item, AB, ratings=tuple(Rating(overall=value) for value in overall))

    straight, varied = [rated(n, 4, 4) for n in range(8)], [rated(n, 4, 5) for n in range(8, 10)]
    assert found(straight + varied) == [("straight_lining", 0.8, 0.8, 10)]
    assert found(straight[:7] + varied + [rated(7, 6, 5)]) == []
    assert found([rated(n, None, None) for n in range(10)]) == []  # overall quality was not asked


def test_known_answers() -> None:
    right = [Judgement("x", n, AB, gold=AB) for n in range(2)]
    wrong = [Judgement("x", n, BA, gold=AB) for n in range(2, 5)]
    assert found(right + wrong) == [("gold", 0.4, 0.6, 5)]
    assert found([*right, *wrong[:2], Judgement("x", 4, AB, gold=AB)]) == []  # 3 of 5 are enough
    assert found((right + wrong)[1:]) == []  # four items are too few
    (alert,) = alerts.alerts(right + wrong)
    assert alert.items == (2, 3, 4)
    missed = Judgement("x", 9, BA, gold=AB, attention=True)
    assert found([missed]) == [("attention", 1.0, 1.0, 1)]
    assert found([missed], AlertCutoffs(attention_missed=2)) == []


def test_copies_of_a_models_text() -> None:
    source = "The river is long and the bread is warm in the house of the miller."
    copy = "the river is long, and the bread is warm; in the end."
    assert alerts.copied(copy, source) == pytest.approx(8 / 9)  # "warm in the end" is new
    assert alerts.copied("Warm bread", source) == 0.0
    assert alerts.copied("BREAD is warm!", source) == 1.0
    assert alerts.copied("", source) == 0.0
    written = [
        WrittenDemonstration("x", 1, copy, ("nothing alike here at all", source)),
        WrittenDemonstration("x", 2, "My own words on this."),
    ]
    assert alerts.alerts([], written, AlertCutoffs(copied=0.9)) == []
    (alert,) = alerts.alerts([], written)
    assert (alert.kind, alert.figure, alert.cutoff) == ("copy", pytest.approx(8 / 9), 0.8)
    assert (alert.n, alert.items) == (12, (1,))
    assert alert.text == "89% of the demonstration occurs in a model's answer (cut-off 80%)"


def test_alerts_are_by_labeler_and_kind() -> None:
    work = [Judgement(name, item, TIED, seconds=1.0, words=100) for name in ("zoe", "abe") for item in range(10)]
    raised: list[Alert] = alerts.alerts(work)
    assert [(alert.labeler, alert.kind) for alert in raised] == [
        ("abe", "all_tied"), ("abe", "too_fast"), ("zoe", "all_tied"), ("zoe", "too_fast")
    ]  # fmt: skip
