"""Adds the playground to the application of a server of models."""

from __future__ import annotations

from fastapi import FastAPI

from heedful.feedback.store import Store
from heedful.serve.playground import api, pages, passing, reactions
from heedful.serve.playground.answers import AnswersInProgress

ROUTERS = (pages.router, api.router, reactions.router, passing.router)


def install(app: FastAPI, store: Store) -> None:
    """Prepare the state that the routes use. The application includes ROUTERS itself."""
    app.state.answers = AnswersInProgress(store, app.state.incidents)
