"""What the API takes and returns. Records about a labeler's work are in `feedback.work`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from heedful.data.curation import CurationReport
from heedful.feedback import snapshots, work
from heedful.feedback.schema import Phase, Role
from heedful.web.api.base import Body, Out
from heedful.web.sampling.jobs import Job
from heedful.web.security.access import Id

Key = Annotated[str, Field(min_length=8, max_length=100, description="Made by the client, one for each answer.")]
Note = Annotated[str | None, Field(max_length=10_000)]


# Accounts


class Login(Body):
    name: str = Field(max_length=2000)
    password: str = Field(max_length=2000)


class Joining(Body):
    token: str | None = Field(None, max_length=200)
    """Of the invitation. A script sends it as its bearer token instead."""
    name: str | None = Field(None, max_length=100)
    """Of the new account. A signed-in member needs none."""
    password: str | None = Field(None, max_length=200)


class Joined(Out):
    token: str | None
    """Of the new account, for a script. It is shown once."""
    project: str | None
    role: Role
    page: str
    """Where the work begins in a browser."""


class NewPassword(Body):
    token: str = Field(max_length=200)
    """Of the link."""
    password: str = Field(max_length=2000)


class PasswordChange(Body):
    old: str = Field(max_length=2000)
    password: str = Field(max_length=2000)


class Membership(Out):
    project: str
    title: str
    role: Role
    paused: bool


class Me(Out):
    name: str
    admin: bool
    model: str | None
    """The model that labels with this account. null: it is a person's."""
    projects: list[Membership]


class TokenName(Body):
    name: str = Field("token", max_length=100)


class NewToken(Out):
    id: int
    token: str
    """Shown once."""


class MarkdownText(Body):
    text: str = Field(max_length=200_000)


class MarkdownHtml(Out):
    html: str


# Work


class Next(Out):
    """A task, or why there is none, and when there may be one."""

    task: work.Task | None
    why: work.Why | None = None
    retry: datetime | None = None


