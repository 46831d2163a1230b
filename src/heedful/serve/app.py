"""The application that answers with models: OpenAI's routes, accounts, pages. It needs no torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from heedful.config import UserError
from heedful.feedback.store import Store, StoreBusy
from heedful.serve import collected, described, entry, errors, health, kept, keys, openai, swaps
from heedful.serve.answering import Service
from heedful.serve.callers import Callers
from heedful.serve.limits import Gate
from heedful.serve.metrics import Metrics
from heedful.serve.playground import install
from heedful.serve.settings import ServeSettings
from heedful.serve.types import Backend, Collector
from heedful.web.api import account
from heedful.web.app import check_root
from heedful.web.incidents import Incidents
from heedful.web.pages import render
from heedful.web.security.access import cookie_name
from heedful.web.security.guard import Guard
from heedful.web.security.tries import Tries

PARTS = (openai, collected, account, entry, keys, health)
ROUTERS = (*(part.router for part in PARTS), keys.pages, kept.pages, kept.router, *install.ROUTERS)
SAVE_SECONDS = 5.0  # between two times that what the keys used is saved
SWEEP_SECONDS = 3600.0
log = logging.getLogger("heedful.serve")


def create_app(store: Store, models: Mapping[str, Backend], settings: ServeSettings, collector: Collector) -> FastAPI:
    """Creates the server. Nothing is read from the environment.

    Pages and other routes find the models and `answer` at `app.state.service` (`answering.Service`).
    """
    check_root(settings, ROUTERS)
    app = FastAPI(
        title="heedful serve", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json", redirect_slashes=False,
        lifespan=_running,
    )  # fmt: skip
    app.state.store, app.state.settings, app.state.projects = store, settings, False
    app.state.tries, app.state.incidents = Tries(), Incidents()
    app.state.cookie = cookie_name(store, settings)
    app.state.callers = Callers(store)
    gate = Gate(store, settings.limits)
    app.state.service = Service(models, gate, Metrics(), collector, settings.limits.seconds)
    install.install(app, store)
    app.add_middleware(
        Guard,
        body_mb=settings.body_mb,
        upload_mb=settings.upload_mb,
        uploads=None,
        address=settings.base_url,
        refuse=errors.answer,
    )
    errors.install(app)
    described.install(app)
    app.get("/static/{digest}/{name:path}", include_in_schema=False)(render.serve_static)
    for router in ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    """Starts the models, and ends them with the server."""
    service: Service = app.state.service
    for model in service.models.values():
        await model.start()
    work = [asyncio.ensure_future(_save(service.gate))]
    work.append(asyncio.ensure_future(_sweep(service.collector)))
    work.append(asyncio.ensure_future(swaps.follow(app.state.settings.folder, service.models)))
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
        await asyncio.gather(*(model.close(app.state.settings.limits.grace) for model in service.models.values()))
        await app.state.answers.close()
        await service.close()
        await run_in_threadpool(service.gate.save)


async def _sweep(collector: Collector) -> None:
    """Delete what is too old, also where nobody sends anything."""
    while True:
        try:
            await run_in_threadpool(collector.sweep)
        except (OSError, StoreBusy, SQLAlchemyError, UserError) as error:
            log.warning("What is too old could not be deleted. The next try is in an hour: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)


async def _save(gate: Gate) -> None:
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        with suppress(StoreBusy, SQLAlchemyError, OSError):  # what was not saved is saved the next time
            await run_in_threadpool(gate.save)
