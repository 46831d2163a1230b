"""The application: routes, what stands before them, and what they share."""

from __future__ import annotations

from fastapi import FastAPI

from heedful.feedback.store import Store
from heedful.web import errors, render
from heedful.web.insight import Agreements
from heedful.web.passwords import Tries
from heedful.web.routes import api, api_docs, api_lead, api_lead_work, auth, labeler, lead, lead_items, lead_project
from heedful.web.safety import Guard
from heedful.web.sampling import Sampler
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
    for part in (auth, api_docs, api, api_lead, api_lead_work, lead, lead_items, lead_project, labeler):
        app.include_router(part.router)
    return app
