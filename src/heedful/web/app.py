"""The application: routes, middleware, and shared state."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastapi import APIRouter, FastAPI

from heedful.config import UserError
from heedful.feedback.store import Store
from heedful.web.api import account, collected, items, people, projects, sampling, snapshots, work
from heedful.web.dashboard import ProjectAgreements
from heedful.web.incidents import Incidents
from heedful.web.pages import (
    api_reference,
    entry,
    errors,
    labeler,
    lead_items,
    lead_people,
    lead_project,
    lead_rounds,
    lead_sampling,
    lead_users,
    render,
)
from heedful.web.sampling.jobs import Sampler
from heedful.web.security.access import cookie_name
from heedful.web.security.guard import Guard
from heedful.web.security.tries import Tries
from heedful.web.settings import WebSettings

UPLOADS = re.compile("POST /api/projects/[^/]+/(items|items/preview|scores)")
"""Requests that carry files."""
API = (account, work, projects, items, people, snapshots, sampling, collected)
PAGES = (entry, api_reference, lead_people, lead_items, lead_users, lead_sampling, lead_rounds, lead_project, labeler)
ROUTERS = tuple(part.router for part in (*API, *PAGES))


def create_app(store: Store, settings: WebSettings) -> FastAPI:
    """Creates the server for a store. Nothing is read from the environment."""
    check_root(settings)
    app = FastAPI(title="heedful", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.store, app.state.settings = store, settings
    app.state.tries, app.state.agreements, app.state.incidents = Tries(), ProjectAgreements(), Incidents()
    app.state.cookie = cookie_name(store, settings)
    app.state.sampler = Sampler(settings.folder)
    app.add_middleware(
        Guard,
        body_mb=settings.body_mb,
        upload_mb=settings.upload_mb,
        uploads=UPLOADS,
        address=settings.base_url,
        refuse=errors.answer,
    )
    errors.install(app)
    app.get("/static/{digest}/{name:path}", include_in_schema=False)(render.serve_static)
    for router in ROUTERS:
        app.include_router(router)
    return app


def check_root(settings: WebSettings, routers: Sequence[APIRouter] = ROUTERS) -> None:
    """UserError for a path of the address that begins like a page: nobody could tell the two apart."""
    first = settings.root.split("/")[1:2]
    paths = ["/static", *(getattr(route, "path", "") for router in routers for route in router.routes)]
    if first and any(path.split("/")[1:2] == first for path in paths):
        raise UserError(f"{settings.base_url}: heedful has pages at /{first[0]} itself. Choose another path")
