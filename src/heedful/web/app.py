"""The application: routes, what stands before them, and what they share."""

from __future__ import annotations

from fastapi import FastAPI

from heedful.feedback.store import Store
from heedful.web.api import describe, lead, lead_work, work
from heedful.web.dashboard import Agreements
from heedful.web.pages import entry, errors, labeler, lead_items, lead_people, lead_project, render
from heedful.web.sampling import Sampler
from heedful.web.security.guard import Guard
from heedful.web.security.passwords import Tries
from heedful.web.settings import WebSettings

UPLOADS = ("/import", "/items", "/curation-preview", "/scores")  # addresses that take files


def create_app(store: Store, settings: WebSettings) -> FastAPI:
    """The whole server on a store; nothing is read from the environment."""
    app = FastAPI(title="heedful", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store, app.state.settings = store, settings
    app.state.tries, app.state.agreements = Tries(settings.login_tries), Agreements()
    app.state.sampler = Sampler(settings.folder)
    app.add_middleware(
        Guard, body_mb=settings.body_mb, upload_mb=settings.upload_mb, uploads=UPLOADS, secure=settings.secure
    )
    errors.install(app)
    app.get("/static/{digest}/{name:path}", include_in_schema=False)(render.serve_static)
    for part in (entry, describe, work, lead, lead_work, lead_people, lead_items, lead_project, labeler):
        app.include_router(part.router)
    return app
