"""Items with a known answer: how often a labeler gives it, and how many attention checks they missed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from heedful.feedback.quality.types import Judgement, Ranking, latest, preferences
from heedful.maths.statistics import Interval, ratio_interval, wins


@dataclass(frozen=True)
class GoldAnswer:
    """One gold item's answer against the known one."""

    right: float
    """Pairs ordered as in the known answer. A wrong tie is half right."""
    pairs: int
    """Pairs that the known answer orders."""


@dataclass(frozen=True)
class GoldAccuracy:
    """Share of right pairs over a labeler's gold items, with an interval over items. None without gold items."""

    labeler: str
    items: int
    accuracy: Interval | None
    attention_items: int
    attention_missed: int


def answer(ranking: Ranking, gold: Ranking) -> GoldAnswer:
    """Compare a ranking with the known answer. Pairs that the known answer ties do not count."""
    given = preferences(ranking)
    sides = [(side, given[pair]) for pair, side in preferences(gold).items() if side]
    return GoldAnswer(sum(wins(side * said) for side, said in sides), len(sides))


def accuracy(judgements: Iterable[Judgement]) -> dict[str, GoldAccuracy]:
    """Each labeler's accuracy on gold items. Attention items count apart, and are missed if any pair is not right."""
    answers: dict[str, tuple[list[GoldAnswer], list[GoldAnswer]]] = defaultdict(lambda: ([], []))
    for judged in latest(judgements).values():
        for labeler, judgement in judged.items():
            if judgement.gold is not None:
                gold, attention = answers[labeler]
                (attention if judgement.attention else gold).append(answer(judgement.ranking, judgement.gold))
    return {
        labeler: GoldAccuracy(
            labeler,
            items=len(gold),
            accuracy=_share(gold),
            attention_items=len(attention),
            attention_missed=sum(found.right < found.pairs for found in attention),
        )
        for labeler, (gold, attention) in sorted(answers.items())
    }


def agreement_with_gold(judgements: Iterable[Judgement]) -> Interval | None:
    """Pairwise agreement with the known answers (D12): a pair that either ties is left out.

    Interval over items, `n` the number of pairs. None without one.
    """
    found = []
    for judgement in judgements:
        if judgement.gold is not None:
            given = judgement.preferences()
            sides = [side * given[pair] for pair, side in preferences(judgement.gold).items()]
            found.append(GoldAnswer(sides.count(1), len(sides) - sides.count(0)))
    return _share(found)


def _share(answers: list[GoldAnswer]) -> Interval | None:
    terms = [(found.right, found.pairs) for found in answers if found.pairs]
    if not terms:
        return None
    return ratio_interval(terms, n=sum(pairs for _, pairs in terms))
