"""The chain of hashes, redaction, and deletion of one person's data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heedful.config import UserError
from heedful.feedback import derive, events, items, people, snapshots, work
from heedful.feedback.schema import Assignment, Audit, Consent, Event, Item, Membership, Person, Project, Tally, Token
from heedful.feedback.store import Store

from .team import Team


def verify(team: Team) -> int:
    with team.store.reading() as db:
        return events.verify(db, team.project)


def change(team: Team, event: int, **values: Any) -> None:
    with team.store.writing() as db:
        db.execute(sa.update(Event).where(Event.id == event).values(values))


@pytest.fixture
def team(store: Store) -> Team:
    team = Team(store, "ada", "bob", double_share=1.0)
    team.rankings(3)
    return team


def test_the_chain_is_as_documented(team: Team) -> None:
    """Recomputed from the row as it stands in the database."""
    done = team.work("ada", seconds=2.5)[0]
    with team.store.reading() as db:
        event = db.get_one(Event, done.event)
        content = json.dumps(event.content, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(((event.salt or "") + content).encode()).hexdigest()
        assert digest == event.content_sha256
        facts = {
            "content_sha256": digest, "idempotency_key": "key 0", "instructions": None, "item_id": event.item_id,
            "kind": "judgement", "order": event.order, "payload_sha256": event.payload_sha256, "person_id": 1,
            "project_id": 1, "refers_to": None, "seconds": 2.5, "when": "2026-03-02T09:00:00+00:00",
        }  # fmt: skip
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        assert event.hash == hashlib.sha256(("" + text).encode()).hexdigest()
        payload = items.by_ref(db, team.project, done.ref)
        assert payload is not None
        text = json.dumps(payload.payload, sort_keys=True, separators=(",", ":"))
        assert event.payload_sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "values",
    [
        {"content": {"ranking": [[0, 1, 2]], "none_acceptable": False}},
        {"person_id": 2},
        {"seconds": 9.0},
        {"order": [2, 1, 0]},
        {"kind": "skip"},
        {"content": None},
        {"content": None, "salt": None},
    ],
)
def test_a_changed_event_is_found(team: Team, values: dict[str, Any]) -> None:
    first, second, _ = team.work("ada", 3, seconds=1.0)
    assert verify(team) == 3
    ((order,),) = team.rows(Event.order, where=Event.id == second.event)
    change(team, second.event, **(values | ({"order": order[::-1]} if "order" in values else {})))
    with pytest.raises(UserError, match=f"event {second.event}: does not fit"):
        verify(team)
    assert first.event != second.event


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_removed_event_is_found(team: Team, place: int) -> None:
    gone = team.work("ada", 3)[place].event
    with team.store.writing() as db:
        db.execute(sa.update(Assignment).where(Assignment.event_id == gone).values(event_id=None))
        db.execute(sa.delete(Event).where(Event.id == gone))
    with pytest.raises(UserError, match="missing"):
        verify(team)


def test_every_project_has_a_chain_of_its_own(store: Store) -> None:
    team = Team(store, "ada")
    team.rankings(1)
    team.work("ada")
    with store.writing() as db:
        other = work.projects.create(db, "other", team.now, settings={"rate_first": False})
        people.join(db, other.id, team.ids["ada"], "labeler", team.now)
    here, team.project = team.project, other.id
    team.rankings(1)
    team.work("ada")
    assert [row.previous for row in team.rows(Event.previous)] == ["", ""]
    assert verify(team) == 1
    team.project = here
    assert verify(team) == 1


def test_redaction_takes_the_words_and_leaves_the_event(store: Store) -> None:
    team = Team(store, "ada", "bob")
    (ref,) = team.prompts(1)
    done = team.submit("ada", team.task("ada"), {"completion": "Call me on 555-0100."})
    team.undo("ada")  # the words now stand in a draft, too
    before = team.rows(Event.id, Event.hash, Event.content_sha256)
    with store.writing() as db:
        events.redact(db, team.project, done.event, "a phone number", team.now, by=team.ids["bob"])
    assert team.rows(Event.id, Event.hash, Event.content_sha256) == before
    assert verify(team) == 2
    assert "555-0100" not in everything(store)
    ((entry,),) = team.rows(Audit.detail, where=Audit.action == "redact")
    assert entry == {"why": "a phone number"}
    assert team.task("ada").ref == ref


def test_a_redacted_judgement_counts_no_more_and_its_item_waits_again(team: Team) -> None:
    done = team.work("ada")[0]
    with team.store.writing() as db:
        events.redact(db, team.project, done.event, "hers", team.now, by=team.ids["bob"])
        assert derive.days(db, team.project) == []
    assert team.item(done.ref).taken == 0
    with team.store.reading() as db:
        assert not work.history(db, team.project, team.ids["ada"])[0].stands


@pytest.mark.medium
def test_an_item_redacted_takes_all_judgements_of_it_along(store: Store) -> None:
    team = Team(store, "ada", "bob", "lead", double_share=1.0)
    (ref,) = team.prompts(1)
    for name in ("ada", "bob"):
        team.submit(name, team.task(name), {"completion": f"secret of {name}"})
    draft = team.undo("bob")
    with store.writing() as db:
        items.redact(db, team.project, ref, "an address", team.now, by=team.ids["lead"])
    assert "secret" not in everything(store)
    assert "Write 0" not in everything(store)
    assert verify(team) == 3
    assert team.next("bob") == work.Nothing("empty")
    with pytest.raises(work.Refused) as refused:
        team.submit("bob", draft)
    assert refused.value.code == "lost"
    with store.reading() as db:
        assert {past.payload for past in work.history(db, team.project, team.ids["ada"])} == {None}


@pytest.mark.medium
def test_deleting_a_person_takes_out_all_she_wrote_and_was(store: Store, tmp_path: Path) -> None:
    team = Team(store, "Ada Lovelace", "bob", double_share=1.0)
    team.prompts(2)
    for name in ("Ada Lovelace", "bob"):
        for _ in range(2):
            team.submit(name, team.task(name), {"completion": f"words of {name}"})
    ada = team.ids["Ada Lovelace"]
    filters = snapshots.Filters(records="demonstration")
    snapshots.freeze(store, team.project, tmp_path / "one", filters, team.now, by=None)
    with store.writing() as db:
        people.set_password(db, ada, "a hash of hers", team.now, by=ada)
        people.new_token(db, ada, "api", team.now, name="Ada Lovelace's script")
        people.state_topics(db, team.project, ada, ["Ada Lovelace's topic"])
        work.projects.write_instruction(db, team.project, "consent", "Agree?", team.now, by=None)
        people.consent(db, team.project, ada, 1, team.now)
        paths = events.delete_person(db, ada, team.now, by=team.ids["bob"])
    assert paths == [str(tmp_path / "one")]
    assert "Lovelace" not in everything(store, but=("snapshot",))
    assert "a hash of hers" not in everything(store)
    assert {row.name for row in team.rows(Person.name)} == {f"deleted-{ada}", "bob"}
    assert team.rows(Consent.version) == team.rows(Token.id) == []
    assert verify(team) == 4
    assert {row.person_id for row in team.rows(Tally.person_id)} == {team.ids["bob"]}
    assert {(row.taken, row.open) for row in team.rows(Item.taken, Item.open)} == {(1, True)}
    with store.reading() as db:
        assert people.membership(db, team.project, ada) is None
        assert people.person_named(db, "Ada Lovelace") is None
        assert len(snapshots.records(db, team.project, filters)) == 2
    caches = team.rows(Item.id, Item.taken, Item.had_by, Item.open)
    with store.writing() as db:
        derive.rebuild(db, team.project)
    assert team.rows(Item.id, Item.taken, Item.had_by, Item.open) == caches
    with pytest.raises(UserError, match="deleted already"), store.writing() as db:
        events.delete_person(db, ada, team.now, by=None)


def test_the_only_lead_cannot_be_deleted(store: Store) -> None:
    team = Team(store, "bob")
    team.join("lead", "lead")
    with pytest.raises(UserError, match="Make another member a lead first"), store.writing() as db:
        events.delete_person(db, team.ids["lead"], team.now, by=None)
    assert [row.left for row in team.rows(Membership.left)] == [None, None]


def test_an_items_whole_history(team: Team) -> None:
    first = team.work("ada")[0]
    team.undo("ada")
    team.submit("bob", team.task("bob"))
    with team.store.reading() as db:
        told = events.of_item(db, items.by_ref(db, team.project, first.ref).id)  # type: ignore[union-attr]
    assert [(one.labeler, one.event.kind, one.stands) for one in told] == [
        ("ada", "judgement", False), ("ada", "undo", False), ("bob", "judgement", True),
    ]  # fmt: skip


def everything(store: Store, but: tuple[str, ...] = ()) -> str:
    """All of the database as text."""
    with store.reading() as db:
        return "\n".join(
            str(row)
            for table in Person.metadata.sorted_tables
            if table.name not in but
            for row in db.execute(sa.select(table))
        )


def test_a_chain_is_verified_as_of_one_moment(store: Store) -> None:
    """On PostgreSQL each statement would see what others wrote meanwhile, and the chain would not end at its head."""
    team = Team(store, "ada", "bob")
    team.rankings(3)
    team.work("ada", 1)
    with store.reading() as db:
        assert db.get_one(Project, team.project).head
        team.work("bob", 1)
        assert events.verify(db, team.project) == 1
    with store.reading() as db:
        assert events.verify(db, team.project) == 2
