"""The JSON API, the leads' half: candidates in screening, links to new passwords, sampling from a run."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from heedful.feedback import people, projects, readings
from heedful.feedback.quality import screening
from heedful.web import actions, sampling
from heedful.web.api.lead_records import Imported
from heedful.web.api.work import Body
from heedful.web.security.access import AsLead, AsReader, Id, Now, Settings, Stored

router = APIRouter(prefix="/api/projects/{project}", tags=["lead"])


class Screening(BaseModel):
    """The criteria of D7 for one candidate; a person decides."""

    labeler: str
    criteria: list[dict[str, Any]]
    recommended: bool | None
    text: str


class Unrated(BaseModel):
    """A demonstration of somebody in screening; nothing says whose."""

    event: int
    prompt: str
    completion: str


class Rating(Body):
    rating: Annotated[int, Field(ge=1, le=7)]


class Link(BaseModel):
    link: str = Field(description="For a person's browser; works once, for a day.")


class Sampling(Body):
    model: str = Field(description="One of `models`.")
    k: int = Field(4, ge=2, le=9)
    count: int = Field(100, ge=1, le=actions.MOST_SAMPLED, description="The newest prompts of the project.")
    seed: int = Field(0, ge=0, lt=2**31)
    max_new_tokens: int = Field(128, ge=1, le=8192)


class JobOut(BaseModel):
    number: int
    model: str
    k: int
    prompts: int
    started: datetime
    state: Literal["running", "done", "failed"]
    said: str = Field(description="The last line of its log.")


class SamplingOut(BaseModel):
    missing: str | None = Field(description="Why nothing can be sampled on this server.")
    models: list[str]
    jobs: list[JobOut]


def job_out(job: sampling.Job) -> JobOut:
    return JobOut.model_validate(job, from_attributes=True)


@router.get("/people/{person_id}/screening")
def screened(member: AsReader, store: Stored, person_id: Id) -> Screening:
    """How a candidate did."""
    with store.reading() as db:
        if people.membership(db, member.project_id, person_id) is None:
            raise HTTPException(404)
        cutoffs = projects.settings(db, member.project_id).screening
        report = screening.screen(readings.onboarding(db, member.project_id, person_id), cutoffs)
    return Screening.model_validate(report.row())


@router.get("/unrated")
def unrated(member: AsLead, store: Stored) -> list[Unrated]:
    """Demonstrations of candidates that you have not rated."""
    with store.reading() as db:
        found = readings.unrated(db, member.project_id, member.person.id)
    return [Unrated(event=event, prompt=prompt, completion=completion) for event, prompt, completion in found]


@router.post("/events/{event}/rating", status_code=204)
def rate(member: AsLead, store: Stored, now: Now, event: Id, body: Rating) -> None:
    """Rate one of them, 1 to 7."""
    with store.writing() as db:
        readings.rate(db, member.project_id, event, body.rating, now, by=member.person.id)


@router.post("/people/{person_id}/password-link", status_code=201)
def password_link(member: AsLead, store: Stored, settings: Settings, now: Now, person_id: Id) -> Link:
    """For a member who has forgotten her password."""
    with store.writing() as db:
        if people.membership(db, member.project_id, person_id) is None:
            raise HTTPException(404)
        return Link(link=f"{settings.base_url}/password/{actions.password_link(db, member, person_id, now)}")


@router.get("/sampling")
def sampling_state(request: Request, member: AsReader, settings: Settings) -> SamplingOut:
    """Runs of the project folder that can write, and what was sampled, the newest first."""
    sampler: sampling.Sampler = request.app.state.sampler
    jobs = [job_out(job) for job in sampler.jobs(member.project)]
    return SamplingOut(missing=sampling.missing(), models=sampling.models(settings.folder), jobs=jobs)


@router.post("/sampling", status_code=201)
def start_sampling(request: Request, member: AsLead, store: Stored, now: Now, body: Sampling) -> JobOut:
    """Start `heedful sample` on the project's prompts."""
    return job_out(actions.sample(store, request.app.state.sampler, member, now, **body.model_dump()))


@router.post("/sampling/{number}/queue", status_code=201)
def queue_samples(request: Request, member: AsLead, store: Stored, now: Now, number: Id) -> Imported:
    """What was sampled, as rankings to be made."""
    added = actions.queue_samples(store, request.app.state.sampler, member, number, now)
    return Imported(items=added.items, known=added.known, refs=list(added.refs))
