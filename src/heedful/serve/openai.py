"""OpenAI's routes: /v1/models, /v1/chat/completions, /v1/completions."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from heedful.serve.answering import Service
from heedful.serve.callers import Callers
from heedful.serve.described import ANSWERED, body_of, refusals
from heedful.serve.types import ApiError, Backend, Reply, Route

router = APIRouter(prefix="/v1", tags=["openai"])
STORE = "heedful-store"
"""Header with which a request says "no": nothing of it may be kept."""

ALL = ANSWERED | refusals(400, 401, 403, 404, 413, 429, 503, 504)


@router.get("/models", responses=refusals(401, 403))
async def models(request: Request) -> dict[str, Any]:
    """The models that this server answers with."""
    await _callers(request).find(request)
    return {"object": "list", "data": [_card(name, one) for name, one in _service(request).models.items()]}


@router.get("/models/{name:path}", responses=refusals(401, 403, 404))
async def model(request: Request, name: str) -> dict[str, Any]:
    """One model."""
    await _callers(request).find(request)
    return _card(*_service(request).model_of({"model": name}))


@router.post("/chat/completions", responses=ALL, openapi_extra=body_of("Chat"))
async def chat(request: Request) -> Response:
    """Answer a chat."""
    return await _answered(request, "chat")


@router.post("/completions", responses=ALL, openapi_extra=body_of("Completion"))
async def completions(request: Request) -> Response:
    """Continue a text, or several."""
    return await _answered(request, "completions")


async def _answered(request: Request, route: Route) -> Response:
    caller = await _callers(request).find(request)
    try:
        body = await request.body()
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    refused = may_not_store(request)
    return ReplyResponse(_service(request).answer(caller, route, body, refused=refused))


def may_not_store(request: Request) -> bool:
    """Whether the header of a request refuses that it is kept. Raises ApiError 400 for a header that is unclear."""
    given = request.headers.get(STORE, "yes").strip().lower()
    if given not in ("yes", "no"):
        raise ApiError(400, "The header Heedful-Store must be 'yes' or 'no'.", param="Heedful-Store")
    return given == "no"


class ReplyResponse(Response):
    """Sends a reply as it comes, and drops it as soon as the client leaves."""

    def __init__(self, work: Any) -> None:
        super().__init__()
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.ensure_future(self._answer(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not answering.done():
                answering.cancel()
            await asyncio.wait({answering})
        if not answering.cancelled():
            answering.result()

    async def _answer(self, send: Send) -> None:
        reply: Reply = await self.work
        headers = [(b"content-type", reply.media_type.encode())]
        headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
        if isinstance(reply.content, bytes):
            headers.append((b"content-length", str(len(reply.content)).encode()))
        try:
            await self._send(reply, headers, send)
        finally:
            if not isinstance(reply.content, bytes):
                await reply.content.aclose()

    async def _send(self, reply: Reply, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if isinstance(reply.content, bytes):
            await send({"type": "http.response.body", "body": reply.content})
            return
        async for piece in reply.content:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _card(name: str, backend: Backend) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": backend.created, "owned_by": "heedful"}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _callers(request: Request) -> Callers:
    callers: Callers = request.app.state.callers
    return callers
