"""What `work` hands out: tasks, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from heedful.config import UserError
from heedful.data.records import Record
from heedful.feedback.schema import EventKind, Kind

Why = Literal["paused", "consent", "archived", "no_role", "screened", "in_other_hands", "empty"]


class Refused(UserError):
    """The store did not take it; `code` for programs: unknown, lost (somebody else has the item now), done, invalid,
    nothing_to_undo; and, as in `Why`, paused, archived, no_role.
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
    drafted: datetime | None
    """When that was."""
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
    """What a gold, attention or practice item answers back, in the labeler's places."""

    given: dict[str, Any]
    expected: dict[str, Any]
    explanation: str | None
    share: float | None
    """Of the pairs that the known answer orders, how many she has the same way; None of texts."""
    attention: bool = False
    """The item only asked whether somebody is reading; it answers where nobody was."""


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
