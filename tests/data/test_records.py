"""The vocabulary: what it accepts, what it keeps, and what it says about the rest."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heedful.config import explain
from heedful.data.records import (
    Choice,
    Comparison,
    Completions,
    Demonstration,
    Message,
    Prompt,
    Rating,
    Record,
    Text,
    as_text,
)

FOUR = {"prompt": "Name a bird.", "completions": ["owl", "a cat", "wren", "a dog"], "ranking": [[0], [2, 3], [1]]}


def complaint(record_type: type[Record], row: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        record_type.model_validate(row)
    return explain(caught.value, record_type, "field ")


def test_pairs_are_all_pairs_of_different_tiers_winner_first() -> None:
    assert Comparison(**FOUR).pairs() == [(0, 2), (0, 3), (0, 1), (2, 1), (3, 1)]


def test_ranks_give_each_completion_its_tier() -> None:
    assert Comparison(**FOUR).ranks() == [0, 2, 1, 1]


def test_a_ranking_of_ties_alone_is_a_record_without_pairs() -> None:
    tied = Comparison(prompt="p", completions=["a", "b", "c"], ranking=[[2, 0, 1]])
    assert tied.pairs() == []
    assert tied.ranks() == [0, 0, 0]


@st.composite
def rankings(draw: st.DrawFn) -> list[list[int]]:
    order = draw(st.permutations(range(draw(st.integers(2, 9)))))
    cuts = draw(st.sets(st.integers(1, len(order) - 1)))
    edges = [0, *sorted(cuts), len(order)]
    return [order[start:end] for start, end in pairwise(edges)]


@pytest.mark.medium
@given(rankings())
def test_pairs_follow_from_ranks(ranking: list[list[int]]) -> None:
    K = sum(map(len, ranking))
    comparison = Comparison(prompt="p", completions=["x"] * K, ranking=ranking)
    ranks = comparison.ranks()
    every = {(winner, loser) for winner in range(K) for loser in range(K) if ranks[winner] < ranks[loser]}
    assert set(comparison.pairs()) == every
    assert len(comparison.pairs()) == len(every)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ranking": [[0], [2, 3]]}, "field 'ranking': must name each of 0..3 exactly once"),
        ({"ranking": [[0], [2, 3], [1, 0]]}, "field 'ranking': must name each of 0..3 exactly once"),
        ({"ranking": [[0], [2, 3], [4]]}, "field 'ranking': must name each of 0..3 exactly once"),
        ({"ranking": [[0, 1], [], [2, 3]]}, "field 'ranking': has an empty tier"),
        ({"ranking": [[0], [2, 3], [1.0]]}, "field 'ranking.2.0': must be a whole number, not 1.0"),
        ({"ranking": [[0], [2, 3], [True]]}, "field 'ranking.2.0': must be a whole number, not True"),
        ({"completions": ["owl"], "ranking": [[0]]}, "a comparison needs two or more. Sample with -k 2"),
        ({"completions": []}, "field 'completions': is empty"),
        ({"completions": "owl"}, "field 'completions': must be a list, not 'owl'"),
        ({"models": ["m", "m"]}, "field 'models': has 2 entries for 4 completions. Give one for each"),
        ({"finish": ["stop"] * 5}, "field 'finish': has 5 entries for 4 completions"),
        (
            {"finish": ["stop", "stop", "eos", "stop"]},
            "field 'finish.2': must be 'stop' or 'length', not 'eos'",
        ),
        ({"token_ids": [[1]]}, "field 'token_ids': has 1 entry for 4 completions"),
        ({"scores": [0.5]}, "field 'scores': has 1 entry for 4 completions"),
        ({"scores": [0.5, 1, 2, float("nan")]}, "field 'scores.3': must be a finite number"),
        ({"scores": [0.5, 1, 2, "3"]}, "field 'scores.3': must be a number, not '3'"),
        ({"ratings": [{}] * 3}, "field 'ratings': has 3 entries for 4 completions"),
        (
            {"ratings": [{"overall": 8}, {}, {}, {}]},
            "field 'ratings.0.overall': must be at most 7",
        ),
        ({"ratings": [{"overall": 0}, {}, {}, {}]}, "field 'ratings.0.overall': must be at least"),
        ({"ratings": [{"violent": "no"}, {}, {}, {}]}, "field 'ratings.0.violent': must be true or false"),
        ({"order": [0, 1, 2, 2]}, "field 'order': must list each of 0..3 once"),
        ({"prompt": " \n"}, "field 'prompt': is empty"),
        ({"prompt": 5}, "field 'prompt': must be a string or a list of messages"),
        ({"prompt": []}, "field 'prompt': has no messages"),
        (
            {"prompt": [{"role": "human", "content": "x"}]},
            "message 0 has the role 'human'. The roles are system, developer, user",
        ),
        ({"prompt": [{"role": "user"}]}, "message 0 must be an object with the strings 'role' and 'content'"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "The last one must be the user's"),
        ({"prompt": [{"role": "user", "content": " "}]}, "ends with an empty message"),
        ({"labeler": True}, "field 'labeler': must be a string, not True"),
    ],
)
def test_a_malformed_comparison_is_told_by_field_and_remedy(changed: dict[str, Any], told: str) -> None:
    line = complaint(Comparison, FOUR | changed)
    assert told in line
    assert "\n" not in line


def test_a_missing_field_is_told_with_what_the_record_needs() -> None:
    assert complaint(Demonstration, {"prompt": "p"}) == ("field 'completion': missing. Required: prompt, completion.")


@pytest.mark.parametrize("preferred", ["A", "c", None])
def test_a_choice_prefers_a_b_or_neither(preferred: str | None) -> None:
    row = {"prompt": "p", "a": {"text": "x"}, "b": {"text": "y", "model": "m"}}
    assert Choice.model_validate(row | {"preferred": "tie"}).b.model == "m"
    assert "field 'preferred'" in complaint(Choice, row | {"preferred": preferred})


def test_one_completion_is_enough_where_nothing_is_compared() -> None:
    assert Completions(prompt="p", completions=[""]).completions == [""]


def test_a_document_without_text_is_refused() -> None:
    assert complaint(Text, {"text": " \t"}) == "field 'text': is empty. Leave the row out."


def test_unknown_fields_survive_and_empty_ones_are_not_written() -> None:
    row = {
        "prompt": [{"role": "user", "content": "hi", "name": "Ada"}],
        "ranking": [[1], [0]],
        "completions": ["a", "b"],
        "ratings": [{"overall": 3, "satisfies_constraint": None, "mood": None}, {}],
        "dataset": {"page": None},
        "note": None,
    }
    written = Comparison.model_validate(row).row()
    assert written == row | {"ratings": [{"overall": 3, "mood": None}, {}]}


def test_numbers_name_users_and_rows_as_well_as_strings() -> None:
    prompt = Prompt.model_validate({"prompt": "p", "id": 0, "user": 12})
    assert (prompt.id, prompt.user) == ("0", "12")


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Rating(overall=3).overall = 4  # type: ignore[misc]


def test_the_words_of_a_prompt() -> None:
    assert as_text(" a b ") == " a b "
    chat = [Message(role="system", content="Be brief."), Message(role="user", content="Why?")]
    assert as_text(chat) == "Be brief.\n\nWhy?"
