"""/healthz and /metrics, and the route with which an administrator puts another checkpoint in place."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from heedful.serve.answering import Service
from heedful.serve.callers import Callers
from heedful.web.api.base import Body, Out
from heedful.web.security.access import AsAdmin

router = APIRouter(tags=["server"])


class CheckpointPath(Body):
    path: str = Field(min_length=1, max_length=2000)
    """A run, a directory or a hub name."""


class Swapped(Out):
    model: str
    path: str
    drained: bool
    """Whether the old model had to go first, because memory does not hold both."""


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Whether the server answers: status 200, or 503 if no model does. What is wrong is in words."""
    service = _service(request)
    models = {name: str(model.state()["status"]) for name, model in service.models.items()}
    well = {status == "ok" for status in models.values()}
    storing = service.storing
    status = "ok" if well == {True} and storing == "ok" else "degraded" if True in well else "down"
    body: dict[str, Any] = {"status": status, "models": models, "storing": storing}
    return JSONResponse(body, 503 if status == "down" else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Counters for Prometheus. They need an administrator's key."""
    callers: Callers = request.app.state.callers
    if not (await callers.find(request)).admin:
        raise HTTPException(403, "Metrics need an administrator's key.")
    return Response(_service(request).metrics.shown(), media_type=CONTENT_TYPE_LATEST)


@router.put("/api/models/{name}")
async def swap(request: Request, person: AsAdmin, name: str, body: CheckpointPath) -> Swapped:
    """Put another checkpoint behind a name. Running answers end on the old one."""
    model = _service(request).models.get(name)
    if model is None:
        raise HTTPException(404, "There is no such model.")
    drained = await model.swap(body.path)
    return Swapped(model=name, path=body.path, drained=drained)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
