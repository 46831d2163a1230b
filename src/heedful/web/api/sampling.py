"""The API of sampling: new answers of models to a project's prompts."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.feedback import items, people
from heedful.web import imports
from heedful.web.api import records
from heedful.web.pages import fragments
from heedful.web.sampling import jobs
from heedful.web.security.access import AsLead, AsReader, Id, Now, Settings, Stored, WantsHtml

router = APIRouter(prefix="/api/projects/{project}/sampling", tags=["lead"])


@router.get("", response_model=records.Sampling)
def sampling_state(
    request: Request, member: AsReader, settings: Settings, html: WantsHtml
) -> records.Sampling | Response:
    """Models to choose from, and the jobs of this project with their progress, newest first."""
    sampler: jobs.Sampler = request.app.state.sampler
    found = sampler.jobs(member.project)
    if html:
        return fragments.sampling_jobs(member, found)
    models, addresses = jobs.models(settings.folder), sampler.addresses()
    return records.Sampling(missing=jobs.missing(), models=models, addresses=addresses, jobs=found)


@router.post("", status_code=201)
def start_sampling(request: Request, member: AsLead, store: Stored, now: Now, body: records.NewSampling) -> jobs.Job:
    """Start a job: each model answers the newest prompts of the project."""
    sampler: jobs.Sampler = request.app.state.sampler
    with store.reading() as db:
        asked = jobs.prompts(db, member.project_id, body.count)
    settings = body.model_dump(include={"seed", "max_new_tokens", "temperature"})
    job = sampler.start(member.project, body.models, asked, body.k, now, admin=member.person.admin, settings=settings)
    with store.writing() as db:
        detail = {"models": [part.model for part in job.parts], "prompts": len(asked), "k": job.k}
        people.audit(db, member.person.id, "sample", f"sampling {job.number}", detail, member.project_id, now=now)
    return job


@router.post("/{number}/stop")
def stop_sampling(request: Request, member: AsLead, number: Id) -> jobs.Job:
    """Stop a job. Its answers so far are kept."""
    sampler: jobs.Sampler = request.app.state.sampler
    return sampler.stop(member.project, number)


@router.post("/{number}/resume")
def resume_sampling(request: Request, member: AsLead, number: Id) -> jobs.Job:
    """Go on with a job that was stopped, or in which a model failed."""
    sampler: jobs.Sampler = request.app.state.sampler
    return sampler.resume(member.project, number)


@router.post("/{number}/queue", status_code=201)
def queue_samples(request: Request, member: AsLead, store: Stored, now: Now, number: Id) -> items.Added:
    """Import the completions of a job as rankings."""
    sampler: jobs.Sampler = request.app.state.sampler
    job = sampler.job(member.project, number)
    if job.state != "done":
        raise UserError(f"sampling {number}: it is not done")
    rows: list[Prompt] = list(formats.read(job.completions, Completions))
    names = ", ".join(part.model for part in job.parts)
    options = imports.ImportOptions(source=f"{names}, sampling {number}"[-200:])
    added = imports.add_rows(store, member.project_id, member.person.id, "completions", rows, options, now)
    sampler.queued(member.project, number, added.items + added.known)
    return added
