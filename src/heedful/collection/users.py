"""Users of served models: an account ("ada"), or a user whom a program with its key names ("ada/customer-7")."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import people
from heedful.feedback.collected import ServedUser
from heedful.feedback.columns import printable
from heedful.feedback.schema import ApiKey, Person

LONGEST = 200  # characters of the name that a program gives to its user


def find(db: Session, user: str) -> list[ServedUser]:
    """The users whom a name means: one user, or all users of an account. UserError if nobody has this name."""
    person, name = _parts(db, user)
    chosen = sa.select(ServedUser).where(ServedUser.person_id == person.id)
    return list(db.scalars(chosen.where(ServedUser.name == name) if name else chosen))


def enter(db: Session, user: str, now: datetime, key_id: int | None = None) -> ServedUser:
    """The user of a name, entered if new. UserError if there is no such account.

    A key tells the account for sure: the name that a program gives to its user may be anything.
    """
    key = db.get(ApiKey, key_id) if key_id is not None else None
    person, name = _parts(db, user) if key is None else (db.get_one(Person, key.person_id), "")
    if key is not None and user != person.name:
        name = printable(user.removeprefix(f"{person.name}/"), LONGEST)
    found = db.scalar(sa.select(ServedUser).where(ServedUser.person_id == person.id, ServedUser.name == name))
    if found is None:
        found = ServedUser(person_id=person.id, name=name, since=now)
        db.add(found)
        db.flush()
    return found


def name_of(db: Session, user_id: int) -> str:
    """The name of a user, as `enter` takes it."""
    found = db.get_one(ServedUser, user_id)
    person = db.get_one(Person, found.person_id)
    return f"{person.name}/{found.name}" if found.name else person.name


def is_account(db: Session, user: str) -> bool:
    """Whether a name is that of an account, with all its users. UserError if nobody has this name."""
    return not _parts(db, user)[1]


def account(db: Session, user: str) -> Person:
    """The account of a user. UserError if there is none."""
    return _parts(db, user)[0]


def _parts(db: Session, user: str) -> tuple[Person, str]:
    """Account and the name that a program gave. An account whose name holds a slash is found, too."""
    person = people.person_named(db, user)
    if person is not None:
        return person, ""
    places = [place for place, sign in enumerate(user) if sign == "/"]
    for place in reversed(places):
        person = people.person_named(db, user[:place])
        if person is not None:
            return person, printable(user[place + 1 :], LONGEST)
    raise UserError(f"{user}: no account has this name. Check the name of the user")
