"""The JSON API, the leads' half: projects, people, items, snapshots, agreement."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from io import BytesIO
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response

from heedful.data.curation import CurationReport
from heedful.feedback import events, items, people, projects, snapshots
from heedful.feedback.schema import FrozenSnapshot, Item, Kind, Project, Purpose
from heedful.web import actions, uploads
from heedful.web.api.lead_records import (
    AuditOut,
    Change,
    EventOut,
    Founding,
    Freezing,
    Gold,
    Imported,
    Invited,
    Inviting,
    ItemChange,
    ItemHistory,
    ItemOut,
    PersonChange,
    PersonOut,
    ProjectOut,
    PromptRequests,
    SnapshotOut,
    Why,
    Writing,
)
from heedful.web.api.work import Instruction
from heedful.web.dashboard import Agreements, progress
from heedful.web.new_project import found
from heedful.web.security.access import AsAdmin, AsLead, AsMember, AsReader, Id, Now, Settings, SignedIn, Stored

router = APIRouter(prefix="/api", tags=["lead"])
Count = Annotated[int, Query(ge=1, le=500)]


async def raw_body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(raw_body)]
ROWS = {"requestBody": {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "required": True}}


def item_out(item: Item) -> ItemOut:
    return ItemOut.model_validate(item, from_attributes=True)


def project_out(project: Project) -> ProjectOut:
    archived = project.archived is not None
    return ProjectOut(name=project.name, title=project.title, archived=archived, settings=project.settings)


@router.get("/projects")
def list_projects(person: SignedIn, store: Stored) -> list[ProjectOut]:
    """Those one is in; an administrator's are all."""
    with store.reading() as db:
        mine = {membership.project_id for membership in people.memberships(db, person.id)}
        return [project_out(project) for project in projects.listing(db) if person.admin or project.id in mine]


@router.post("/projects", status_code=201)
def found_project(person: AsAdmin, store: Stored, now: Now, body: Founding) -> ProjectOut:
    """A new project, led by who founds it."""
    with store.writing() as db:
        return project_out(found(db, body.name, body.title, now, by=person.id, settings=body.settings))


@router.get("/projects/{project}")
def project(member: AsMember, store: Stored) -> ProjectOut:
    """Title and settings."""
    with store.reading() as db:
        return project_out(db.get_one(Project, member.project_id))


@router.patch("/projects/{project}")
def change_project(member: AsLead, store: Stored, now: Now, body: Change) -> ProjectOut:
    """Change title or settings, close a project or open it again."""
    with store.writing() as db:
        if body.settings is not None:
            actions.change_settings(db, member, body.settings, now)
        actions.change_project(db, member, body.title, body.archived, now)
        return project_out(db.get_one(Project, member.project_id))


@router.get("/projects/{project}/progress")
def project_progress(member: AsReader, store: Stored, now: Now) -> dict[str, Any]:
    """Judgements by day and labeler, the queue by kind and purpose, days left."""
    with store.reading() as db:
        found = asdict(progress(db, member.project_id, now))
    return {**found, "daily": {day.isoformat(): count for day, count in found["daily"]}}


@router.get("/projects/{project}/agreement")
def agreement(request: Request, member: AsReader, store: Stored) -> dict[str, Any]:
    """Pairwise rate (D12), Fleiss' kappa, Krippendorff's alpha, with bootstrap intervals; alerts, opposed groups."""
    agreements: Agreements = request.app.state.agreements
    with store.reading() as db:
        result = asdict(agreements.of(db, member.project_id))
    named: dict[str, Any] = _with_names(result)
    return named


@router.post("/projects/{project}/items", openapi_extra=ROWS)
def import_items(
    member: AsLead,
    store: Stored,
    settings: Settings,
    now: Now,
    body: RawBody,
    how: Annotated[actions.Import, Query()],
    file: Annotated[str, Query(max_length=200, description="Its ending tells the format.")] = "rows.jsonl",
    kind: Annotated[str | None, Query(description="Of the rows, where the first does not tell.")] = None,
) -> Imported:
    """Rows as items: the body is a .jsonl, .jsonl.gz or .parquet file of one of the shapes of docs/data-formats.md."""
    upload = uploads.keep(settings.uploads, file, BytesIO(body))
    try:
        kind, rows = uploads.records(upload, settings.text_chars, kind)
        added = actions.add_rows(store, member, kind, rows, how, now)
    finally:
        uploads.drop(upload)
    return Imported(items=added.items, known=added.known, refs=list(added.refs))


@router.post("/projects/{project}/curation-preview", openapi_extra=ROWS)
def preview(
    member: AsLead, settings: Settings, body: RawBody, how: Annotated[actions.Import, Query()], file: str = "rows.jsonl"
) -> CurationReport:
    """What curation would leave out of a file, and why; nothing is stored."""
    upload = uploads.keep(settings.uploads, file, BytesIO(body))
    try:
        return actions.curated(uploads.records(upload, settings.text_chars)[1], how)[1]
    finally:
        uploads.drop(upload)


