"""What a lead does beyond one call of `feedback`: imports, snapshots, deletions; for pages and API alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from pydantic import Field
from sqlalchemy.orm import Session

from heedful.config import Config, UserError
from heedful.data import formats
from heedful.data.curation import CurationConfig, CurationReport
from heedful.data.records import Completions, Prompt, as_text
from heedful.feedback import events, items, people, projects, snapshots
from heedful.feedback.schema import FrozenSnapshot, Kind, Person, Project, Purpose
from heedful.feedback.store import Store
from heedful.web.sampling import Job, Sampler
from heedful.web.security.access import Member
from heedful.web.settings import WebSettings

KIND_OF_FILE: dict[str, Kind] = {
    "prompts": "demonstration",
    "demonstrations": "demonstration",
    "completions": "ranking",
    "comparisons": "ranking",
    "choices": "choice",
    "versus": "choice",
}
MOST_SAMPLED = 20_000  # prompts of one job
EVERY_SPLIT = ["train", "valid", "test"]
SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


class Import(Config):
    """How a file becomes items."""

    purpose: Purpose = "train"
    source: str | None = Field(None, max_length=200)
    priority: int = Field(0, ge=-1000, le=1000)
    wanted: int | None = Field(None, ge=1, le=100)
    curate: bool = False
    """First leave out repeats, prompts beyond a user's share, and personal data (D2)."""
    prefix_length: int = Field(100, ge=1)
    prompts_per_user: int = Field(200, ge=1)
    seed: int = 0


def curated(rows: Sequence[Prompt], how: Import) -> tuple[list[Prompt], CurationReport]:
    """People read every split, so that personal data goes from all of them."""
    config = CurationConfig(
        prefix_length=how.prefix_length,
        prompts_per_user=how.prompts_per_user,
        personal_data_splits=EVERY_SPLIT,
        seed=how.seed,
    )
    return items.preview(rows, config)


def add_rows(
    store: Store, member: Member, kind: str, rows: Sequence[Prompt], how: Import, now: datetime
) -> items.Added:
    """Items of the rows of a file of this kind (a key of KIND_OF_FILE)."""
    chosen = curated(rows, how)[0] if how.curate else list(rows)  # takes seconds: nobody else waits for it
    if not chosen:
        raise UserError("curation leaves nothing of this file; look at its preview")
    with store.writing() as db:
        return items.add(
            db,
            member.project_id,
            KIND_OF_FILE[kind],
            chosen,
            now,
            by=member.person.id,
            purpose=how.purpose,
            source=how.source or None,
            priority=how.priority,
            wanted=how.wanted,
        )


def freeze(
    store: Store, member: Member, settings: WebSettings, name: str, filters: snapshots.Filters, now: datetime
) -> FrozenSnapshot:
    """A snapshot in the project folder's `snapshots/`."""
    if not SNAPSHOT_NAME.fullmatch(name):
        raise UserError(f"{name!r}: a snapshot's name is of letters, digits, '-', '_' and '.'")
    directory = settings.folder / "snapshots" / member.project / name
    return snapshots.freeze(store, member.project_id, directory, filters, now, by=member.person.id)


def snapshot(db: Session, member: Member, snapshot_id: int) -> FrozenSnapshot:
    """One of this project; 404 for another."""
    found = db.get(FrozenSnapshot, snapshot_id)
    if found is None or found.project_id != member.project_id:
        raise HTTPException(404)
    return found


def snapshot_file(frozen: FrozenSnapshot, name: str) -> Path:
    path = Path(frozen.path) / name
    if not path.is_file():
        raise UserError(f"{path}: the snapshot is no longer where it was written")
    return path


