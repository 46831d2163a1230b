"""The tables. Events are only ever added. What else changes is accounts, settings, leases, and caches of events.

`Item.taken`, `had_by`, `open`, `flags`, `disagreement`, `Assignment.state` and `event_id` (leases aside), and `Tally`
follow from the events: `derive.rebuild` computes them again.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Boolean, Date, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from heedful.feedback.columns import IdColumn, JsonColumn, Time

Role = Literal["lead", "labeler", "held_out", "reader"]
Phase = Literal["screening", "practice", "work"]
LabelingKind = Literal["demonstration", "ranking", "choice", "prompt"]
Kind = Literal["demonstration", "ranking", "choice", "prompt", "thumb", "edit", "pick"]
Purpose = Literal["train", "evaluate", "gold", "attention", "screening", "practice", "use"]
InstructionKind = Literal["guide", "consent"]
EventKind = Literal["judgement", "skip", "undo", "personal", "sent_back"]
State = Literal["leased", "done", "skipped"]
"""What became of an item with a labeler.

leased: the labeler has it until `expires`. After that others may have it, and a draft waits for the labeler.
done: the labeler's judgement stands.
skipped: the labeler left it to others, and does not get it again.
"""

ROLES: tuple[Role, ...] = ("lead", "labeler", "held_out", "reader")
"""From the highest to the lowest: an invitation never lowers a member's role."""
PHASES: tuple[Phase, ...] = ("screening", "practice", "work")
KINDS: tuple[LabelingKind, ...] = ("demonstration", "ranking", "choice", "prompt")
"""What labelers are asked for."""
REACTIONS: tuple[Kind, ...] = ("thumb", "edit", "pick")
"""What users of a served model say about its answers. Their items have the purpose `use` and are in no queue."""
PURPOSES: tuple[Purpose, ...] = ("train", "evaluate", "gold", "attention", "screening", "practice")
WORK: tuple[Purpose, ...] = ("train", "evaluate")
"""Purposes of the work itself. Agreement is measured on these alone: items that everybody gets would dominate it."""
SHARED: tuple[Purpose, ...] = ("gold", "attention", "screening", "practice")
"""Purposes of items with a known answer. Every labeler gets them once, so they have no `wanted` number."""


def may_have(role: Role, purpose: Purpose) -> bool:
    """Held-out labelers measure what training made, so they never see a training item."""
    return role != "reader" and not (role == "held_out" and purpose == "train")


class Base(DeclarativeBase):
    """All tables."""


class Numbered(Base):
    """A table whose rows have numbers. The database assigns them."""

    __abstract__ = True
    id: Mapped[int] = mapped_column(IdColumn, primary_key=True)


class Person(Numbered):
    """An account. The row of a deleted person stays, without name and password."""

    __tablename__ = "person"
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str | None] = mapped_column(Text)
    admin: Mapped[bool] = mapped_column(Boolean, default=False)  # may create projects
    created: Mapped[datetime] = mapped_column(Time)
    deleted: Mapped[datetime | None] = mapped_column(Time)
    model: Mapped[str | None] = mapped_column(String(500))  # the model that labels with it. None: a person does


class Project(Numbered):
    """A project. `settings` is a `projects.ProjectSettings`, and `head` the hash of the newest event."""

    __tablename__ = "project"
    name: Mapped[str] = mapped_column(String(60), unique=True)  # in addresses
    title: Mapped[str] = mapped_column(String(200))
    settings: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    created: Mapped[datetime] = mapped_column(Time)
    archived: Mapped[datetime | None] = mapped_column(Time)
    head: Mapped[str] = mapped_column(String(64), default="")


class Membership(Base):
    """A person in a project."""

    __tablename__ = "membership"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True, index=True)
    role: Mapped[Role] = mapped_column(String(20))
    group: Mapped[str | None] = mapped_column("group_name", String(100))
    phase: Mapped[Phase] = mapped_column(String(20), default="work")
    topics: Mapped[list[str] | None] = mapped_column(JsonColumn)  # stated in screening (D7, criterion 4)
    served: Mapped[int] = mapped_column(Integer, default=0)  # tasks given so far, which seed the next draw
    joined: Mapped[datetime] = mapped_column(Time)
    paused: Mapped[datetime | None] = mapped_column(Time)
    paused_why: Mapped[str | None] = mapped_column(Text)
    left: Mapped[datetime | None] = mapped_column(Time)


class Consent(Base):
    """A person agreed to a version of the consent text."""

    __tablename__ = "consent"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    when: Mapped[datetime] = mapped_column("at", Time)


class Invitation(Numbered):
    """A single-use link, stored as the hash of its token."""

    __tablename__ = "invitation"
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"), index=True)  # None: for an admin account
    role: Mapped[Role] = mapped_column(String(20))
    group: Mapped[str | None] = mapped_column("group_name", String(100))
    phase: Mapped[Phase | None] = mapped_column(String(20))  # None: the project's first phase
    note: Mapped[str | None] = mapped_column(String(200))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(Time)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    expires: Mapped[datetime] = mapped_column(Time)
    used: Mapped[datetime | None] = mapped_column(Time)
    used_by: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    revoked: Mapped[datetime | None] = mapped_column(Time)


