"""A labeler's work: the next task, its draft, its submission, and the way back.

    task = next_task(db, project_id, person_id, now)       a Task, or Nothing with its reason
    done = submit(db, task.lease, answer, ...)

A lease gives an item to a labeler for some minutes; after that the item may go to somebody else, and its draft waits in
case it comes back. All of these lock the project, so they see one queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.data.records import Record
from heedful.feedback.schema import EventKind, Kind

Why = Literal["paused", "consent", "archived", "no_role", "screened", "in_other_hands", "empty"]


class Refused(UserError):
    """The store did not take it; `code` for programs: unknown, lost (somebody else has the item now), done, invalid,
    paused, nothing_to_undo.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Task:
    """An item as its labeler sees it. Nothing here tells a gold item from another, or who wrote a completion."""

    lease: str
    kind: Kind
    ref: str
    """The item's name in addresses."""
    payload: Record
    """Its record (`judgements.PAYLOADS`). Pages show `completions`, never the payload's own: those are not shuffled."""
    completions: tuple[str, ...]
    """In the order to be shown; of a choice the two answers; none of demonstrations and prompts."""
    order: tuple[int, ...]
    """Place -> index in the payload."""
    draft: Any
    """What `save_draft` got last; None: nothing yet."""
    expires: datetime
    practice: bool
    """Practice items answer back after submission, and may say so."""
    corrects: int | None
    """The undone event that this will replace; `draft` is then what was submitted."""


@dataclass(frozen=True)
class Nothing:
    """No task, why, and when there may be one (the end of somebody's lease)."""

    why: Why
    retry: datetime | None = None


@dataclass(frozen=True)
class Feedback:
    """What a gold or practice item answers back, in the labeler's places."""

    given: dict[str, Any]
    expected: dict[str, Any]
    explanation: str | None
    share: float | None
    """Of the pairs that the known answer orders, how many she has the same way; None of texts."""


@dataclass(frozen=True)
class Done:
    """An acknowledged submission."""

    event: int
    ref: str
    repeated: bool
    """The store had it already under this idempotency key."""
    feedback: Feedback | None


@dataclass(frozen=True)
class Past:
    """One entry of a labeler's own history."""

    event: int
    kind: Kind
    event_kind: EventKind
    when: datetime
    ref: str
    stands: bool
    """It counts: it was not undone, corrected or redacted."""
    payload: Record | None
    answer: dict[str, Any] | None
    """In places; None where it was redacted."""
    order: tuple[int, ...]
    seconds: float | None


@dataclass(frozen=True)
class OwnProgress:
    """`today` starts at midnight UTC."""

    today: int
    total: int
    seconds_today: float
    by_kind: dict[Kind, int]
    by_day: dict[date, int]


def next_task(
    db: Session,
    project_id: int,
    person_id: int,
    now: datetime,
    *,
    kind: Kind | None = None,
    besides: str | None = None,
) -> Task | Nothing:
    """What she shall do now: her unfinished task, else a new one.

    `kind` limits it to one kind of work. `besides`: the lease she is busy with; the answer is the task after it, so
    that it can be ready. She holds two leases at most for each kind asked for.
    """
    raise NotImplementedError


def task_of(db: Session, person_id: int, lease: str, now: datetime) -> Task:
    """The task of her lease, also an expired one as long as the item is free. Raises Refused."""
    raise NotImplementedError


def save_draft(db: Session, person_id: int, lease: str, draft: Any, now: datetime) -> datetime:
    """Keep a draft (any JSON) and begin the lease anew; returns when it ends. Raises Refused."""
    raise NotImplementedError


def submit(
    db: Session,
    person_id: int,
    lease: str,
    answer: dict[str, Any],
    now: datetime,
    *,
    idempotency_key: str,
    seconds: float | None = None,
) -> Done:
    """Take a judgement in (see `judgements.py`; places, not indices). Raises Refused.

    The same key again changes nothing and answers the same.
    """
    raise NotImplementedError


def skip(
    db: Session,
    person_id: int,
    lease: str,
    reason: str,
    now: datetime,
    *,
    idempotency_key: str,
    note: str | None = None,
) -> int:
    """She will not get the item again, others may; returns the event."""
    raise NotImplementedError


def mark_personal(
    db: Session, person_id: int, lease: str, marked: bool, now: datetime, *, note: str | None = None
) -> None:
    """Report personal data in the item (or take that back): it is held until a lead has looked. The lease goes on."""
    raise NotImplementedError


def undo(db: Session, project_id: int, person_id: int, now: datetime, event_id: int | None = None) -> Task:
    """Take back her last submission or skip (or the given one of hers): a new event that points at it.

    Returns its task, order as before, with what she had answered as its draft; what she submits now points at the old.
    """
    raise NotImplementedError


def history(db: Session, project_id: int, person_id: int, *, before: int | None = None, limit: int = 50) -> list[Past]:
    """Her own judgements and skips, the newest first; `before` an event's id, to turn the page."""
    raise NotImplementedError


def progress(db: Session, project_id: int, person_id: int, now: datetime, *, days: int = 14) -> OwnProgress:
    """Her own standing judgements."""
    raise NotImplementedError
