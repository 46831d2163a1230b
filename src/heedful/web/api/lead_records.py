"""What the leads' half of the JSON API takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from heedful.feedback import snapshots
from heedful.feedback.schema import Kind, Phase, Purpose, Role
from heedful.web.api.work import Body


class ProjectOut(BaseModel):
    name: str
    title: str
    archived: bool
    settings: dict[str, Any]


class Founding(Body):
    name: str
    title: str | None = Field(None, max_length=200)
    settings: dict[str, Any] = {}


class Change(Body):
    title: str | None = Field(None, min_length=1, max_length=200)
    archived: bool | None = None
    settings: dict[str, Any] | None = Field(None, description="What is given changes, the rest stays.")


class Writing(Body):
    text: str = Field(min_length=1, max_length=200_000)


class Imported(BaseModel):
    items: int
    known: int = Field(description="Rows that the project holds already.")
    refs: list[str]


class ItemOut(BaseModel):
    ref: str
    kind: Kind
    purpose: Purpose
    source: str | None
    priority: int
    wanted: int | None
    taken: int
    open: bool
    held: str | None
    created: datetime
    payload: dict[str, Any]


class EventOut(BaseModel):
    event: int
    kind: str
    labeler: str
    group: str | None
    when: datetime
    seconds: float | None
    instructions: int | None
    order: list[int] | None
    refers_to: int | None
    stands: bool
    content: dict[str, Any] | None = Field(description="In the item's indices; None where it was redacted.")
    hash: str


class ItemHistory(BaseModel):
    item: ItemOut
    gold: dict[str, Any] | None
    scores: dict[str, list[float]] | None
    events: list[EventOut]


class ItemChange(Body):
    priority: int | None = Field(None, ge=-1000, le=1000)
    wanted: int | None = Field(None, ge=1, le=100)
    held: str | None = Field(None, max_length=200, description="Why it is not given out; empty: give it out again.")


class Gold(Body):
    purpose: Purpose = "gold"
    answer: dict[str, Any] = Field(description="A judgement in the item's indices.")
    explanation: str | None = Field(None, max_length=20_000)


class Why(Body):
    why: str = Field(min_length=1, max_length=200)


class PersonOut(BaseModel):
    id: int
    name: str
    role: Role
    group: str | None
    phase: Phase
    joined: datetime
    paused: datetime | None
    left: datetime | None


class PersonChange(Body):
    role: Role | None = None
    group: str | None = Field(None, max_length=100)
    phase: Phase | None = None
    paused: bool | None = None
    why: str | None = Field(None, max_length=1000)
    left: bool | None = None


class Inviting(Body):
    role: Role = "labeler"
    group: str | None = Field(None, max_length=100)
    phase: Phase | None = None
    note: str | None = Field(None, max_length=200)
    hours: float = Field(168, gt=0, le=24 * 90)


class Invited(BaseModel):
    id: int
    link: str = Field(description="For a person's browser; works once.")
    token: str = Field(description="For POST /api/join.")


class SnapshotOut(BaseModel):
    id: int
    path: str
    records: str
    rows: int
    sha256: str
    filters: dict[str, Any]
    created: datetime


class Freezing(Body):
    name: str
    filters: snapshots.Filters


class AuditOut(BaseModel):
    id: int
    when: datetime
    who: str | None
    action: str
    target: str
    detail: dict[str, Any]


class PromptRequests(Body):
    form: Literal["plain", "few_shot", "user_based"] = "plain"
    count: int = Field(ge=1, le=10_000)
    use_case: str | None = Field(None, max_length=200)
    about: str | None = Field(None, max_length=2000)
