from __future__ import annotations

from heedful.data.records import Choice, Comparison
from heedful.feedback.quality.types import Judgement, from_records, preferences


def test_preferences_of_a_ranking_with_ties() -> None:
    assert preferences(((2,), (0, 3), (1,))) == {
        (0, 1): 1, (0, 2): -1, (0, 3): 0, (1, 2): -1, (1, 3): -1, (2, 3): 1
    }  # fmt: skip
    assert Judgement("x", 1, ((2,), (0, 3), (1,))).K == 4


def test_rows_of_files_become_judgements() -> None:
    common = {"prompt": "Say it in three words", "completions": ["one", "two words"], "group": "g"}
    rows = [
        Comparison(**common, labeler="ann", ranking=[[1], [0]], order=[1, 0], ratings=[{"overall": 3}, {"overall": 5}]),
        Comparison(**common, labeler="bob", ranking=[[0, 1]], none_acceptable=True),
        Comparison(**common, ranking=[[0], [1]]),
        Choice(prompt="Else", a={"text": "x"}, b={"text": "y"}, preferred="b", labeler="ann"),
    ]
    ann, bob, choice = from_records(rows)
    assert (ann.labeler, ann.ranking, ann.order, ann.group, ann.words) == ("ann", ((1,), (0,)), (1, 0), "g", 8)
    assert [rating.overall for rating in ann.ratings or ()] == [3, 5]
    assert (bob.item, bob.ranking, bob.none_acceptable) == (ann.item, ((0, 1),), True)
    assert (choice.ranking, choice.words) == (((1,), (0,)), 3)
    assert choice.item != ann.item
