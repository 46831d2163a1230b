from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.convarg import prepare as convarg
from recipes.shared import rankings
from recipes.tldr import prepare as tldr
from recipes.tldr.prepare import preferred

from heedful.data import formats
from heedful.data.records import Comparison
from heedful.models import render
from heedful.stages.pretrain import new_tokenizer


def pairs_of(found: list[list[str]]) -> list[tuple[str, str]]:
    return [pair for ranking in found for pair in itertools.combinations(ranking, 2)]


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ("ab", ["ab"]),
        ("cb ab ca da db cd", ["cdab"]),  # all six pairs of four: one ranking
        ("ab bc cd ac bd", ["abc", "bd", "cd"]),  # a and d were never compared: no ranking holds both
        ("ab bc ca", ["ab", "bc", "ca"]),  # a circle: nobody stands before both others
        ("ab bc ca ad bd cd", ["abd", "bc", "ca", "cd"]),
        ("ab ac bc ad ae de", ["abc", "ade"]),  # two batches of one post that share a summary
        ("ab ba", ["ab", "ba"]),  # two people, two opinions
    ],
)
def test_rankings_are_what_people_said(judged: str, expected: list[str]) -> None:
    found = rankings((pair[0], pair[1]) for pair in judged.split())
    assert found[0] == list(expected[0])
    assert sorted(map(len, found)) == sorted(map(len, expected))
    assert sorted(pairs_of(found)) == sorted(
        tuple(pair) for ranking in expected for pair in itertools.combinations(ranking, 2)
    )


JUDGED = st.lists(st.permutations("abcdef").map(lambda p: (p[0], p[1])), min_size=1, max_size=20, unique=True)


@pytest.mark.medium
@settings(max_examples=60)
@given(JUDGED)
def test_every_judged_pair_stands_in_one_ranking_and_no_other_pair_in_any(judged: list[tuple[str, str]]) -> None:
    assert sorted(pairs_of(rankings(judged))) == sorted(judged)


@settings(max_examples=40)
@given(JUDGED)
def test_rankings_may_have_a_largest_size(judged: list[tuple[str, str]]) -> None:
    found = rankings(judged, most=3)
    assert sorted(pairs_of(found)) == sorted(judged)
    assert max(map(len, found)) == min(3, max(map(len, rankings(judged))))


def test_preferred_are_those_that_won_more_than_they_lost() -> None:
    assert preferred([("a", "b"), ("a", "c"), ("b", "c"), ("d", "a"), ("c", "d")]) == ["a"]
    assert preferred([("b", "a")]) == ["b"]


def row(debate: str, votes: str, gold: str = "a") -> dict[str, Any]:
    return {
        "id": "x", "debate": debate, "stance": "Yes", "response_a": "Long ago", "response_b": "Now", "gold": gold,
        "votes": [{"worker": f"w{i}", "vote": {"a": "a", "b": "b", "t": "tie"}[vote]} for i, vote in enumerate(votes)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "ranking", "labeler"),
    [(0.0, [[0], [1]], "w0"), (0.3, [[1], [0]], "w1"), (0.74, [[0, 1]], "w2"), (0.99, [[0], [1]], "w3")],
)
def test_a_single_vote_is_that_labelers_ranking(draw: float, ranking: list[list[int]], labeler: str) -> None:
    found = convarg.one_vote(row("Tea?", "abta"), draw)
    assert (found.ranking, found.labeler, found.group) == (ranking, labeler, "Tea?")
    assert found.completions == ["Long ago", "Now"]
    assert found.prompt == "Tea?\nStance: Yes\nA convincing argument:\n\n"


def test_held_out_debates_are_chosen_by_name_alone() -> None:
    assert convarg.held_out("gfedcbaabc") == {"c", "g"}


def test_training_holds_nothing_of_a_held_out_debate(data: Path) -> None:
    training, testing = convarg.split(data, pairs=None)
    assert {row["debate"] for row in testing} == {"Is coffee good?", "Is tea good?"}
    assert len({row["debate"] for row in training}) == 4
    assert all(row["strict"] for row in training + testing)
    apart = {row["response_a"] for row in testing} | {row["response_b"] for row in testing}
    own = {row["response_a"] for row in training} | {row["response_b"] for row in training}
    texts = [text.text for text in convarg.texts(training, data, "train", passages=3)]
    assert len(texts) == 3 + convarg.ARGUMENT_COPIES * len(own)
    assert own < set(texts)
    assert not apart & set(texts)


def test_a_limit_is_per_debate(data: Path) -> None:
    training, testing = convarg.split(data, pairs=5)
    assert (len(training), len(testing)) == (4 * 5, 2 * 5)


def test_posts_are_put_together(data: Path) -> None:
    found = tldr.posts(data, "train", None)
    assert [len(post.pairs) for post in found] == [6, 5] * 12
    assert len({post.name for post in found}) == 24
    assert [len(ranking) for ranking in rankings(found[0].pairs)] == [4]
    assert [post.name for post in tldr.posts(data, "valid", 2)] == ["valid-0000", "valid-0001"]


def test_prompts_and_answers_fit_the_context_together(data: Path, tmp_path: Path) -> None:
    texts = [post.prompt(post.body) for post in tldr.posts(data, "train", None)]
    tokenizer = new_tokenizer(texts, vocab_size=300, context=128)
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text("{}", encoding="utf-8")
    tldr.make_rows(data, tmp_path, limit=None, model=tmp_path / "base", prompt_tokens=100)
    rows = formats.read(tmp_path / "comparisons.jsonl.gz", Comparison)
    for row in rows:
        prompt = len(render.prompt_ids(tokenizer, row.prompt))
        longest = max(len(render.response_ids(tokenizer, text, finished=True)) for text in row.completions)
        assert prompt <= 100
        assert prompt + longest <= 128
        assert str(row.prompt).startswith("SUBREDDIT: r/tales\nTITLE: ")
        assert str(row.prompt).endswith("\nTL;DR:\n\n")
    account = json.loads((tmp_path / "account.json").read_text(encoding="utf-8"))
    assert account["train"]["pairs"] == sum(len(row.pairs()) for row in rows) == 12 * 6 + 12 * 5
    assert account["train"]["posts_cut"] > 0
    assert 0 < account["train"]["mean_share_of_words_kept"] < 1