TokenKind = Literal["session", "api", "password", "device"]


class Token(Numbered):
    """A secret of a person, stored as its hash.

    It is a session, a named API token, a link to set a new password, or a browser in which the person signed in before.
    """

    __tablename__ = "token"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    kind: Mapped[TokenKind] = mapped_column(String(10))
    name: Mapped[str | None] = mapped_column(String(100))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(Time)
    expires: Mapped[datetime | None] = mapped_column(Time)


class ApiKey(Numbered):
    """A key with which a program of a person asks the models of a server. A deleted one stays, because rows name it.

    Without `secret_hash` it stands for what the person asks on the pages of the server. `consent`: the version of the
    text that the person agreed to, None: nothing may be kept.
    """

    __tablename__ = "api_key"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    secret_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(Time)
    suspended: Mapped[datetime | None] = mapped_column(Time)
    suspended_why: Mapped[str | None] = mapped_column(String(200))
    deleted: Mapped[datetime | None] = mapped_column(Time)
    consent: Mapped[str | None] = mapped_column(String(100))
    consented: Mapped[datetime | None] = mapped_column(Time)
    requests_a_minute: Mapped[int | None] = mapped_column(Integer)  # None: the server's limit
    tokens_a_day: Mapped[int | None] = mapped_column(IdColumn)  # None: the server's quota


class ApiUse(Base):
    """What was asked with a key on a day (UTC)."""

    __tablename__ = "api_use"
    key_id: Mapped[int] = mapped_column(ForeignKey("api_key.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    requests: Mapped[int] = mapped_column(Integer)
    tokens: Mapped[int] = mapped_column(IdColumn)


class Audit(Numbered):
    """An entry of the audit log: who did what to accounts, settings or data."""

    __tablename__ = "audit"
    when: Mapped[datetime] = mapped_column("at", Time)
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"), index=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"), index=True)
    action: Mapped[str] = mapped_column(String(60))
    target: Mapped[str] = mapped_column(String(200))
    detail: Mapped[dict[str, Any]] = mapped_column(JsonColumn)


class Instruction(Numbered):
    """A version of a project's guide or consent text. Rows are only added."""

    __tablename__ = "instruction"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[Literal["guide", "consent"]] = mapped_column(String(10))
    version: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(JsonColumn)
    when: Mapped[datetime] = mapped_column("at", Time)
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    __table_args__ = (UniqueConstraint("project_id", "kind", "version"),)


class Item(Numbered):
    """An item of work. `payload` is a record. Only redaction ever changes it.

    `wanted` labelers judge it (None: everybody once, see SHARED), and `taken` have. `had_by` names those and the ones
    who skipped it ("|3|17|"): nobody gets an item twice. `open`: it wants judgements. Leases count in none of these.
    """

    __tablename__ = "item"
    ref: Mapped[str] = mapped_column(String(24), unique=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[Kind] = mapped_column(String(20))
    purpose: Mapped[Purpose] = mapped_column(String(20))
    source: Mapped[str | None] = mapped_column(String(200))
    payload: Mapped[dict[str, Any]] = mapped_column(JsonColumn, deferred=True)
    payload_sha256: Mapped[str] = mapped_column(String(64))
    prompt_sha256: Mapped[str] = mapped_column(String(64))
    texts_sha256: Mapped[str] = mapped_column(String(64))  # of prompt and completions alone
    # a judgement, in the indices of the payload
    gold: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn, deferred=True)
    explanation: Mapped[str | None] = mapped_column(JsonColumn, deferred=True)
    scores: Mapped[dict[str, list[float]] | None] = mapped_column(JsonColumn, deferred=True)  # reward model -> K scores
    created: Mapped[datetime] = mapped_column(Time)
    priority: Mapped[int] = mapped_column(Integer, default=0)  # the highest first
    draw: Mapped[float] = mapped_column(Float)  # uniform in [0, 1): the random order
    double_draw: Mapped[float] = mapped_column(Float)  # uniform in [0, 1): doubled if below the share
    rank: Mapped[float] = mapped_column(Float)  # order within a priority (`informative.rank`): the lowest first
    wanted: Mapped[int | None] = mapped_column(Integer)
    taken: Mapped[int] = mapped_column(Integer, default=0)
    had_by: Mapped[str] = mapped_column(Text, default="")
    open: Mapped[bool] = mapped_column(Boolean, default=True)
    held: Mapped[str | None] = mapped_column(String(200))  # why the item is on hold: personal data, withdrawn
    redacted: Mapped[datetime | None] = mapped_column(Time)
    use_case: Mapped[str | None] = mapped_column(String(200))
    flags: Mapped[str] = mapped_column(Text, server_default="")  # that judgements set, "|hallucination|violent|"
    disagreement: Mapped[float | None] = mapped_column(Float)  # `differing.disagreement`. None below two judgements
    searched: Mapped[str] = mapped_column(Text, server_default="", deferred=True)  # of the prompt (`search.searched`)


Index(
    "ix_item_queue",
    Item.project_id, Item.purpose, Item.kind, Item.priority.desc(), Item.had_by, Item.rank, Item.id,
    sqlite_where=Item.open == true(), postgresql_where=Item.open == true(),
)  # fmt: skip
Index("ix_item_list", Item.project_id, Item.purpose, Item.kind, Item.open, Item.id)
Index("ix_item_source", Item.project_id, Item.source)
Index("ix_item_use_case", Item.project_id, Item.use_case)
Index("ix_item_texts", Item.project_id, Item.texts_sha256)
Index("ix_item_prompt", Item.project_id, Item.prompt_sha256)
Index(
    "ix_item_held",
    Item.project_id,
    Item.id,
    sqlite_where=Item.held.is_not(None),
    postgresql_where=Item.held.is_not(None),
)


class Assignment(Numbered):
    """An item and a labeler who got it, once for each pair: first a lease, later what came of it (`State`).

    `order[place]` is the index of the completion shown at that place. `event_id` is the judgement or skip that counts.
    """

    __tablename__ = "assignment"
    token: Mapped[str] = mapped_column(String(40), unique=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    kind: Mapped[Kind] = mapped_column(String(20))
    order: Mapped[list[int]] = mapped_column("shown_order", JsonColumn)
    instructions: Mapped[int | None] = mapped_column(Integer)  # version of the guide when the labeler got the task
    state: Mapped[State] = mapped_column(String(10))
    created: Mapped[datetime] = mapped_column(Time)
    expires: Mapped[datetime] = mapped_column(Time)
    draft: Mapped[Any] = mapped_column(JsonColumn, deferred=True, nullable=True)
    drafted: Mapped[datetime | None] = mapped_column(Time)
    event_id: Mapped[int | None] = mapped_column(ForeignKey("event.id"))
    corrects: Mapped[int | None] = mapped_column(ForeignKey("event.id"))  # the undone judgement to replace
    aside: Mapped[bool] = mapped_column(Boolean, server_default=false())  # a model's: counts in no cache
    __table_args__ = (
        UniqueConstraint("item_id", "person_id"),
        Index("ix_assignment_person", "project_id", "person_id", "state", "expires"),
        Index("ix_assignment_event", "event_id"),
    )


Index(
    "ix_assignment_leased", Assignment.project_id, Assignment.expires,
    sqlite_where=Assignment.state == "leased", postgresql_where=Assignment.state == "leased",
)  # fmt: skip


class Event(Numbered):
    """An action of a labeler, in the project's hash chain (`events.py`). Never edited.

    Only redaction removes `content` and `salt`. The hashes stay and still fit.
    """

    __tablename__ = "event"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[EventKind] = mapped_column(String(10))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    refers_to: Mapped[int | None] = mapped_column(ForeignKey("event.id"))  # the event that is undone or corrected
    when: Mapped[datetime] = mapped_column("at", Time)
    seconds: Mapped[float | None] = mapped_column(Float)
    instructions: Mapped[int | None] = mapped_column(Integer)  # version of the guide
    order: Mapped[list[int] | None] = mapped_column("shown_order", JsonColumn)
    payload_sha256: Mapped[str] = mapped_column(String(64))  # of what was shown
    content: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    salt: Mapped[str | None] = mapped_column(String(32))
    content_sha256: Mapped[str] = mapped_column(String(64))
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    idempotency_key: Mapped[str] = mapped_column(String(100))
    redacted: Mapped[datetime | None] = mapped_column(Time)
    __table_args__ = (
        UniqueConstraint("person_id", "idempotency_key"),
        Index("ix_event_project", "project_id", "id"),
        Index("ix_event_person", "project_id", "person_id", "id"),
        Index("ix_event_item", "item_id", "id"),
    )


class DemonstrationRating(Base):
    """A lead's rating (1-7) of a candidate's demonstration, given without knowing its author (D7, criterion 3)."""

    __tablename__ = "demonstration_rating"
    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    rating: Mapped[int] = mapped_column(Integer)
    when: Mapped[datetime] = mapped_column("at", Time)


class Tally(Base):
    """Judgements of a person on a day (UTC) that count, and the time spent. Whole numbers add up exactly."""

    __tablename__ = "tally"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    kind: Mapped[Kind] = mapped_column(String(20), primary_key=True)
    purpose: Mapped[Purpose] = mapped_column(String(20), primary_key=True)
    judgements: Mapped[int] = mapped_column(Integer)
    milliseconds: Mapped[int] = mapped_column(IdColumn)


class FrozenSnapshot(Numbered):
    """A snapshot written from this database. Runs record `sha256`, the hash of its rows."""

    __tablename__ = "snapshot"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    path: Mapped[str] = mapped_column(Text)
    records: Mapped[str] = mapped_column(String(20))
    rows: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    filters: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    created: Mapped[datetime] = mapped_column(Time)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("person.id"))


class SnapshotEvent(Base):
    """An event whose judgement is in a snapshot."""

    __tablename__ = "snapshot_event"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"), primary_key=True, index=True)