def delete_person(db: Session, member: Member, person_id: int, now: datetime) -> list[str]:
    """All that one person wrote, wherever she is or was; for who leads all of these, and for administrators."""
    person = db.get(Person, person_id)
    if person is None or person.deleted is not None:
        raise HTTPException(404)
    if person_id == member.person.id:
        raise UserError("nobody deletes herself here; ask another lead")
    _check_leads(db, member, person)
    for one in people.memberships(db, person_id, past=True):  # so that each project's log has it
        people.audit(db, member.person.id, "delete", f"person {person_id}", project_id=one.project_id, now=now)
    return events.delete_person(db, person_id, now, by=member.person.id)


def password_link(db: Session, member: Member, person_id: int, now: datetime) -> str:
    """The token of a link by which a person chooses a new password, within a day."""
    _check_leads(db, member, db.get_one(Person, person_id))
    people.audit(db, member.person.id, "password link", f"person {person_id}", project_id=member.project_id, now=now)
    return people.new_token(db, person_id, "password", now, days=1)[1]


def _check_leads(db: Session, member: Member, person: Person) -> None:
    """Whether she may decide about a whole account: who leads all projects where its work is, and administrators."""
    if member.person.admin:
        return
    leads = {one.project_id for one in people.memberships(db, member.person.id) if one.role == "lead"}
    if person.admin or not {one.project_id for one in people.memberships(db, person.id, past=True)} <= leads:
        raise UserError(f"{person.name} works, or worked, in projects you do not lead; an administrator can do this")


def change_settings(db: Session, member: Member, changes: dict[str, Any], now: datetime) -> projects.ProjectSettings:
    before = projects.settings(db, member.project_id).model_dump(mode="json")
    after = projects.change_settings(db, member.project_id, changes)
    changed = {key: value for key, value in after.model_dump(mode="json").items() if value != before[key]}
    if changed:
        people.audit(db, member.person.id, "settings", member.project, changed, member.project_id, now=now)
    return after


def change_project(db: Session, member: Member, title: str | None, archived: bool | None, now: datetime) -> None:
    """Its title, and whether it gives work."""
    project = db.get_one(Project, member.project_id)
    if title is not None and title.strip() and title != project.title:
        project.title = title.strip()[:200]
        people.audit(db, member.person.id, "title", member.project, {"title": project.title}, project.id, now=now)
    if archived is not None and archived != (project.archived is not None):
        projects.archive(db, project.id, now if archived else None)
        people.audit(db, member.person.id, "archive" if archived else "reopen", member.project, {}, project.id, now=now)


def sample(
    store: Store, sampler: Sampler, member: Member, now: datetime, *, model: str, count: int, **options: int
) -> Job:
    """Start a run's model on the project's newest prompts; options of `Sampler.start`."""
    with store.reading() as db:
        asked = prompts(db, member, count)
    job = sampler.start(member.project, model, asked, now=now, **options)
    with store.writing() as db:
        detail = {"model": model, "prompts": len(asked), "k": job.k}
        people.audit(db, member.person.id, "sample", f"sampling {job.number}", detail, member.project_id, now=now)
    return job


def queue_samples(store: Store, sampler: Sampler, member: Member, number: int, now: datetime) -> items.Added:
    """What was sampled, as rankings to be made."""
    job = sampler.job(member.project, number)
    if job.state != "done":
        raise UserError(f"sampling {number}: it is not done")
    rows: list[Prompt] = list(formats.read(job.completions, Completions))
    how = Import(source=f"{job.model}, sampling {number}")
    return add_rows(store, member, "completions", rows, how, now)


def prompts(db: Session, member: Member, count: int) -> list[Prompt]:
    """The project's different prompts that training may see, the newest first."""
    found: dict[str, Prompt] = {}
    before = None
    while len(found) < count:
        listed = items.listing(db, member.project_id, purpose="train", before=before, limit=500)
        if not listed:
            break
        for item in listed:
            if item.payload.get("prompt") is not None and item.redacted is None and item.held is None:
                fields = {key: item.payload[key] for key in Prompt.model_fields if key in item.payload}
                prompt = Prompt.model_validate(fields)
                found.setdefault(as_text(prompt.prompt), prompt)
        before = listed[-1].id
    return list(found.values())[:count]
