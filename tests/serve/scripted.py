"""An upstream that does what its script says: slow, cut off, refusing, talking nonsense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def event(text: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "chatcmpl-theirs", "choices": [choice], **more}).encode() + b"\n\n"


class Upstream:
    """An ASGI application. The model's name is the script of a request."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = 0
        """Connections that the proxy closed before the end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        try:
            await self.answer(body).__call__(scope, receive, send)
        except asyncio.CancelledError:
            self.left += 1
            raise

    def answer(self, body: dict[str, Any]) -> Response:
        script = body["model"]
        if script.startswith("status"):
            status = int(script[-3:])
            headers = {"Retry-After": "17"} if status == 429 else {}
            error = {"message": f"upstream says {status}, key sk-secret", "param": "top_k", "type": "x", "code": None}
            return JSONResponse({"error": error}, status, headers=headers)
        if script == "nonsense":
            return Response(b"<html>hello</html>", media_type="text/html")
        if body.get("stream"):
            return StreamingResponse(self._events(script), media_type="text/event-stream")
        if script == "slow":
            return StreamingResponse(self._slow(), media_type="application/json")
        if script == "cut":
            return Response(b"{}", headers={"Content-Length": "100"}, media_type="application/json")
        message = {"role": "assistant", "content": "hello there"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "chatcmpl-theirs", "choices": [choice], "usage": USAGE, "extra": ["as it is"]})

    async def _slow(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(100):
                await asyncio.sleep(0.05)
                yield b" "
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise

    async def _events(self, script: str) -> AsyncIterator[bytes]:
        try:
            yield event("hel") + event("lo ")[:20]  # an event in two parts
            if script == "cut":
                return
            for number in range(200 if script == "slow" else 1):
                yield event("lo ")[20:] if not number else b": wait\n\n"
                await asyncio.sleep(0.05 if script == "slow" else 0)
            yield event("there", "stop") + event("", usage=USAGE)
            yield b"data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise
