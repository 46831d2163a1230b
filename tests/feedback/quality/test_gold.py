"""Items with a known answer, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.feedback.quality import gold
from heedful.feedback.quality.gold import GoldAnswer
from heedful.feedback.quality.types import Judgement, Ranking

KNOWN: Ranking = ((0,), (1, 2))  # 0 before 1 and 2; these two may stand as they like


@pytest.mark.parametrize(
    ("ranking", "right"),
    [
        (((0,), (1,), (2,)), 2.0),
        (((0,), (2,), (1,)), 2.0),
        (((0, 1), (2,)), 1.5),
        (((1,), (0,), (2,)), 1.0),
        (((2,), (1,), (0,)), 0.0),
        (((0, 1, 2),), 1.0),
    ],
)
def test_pairs_of_the_known_answer(ranking: Ranking, right: float) -> None:
    assert gold.answer(ranking, KNOWN) == GoldAnswer(right, 2)


def test_accuracy_by_labeler() -> None:
    work = [
        Judgement("x", 1, ((0,), (1,), (2,)), gold=KNOWN),
        Judgement("x", 2, ((1,), (0,), (2,)), gold=KNOWN),
        Judgement("x", 3, ((1,), (0,)), gold=((0,), (1,)), attention=True),
        Judgement("x", 4, ((1,), (0,)), gold=((1,), (0,)), attention=True),
        Judgement("x", 5, ((1,), (0,))),
        Judgement("y", 3, ((0, 1),), gold=((0,), (1,)), attention=True),
        Judgement("z", 5, ((1,), (0,))),
    ]
    found = gold.accuracy(work)
    assert list(found) == ["x", "y"]  # z had no such item
    x, y = found["x"], found["y"]
    assert (x.items, x.attention_items, x.attention_missed) == (2, 2, 1)
    assert x.accuracy is not None
    assert x.accuracy == (0.75, None, None, 4)  # two items are too few for an interval
    assert (y.items, y.accuracy, y.attention_items, y.attention_missed) == (0, None, 1, 1)


def test_the_interval_of_gold_is_over_items() -> None:
    """Twelve items, of which each third is half wrong: fewer observations than pairs."""
    turned: Any = ((1,), (0,), (2,))
    work = [Judgement("x", i, turned if i % 3 == 0 else KNOWN, gold=KNOWN) for i in range(12)]
    found = gold.accuracy(work)["x"].accuracy
    assert found is not None
    assert found.low is not None and found.high is not None  # noqa: PT018
    assert found.low < found.mean < found.high <= 1.0


def test_agreement_with_gold_leaves_ties_out() -> None:
    """The tie of 0 and 1 is no answer here, where accuracy takes it for half a one."""
    found = gold.agreement_with_gold([Judgement("x", 1, ((0, 1), (2,)), gold=KNOWN), Judgement("x", 2, ((0,), (1,)))])
    assert found is not None
    assert (found.mean, found.n) == (1.0, 1)
    assert gold.agreement_with_gold([]) is None
