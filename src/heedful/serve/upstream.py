"""A model of another server behind a name here: a proxy that passes bytes on as they come.

A request is forwarded as it is, but for the model's name and the fields that are ours (`user`, `metadata`, `store`).
What comes back is not changed. It is only read along for the number of tokens and, if the collector wants it, the text.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from heedful.config import UserError
from heedful.endpoints.client import KEY, LOCAL, Address, address
from heedful.serve.shapes import error_event
from heedful.serve.types import ApiError, Call, CallOutcome, Reply

OURS = ("user", "metadata", "store")
PATHS = {"chat": "/chat/completions", "completions": "/completions"}
CONNECT_SECONDS = 10.0
LARGEST = 32_000_000  # bytes of an answer that is not streamed
EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
AWAY = "The upstream of this model does not answer."
CUT = "The upstream of this model ended in the middle of its answer."


class UpstreamBackend:
    """A model at `URL#model`. The key for all upstreams comes from HEEDFUL_API_KEY."""

    upstream = True
    one_message = False  # nothing says so before it is asked

    def __init__(self, ref: str) -> None:
        self.address: Address = address(ref)
        self.created = int(time.time())
        self.last = "ok"
        """What became of the last request, for /healthz."""
        self._key = os.environ.get(KEY, "").strip()
        self._http: httpx.AsyncClient | None = None

    async def start(self) -> None:
        parts = urlsplit(self.address.url)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = httpx.AsyncClient(
            headers=headers, trust_env=parts.hostname not in LOCAL, verify=parts.scheme == "https",
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )  # fmt: skip

    async def close(self, grace: float) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def swap(self, path: str) -> bool:
        raise UserError(f"{self.address} is on another server. Change the model there")

    def state(self) -> dict[str, Any]:
        return {"status": self.last, "path": ""}

    async def respond(self, call: Call) -> Reply:
        assert self._http is not None, "started"
        body = {name: value for name, value in call.body.items() if name not in OURS} | {"model": self.address.model}
        headers = {"X-Request-Id": call.outcome.id.partition("-")[2], "Accept-Encoding": "identity"}
        request = self._http.build_request("POST", self.address.url + PATHS[call.route], json=body, headers=headers)
        try:
            async with asyncio.timeout(max(0.0, call.deadline - time.perf_counter())):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            raise self._failed(504, "The upstream of this model took too long.", "timeout") from None
        except httpx.HTTPError:
            raise self._failed(503, AWAY, "upstream_unavailable") from None
        relay = _Relay(self, response, call)
        try:
            if response.status_code != 200:
                raise await self._refused(relay)
            media_type = response.headers.get("content-type", "application/json")
            if media_type.startswith("text/event-stream"):
                self.last = "ok"
                return Reply(relay, media_type=media_type, headers={"X-Accel-Buffering": "no"})
            content = await relay.whole()
        except BaseException:
            await relay.aclose()
            raise
        await relay.aclose()
        found = _json(content)
        if found is None:
            raise self._failed(503, "The upstream's answer is not JSON.", "upstream_failed")
        _read_along(found, call.outcome)
        self.last = "ok"
        return Reply(content, media_type=media_type)

    def _failed(self, status: int, message: str, code: str) -> ApiError:
        self.last = message
        return ApiError(status, message, code=code, retry_after=5 if status == 503 else None)

    async def _refused(self, relay: _Relay) -> ApiError:
        """What an upstream refused, in our shape: its words if they are about the request."""
        status, wait = relay.response.status_code, relay.response.headers.get("retry-after", "")
        error = (_json(await relay.whole()) or {}).get("error")
        words = error.get("message") if isinstance(error, dict) else error
        words = " ".join(str(words).split())[:500] if words else f"The upstream answered with status {status}."
        words = words.replace(self._key, "***") if self._key else words
        if status in (400, 404, 413, 422):
            param = error.get("param") if isinstance(error, dict) else None
            return ApiError(400 if status == 422 else status, words, param=param if isinstance(param, str) else None)
        if status == 429:
            self.last = "The upstream asks to wait."
            return ApiError(429, self.last, code="upstream_busy", retry_after=float(wait) if wait.isdigit() else 5)
        # the upstream's 401 and 403 are about this server's key, and no business of the caller
        return self._failed(503, f"The upstream of this model fails with status {status}.", "upstream_failed")


class _Relay:
    """The bytes of an upstream's answer. Closing it closes the connection."""

    def __init__(self, backend: UpstreamBackend, response: httpx.Response, call: Call) -> None:
        self.backend, self.response, self.call = backend, response, call
        self._bytes = response.aiter_raw()
        self._along = _Along(call.outcome)
        self._ended, self._held = False, b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        outcome = self.call.outcome
        try:
            async with asyncio.timeout(max(0.0, self.call.deadline - time.perf_counter())):
                while not (piece := self._whole_events(await self._bytes.__anext__())):
                    pass
        except StopAsyncIteration:
            if not self._along.done:
                return self._end(ApiError(503, CUT, code="upstream_failed"))
            self._ended = True
            if not self._held:
                raise
            piece, self._held = self._held, b""
        except TimeoutError:
            return self._end(ApiError(504, "The answer took too long.", code="timeout"))
        except httpx.HTTPError:
            return self._end(ApiError(503, CUT, code="upstream_failed"))
        if outcome.first is None:
            outcome.first = time.perf_counter()
        self._along.read(piece)
        return piece

    def _whole_events(self, piece: bytes) -> bytes:
        """What is complete. A part of an event waits for the rest: should that never come, no client can read it."""
        piece = self._held + piece
        end = max((at + len(mark) for mark in EVENT_ENDS if (at := piece.rfind(mark)) >= 0), default=0)
        self._held = piece[end:]
        return piece[:end]

    def _end(self, error: ApiError) -> bytes:
        """The event with which a stream fails."""
        self._ended = True
        self.call.outcome.failed, self.backend.last = error.status, error.message
        return error_event(error)

    async def whole(self) -> bytes:
        """An answer that is not streamed. Raises ApiError."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(max(0.0, self.call.deadline - time.perf_counter())):
                async for piece in self._bytes:
                    parts.append(piece)
                    size += len(piece)
                    if size > LARGEST:
                        raise self.backend._failed(503, "The upstream's answer is too large.", "upstream_failed")
        except TimeoutError:
            raise self.backend._failed(504, "The upstream of this model took too long.", "timeout") from None
        except httpx.HTTPError:
            raise self.backend._failed(503, CUT, "upstream_failed") from None
        return b"".join(parts)

    async def aclose(self) -> None:
        await self.response.aclose()


class _Along:
    """Reads a stream along: counts its events, and keeps their text if the collector wants it."""

    def __init__(self, outcome: CallOutcome) -> None:
        self.outcome, self.done = outcome, False
        self._rest = b""

    def read(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            self.done |= data == b"[DONE]" or b'"finish_reason":"' in data or b'"finish_reason": "' in data
            if data == b"[DONE]":
                continue
            if self.outcome.answers is not None or b'"usage":{' in data or b'"usage": {' in data:
                _read_along(_json(data), self.outcome)
            else:
                self.outcome.completion_tokens += 1  # about one token in an event, if no usage follows


def _read_along(body: dict[str, Any] | None, outcome: CallOutcome) -> None:
    """Note what an answer, or an event of one, holds."""
    if body is None:
        return
    if isinstance(body.get("id"), str):
        outcome.id = body["id"][:200]
    for choice in body.get("choices") or ():
        if isinstance(choice, dict) and isinstance(index := choice.get("index", 0), int) and 0 <= index < 1000:
            _note(choice, index, outcome)
    used = body.get("usage")
    if isinstance(used, dict):
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(used.get(name), int) and used[name] >= 0:
                setattr(outcome, name, used[name])


def _note(choice: dict[str, Any], index: int, outcome: CallOutcome) -> None:
    held = choice.get("delta") or choice.get("message") or {}
    text = held.get("content") if isinstance(held, dict) else None
    text = text if isinstance(text, str) else choice.get("text")
    outcome.finish += [""] * (index + 1 - len(outcome.finish))
    if isinstance(choice.get("finish_reason"), str):
        outcome.finish[index] = choice["finish_reason"]
    if isinstance(text, str) and text:
        outcome.completion_tokens += 1
        if outcome.answers is not None:
            outcome.answers += [""] * (index + 1 - len(outcome.answers))
            outcome.answers[index] += text


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
