"""Thumbs, edits and picks: in the event log, undoable, in snapshots and lineage, and in no queue and no reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful.collection import react
from heedful.collection.react import Side
from heedful.config import UserError
from heedful.data import formats, kinds
from heedful.data.records import Choice
from heedful.feedback import derive, events, items, lineage, people, projects, snapshots, work
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store

from .served import START, exchange, keep

LEFT, RIGHT = Side("Red.", "one", {"temperature": 1.0}), Side("Blue.", "two", {"temperature": 1.0})


@pytest.fixture(autouse=True)
def exchanges(store: Store) -> None:
    keep(store, exchange("x"), exchange("y", "bob"))


def rows(store: Store, records: Any, **filters: Any) -> list[dict[str, Any]]:
    with store.reading() as db:
        project = projects.by_name(db, react.PROJECT)
        assert project is not None
        found = snapshots.records(db, project.id, Filters(records=records, **filters))
    return [{key: value for key, value in record.row().items() if key not in ABOUT} for _, record in found]


ABOUT = {"item", "judgement", "judged", "source"}


def thumb(store: Store, *given: Any, **more: Any) -> react.Reaction:
    with store.writing() as db:
        return react.thumb(db, *given, **{"now": START, **more})


def pick(
    store: Store, outcome: Any, blind: bool = True, user: str = "ada", key: str | None = None, left: Side = LEFT
) -> react.Reaction:
    with store.writing() as db:
        return react.pick(db, user, "Sky?", left, RIGHT, outcome, blind=blind, now=START, key=key)


def test_a_thumb_is_a_judgement_with_the_answer_its_model_and_settings(store: Store) -> None:
    thumb(store, "x", "ada", True, ["helpful", "helpful"], "Good.", answer=1)
    assert rows(store, "thumb") == [
        {
            "prompt": [{"role": "user", "content": "Why is x blue?"}],
            "answer": {"text": "I do not know.", "model": "demo"}, "settings": {"temperature": 0.7},
            "up": True, "reasons": ["helpful"], "comment": "Good.", "labeler": "ada",
        }
    ]  # fmt: skip


def test_a_second_thumb_replaces_the_first_and_the_same_one_changes_nothing(store: Store) -> None:
    first, second = thumb(store, "x", "ada", True), thumb(store, "x", "ada", False)
    again = thumb(store, "x", "ada", False)
    assert (again.event, again.ref, again.repeated) == (second.event, first.ref, True)
    assert [row["up"] for row in rows(store, "thumb")] == [False]
    with store.writing() as db:
        react.undo(db, "ada", first.ref, START)
        with pytest.raises(UserError, match="taken back already"):
            react.undo(db, "ada", first.ref, START)
    assert rows(store, "thumb") == []
    thumb(store, "x", "ada", False)
    assert [row["up"] for row in rows(store, "thumb")] == [False]
    with store.writing() as db:
        project = projects.by_name(db, react.PROJECT)
        assert project is not None
        assert events.verify(db, project.id) == 4
        assert derive.rebuild(db, project.id) == 0
        assert [day.judgements for day in derive.days(db, project.id)] == [1]


def test_edits_and_picks_keep_both_texts(store: Store) -> None:
    with store.writing() as db:
        react.edit(db, "x", "ada", "Because of Rayleigh.", now=START)
    pick(store, "both_bad")
    (edited,), (picked,) = rows(store, "edit"), rows(store, "pick")
    assert (edited["edited"], edited["answer"]["text"]) == ("Because of Rayleigh.", "Because of x.")
    assert picked == {
        "prompt": "Sky?", "left": {"text": "Red.", "model": "one"}, "right": {"text": "Blue.", "model": "two"},
        "outcome": "both_bad", "blind": True, "labeler": "ada",
        "settings": {"left": {"temperature": 1.0}, "right": {"temperature": 1.0}},
    }  # fmt: skip


@pytest.mark.medium
def test_a_pick_with_a_known_key_is_stored_once(store: Store) -> None:
    first, again = (pick(store, "left", key="k1") for _ in range(2))
    assert (again.ref, again.event, again.repeated) == (first.ref, first.event, True)
    for outcome, left in (("right", LEFT), ("left", Side("Green.", "one", {}))):
        with pytest.raises(UserError, match="key: it belongs to another pick"):
            pick(store, outcome, key="k1", left=left)
    assert not pick(store, "left", key="k1", user="bob").repeated  # keys belong to a person
    assert not pick(store, "left", key="k2").repeated
    assert not pick(store, "left").repeated
    assert not pick(store, "left").repeated
    assert len(rows(store, "pick")) == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("y", "ada", True), "nothing of yours is stored"),
        (("z", "ada", True), "nothing of yours is stored"),
        (("x", "eve", True), "no account"),
        (("x", "ada", True, ["charming"]), "'charming' is none of helpful"),
        (("x", "ada", True, [], "a" * 10_001), "10,001 characters"),
    ],
)
def test_what_is_no_thumb_is_refused_in_one_line(store: Store, given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        thumb(store, *given)
    with pytest.raises(UserError, match="answer: 2 is not from 0 to 1"):
        thumb(store, "x", "ada", True, answer=2)
    with store.writing() as db, pytest.raises(UserError, match="improved answer is empty"):
        react.edit(db, "x", "ada", " ", now=START)


def test_nobody_undoes_the_reaction_of_another(store: Store) -> None:
    ref = thumb(store, "x", "ada", True).ref
    with store.writing() as db, pytest.raises(UserError, match="no reaction of yours"):
        react.undo(db, "bob", ref, START)


def test_no_labeler_gets_a_reaction_and_no_file_brings_one(store: Store) -> None:
    ref = thumb(store, "x", "ada", True).ref
    with store.writing() as db:
        react.undo(db, "ada", ref, START)  # its item is free, and still nobody gets it
        project, bob = react.home(db, START).id, people.person_named(db, "bob")
        assert bob is not None
        people.join(db, project, bob.id, "labeler", START)
        assert isinstance(work.next_task(db, project, bob.id, START), work.Nothing)
        with pytest.raises(UserError, match="kind: 'thumb' is none of"):
            items.add(db, project, "thumb", [], START, by=None)
        with pytest.raises(UserError, match="purpose: 'use' is none of"):
            items.add(db, project, "ranking", [], START, by=None, purpose="use")
    with pytest.raises(UserError, match="kinds"), store.writing() as db:
        projects.change_settings(db, project, {"kinds": ["thumb"]})


@pytest.mark.medium
def test_reward_training_reads_reactions_only_if_a_snapshot_names_them(store: Store, tmp_path: Path) -> None:
    thumb(store, "x", "ada", True)
    thumb(store, "x", "ada", False, answer=1)
    for outcome, blind in (("left", True), ("right", True), ("tie", True), ("both_bad", True), ("left", False)):
        pick(store, outcome, blind)
    for records in ("comparison", "choice", "demonstration"):
        assert rows(store, records) == []
    with store.reading() as db:
        project = projects.by_name(db, react.PROJECT)
        assert project is not None
    frozen = {
        (records, as_choices): snapshots.freeze(
            store, project.id, tmp_path / f"{records}-{as_choices}",
            Filters(records=records, as_choices=as_choices), START, by=None,
        )
        for records in ("thumb", "pick") for as_choices in (False, True)
    }  # fmt: skip
    for records in ("thumb", "pick"):
        with pytest.raises(UserError):
            formats.read(frozen[records, False].path, Choice)
        assert kinds.kind_of(frozen[records, True].path) == "choices"
    chosen = formats.read(frozen["pick", True].path, Choice)
    assert [(row.preferred, row.none_acceptable) for row in chosen] == [
        ("a", None), ("b", None), ("tie", None), ("tie", True)
    ]  # fmt: skip
    (opposed,) = formats.read(frozen["thumb", True].path, Choice)
    assert (opposed.a.text, opposed.b.text, opposed.preferred) == ("Because of x.", "I do not know.", "a")
    with store.reading() as db:
        found = lineage.of_labeler(db, "ada", [tmp_path])
    assert [(Path(frozen.path).name, count) for frozen, count in found.snapshots] == [
        ("thumb-False", 2), ("thumb-True", 2), ("pick-False", 5), ("pick-True", 4)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="as_choices is for thumbs and picks"):
        Filters(records="choice", as_choices=True)
