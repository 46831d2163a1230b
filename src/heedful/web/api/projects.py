"""The API of projects: settings, instructions, progress, agreement, log."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from heedful.config import UserError
from heedful.feedback import people, projects
from heedful.feedback.schema import InstructionKind, Project
from heedful.web.api import records
from heedful.web.dashboard import FOR_LEADS, agreement_of, log, progress
from heedful.web.new_project import create_project
from heedful.web.pages import fragments
from heedful.web.security.access import AsAdmin, AsLead, AsMember, AsReader, Id, Now, SignedIn, Stored

router = APIRouter(prefix="/api/projects", tags=["lead"])


@router.get("")
def list_projects(person: SignedIn, store: Stored) -> list[records.Project]:
    """Your projects. Administrators get all projects."""
    with store.reading() as db:
        mine = {membership.project_id: membership.role for membership in people.memberships(db, person.id)}
        return [
            _project(project, leads=person.admin or mine.get(project.id) == "lead")
            for project in projects.listing(db)
            if person.admin or project.id in mine
        ]


@router.post("", status_code=201)
def create(person: AsAdmin, store: Stored, now: Now, body: records.NewProject) -> records.Project:
    """Create a project. You become its lead."""
    with store.writing() as db:
        title = (body.title or "").strip()
        if not title and not body.name:
            raise UserError("Give the project a title or a name.")
        name = (body.name or "").strip() or projects.name_of(db, title)
        return _project(create_project(db, name, title, now, by=person.id, settings=body.settings))


@router.get("/{project}")
def project(member: AsMember, store: Stored) -> records.Project:
    """Title and settings. Only leads get the shares of known answers and the cut-offs."""
    with store.reading() as db:
        return _project(db.get_one(Project, member.project_id), leads=member.role == "lead")


@router.patch("/{project}")
def change(member: AsLead, store: Stored, now: Now, body: records.ProjectChange) -> records.Project:
    """Change title or settings, archive a project or reopen it. All of it, or nothing."""
    with store.writing() as db:
        found, by = db.get_one(Project, member.project_id), member.person.id
        done: list[tuple[str, dict[str, Any]]] = []
        if body.settings is not None:
            before = projects.settings(db, found.id).model_dump(mode="json")
            after = projects.change_settings(db, found.id, body.settings).model_dump(mode="json")
            done.append(("settings", {key: value for key, value in after.items() if value != before[key]}))
        title = (body.title or "").strip()
        if title and title != found.title:
            found.title = title
            done.append(("title", {"title": title}))
        if body.archived is not None and body.archived != (found.archived is not None):
            projects.archive(db, found.id, now if body.archived else None)
            people.audit(db, by, "archive" if body.archived else "reopen", found.name, {}, found.id, now=now)
        for action, detail in done:
            if detail:
                people.audit(db, by, action, found.name, detail, found.id, now=now)
        return _project(found)


@router.post("/{project}/rubric-preview", response_class=HTMLResponse)
def preview_rubric(member: AsLead, store: Stored, body: records.ProjectChange) -> HTMLResponse:
    """What labelers would see with these settings, as HTML. Nothing is stored."""
    with store.reading() as db:
        return fragments.rubric_preview(projects.changed(db, member.project_id, body.settings or {})[1])


@router.get("/{project}/progress")
def project_progress(member: AsReader, store: Stored, now: Now) -> dict[str, Any]:
    """Judgements by day and labeler, the queue by kind and purpose, days left."""
    with store.reading() as db:
        found = asdict(progress(db, member.project_id, now))
    return {**found, "daily": {day.isoformat(): count for day, count in found["daily"]}}


@router.get("/{project}/agreement")
def agreement(request: Request, member: AsReader, store: Stored) -> dict[str, Any]:
    """Pairwise rate (D12), Fleiss' kappa, Krippendorff's alpha, with 95 % intervals, alerts and opposed groups."""
    named: dict[str, Any] = _with_names(asdict(agreement_of(request, store, member.project_id)))
    return named


@router.get("/{project}/instructions/{kind}")
def instructions(member: AsReader, store: Stored, kind: InstructionKind) -> list[records.Instruction]:
    """All versions of a text, newest first."""
    with store.reading() as db:
        found = projects.instructions(db, member.project_id, kind)
    return [records.Instruction.model_validate(one) for one in found]


@router.post("/{project}/instructions/{kind}", status_code=201)
def write_instruction(
    member: AsLead, store: Stored, now: Now, kind: InstructionKind, body: records.InstructionText
) -> records.Instruction:
    """Save a new version. An unchanged text makes none."""
    with store.writing() as db:
        before, by = projects.version(db, member.project_id, kind), member.person.id
        new = projects.write_instruction(db, member.project_id, kind, body.text, now, by=by)
        if new.version != before:
            target = f"{kind} {new.version}"
            people.audit(db, by, "instructions", target, project_id=member.project_id, now=now)
        return records.Instruction.model_validate(new)


@router.get("/{project}/audit")
def audit(
    member: AsReader, store: Stored, before: Id | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[records.AuditEntry]:
    """The log, newest first. `before`: the id of an entry, for the next page.

    Only leads get the shares and cut-offs that tell how work is checked.
    """
    with store.reading() as db:
        found = log(db, member.project_id, before=before, limit=limit, leads=member.role == "lead")
    return [records.AuditEntry.model_validate(one) for one in found]


def _project(project: Project, *, leads: bool = True) -> records.Project:
    settings = {name: value for name, value in project.settings.items() if leads or name not in FOR_LEADS}
    archived = project.archived is not None
    return records.Project(name=project.name, title=project.title, archived=archived, settings=settings)


def _with_names(value: Any) -> Any:
    """Intervals as objects and dates as keys, so that JSON says what is what."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, dict):
        return {key.isoformat() if isinstance(key, date) else key: _with_names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_names(inner) for inner in value]
    return value