class Draft(Body):
    draft: Any

    @field_validator("draft")
    @classmethod
    def _text(cls, draft: Any) -> Any:
        """Half a character, which JSON can spell, could not be sent back."""
        try:
            json.dumps(draft, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair") from None
        return draft


class Drafted(Out):
    drafted: datetime
    expires: datetime


class Submission(Body):
    """Answers speak of places: 0 is the answer shown first."""

    answer: dict[str, Any]
    """See the table of answers in docs/api.md. Each kind of task takes a `note`."""
    idempotency_key: Key
    seconds: float | None = Field(None, ge=0, le=86400)
    """Time spent on the task."""


class Skip(Body):
    reason: str = Field(min_length=1, max_length=100)
    note: Note = None
    idempotency_key: Key


class Skipped(Out):
    event: int


class PersonalData(Body):
    marked: bool = True
    note: Note = None


class Undo(Body):
    event: Id | None = None
    """None: the last one."""


class Consent(Body):
    version: Id


class Topics(Body):
    topics: list[Annotated[str, Field(max_length=200)]] = Field(max_length=200)


class Instruction(Out):
    version: int
    text: str
    when: datetime


# Projects


class Project(Out):
    name: str
    title: str
    archived: bool
    settings: dict[str, Any]


class NewProject(Body):
    name: str | None = None
    """In addresses. null: it follows from the title."""
    title: str | None = Field(None, max_length=200)
    settings: dict[str, Any] = {}


class ProjectChange(Body):
    title: str | None = Field(None, min_length=1, max_length=200)
    archived: bool | None = None
    settings: dict[str, Any] | None = None
    """The given settings change, the others stay."""


class InstructionText(Body):
    text: str = Field(min_length=1, max_length=200_000)

    @field_validator("text")
    @classmethod
    def _lines(cls, text: str) -> str:
        text = text.replace("\r\n", "\n").strip()
        if not text:
            raise ValueError("is empty")
        return text + "\n"


class AuditEntry(Out):
    id: int
    when: datetime
    who: str | None
    action: str
    target: str
    detail: dict[str, Any]


# Items


class Why(Body):
    why: str = Field(min_length=1, max_length=200)


class PromptRequests(Body):
    form: Literal["plain", "few_shot", "user_based"] = "plain"
    count: int = Field(ge=1, le=10_000)
    use_case: str | None = Field(None, max_length=200)
    about: str | None = Field(None, max_length=2000)


class ImportPreview(Out):
    problem: str
    """Why the file cannot be imported as it is. Empty if it can."""
    kind: str | None
    """Of the rows. None: it is not known, or a row cannot be read."""
    items: int
    """Rows that an import would add."""
    fields: dict[str, str]
    """The fields of the file, each with an example."""
    map: list[str]
    """What its fields are, as TARGET=FIELD. Empty: heedful knows the shape."""
    guessed: bool
    """The map is a guess from the names of the fields. An import needs it in its address."""
    shapes: dict[str, int] = {}
    unused: dict[str, int] = {}
    """Fields without a meaning, with the number of rows that have them."""
    refused: list[dict[str, Any]] = []
    """The first rows that cannot be read, with the reason."""
    refused_rows: int = 0
    unjudged: dict[str, int] = {}
    """Why rows hold no judgement, with their number. They are left out."""
    left_out: list[str] = []
    """What else an import would leave out of the file, and why."""
    first: list[dict[str, Any]]
    """The first rows as they would be added."""
    curation: CurationReport | None
    """What curation leaves out, or would."""


class Imported(Out):
    items: int
    known: int
    """Rows that the project has already, or that come twice."""
    refs: list[str]
    left_out: list[str]
    """What of the file was left out, and why."""


class Scored(Out):
    items: int


# People


class Person(Out):
    id: int
    name: str
    role: Role
    group: str | None
    phase: Phase
    joined: datetime
    paused: datetime | None
    left: datetime | None
    model: str | None
    """The model that labels with this account. null: it is a person's."""


class NewModel(Body):
    name: str = Field(min_length=1, max_length=80)
    """Of the account. heedful adds the mark `(model)`."""
    model: str = Field(min_length=1, max_length=500)
    """The model that will judge, by its name at its endpoint."""


class ModelAccount(Out):
    id: int
    name: str
    model: str
    token: str
    """For `heedful labeler`. Shown once."""


class ModelAgreement(Out):
    """How often a model prefers the answer that people prefer."""

    name: str
    model: str
    rate: float | None
    """null: people judged none of the same answers."""
    low: float | None
    high: float | None
    cases: int
    items: int
    ties: int
    text: str


class PersonChange(Body):
    role: Role | None = None
    group: str | None = Field(None, max_length=100)
    """An empty text takes the group away."""
    phase: Phase | None = None
    paused: bool | None = None
    why: str | None = Field(None, max_length=1000)
    """Of the pause. The labeler sees it."""
    left: bool | None = None


class Deletion(Body):
    name: str = Field(max_length=100)
    """The name of the account, to confirm: nothing brings the texts back."""


class Deleted(Out):
    snapshots: list[str]
    """Folders of frozen snapshots that still hold the person's work."""


class NewInvitation(Body):
    role: Role = "labeler"
    group: str | None = Field(None, max_length=100)
    phase: Phase | None = None
    notes: list[Annotated[str, Field(max_length=200)]] = Field([], max_length=100)
    """A note for yourself, such as who gets the link. Each note makes one invitation. Without any there is one."""
    hours: float = Field(168, gt=0, le=24 * 90)


class Invitation(Out):
    id: int
    note: str | None
    link: str
    """For a person's browser. It works once."""
    token: str
    """For POST /api/join."""


class Invitations(Out):
    invitations: list[Invitation]
    lines: str
    """A line for each invitation, with its note and its link, to copy at once."""


class Link(Out):
    link: str
    """For a person's browser. It works once, for a day."""


class Screening(Out):
    """The criteria of screening (D7) for one candidate. A lead decides."""

    labeler: str
    criteria: list[dict[str, Any]]
    recommended: bool | None
    text: str


class Unrated(Out):
    """A demonstration of a candidate in screening. Nothing says whose it is."""

    event: int
    prompt: str
    completion: str


class Rating(Body):
    rating: Annotated[int, Field(ge=1, le=7)]


# Snapshots and sampling


class Snapshot(Out):
    id: int
    path: str
    records: str
    rows: int
    sha256: str
    filters: dict[str, Any]
    created: datetime


class NewSnapshot(Body):
    name: str
    filters: snapshots.Filters


class Sampling(Out):
    missing: str | None
    """Why this server cannot run models itself."""
    models: list[str]
    """Finished runs of the project folder that can write."""
    addresses: list[str]
    """Models behind an address that an administrator has sampled from."""
    jobs: list[Job]


class NewSampling(Body):
    models: list[Annotated[str, Field(max_length=500)]] = Field(max_length=9)
    """Runs of the project folder, hub names, or models behind an address (`URL#MODEL`)."""
    k: int = Field(4, ge=1, le=9)
    """Answers of each model. All models together give 2 to 9 to each prompt."""
    count: int = Field(100, ge=1, le=20_000)
    """The newest prompts of the project."""
    seed: int = Field(0, ge=0, lt=2**31)
    max_new_tokens: int = Field(128, ge=1, le=8192)
    temperature: float = Field(1.0, ge=0, le=5)