@router.post("/projects/{project}/prompt-requests")
def ask_for_prompts(member: AsLead, store: Stored, now: Now, body: PromptRequests) -> Imported:
    """Items that each ask a labeler for one prompt (D1)."""
    given = {"use_case": body.use_case, "about": body.about}
    with store.writing() as db:
        added = items.ask_for_prompts(db, member.project_id, body.form, body.count, now, by=member.person.id, **given)
    return Imported(items=added.items, known=added.known, refs=list(added.refs))


@router.post("/projects/{project}/scores", openapi_extra=ROWS)
def import_scores(
    member: AsLead,
    store: Stored,
    settings: Settings,
    body: RawBody,
    name: Annotated[str, Query(max_length=100, description="Of the reward model.")],
) -> dict[str, int]:
    """A file of `heedful score`, for what to label next: how many items it scored."""
    upload = uploads.keep(settings.uploads, "scores.jsonl", BytesIO(body))
    try:
        scored = items.read_scores(upload.path)
        with store.writing() as db:
            return {"items": items.import_scores(db, member.project_id, scored, name)}
    finally:
        uploads.drop(upload)


@router.get("/projects/{project}/items")
def list_items(
    member: AsReader,
    store: Stored,
    kind: Kind | None = None,
    purpose: Purpose | None = None,
    open: bool | None = None,
    held: bool | None = None,
    before: Annotated[str | None, Query(description="An item's ref, to turn the page.")] = None,
    limit: Count = 50,
) -> list[ItemOut]:
    """The newest first."""
    with store.reading() as db:
        last = _item(items.by_ref(db, member.project_id, before)).id if before else None
        listed = items.listing(
            db, member.project_id, kind=kind, purpose=purpose, open=open, held=held, before=last, limit=limit
        )
        return [item_out(item) for item in listed]


@router.get("/projects/{project}/items/{ref}")
def item(member: AsReader, store: Stored, ref: str) -> ItemHistory:
    """An item and all that happened to it."""
    with store.reading() as db:
        return _history(db, _item(items.by_ref(db, member.project_id, ref)))


@router.patch("/projects/{project}/items/{ref}")
def change_item(member: AsLead, store: Stored, now: Now, ref: str, body: ItemChange) -> ItemHistory:
    """Its priority, how many labelers shall judge it, whether it is given out."""
    with store.writing() as db:
        _item(items.by_ref(db, member.project_id, ref))
        if body.priority is not None:
            items.prioritise(db, member.project_id, [ref], body.priority)
        if body.wanted is not None:
            items.want(db, member.project_id, [ref], body.wanted)
        if body.held is not None:
            items.hold(db, member.project_id, ref, body.held or None, now, by=member.person.id)
        db.flush()
        db.expire_all()
        return _history(db, _item(items.by_ref(db, member.project_id, ref)))


@router.post("/projects/{project}/items/{ref}/gold", status_code=201)
def make_gold(member: AsLead, store: Stored, now: Now, ref: str, body: Gold) -> ItemOut:
    """A copy of an item with a known answer, for everybody to judge once."""
    with store.writing() as db:
        _item(items.by_ref(db, member.project_id, ref))
        answer, by = body.answer, member.person.id
        made = items.set_gold(db, member.project_id, ref, body.purpose, answer, body.explanation, now, by=by)
        return item_out(_item(items.by_ref(db, member.project_id, made)))


@router.post("/projects/{project}/items/{ref}/redact", status_code=204)
def redact_item(member: AsLead, store: Stored, now: Now, ref: str, body: Why) -> None:
    """Take an item's texts out for good, with those of all its judgements; events and hashes stay."""
    with store.writing() as db:
        _item(items.by_ref(db, member.project_id, ref))
        items.redact(db, member.project_id, ref, body.why, now, by=member.person.id)


@router.post("/projects/{project}/events/{event}/redact", status_code=204)
def redact_event(member: AsLead, store: Stored, now: Now, event: Id, body: Why) -> None:
    """Take the content of one judgement out for good."""
    with store.writing() as db:
        events.redact(db, member.project_id, event, body.why, now, by=member.person.id)


@router.get("/projects/{project}/people")
def list_people(member: AsReader, store: Stored) -> list[PersonOut]:
    """Members, also those who left."""
    with store.reading() as db:
        return [_person_out(one, person) for one, person in people.members(db, member.project_id)]


@router.patch("/projects/{project}/people/{person_id}")
def change_person(member: AsLead, store: Stored, now: Now, person_id: Id, body: PersonChange) -> PersonOut:
    """Role, group, phase, pause, leave."""
    with store.writing() as db:
        by = member.person.id
        people.change_member(db, member.project_id, person_id, now, by=by, **body.model_dump(exclude_none=True))
        found = {person.id: (one, person) for one, person in people.members(db, member.project_id)}
        return _person_out(*found[person_id])


