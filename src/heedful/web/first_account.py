"""The link with which the first person of a database makes their account."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from heedful.feedback import people


def first_account(db: Session, address: str, now: datetime) -> list[str]:
    """A line with the link for an admin account if there is none yet."""
    if people.has_admin(db):
        return []
    _, token = people.invite(db, None, "lead", now, by=None, hours=24)
    return [f"Create your admin account (this link works once): {address}/join/{token}"]
