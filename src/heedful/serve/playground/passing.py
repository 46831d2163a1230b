"""Answers in conversations that are not stored. They are in memory while they are sent, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from heedful.config import UserError
from heedful.serve.playground import asking, view
from heedful.serve.playground.answers import BROKEN, CUT
from heedful.serve.playground.api import Serving, line, stream
from heedful.serve.playground.models import Failed, Speech
from heedful.serve.playground.records import Passing
from heedful.serve.types import Caller
from heedful.web.security.access import Now, SignedIn, Stored

router = APIRouter(prefix="/api", tags=["playground"])


@router.post("/passing")
async def answer(person: SignedIn, store: Stored, service: Serving, now: Now, body: Passing) -> StreamingResponse:
    """Answer a conversation that is not stored: JSON Lines with `place` and `text`, and `end` for each answer.

    The whole conversation comes with each request. If you close the connection, the answers end.
    """
    if body.messages[-1].role != "user" or not body.messages[-1].content.strip():
        raise UserError("messages: the last one must be yours, and not empty")
    names = asking.models_of(body.settings, service.models, earlier=len(body.messages) > 1)
    messages = [one.model_dump() for one in body.messages]

    def caller() -> Caller:
        with store.writing() as db:
            return asking.caller_of(db, person, now)

    asks = await run_in_threadpool(caller)
    spoken = [asking.speech(service, asks, name, messages, body.settings, refused=True) for name in names]
    return stream(_merged(spoken))


async def _merged(spoken: list[Speech]) -> AsyncIterator[str]:
    """The pieces of all answers as they come. Closing it ends the requests to the models."""
    lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    tasks = [asyncio.create_task(_speak(place, one, lines)) for place, one in enumerate(spoken)]
    try:
        ended = 0
        while ended < len(tasks):
            found = await lines.get()
            ended += "end" in found
            yield line(found)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _speak(place: int, speech: Speech, lines: asyncio.Queue[dict[str, Any]]) -> None:
    end: dict[str, Any] = {"state": "failed", "note": BROKEN, "html": "", "rich": False}
    text = ""
    try:
        async with aclosing(speech.pieces()) as pieces:
            async for piece in pieces:
                text += piece
                lines.put_nowait({"place": place, "text": piece})
        end |= {"state": "done", "note": CUT if speech.cut else None}
    except Failed as error:
        end["note"] = str(error)
    finally:  # also after an error of ours, so that nobody waits for ever
        lines.put_nowait({"place": place, "end": end | await _ending(text, speech)})


async def _ending(text: str, speech: Speech) -> dict[str, Any]:
    html, rich = await run_in_threadpool(view.html_of, text)
    return {"html": html, "rich": rich, "model": speech.body["model"]}
