"""Files and records into the queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Answer, Choice, Comparison, Completions, Demonstration, Prompt, Rating
from heedful.feedback import informative, items, search, work
from heedful.feedback.judgements import PromptRequest
from heedful.feedback.schema import Item
from heedful.feedback.search import ItemFilters
from heedful.feedback.store import Store

from .team import Team


def add(team: Team, kind: Any, records: Any, **options: Any) -> items.Added:
    with team.store.writing() as db:
        return items.add(db, team.project, kind, records, team.now, by=None, **options)


def test_the_same_texts_are_not_added_twice(store: Store) -> None:
    team = Team(store)
    rows = [Completions(prompt="Q?", completions=["x", "y"], id=name) for name in "ab"]
    assert (add(team, "ranking", rows).items, add(team, "ranking", rows).known) == (1, 2)
    other = [Completions(prompt="Q?", completions=["y", "x"]), Completions(prompt="Q!", completions=["x", "y"])]
    added = add(team, "ranking", [*rows, *other])
    assert (added.items, added.known, len(added.refs)) == (2, 2, 2)
    assert add(team, "ranking", rows[:1], purpose="evaluate").items == 1
    assert add(team, "demonstration", rows).items == 1
    assert add(team, "prompt", [PromptRequest(form="plain")] * 3).items == 3


def test_a_comparison_and_a_choice_bring_their_known_answer(store: Store) -> None:
    team = Team(store)
    ratings = [Rating(overall=6), Rating(overall=2, violent=True)]
    row = Comparison(prompt="Q?", completions=["x", "y"], ranking=[[1], [0]], labeler="ada", group="g", order=[1, 0],
                     ratings=ratings)  # fmt: skip
    (ref,) = add(team, "ranking", [row], purpose="gold").refs
    item = team.item(ref)
    assert item.gold == {
        "ranking": [[1], [0]], "none_acceptable": False, "ratings": [{"overall": 6}, {"overall": 2, "violent": True}],
    }  # fmt: skip
    assert item.payload == {"prompt": "Q?", "completions": ["x", "y"]}
    assert (item.wanted, item.open) == (None, True)
    choice = Choice(prompt="Q?", a=Answer(text="x"), b=Answer(text="y"), preferred="b", labeler="ada")
    (ref,) = add(team, "choice", [choice], purpose="practice").refs
    assert (team.item(ref).gold, team.item(ref).payload["b"]) == ({"preferred": "b"}, {"text": "y"})


def test_what_is_beside_the_texts_is_kept(store: Store) -> None:
    team = Team(store)
    row = Completions(
        prompt="Q?", completions=["x", "y"], models=["m", None], use_case="chat", token_ids=[[1], [2]],
        constraint="under 9 words", source="api \0",
    )  # type: ignore[call-arg]  # fmt: skip
    item = team.item(add(team, "ranking", [row]).refs[0])
    assert item.payload == {
        "prompt": "Q?", "completions": ["x", "y"], "models": ["m", None], "use_case": "chat",
        "constraint": "under 9 words", "source": "api \0", "token_ids": [[1], [2]],
    }  # fmt: skip
    assert item.source == "api \ufffd"
    written = Demonstration(prompt="Q?", completion="done already")
    assert team.item(add(team, "demonstration", [written]).refs[0]).payload == {"prompt": "Q?"}


@pytest.mark.parametrize(
    ("kind", "record", "options", "words"),
    [
        ("ranking", Completions(prompt="Q", completions=["x"]), {}, "row 1: has 1 completions. Rankings take 2 to 9"),
        ("ranking", Completions(prompt="Q", completions=list("abcdefghij")), {}, "has 10 completions"),
        ("ranking", Prompt(prompt="Q"), {}, "row 1: has no completions, which a ranking needs"),
        ("choice", Completions(prompt="Q", completions=["x", "y"]), {}, "has no a or b"),
        ("ranking", Completions(prompt="Q", completions=["x", "y"]), {"purpose": "gold"}, "need a known answer"),
        ("ranking", Completions(prompt="Q", completions=["x", "y"]), {"purpose": "fun"}, "none of train, evaluate"),
        ("ranking", Completions(prompt="Q", completions=["x", "y"]), {"gold": [{"ranking": [[0]]}]}, "B not placed"),
    ],
)
def test_what_nobody_can_work_on_is_refused(store: Store, kind: Any, record: Any, options: Any, words: str) -> None:
    team = Team(store)
    with pytest.raises(UserError, match=words):
        add(team, kind, [record], **options)
    assert team.rows(Item.id) == []


def test_scores_of_reward_models_order_the_queue(store: Store, tmp_path: Path) -> None:
    """Two models agree on Q0, disagree on Q1; a third file scores nothing of ours."""
    team = Team(store, "ada", policy="disagreement")
    team.rankings(2, K=2)
    rows = [{"prompt": f"Q{i}?", "completions": [f"{i}.0", f"{i}.1"]} for i in range(2)]

    def scored(*scores: list[float]) -> list[Completions]:
        path = tmp_path / "scored.jsonl"
        formats.write(path, [row | {"scores": score} for row, score in zip(rows, scores, strict=True)])
        return items.read_scores(path)

    with store.writing() as db:
        assert items.import_scores(db, team.project, scored([3.0, 0.0], [3.0, 0.0]), "one") == 2
        assert items.import_scores(db, team.project, scored([3.0, 0.0], [0.0, 3.0]), "two") == 2
    scores = {
        row.scores["one"][0] - row.scores["two"][0]: row.rank for row in team.rows(Item.id, Item.scores, Item.rank)
    }
    assert scores[0.0] == pytest.approx(-1.0)
    assert scores[3.0] == pytest.approx(-1.0 - informative.disagreement([[3, 0], [0, 3]]))
    assert team.task("ada").payload.prompt == "Q1?"  # type: ignore[attr-defined]
    formats.write(tmp_path / "else.jsonl", [{"prompt": "X", "completions": ["a", "b"], "scores": [0.0, 1.0]}])
    formats.write(tmp_path / "plain.jsonl", [{"prompt": "X", "completions": ["a", "b"]}])
    for name, words in (("else", "else: scores no item"), ("plain", "a row without scores")):
        with pytest.raises(UserError, match=words), store.writing() as db:
            items.import_scores(db, team.project, items.read_scores(tmp_path / f"{name}.jsonl"), name)


def test_disagreement_and_uncertainty_by_hand() -> None:
    """Differences of ln 3 are probabilities of 3/4; H(3/4) = 0.811278 bits."""
    log3, H = 1.0986122886681098, 0.8112781244591328
    assert informative.uncertainty([[log3, 0.0]]) == pytest.approx(H)
    assert informative.disagreement([[log3, 0.0]]) == pytest.approx(0.0)
    assert informative.uncertainty([[log3, 0.0], [0.0, log3]]) == pytest.approx(1.0)
    assert informative.disagreement([[log3, 0.0], [0.0, log3]]) == pytest.approx(1.0 - H)
    # K = 3: two pairs certain, one a coin
    assert informative.uncertainty([[900.0, 0.0, 0.0]]) == pytest.approx(1 / 3)


@pytest.mark.medium
def test_a_lead_changes_items(store: Store) -> None:
    team = Team(store, "ada", "bob")
    refs = team.rankings(3)
    done = team.work("ada")[0].ref
    held, other = (ref for ref in refs if ref != done)
    with store.writing() as db:
        items.change(db, team.project, [done], team.now, by=None, wanted=2)
        items.change(db, team.project, held, team.now, by=None, held="withdrawn")
        assert [item.ref for item in search.listing(db, team.project, ItemFilters(state="held"))] == [held]
    assert {one.ref for one in team.work("bob", 2)} == {done, other}
    with pytest.raises(UserError, match="not in this project"), store.writing() as db:
        items.change(db, team.project, ["none"], team.now, by=None, priority=2)


def test_an_item_becomes_a_gold_one(store: Store) -> None:
    team = Team(store, "lead", gold_share=1.0)
    (ref,) = team.rankings(1)
    with store.writing() as db:
        arguments = (db, team.project, ref, "gold", {"ranking": [[2], [0, 1]]}, "Because.", team.now)
        copy = items.set_gold(*arguments, by=team.ids["lead"])  # type: ignore[arg-type]
        with pytest.raises(UserError, match="already"):
            items.set_gold(*arguments, by=team.ids["lead"])  # type: ignore[arg-type]
        counts = items.counts(db, team.project)
    assert counts == [("ranking", "gold", True, 1), ("ranking", "train", True, 1)]
    assert team.item(copy).explanation == "Because."
    assert team.task("lead").ref == copy
    assert isinstance(team.next("lead"), work.Task)