@router.delete("/projects/{project}/people/{person_id}")
def delete_person(member: AsLead, store: Stored, now: Now, person_id: Id) -> dict[str, list[str]]:
    """Take out all that one person wrote and was, in every project. `snapshots`: frozen files that hold her work."""
    with store.writing() as db:
        return {"snapshots": actions.delete_person(db, member, person_id, now)}


@router.post("/projects/{project}/invitations", status_code=201)
def invite(member: AsLead, store: Stored, settings: Settings, now: Now, body: Inviting) -> Invited:
    """A link that works once."""
    with store.writing() as db:
        given = body.model_dump(exclude={"role"})
        made, token = people.invite(db, member.project_id, body.role, now, by=member.person.id, **given)
        return Invited(id=made.id, link=f"{settings.base_url}/join/{token}", token=token)


@router.delete("/projects/{project}/invitations/{invitation_id}", status_code=204)
def revoke_invitation(member: AsLead, store: Stored, now: Now, invitation_id: Id) -> None:
    with store.writing() as db:
        people.revoke_invitation(db, member.project_id, invitation_id, now, by=member.person.id)


@router.get("/projects/{project}/snapshots")
def list_snapshots(member: AsReader, store: Stored) -> list[SnapshotOut]:
    """The newest first."""
    with store.reading() as db:
        return [_snapshot_out(frozen) for frozen in snapshots.listing(db, member.project_id)]


@router.post("/projects/{project}/snapshots", status_code=201)
def freeze(member: AsLead, store: Stored, settings: Settings, now: Now, body: Freezing) -> SnapshotOut:
    """Standing judgements, frozen and hashed, in the project folder's `snapshots/`."""
    return _snapshot_out(actions.freeze(store, member, settings, body.name, body.filters, now))


@router.get("/projects/{project}/snapshots/{snapshot_id}/{file}")
def snapshot_file(
    member: AsReader, store: Stored, snapshot_id: Id, file: Literal["records.jsonl", "manifest.json"]
) -> Response:
    """Its rows, or its manifest."""
    with store.reading() as db:
        frozen = actions.snapshot(db, member, snapshot_id)
    return FileResponse(actions.snapshot_file(frozen, file), filename=file, media_type="application/octet-stream")


@router.get("/projects/{project}/instructions/{kind}")
def instructions(member: AsReader, store: Stored, kind: Literal["guide", "consent"]) -> list[Instruction]:
    """All versions, the newest first."""
    with store.reading() as db:
        found = projects.instructions(db, member.project_id, kind)
    return [Instruction.model_validate(one, from_attributes=True) for one in found]


@router.post("/projects/{project}/instructions/{kind}", status_code=201)
def write_instruction(
    member: AsLead, store: Stored, now: Now, kind: Literal["guide", "consent"], body: Writing
) -> Instruction:
    """A new version; an unchanged text makes none."""
    with store.writing() as db:
        new = projects.write_instruction(db, member.project_id, kind, body.text, now, by=member.person.id)
        return Instruction.model_validate(new, from_attributes=True)


@router.get("/projects/{project}/audit")
def audit(member: AsReader, store: Stored, before: Id | None = None, limit: Count = 100) -> list[AuditOut]:
    """What was done here, the newest first; `before`: an entry's id, to turn the page."""
    with store.reading() as db:
        found = people.audit_log(db, member.project_id, before=before, limit=limit)
    return [
        AuditOut(id=one.id, when=one.when, who=who, action=one.action, target=one.target, detail=one.detail)
        for one, who in found
    ]


def _item(found: Item | None) -> Item:
    if found is None:
        raise HTTPException(404)
    return found


def _history(db: Any, item: Item) -> ItemHistory:
    told = [
        EventOut(
            event=one.event.id,
            labeler=one.labeler,
            group=one.group,
            stands=one.stands,
            **{name: getattr(one.event, name) for name in EventOut.model_fields if hasattr(one.event, name)},
        )
        for one in events.of_item(db, item.id)
    ]
    return ItemHistory(item=item_out(item), gold=item.gold, scores=item.scores, events=told)


def _person_out(membership: Any, person: Any) -> PersonOut:
    of_member = {name: getattr(membership, name) for name in PersonOut.model_fields if name not in ("id", "name")}
    return PersonOut(id=person.id, name=person.name, **of_member)


def _snapshot_out(frozen: FrozenSnapshot) -> SnapshotOut:
    return SnapshotOut.model_validate(frozen, from_attributes=True)


def _with_names(value: Any) -> Any:
    """Intervals as objects, dates as keys, so that JSON says what is what."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, dict):
        return {key.isoformat() if isinstance(key, date) else key: _with_names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_names(inner) for inner in value]
    return value
