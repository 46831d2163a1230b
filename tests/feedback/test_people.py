"""Accounts, invitations, tokens, consent, and the audit log."""

from __future__ import annotations

from datetime import timedelta

import pytest

from heedful.config import UserError
from heedful.feedback import people, projects
from heedful.feedback.schema import Invitation, Role, Token
from heedful.feedback.store import Store

from .team import START, Team


def test_names_are_one_persons_and_are_names(store: Store) -> None:
    with store.writing() as db:
        ada = people.add_person(db, "  Ada   Lovelace ", None, START)
        assert ada.name == "Ada Lovelace"
        for name in ("Ada Lovelace", "", "  ", "x" * 101):
            with pytest.raises(UserError):
                people.add_person(db, name, None, START)
        assert people.person_named(db, "Ada \0") is None


def test_an_invitation_works_once(store: Store) -> None:
    team = Team(store)
    with store.writing() as db:
        ada, bob = (people.add_person(db, name, None, START) for name in ("ada", "bob"))
        _, token = people.invite(db, team.project, "labeler", START, by=None, group="north", phase="practice")
        member = people.accept(db, token, ada.id, START)
        assert member is not None
        assert (member.role, member.group, member.phase) == ("labeler", "north", "practice")
        with pytest.raises(UserError, match="used, revoked or is too old"):
            people.accept(db, token, bob.id, START)
        assert token not in str([vars(row) for row in people.invitations(db, team.project)])


def test_an_invitation_ends(store: Store) -> None:
    team = Team(store, "lead")
    with store.writing() as db:
        late, late_token = people.invite(db, team.project, "labeler", START, by=None, hours=1)
        gone, gone_token = people.invite(db, team.project, "labeler", START, by=None)
        people.revoke_invitation(db, team.project, gone.id, START, by=team.ids["lead"])
        assert people.open_invitation(db, late_token, START + timedelta(minutes=59)) is not None
        assert people.open_invitation(db, late_token, START + timedelta(minutes=61)) is None
        assert people.open_invitation(db, gone_token, START) is None
        assert people.open_invitation(db, "guess", START) is None
        with pytest.raises(UserError, match="does not exist"):
            people.revoke_invitation(db, None, late.id, START, by=team.ids["lead"])


def test_an_invitation_without_a_project_makes_an_administrator(store: Store) -> None:
    with store.writing() as db:
        ada = people.add_person(db, "ada", None, START)
        _, token = people.invite(db, None, "lead", START, by=None)
        assert people.accept(db, token, ada.id, START) is None
        assert ada.admin


@pytest.mark.parametrize(
    ("has", "link", "becomes"),
    [
        ("lead", "labeler", None), ("lead", "reader", None), ("labeler", "held_out", None),
        ("held_out", "reader", None),
        ("reader", "labeler", "labeler"), ("held_out", "labeler", "labeler"), ("labeler", "lead", "lead"),
        ("labeler", "labeler", "labeler"),
    ],
)  # fmt: skip
def test_a_link_lowers_nobodys_role(store: Store, has: Role, link: Role, becomes: Role | None) -> None:
    team = Team(store)
    ada = team.join("ada", has)
    with store.writing() as db:
        _, token = people.invite(db, team.project, link, START, by=None)
    if becomes is None:
        words = f"as {has}, and this link would make you {link}. The link stays valid".replace("_", "-")
        with pytest.raises(UserError, match=words), store.writing() as db:
            people.accept(db, token, ada, START)
    with store.writing() as db:
        if becomes is not None:
            people.accept(db, token, ada, START)
        member = people.membership(db, team.project, ada)
        assert member is not None
        assert member.role == (becomes or has)
        assert (people.open_invitation(db, token, START) is None) == (becomes is not None)


def test_who_has_left_may_come_back_in_any_role(store: Store) -> None:
    team = Team(store)
    team.join("lead", "lead")
    ada = team.join("ada", "lead")
    with store.writing() as db:
        people.change_member(db, team.project, ada, START, by=None, left=True)
        _, token = people.invite(db, team.project, "labeler", START, by=None)
        member = people.accept(db, token, ada, START)
        assert member is not None
        assert member.role == "labeler"


