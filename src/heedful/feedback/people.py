"""Accounts, roles, invitations, sessions and tokens, consent, and the audit log.

Secrets are shown once, when they are created, and stored as hashes. `by` is the id of the acting person, None for the
command line.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import names, projects
from heedful.feedback.columns import printable
from heedful.feedback.schema import (
    PHASES,
    PURPOSES,
    ROLES,
    Assignment,
    Audit,
    Consent,
    Invitation,
    Item,
    Membership,
    Person,
    Phase,
    Project,
    Role,
    Token,
    TokenKind,
    may_have,
)

MOST_DEVICES = 20  # of one person


def add_person(db: Session, name: str, password_hash: str | None, now: datetime, *, admin: bool = False) -> Person:
    """Create an account. UserError if the name is taken, looks like another one, or is not a name."""
    name = names.checked(name)
    if person_named(db, name) is not None:
        raise UserError(f"{name}: this name is taken. Choose another")
    if names.look_alike(name, db.scalars(sa.select(Person.name).where(Person.deleted.is_(None)))):
        raise UserError(f"{name}: looks like the name of another account. Choose another")
    person = Person(name=name, password_hash=password_hash, admin=admin, created=now)
    db.add(person)
    db.flush()
    return person


def person_named(db: Session, name: str) -> Person | None:
    name = " ".join(printable(name, names.LONGEST + 1).split())
    return db.scalar(sa.select(Person).where(Person.name == name, Person.deleted.is_(None)))


def has_admin(db: Session) -> bool:
    """Whether there is an admin, who can create projects."""
    return db.scalar(sa.select(Person.id).where(Person.admin, Person.deleted.is_(None)).limit(1)) is not None


def set_password(db: Session, person_id: int, password_hash: str, now: datetime, *, by: int | None) -> None:
    """Set a password and revoke all sessions, API tokens and password links of the account."""
    db.get_one(Person, person_id).password_hash = password_hash
    db.execute(sa.delete(Token).where(Token.person_id == person_id))
    audit(db, by, "password", f"person {person_id}", now=now)


# Invitations


def invite(
    db: Session,
    project_id: int | None,
    role: Role,
    now: datetime,
    *,
    by: int | None,
    group: str | None = None,
    phase: Phase | None = None,
    note: str | None = None,
    hours: float = 168,
) -> tuple[Invitation, str]:
    """Create a single-use invitation and its token. Without a project it is for an account: with role lead an admin."""
    _check(role, ROLES, "role")
    if phase is not None:
        _check(phase, PHASES, "phase")
    token = _secret()
    invitation = Invitation(
        project_id=project_id,
        role=role,
        group=_short(group),
        phase=phase,
        note=_short(note),
        token_hash=hashed(token),
        created=now,
        created_by=by,
        expires=now + timedelta(hours=hours),
    )
    db.add(invitation)
    db.flush()
    audit(db, by, "invite", f"invitation {invitation.id}", {"role": role, "group": group}, project_id, now=now)
    return invitation, token


def open_invitation(db: Session, token: str, now: datetime) -> Invitation | None:
    """The invitation of a token if it can still be used, else None."""
    invitation = db.scalar(sa.select(Invitation).where(Invitation.token_hash == hashed(token)).with_for_update())
    usable = invitation is not None and invitation.used is None and invitation.revoked is None
    return invitation if usable and invitation is not None and invitation.expires > now else None


def accept(db: Session, token: str, person_id: int, now: datetime) -> Membership | None:
    """Use an invitation: the person joins its project, or it was for an account alone (returns None).

    UserError if the link was used or revoked or is too old. An invitation never lowers a member's role: then UserError
    too, and the link stays valid.
    """
    invitation = open_invitation(db, token, now)
    if invitation is None:
        raise UserError("this invitation was used, revoked or is too old. Ask for a new one")
    member = membership(db, invitation.project_id, person_id) if invitation.project_id is not None else None
    if member is not None and ROLES.index(invitation.role) > ROLES.index(member.role):
        old, new = (role.replace("_", "-") for role in (member.role, invitation.role))
        raise UserError(
            f"you are in this project as {old}, and this link would make you {new}. The link stays valid."
            " Pass it on to the right person, or ask a lead to change your role"
        )
    invitation.used, invitation.used_by = now, person_id
    audit(db, person_id, "accept", f"invitation {invitation.id}", project_id=invitation.project_id, now=now)
    if invitation.project_id is None:
        db.get_one(Person, person_id).admin |= invitation.role == "lead"
        return None
    return join(db, invitation.project_id, person_id, invitation.role, now, invitation.group, invitation.phase)


def invitations(db: Session, project_id: int | None) -> list[Invitation]:
    """Invitations of a project, the newest first."""
    chosen = sa.select(Invitation).where(Invitation.project_id.is_not_distinct_from(project_id))
    return list(db.scalars(chosen.order_by(Invitation.id.desc())))


def revoke_invitation(db: Session, project_id: int | None, invitation_id: int, now: datetime, *, by: int) -> None:
    invitation = db.get(Invitation, invitation_id)
    if invitation is None or invitation.project_id != project_id or invitation.used is not None:
        raise UserError(f"invitation {invitation_id}: was used or does not exist")
    invitation.revoked = now
    audit(db, by, "revoke", f"invitation {invitation_id}", project_id=project_id, now=now)


# Members


def join(
    db: Session,
    project_id: int,
    person_id: int,
    role: Role,
    now: datetime,
    group: str | None = None,
    phase: Phase | None = None,
) -> Membership:
    """Make a person a member, or change a member's role. `phase` None: the project's first phase."""
    _check(role, ROLES, "role")
    member = db.get(Membership, (project_id, person_id))
    begins = phase or projects.settings(db, project_id).first_phase
    if member is None:
        phase = begins if role in ("labeler", "held_out") else "work"
        member = Membership(project_id=project_id, person_id=person_id, joined=now, role=role, phase=phase)
        db.add(member)
    _give_role(db, member, role, now)
    member.left = None
    member.group = _short(group) if group is not None else member.group
    db.flush()
    return member


def membership(db: Session, project_id: int, person_id: int) -> Membership | None:
    """A current membership, or None."""
    member = db.get(Membership, (project_id, person_id))
    return member if member is not None and member.left is None else None


def memberships(db: Session, person_id: int, *, past: bool = False) -> list[Membership]:
    """Memberships of a person. `past`: including projects that they left, where their work still is."""
    chosen = sa.select(Membership).where(Membership.person_id == person_id).order_by(Membership.project_id)
    return list(db.scalars(chosen if past else chosen.where(Membership.left.is_(None))))


def members(db: Session, project_id: int) -> list[tuple[Membership, Person]]:
    """Members of a project by name, including those who left (`left`), without deleted people."""
    chosen = sa.select(Membership, Person).join(Person, Person.id == Membership.person_id)
    chosen = chosen.where(Membership.project_id == project_id, Person.deleted.is_(None)).order_by(Person.name)
    return [(member, person) for member, person in db.execute(chosen)]


def change_member(
    db: Session,
    project_id: int,
    person_id: int,
    now: datetime,
    *,
    by: int | None,
    role: Role | None = None,
    group: str | None = None,
    phase: Phase | None = None,
    paused: bool | None = None,
    why: str | None = None,
    left: bool | None = None,
) -> Membership:
    """Change what is given. `group=""` removes the group. UserError if the project would be without a lead."""
    member = db.get(Membership, (project_id, person_id))
    if member is None or db.get_one(Person, person_id).deleted is not None:
        raise UserError(f"person {person_id}: not a member of this project")
    if member.role == "lead" and member.left is None and (left or (role is not None and role != "lead")):
        leads = [other for other, _ in members(db, project_id) if other.role == "lead" and other.left is None]
        if len(leads) == 1:
            raise UserError("a project needs a lead. Make another member a lead first")
    if role is not None:
        _check(role, ROLES, "role")
        _give_role(db, member, role, now)
    if group is not None:
        member.group = _short(group)
    if phase is not None:
        _check(phase, PHASES, "phase")
        member.phase = phase
    if paused is not None:
        member.paused, member.paused_why = (now, why) if paused else (None, None)
    if left is not None:
        member.left = now if left else None
    given = {"role": role, "group": group, "phase": phase, "paused": paused, "why": why, "left": left}
    detail = {key: value for key, value in given.items() if value is not None}
    audit(db, by, "member", f"person {person_id}", detail, project_id, now=now)
    return member


def _give_role(db: Session, member: Membership, role: Role, now: datetime) -> None:
    """Change a role. Leases on items that the new role may not have end. Their drafts wait."""
    if member.role == role:
        return
    projects.lock(db, member.project_id)
    member.role = role
    barred = [purpose for purpose in PURPOSES if not may_have(role, purpose)]
    items = sa.select(Item.id).where(Item.id == Assignment.item_id, Item.purpose.in_(barred))
    leases = sa.update(Assignment).where(
        Assignment.project_id == member.project_id,
        Assignment.person_id == member.person_id,
        Assignment.state == "leased",
        Assignment.expires > now,
        items.exists(),
    )
    db.execute(leases.values(expires=now).execution_options(synchronize_session="fetch"))


def state_topics(db: Session, project_id: int, person_id: int, topics: list[str]) -> None:
    """Store the topics or groups for which a person can spot sensitive speech (D7)."""
    member = db.get_one(Membership, (project_id, person_id))
    member.topics = [printable(topic) for topic in topics if topic.strip()]


# Sessions and tokens


def new_token(
    db: Session,
    person_id: int,
    kind: TokenKind,
    now: datetime,
    *,
    name: str | None = None,
    days: float | None = None,
) -> tuple[Token, str]:
    """Create a secret of a person. It is valid until it expires (`days` None: never) or is revoked."""
    secret = _secret()
    expires = None if days is None else now + timedelta(days=days)
    token = Token(
        person_id=person_id, kind=kind, name=_short(name), token_hash=hashed(secret), created=now, expires=expires
    )
    db.add(token)
    db.flush()
    if kind == "api":
        audit(db, person_id, "new token", f"token {token.id}", now=now)
    return token, secret


_SHOWN = sa.and_(
    Token.person_id == Person.id,
    Token.token_hash == sa.bindparam("hash"),
    Token.kind == sa.bindparam("kind"),
    sa.or_(Token.expires.is_(None), Token.expires > sa.bindparam("now")),
    Person.deleted.is_(None),
)
_PERSON = sa.select(Person).where(_SHOWN)
_VISITOR = (
    sa.select(
        Person.id, Person.name, Person.admin, Project.id.label("project_id"), Project.name.label("project"),
        Project.title, Project.archived, Membership.role, Membership.phase, Membership.paused,
    )
    .join(Token, _SHOWN)
    .outerjoin(Project, Project.name == sa.bindparam("project"))
    .outerjoin(
        Membership,
        sa.and_(
            Membership.project_id == Project.id, Membership.person_id == Person.id, Membership.left.is_(None)
        ),
    )
)  # fmt: skip


def person_of(db: Session, secret: str, kind: TokenKind, now: datetime) -> Person | None:
    """The person of a session or token, or None if it is not valid."""
    return db.scalar(_PERSON, {"hash": hashed(secret), "kind": kind, "now": now})


def visitor(db: Session, secret: str, kind: TokenKind, project: str, now: datetime) -> Any:
    """The person of a secret in a project: id, name, admin, project_id, project, title, archived, role, phase, paused.

    The project's fields are None if it does not exist, and the last three if the person is not a member. None if the
    secret is not valid.
    """
    shown = {"hash": hashed(secret), "kind": kind, "project": project, "now": now}
    return db.execute(_VISITOR, shown).first()


def new_device(db: Session, person_id: int, now: datetime, *, days: float) -> str:
    """Remember a browser in which the person signed in. Returns its secret. The oldest beyond MOST_DEVICES go."""
    secret = new_token(db, person_id, "device", now, days=days)[1]
    chosen = sa.select(Token.id).where(Token.person_id == person_id, Token.kind == "device").order_by(Token.id.desc())
    db.execute(sa.delete(Token).where(Token.id.in_(list(db.scalars(chosen.offset(MOST_DEVICES))))))
    return secret


def device_of(db: Session, person_id: int, secrets: list[str], now: datetime) -> int | None:
    """The number of the device that one of the secrets names, or None."""
    chosen = sa.select(Token.id).where(
        Token.person_id == person_id,
        Token.kind == "device",
        Token.token_hash.in_([hashed(secret) for secret in secrets]),
        Token.expires > now,
    )
    return db.scalar(chosen.limit(1))


def forget_device(db: Session, device: int) -> None:
    db.execute(sa.delete(Token).where(Token.id == device, Token.kind == "device"))


def tokens(db: Session, person_id: int) -> list[Token]:
    """API tokens of a person."""
    chosen = sa.select(Token).where(Token.person_id == person_id, Token.kind == "api").order_by(Token.id)
    return list(db.scalars(chosen))


def revoke(db: Session, secret: str) -> None:
    """Revoke a session or a token by its secret."""
    db.execute(sa.delete(Token).where(Token.token_hash == hashed(secret)))


def revoke_token(db: Session, person_id: int, token_id: int, now: datetime) -> None:
    gone = db.execute(sa.delete(Token).where(Token.id == token_id, Token.person_id == person_id).returning(Token.id))
    if gone.first() is None:
        raise UserError(f"token {token_id}: not one of your tokens")
    audit(db, person_id, "revoke token", f"token {token_id}", now=now)


def forget_expired(db: Session, now: datetime) -> None:
    """Delete expired sessions and tokens."""
    db.execute(sa.delete(Token).where(Token.expires < now))


# Consent


def consent(db: Session, project_id: int, person_id: int, version: int, now: datetime) -> None:
    """Record that a person agrees to a version of the consent text. UserError if it is not the current one."""
    current = projects.instruction(db, project_id, "consent")
    if current is None or current.version != version:
        raise UserError("the consent text has changed meanwhile. Read it again")
    if db.get(Consent, (project_id, person_id, version)) is None:
        db.add(Consent(project_id=project_id, person_id=person_id, version=version, when=now))


def has_consented(db: Session, project_id: int, person_id: int) -> bool:
    """Whether a person agreed to the current text. True if the project has none."""
    version = projects.version(db, project_id, "consent")
    return version is None or db.get(Consent, (project_id, person_id, version)) is not None


def consents(db: Session, project_id: int, person_id: int) -> list[Consent]:
    chosen = sa.select(Consent).where(Consent.project_id == project_id, Consent.person_id == person_id)
    return list(db.scalars(chosen.order_by(Consent.version)))


# Audit


def audit(
    db: Session,
    who: int | None,
    action: str,
    target: str,
    detail: dict[str, Any] | None = None,
    project_id: int | None = None,
    *,
    now: datetime,
) -> None:
    """Add an entry to the audit log. Never put personal data or secrets in it."""
    db.add(
        Audit(
            when=now,
            person_id=who,
            project_id=project_id,
            action=action,
            target=printable(target),
            detail=detail or {},
        )
    )


def audit_log(
    db: Session, project_id: int | None = None, *, before: int | None = None, limit: int = 100
) -> list[tuple[Audit, str | None]]:
    """Entries with the name of the acting person, the newest first. `before`: an id, for the next page."""
    chosen = sa.select(Audit, Person.name).outerjoin(Person, Person.id == Audit.person_id)
    if project_id is not None:
        chosen = chosen.where(Audit.project_id == project_id)
    if before is not None:
        chosen = chosen.where(Audit.id < before)
    return [(entry, name) for entry, name in db.execute(chosen.order_by(Audit.id.desc()).limit(limit))]


def hashed(secret: str) -> str:
    """The stored form of a secret. It has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _short(text: str | None) -> str | None:
    return " ".join(printable(text, 100).split()) or None if text is not None else None


def _check(value: str, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise UserError(f"{what}: {value!r} is none of {', '.join(known)}")
