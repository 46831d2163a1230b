"""The application: routes, middleware, and shared state."""

from __future__ import annotations

from fastapi import FastAPI

from heedful.feedback.store import Store
from heedful.web.api import account, items, people, projects, snapshots, work
from heedful.web.dashboard import Agreements
from heedful.web.pages import api_reference, entry, errors, labeler, lead_items, lead_people, lead_project, render
from heedful.web.sampling import Sampler
from heedful.web.security.guard import Guard
from heedful.web.security.passwords import Tries
from heedful.web.settings import WebSettings

UPLOADS = ("/items", "/items/preview", "/scores")  # addresses that take files


def create_app(store: Store, settings: WebSettings) -> FastAPI:
    """Creates the server for a store. Nothing is read from the environment."""
    app = FastAPI(title="heedful", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store, app.state.settings = store, settings
    app.state.tries, app.state.agreements = Tries(settings.login_tries), Agreements()
    app.state.sampler = Sampler(settings.folder)
    app.add_middleware(
        Guard, body_mb=settings.body_mb, upload_mb=settings.upload_mb, uploads=UPLOADS, secure=settings.secure
    )
    errors.install(app)
    app.get("/static/{digest}/{name:path}", include_in_schema=False)(render.serve_static)
    api = (account, work, projects, items, people, snapshots)
    pages = (entry, api_reference, lead_people, lead_items, lead_project, labeler)
    for part in (*api, *pages):
        app.include_router(part.router)
    return app