def test_roles_are_those_there_are(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        with pytest.raises(UserError, match="role: 'boss' is none of lead, labeler"):
            people.invite(db, team.project, "boss", START, by=None)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="phase"):
            people.change_member(db, team.project, team.ids["ada"], START, by=None, phase="x")  # type: ignore[arg-type]


def test_a_project_keeps_a_lead(store: Store) -> None:
    team = Team(store, "ada")
    team.join("lead", "lead")
    with store.writing() as db:
        for change in ({"role": "labeler"}, {"left": True}):
            with pytest.raises(UserError, match="needs a lead"):
                people.change_member(db, team.project, team.ids["lead"], START, by=None, **change)  # type: ignore[arg-type]
        people.change_member(db, team.project, team.ids["ada"], START, by=None, role="lead")
        people.change_member(db, team.project, team.ids["lead"], START, by=None, left=True)
        assert people.membership(db, team.project, team.ids["lead"]) is None
        assert [person.name for _, person in people.members(db, team.project)] == ["ada", "lead"]


def test_what_a_lead_changes_is_kept_and_logged(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        ada = team.ids["ada"]
        people.change_member(db, team.project, ada, START, by=ada, group="south", paused=True, why="a talk")
        member = people.membership(db, team.project, ada)
        assert member is not None
        assert (member.group, member.paused, member.paused_why) == ("south", START, "a talk")
        people.change_member(db, team.project, ada, START, by=ada, group="", paused=False)
        assert (member.group, member.paused, member.paused_why) == (None, None, None)
        log = people.audit_log(db, team.project)
    assert [(entry.action, entry.detail, name) for entry, name in log][:2] == [
        ("member", {"group": "", "paused": False}, "ada"),
        ("member", {"group": "south", "paused": True, "why": "a talk"}, "ada"),
    ]
    with store.reading() as db:
        assert len(people.audit_log(db, team.project, before=log[0][0].id)) == len(log) - 1


def test_tokens_stand_for_a_person_until_they_end(store: Store) -> None:
    team = Team(store, "ada", "bob")
    ada, bob = team.ids["ada"], team.ids["bob"]
    with store.writing() as db:
        _, session = people.new_token(db, ada, "session", START, days=1)
        token, script = people.new_token(db, ada, "api", START, name="script")

        def whose(secret: str, kind: str, days: float = 0) -> int | None:
            found = people.person_of(db, secret, kind, START + timedelta(days=days))  # type: ignore[arg-type]
            return found.id if found is not None else None

        assert [whose(session, "session"), whose(script, "api"), whose(script, "api", 900)] == [ada, ada, ada]
        assert [whose(session, "api"), whose(script, "session"), whose("x", "api")] == [None, None, None]
        assert whose(session, "session", 1.01) is None
        with pytest.raises(UserError, match="not one of your tokens"):
            people.revoke_token(db, bob, token.id, START)
        people.revoke_token(db, ada, token.id, START)
        assert whose(script, "api") is None
        people.set_password(db, ada, "hash", START, by=ada)
        assert whose(session, "session") is None
        _, session = people.new_token(db, ada, "session", START, days=1)
        people.forget_expired(db, START + timedelta(days=2))
        assert db.get(Token, token.id) is None
        assert people.tokens(db, ada) == []


def test_consent_is_to_a_version(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        ada = team.ids["ada"]
        assert people.has_consented(db, team.project, ada)
        projects.write_instruction(db, team.project, "consent", "One.", START, by=None)
        assert not people.has_consented(db, team.project, ada)
        people.consent(db, team.project, ada, 1, START)
        assert people.has_consented(db, team.project, ada)
        projects.write_instruction(db, team.project, "consent", "Two.", START, by=None)
        assert not people.has_consented(db, team.project, ada)
        with pytest.raises(UserError, match="has changed meanwhile"):
            people.consent(db, team.project, ada, 1, START)
        assert [given.version for given in people.consents(db, team.project, ada)] == [1]


def test_secrets_are_kept_as_hashes(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        _, invitation = people.invite(db, team.project, "labeler", START, by=None)
        _, token = people.new_token(db, team.ids["ada"], "api", START)
    hashes = {row[0] for row in team.rows(Invitation.token_hash) + team.rows(Token.token_hash)}
    assert hashes == {people.hashed(invitation), people.hashed(token)}
    assert len(token) >= 43
