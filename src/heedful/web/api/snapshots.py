"""The API of snapshots, and of sampling new completions from a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse

from heedful.config import UserError
from heedful.data import formats
from heedful.data.kinds import KINDS as RECORD_KINDS
from heedful.data.records import Completions, Prompt
from heedful.feedback import items, people, snapshots
from heedful.feedback.schema import FrozenSnapshot
from heedful.web import imports, sampling
from heedful.web.api import records
from heedful.web.security.access import AsLead, AsReader, Id, Now, Settings, Stored

router = APIRouter(prefix="/api/projects/{project}", tags=["lead"])
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


@router.get("/snapshots")
def list_snapshots(member: AsReader, store: Stored) -> list[records.Snapshot]:
    """All snapshots, newest first."""
    with store.reading() as db:
        return [records.Snapshot.model_validate(frozen) for frozen in snapshots.listing(db, member.project_id)]


@router.post("/snapshots", status_code=201)
def create(member: AsLead, store: Stored, settings: Settings, now: Now, body: records.NewSnapshot) -> records.Snapshot:
    """Freeze the standing judgements that pass the filters, in the project folder's `snapshots/`."""
    name = body.name.strip()
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r}: a snapshot's name is of letters, digits, '-', '_' and '.'")
    folder = settings.folder / "snapshots" / member.project / name
    frozen = snapshots.freeze(store, member.project_id, folder, body.filters, now, by=member.person.id)
    return records.Snapshot.model_validate(frozen)


@router.get("/snapshots/{snapshot_id}/{file}")
def snapshot_file(
    member: AsReader,
    store: Stored,
    settings: Settings,
    snapshot_id: Id,
    file: Literal["records.jsonl", "manifest.json", "pairs.jsonl"],
) -> FileResponse:
    """Rows and manifest as they were frozen. `pairs.jsonl`: the rows for other trainers."""
    with store.reading() as db:
        frozen = db.get(FrozenSnapshot, snapshot_id)
        if frozen is None or frozen.project_id != member.project_id:
            raise HTTPException(404)
    path = Path(frozen.path) / ("records.jsonl" if file == "pairs.jsonl" else file)
    if not path.is_file():
        raise UserError(f"{path}: the snapshot is no longer where it was written")
    if file == "pairs.jsonl":
        kind = next(kind for kind, record in RECORD_KINDS.items() if record.__name__.lower() == frozen.records)
        rows = formats.read(path, RECORD_KINDS[kind])
        path = settings.uploads / f"pairs-{frozen.sha256}.jsonl"
        formats.write(path, list(formats.to_public(rows)))
    named = f"{member.project}-{snapshot_id}-{file}"
    return FileResponse(path, filename=named, media_type="application/octet-stream")


@router.get("/sampling")
def sampling_state(request: Request, member: AsReader, settings: Settings) -> records.Sampling:
    """Finished runs that can write, and the jobs of this project, newest first."""
    sampler: sampling.Sampler = request.app.state.sampler
    models, jobs = sampling.models(settings.folder), sampler.jobs(member.project)
    return records.Sampling(missing=sampling.missing(), models=models, jobs=jobs)


@router.post("/sampling", status_code=201)
def start_sampling(
    request: Request, member: AsLead, store: Stored, now: Now, body: records.NewSampling
) -> sampling.Job:
    """Start `heedful sample` on the newest prompts of the project."""
    sampler: sampling.Sampler = request.app.state.sampler
    with store.reading() as db:
        asked = sampling.prompts(db, member.project_id, body.count)
    job = sampler.start(
        member.project, body.model, asked, k=body.k, seed=body.seed, max_new_tokens=body.max_new_tokens, now=now
    )
    with store.writing() as db:
        detail = {"model": body.model, "prompts": len(asked), "k": job.k}
        people.audit(db, member.person.id, "sample", f"sampling {job.number}", detail, member.project_id, now=now)
    return job


@router.post("/sampling/{number}/queue", status_code=201)
def queue_samples(request: Request, member: AsLead, store: Stored, now: Now, number: Id) -> items.Added:
    """Import the completions of a job as rankings."""
    sampler: sampling.Sampler = request.app.state.sampler
    job = sampler.job(member.project, number)
    if job.state != "done":
        raise UserError(f"sampling {number}: it is not done")
    rows: list[Prompt] = list(formats.read(job.completions, Completions))
    options = imports.ImportOptions(source=f"{job.model}, sampling {number}")
    return imports.add_rows(store, member.project_id, member.person.id, "completions", rows, options, now)
