"""The lead's page of sampling."""

from __future__ import annotations

import os

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.endpoints.client import KEY
from heedful.web.pages.lead_layout import lead_page
from heedful.web.sampling import jobs
from heedful.web.security.access import AsReader, Settings, Stored

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
MOST_SAMPLED = 20_000  # prompts of one job


@router.get("/sampling")
def sampling_page(request: Request, member: AsReader, store: Stored, settings: Settings) -> Response:
    """The sampling jobs, and a form for a new one."""
    sampler: jobs.Sampler = request.app.state.sampler
    with store.reading() as db:
        known = len(jobs.prompts(db, member.project_id, MOST_SAMPLED))
    return lead_page(
        request,
        "sampling",
        missing=jobs.missing(),
        models=jobs.models(settings.folder),
        addresses=sampler.addresses(),
        folder=settings.folder.resolve(),
        jobs=sampler.jobs(member.project),
        known=known,
        has_key=bool(os.environ.get(KEY)),
    )
