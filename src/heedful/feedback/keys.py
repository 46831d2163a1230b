"""Keys with which programs ask the models of a server: made, suspended, deleted, and what was used with each.

A secret is shown once, when its key is made, and stored as a hash. What a person asks on the pages of the server counts
under a key without a secret (`of_pages`), so that limits and consent work in one way.
"""

from __future__ import annotations

import secrets
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback.columns import printable
from heedful.feedback.people import audit, hashed
from heedful.feedback.schema import ApiKey, ApiUse, Person

PREFIX = "heedful-"
PAGES = "this server's pages"
MOST = 50  # keys of one person


def new(db: Session, person_id: int, name: str, now: datetime, *, consent: str | None = None) -> tuple[ApiKey, str]:
    """Make a key and its secret. `consent`: the version of the text that the person agrees to."""
    name = " ".join(printable(name, 100).split())
    if not name:
        raise UserError("name: give the key a name")
    if len(of_person(db, person_id)) >= MOST:
        raise UserError(f"you have {MOST} keys, which is the most. Delete one that you do not need")
    secret = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(person_id=person_id, name=name, secret_hash=hashed(secret), created=now)
    agree(key, consent, now)
    db.add(key)
    db.flush()
    audit(db, person_id, "new key", f"key {key.id}", {"consent": consent}, now=now)
    return key, secret


def of_secret(db: Session, secret: str) -> tuple[ApiKey, Person] | None:
    """The key with a secret and its person, also if it is suspended. None if there is none, or no longer."""
    found = db.execute(
        sa.select(ApiKey, Person)
        .join(Person, Person.id == ApiKey.person_id)
        .where(ApiKey.secret_hash == hashed(secret), ApiKey.deleted.is_(None), Person.deleted.is_(None))
    ).first()
    return (found[0], found[1]) if found is not None else None


def find_of_pages(db: Session, person_id: int) -> ApiKey | None:
    """The key under which the pages of the server count, or None if the person has not asked anything there."""
    chosen = sa.select(ApiKey).where(ApiKey.person_id == person_id, ApiKey.secret_hash.is_(None))
    return db.scalar(chosen.order_by(ApiKey.id).limit(1))


def of_pages(db: Session, person_id: int, now: datetime) -> ApiKey:
    """The key under which the pages of the server count for a person. It is made when it is needed."""
    key = find_of_pages(db, person_id)
    if key is None:
        key = ApiKey(person_id=person_id, name=PAGES, created=now)
        db.add(key)
        db.flush()
    return key


def of_person(db: Session, person_id: int) -> list[ApiKey]:
    """The keys of a person that have a secret, without the deleted ones."""
    chosen = sa.select(ApiKey).where(
        ApiKey.person_id == person_id, ApiKey.deleted.is_(None), ApiKey.secret_hash.is_not(None)
    )
    return list(db.scalars(chosen.order_by(ApiKey.id)))


def everybodys(db: Session) -> list[tuple[ApiKey, Person]]:
    """All keys with their people, for administrators, without the deleted ones."""
    chosen = (
        sa.select(ApiKey, Person)
        .join(Person, Person.id == ApiKey.person_id)
        .where(ApiKey.deleted.is_(None), Person.deleted.is_(None))
        .order_by(Person.name, ApiKey.id)
    )
    return [(key, person) for key, person in db.execute(chosen)]


def agree(key: ApiKey, consent: str | None, now: datetime) -> None:
    """Note that what is asked with a key may be kept under a version of the text, or (None) may not."""
    key.consent, key.consented = (consent, now) if consent else (None, None)


def delete(db: Session, key: ApiKey, now: datetime, *, by: int) -> None:
    """End a key for ever."""
    key.deleted = now
    audit(db, by, "delete key", f"key {key.id}", now=now)


def suspend(db: Session, key: ApiKey, now: datetime, *, by: int, why: str | None) -> None:
    key.suspended, key.suspended_why = now, printable(why) if why else None
    audit(db, by, "suspend key", f"key {key.id}", now=now)


def resume(db: Session, key: ApiKey, now: datetime, *, by: int) -> None:
    key.suspended = key.suspended_why = None
    audit(db, by, "resume key", f"key {key.id}", now=now)


def used(db: Session, key_id: int, day: date) -> tuple[int, int]:
    """(requests, tokens) of a key on a day."""
    row = db.get(ApiUse, (key_id, day))
    return (row.requests, row.tokens) if row is not None else (0, 0)


def add_use(db: Session, key_id: int, day: date, requests: int, tokens: int) -> None:
    """Add to what was used. Only the one server of a database writes it."""
    row = db.get(ApiUse, (key_id, day), with_for_update=True)
    if row is None:
        db.add(ApiUse(key_id=key_id, day=day, requests=requests, tokens=tokens))
    else:
        row.requests, row.tokens = row.requests + requests, row.tokens + tokens
