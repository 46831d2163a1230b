"""Lists of items, what their judgements say together, and changes of many at once."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from heedful.config import UserError
from heedful.data.records import Completions, Prompt
from heedful.feedback import derive, differing, events, items, judgements, search, work
from heedful.feedback.judgements import PromptRequest, Versus
from heedful.feedback.schema import Event
from heedful.feedback.search import ItemFilters
from heedful.feedback.send_back import send_back
from heedful.feedback.store import Store

from .team import Team


def ranked(team: Team, name: str, ranking: list[list[int]], **more: Any) -> work.Done:
    """The next ranking of a labeler, in indices."""
    task = team.task(name, kind="ranking")
    content = {"ranking": ranking, **more}
    return team.submit(name, task, judgements.by_place("ranking", content, task.order))


def found(team: Team, order: Any = "newest", **filters: Any) -> list[str]:
    with team.store.reading() as db:
        listed = search.listing(db, team.project, ItemFilters(**filters), order=order)
        assert search.count(db, team.project, ItemFilters(**filters)) == len(listed)
        return [item.ref for item in listed]


def test_prompts_are_found_by_their_words(store: Store) -> None:
    team = Team(store)
    rows = [
        Prompt(prompt="Why do TEA leaves  sink?", source="web", use_case="chat"),
        Prompt(prompt=[{"role": "system", "content": "Über 100 % Tee"}, {"role": "user", "content": "Wie heiß?"}]),  # type: ignore[list-item]
        Prompt(prompt="A prompt about 100 things_that sink", source="api"),
    ]
    tea, chat, things = team.add("demonstration", rows)
    (asked,) = team.add("prompt", [PromptRequest(form="plain", use_case="chat", about="tea")])
    assert found(team) == [asked, things, chat, tea]
    assert found(team, search="sink tea") == [tea]
    assert found(team, search='"leaves sink"') == [tea]
    assert found(team, search='"sink leaves"') == []
    assert found(team, search="über HEISS") == [chat]
    assert found(team, search="100 %") == [chat]  # a sign of SQL is a letter like any other
    assert found(team, search="s_that") == [things]
    assert found(team, search="completion") == []  # the name of a field is no text
    assert found(team, search="tea") == [asked, tea]
    assert found(team, source="web") == [tea]
    assert found(team, use_case="chat") == [asked, tea]
    assert found(team, search="", kind="", use_case="chat", source="api") == []
    with store.reading() as db:
        assert search.choices(db, team.project, "source") == ["api", "web"]
        assert search.choices(db, team.project, "use_case") == ["chat"]
    lead = team.join("lead", "lead")
    with store.writing() as db:
        items.redact(db, team.project, tea, "asked to", team.now, by=lead)
    assert found(team, search="sink") == [things]
    assert found(team, state="deleted") == [tea]


@pytest.mark.parametrize(
    ("rankings", "expected"),
    [
        ([], None),
        ([((0,), (1,), (2,))], None),
        ([((0,), (1,), (2,)), ((0,), (1,), (2,))], 0.0),
        ([((0,), (1,), (2,)), ((2,), (1,), (0,))], 1.0),
        ([((0,), (1,), (2,)), ((0, 1), (2,))], 1 / 6),  # one of three pairs, by half
        ([((0,), (1,), (2,)), ((1,), (0,), (2,)), ((0, 1), (2,))], (2 + 1 + 1) / 2 / 9),  # 3 x 3 pairs
    ],
)  # fmt: skip
def test_disagreement_is_the_share_of_opposed_pairs(rankings: Any, expected: float | None) -> None:
    assert differing.disagreement(rankings) == (None if expected is None else pytest.approx(expected))


@pytest.mark.medium
def test_items_are_listed_by_what_labelers_said(store: Store) -> None:
    team = Team(store, "ada", "bob", double_share=1.0)
    refs = team.rankings(3)
    made = [
        ranked(team, "ada", [[0], [1], [2]], ratings=[{"hallucination": True}, {}, {"satisfies_constraint": True}]),
        ranked(team, "ada", [[0], [1], [2]], none_acceptable=True),
    ]
    second = [ranked(team, "bob", [[2], [1], [0]]), ranked(team, "bob", [[0, 1], [2]])]
    by_ref = {one.ref: one for one in made}
    third = next(ref for ref in refs if ref not in by_ref)
    assert [team.item(ref).disagreement for ref in refs if ref == third] == [None]
    ordered = found(team, "disagreement")
    values = [team.item(ref).disagreement for ref in ordered]
    both = {team.item(one.ref).ref for one in second}
    assert values == sorted((v for v in values if v is not None), reverse=True) + [None] * values.count(None)
    assert set(ordered[: len(both)]) == both
    assert found(team, flag="hallucination") == [made[0].ref]
    assert found(team, flag="none_acceptable") == [made[1].ref]
    assert set(found(team, flag="any")) == {made[0].ref, made[1].ref}
    assert found(team, flag="satisfies_constraint") == []  # it is kept
    assert found(team, labels="none") == [third]
    assert set(found(team, labels="all")) == both
    team.undo("bob", second[0].event)
    assert team.item(second[0].ref).disagreement is None
    assert found(team, labels="some") == [second[0].ref]
    with store.writing() as db:
        assert derive.rebuild(db, team.project) == 0
        db.get_one(type(team.item(refs[0])), team.item(made[0].ref).id).flags = "|wrong|"
    with store.writing() as db:
        assert derive.rebuild(db, team.project) == 1
    assert found(team, flag="hallucination") == [made[0].ref]


@pytest.mark.medium
def test_many_items_change_at_once(store: Store) -> None:
    team = Team(store, "ada")
    refs = team.rankings(4)
    (prompt,) = team.prompts(1)
    (gold,) = team.gold_rankings(1)
    done = team.work("ada", kind="ranking")[0].ref

    def change(which: Any, **values: Any) -> int:
        with store.writing() as db:
            return items.change(db, team.project, which, team.now, by=None, **values)

    assert change(ItemFilters(kind="ranking", purpose="train"), priority=7) == 4
    assert (set(found(team, "priority")[:4]), team.item(prompt).priority) == (set(refs), 0)
    assert change([done, prompt], wanted=2) == 2
    assert [(team.item(ref).wanted, team.item(ref).open) for ref in (done, prompt)] == [(2, True), (2, True)]
    assert change([done], wanted=1, held="odd") == 1
    assert (team.item(done).open, found(team, state="held")) == (False, [done])
    assert change([done], held="") == 1
    assert (team.item(done).held, team.item(done).open, found(team, state="done")) == (None, False, [done])
    assert change(ItemFilters(search="nothing like it"), held="x") == 0
    assert (change([gold], held="x"), team.item(gold).open) == (1, False)
    assert (change([gold], held=""), team.item(gold).open) == (1, True)
    with pytest.raises(UserError, match=f"{gold}: items with a known answer go to everybody"):
        change(ItemFilters(), wanted=2)
    with pytest.raises(UserError, match="item none: not in this project"):
        change([refs[0], "none"], priority=1)


def sent_back(team: Team, event: int, note: str = "Read B again.") -> int:
    with team.store.writing() as db:
        return send_back(db, team.project, event, note, team.now, by=team.ids["lead"])


@pytest.mark.medium
def test_a_judgement_is_sent_back_to_its_labeler(store: Store) -> None:
    team = Team(store, "ada", "bob", "lead")
    (ref,) = team.rankings(1)
    first = ranked(team, "ada", [[2], [0], [1]], note="sure")
    event = sent_back(team, first.event)
    assert (team.item(ref).taken, team.item(ref).open) == (0, True)
    with store.reading() as db:
        assert work.progress(db, team.project, team.ids["ada"], team.now).total == 0
        told = events.of_item(db, team.item(ref).id)
        assert [(one.event.kind, one.labeler, one.stands) for one in told] == [
            ("judgement", "ada", False), ("sent_back", "lead", False),
        ]  # fmt: skip
        assert (told[1].event.content, told[1].event.refers_to) == ({"note": "Read B again."}, first.event)
    team.wait(days=3)
    assert isinstance(team.next("bob"), work.Nothing)  # it waits for ada
    task = team.task("ada")
    assert (task.ref, task.corrects, task.sent_back) == (ref, first.event, "Read B again.")
    assert judgements.by_index("ranking", task.draft, task.order)["ranking"] == [[2], [0], [1]]
    second = team.submit("ada", task, judgements.by_place("ranking", {"ranking": [[0], [1], [2]]}, task.order))
    with store.writing() as db:
        assert db.get_one(Event, second.event).refers_to == first.event
        past = work.history(db, team.project, team.ids["ada"])
        assert [(one.event, one.stands, one.sent_back) for one in past] == [
            (second.event, True, None), (first.event, False, "Read B again."),
        ]  # fmt: skip
        assert derive.rebuild(db, team.project) == 0
        assert events.verify(db, team.project) == 3
    assert team.undo("ada").sent_back is None  # her own doing
    assert event > first.event


@pytest.mark.medium
def test_what_cannot_be_sent_back_is_refused(store: Store) -> None:
    team = Team(store, "ada", "bob", "lead", gold_share=1.0)
    (gold,) = team.gold_rankings(1)
    known = team.work("ada")[0]
    assert known.ref == gold
    team.settle(gold_share=0.0)
    team.rankings(2)
    one, other = team.work("ada", 2)
    for event, said in ((known.event, "has a known answer"), (999, "no judgement of this project")):
        with pytest.raises(UserError, match=said):
            sent_back(team, event)
    sent = sent_back(team, one.event)
    with pytest.raises(UserError, match="does not count any more"):
        sent_back(team, one.event)
    with pytest.raises(UserError, match="no judgement"):
        sent_back(team, sent)
    with store.writing() as db:
        items.change(db, team.project, other.ref, team.now, by=None, held="odd")
    with pytest.raises(UserError, match="Release it first"):
        sent_back(team, other.event)
    with store.writing() as db:
        events.delete_person(db, team.ids["ada"], team.now, by=None)
        assert db.get_one(Event, sent).content is None  # it was about her work


def test_choices_may_both_be_bad(store: Store) -> None:
    team = Team(store, "ada")
    (ref,) = team.add("choice", [Versus.model_validate({"prompt": "Q?", "a": {"text": "x"}, "b": {"text": "y"}})])
    team.submit("ada", team.task("ada"), {"preferred": "tie", "none_acceptable": True})
    assert (found(team, flag="none_acceptable"), team.item(ref).disagreement) == ([ref], None)


@pytest.mark.slow
def test_ten_thousand_items_are_listed_quickly(store: Store) -> None:
    team = Team(store)
    text = "Lorem ipsum dolor sit amet, consetetur. " * 25
    rows = [
        Completions(prompt=f"{text} {i}?", completions=[f"{text}{i}", text, text, f"{i}"], use_case=f"case {i % 7}")
        for i in range(10_000)
    ]
    team.add("ranking", rows)
    filters: list[dict[str, Any]] = [{}, {"search": "lorem 77"}, {"flag": "any"}, {"use_case": "case 3"}]
    for given in filters:
        for order in ("newest", "disagreement"):
            with store.reading() as db:
                start = time.perf_counter()
                search.count(db, team.project, ItemFilters(**given))
                search.listing(db, team.project, ItemFilters(**given), order=order, offset=9_000 if not given else 0)  # type: ignore[arg-type]
                search.choices(db, team.project, "use_case")
                took = timedelta(seconds=time.perf_counter() - start)
            print(given, order, f"{took.total_seconds():.3f} s")
            assert took < timedelta(seconds=1), (given, order)
