"""What a file of judgements says as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.config import UserError
from heedful.data.records import Choice, Comparison
from heedful.feedback.quality import combine
from heedful.feedback.quality.types import Judgement


def ranked(
    labeler: str | None, prompt: str, *tiers: list[int], violent: tuple[bool, ...] = (), **more: Any
) -> Comparison:
    ratings = [{"overall": 7 - 2 * k, "violent": value} for k, value in enumerate(violent)] or None
    fields = {"completions": ["x", "y", "z"], "models": ["m", "m", "n"], "ranking": list(tiers), "ratings": ratings}
    return Comparison.model_validate({"prompt": prompt, "labeler": labeler, **fields, **more})


def test_one_row_for_each_item() -> None:
    """Two of three agree: theirs is the ranking. Opposite rankings tie all."""
    rows = [
        ranked("ann", "P", [0], [1], [2], order=[2, 0, 1], group="g", judgement="h"),
        ranked("bob", "P", [0], [1], [2]),
        ranked("cyd", "P", [2], [1], [0]),
        ranked(None, "P", [2], [1], [0]),
        ranked("ann", "Q", [0], [1], [2], id="7"),
        ranked("bob", "Q", [2], [1], [0]),
    ]
    first, second = combine.combined(rows)
    assert first.row() | {"uncertainty": 0} == {
        "prompt": "P", "completions": ["x", "y", "z"], "models": ["m", "m", "n"], "ranking": [[0], [1], [2]],
        "judgements": 3, "uncertainty": 0,
    }  # fmt: skip
    assert second.row() == {
        "prompt": "Q", "id": "7", "completions": ["x", "y", "z"], "models": ["m", "m", "n"], "ranking": [[0, 1, 2]],
        "judgements": 2, "uncertainty": 1.0,
    }  # fmt: skip
    assert 0 < first.row()["uncertainty"] < 1


def test_flags_of_most_hold() -> None:
    """On eight items ann and bob set a flag that cyd does not."""
    rows = [
        ranked(name, f"P{item}", [0, 1, 2], violent=(name != "cyd", False, False))
        for item in range(8)
        for name in ("ann", "bob", "cyd")
    ]
    found = combine.combined(rows)
    assert [row.row()["ratings"] for row in found] == [[{"violent": True}, {"violent": False}, {"violent": False}]] * 8


def test_choices_stay_choices() -> None:
    sides = {"P": "aab", "Q": "ab", "R": "b"}
    rows = [
        Choice(prompt=prompt, a={"text": "x"}, b={"text": "y"}, preferred=side, labeler=f"l{number}")
        for prompt, given in sides.items()
        for number, side in enumerate(given)
    ]
    found = combine.combined(rows)
    assert {row.prompt: row.preferred for row in found if isinstance(row, Choice)} == {"P": "a", "Q": "tie", "R": "b"}


def test_the_judgements_of_an_item() -> None:
    """Groups that want opposite things are shown apart. Nobody counts for more, whoever agreed elsewhere."""
    ranked_by = {"ann": ("a", ((0,), (1,))), "bea": ("a", ((0,), (1,))), "cyd": ("b", ((1,), (0,)))}
    work = [Judgement(name, 1, ranking, group) for name, (group, ranking) in ranked_by.items()]
    found = combine.of_item(work)
    assert {name: (one.ranking(), one.judgements) for name, one in found.items()} == {
        "everybody": (((0,), (1,)), 3), "a": (((0,), (1,)), 2), "b": (((1,), (0,)), 1),
    }  # fmt: skip
    assert list(combine.of_item(work[:2])) == ["everybody"]
    assert combine.of_item(work[:1]) == {}


def test_figures() -> None:
    """Of three pairs on P and three on Q, ann and bob prefer the same side of the first three."""
    rows = [
        ranked("ann", "P", [0], [1], [2], violent=(True, False, False), group="north"),
        ranked("bob", "P", [0], [1], [2], violent=(True, False, False), group="south"),
        ranked("ann", "Q", [0], [1], [2], group="north"),
        ranked("bob", "Q", [2], [1], [0], group="south"),
        ranked("cyd", "R", [2], [1], [0]),
    ]
    found = combine.figures(rows)
    assert {name: found[name] for name in ("judgements", "labelers", "items", "items_of_several_labelers")} == {
        "judgements": 5, "labelers": 3, "items": 3, "items_of_several_labelers": 2,
    }  # fmt: skip
    assert (found["same_preference"]["rate"], found["same_preference"]["n"]) == (0.5, 6)
    assert found["same_preference_within"] == {"north": None, "south": None}
    assert found["alpha_of_flags"].keys() == {"violent"}
    assert found["alpha_of_flags"]["violent"]["mean"] == found["alpha_of_overall_quality"]["mean"] == 1.0
    assert found["pairs_on_which_groups_oppose"] == 3
    assert found["reliability"]["cyd"] == 1.0
    with pytest.raises(UserError, match="no row with a labeler"):
        combine.figures([ranked(None, "P", [0], [1], [2])])
