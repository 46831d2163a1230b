"""Groups that want opposite things are found, with how many judgements on each side."""

from __future__ import annotations

from heedful.feedback.quality import groups
from heedful.feedback.quality.groups import OpposedPair, Votes
from heedful.feedback.quality.types import Judgement, Ranking

UP: Ranking = ((0,), (1,), (2,))


def votes(group: str, item: int, *rankings: Ranking) -> list[Judgement]:
    return [Judgement(f"{group}{n}", item, ranking, group) for n, ranking in enumerate(rankings)]


def test_opposed_pairs_by_hand() -> None:
    work = [
        *votes("brief", 1, UP, UP, ((1,), (0,), (2,))),
        *votes("detailed", 1, ((1,), (0,), (2,)), ((1,), (0,), (2,)), ((0, 1), (2,))),
        *votes("brief", 2, UP),
        *votes("detailed", 2, ((0,), (1, 2))),
        Judgement("guest", 2, ((2,), (1,), (0,))),
    ]
    assert groups.opposed(work) == [OpposedPair(1, (0, 1), Votes("brief", 2, 1, 0), Votes("detailed", 0, 2, 1))]
    assert groups.opposed(work)[0].strength == 1
    assert groups.votes(work)[2, (1, 2)] == [Votes("brief", 1, 0, 0), Votes("detailed", 0, 0, 1)]


def test_the_strongest_come_first_and_few_judgements_can_be_left_out() -> None:
    down: Ranking = ((1,), (0,))
    up: Ranking = ((0,), (1,))
    work = [*votes("a", 1, up), *votes("b", 1, down), *votes("a", 2, up, up), *votes("b", 2, down, down, down)]
    work += votes("c", 2, down)
    assert [(split.item, split.strength) for split in groups.opposed(work)] == [(2, 2), (1, 1), (2, 1)]
    (only,) = groups.opposed(work, least=2)
    assert (only.item, only.one.group, only.other.group) == (2, "a", "b")


def test_a_group_that_is_split_evenly_leans_nowhere() -> None:
    work = [*votes("a", 1, ((0,), (1,)), ((1,), (0,))), *votes("b", 1, ((0,), (1,)))]
    assert groups.opposed(work) == []
