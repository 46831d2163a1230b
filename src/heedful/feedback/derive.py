"""What follows from the events: the caches, counted anew, and numbers for leads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy.orm import Session

from heedful.feedback.schema import Kind, Purpose


@dataclass(frozen=True)
class Day:
    """Standing judgements of one person on one day."""

    person_id: int
    labeler: str
    day: date
    kind: Kind
    purpose: Purpose
    judgements: int
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """Work left, and how long it takes at the speed of the last days; `days_left` None without any speed."""

    left: int
    per_day: float
    days_left: float | None


def rebuild(db: Session, project_id: int) -> None:
    """Compute every cache of a project from its events again (leases stay)."""
    raise NotImplementedError


def days(db: Session, project_id: int, since: date | None = None) -> list[Day]:
    """Work by person, day, kind and purpose."""
    raise NotImplementedError


def forecast(db: Session, project_id: int, now: datetime, *, over: int = 7) -> dict[Kind, Forecast]:
    """By kind, of training and evaluation items, from the last `over` days."""
    raise NotImplementedError
