"""From a request to its answer: limits, the model, what the collector keeps. Routes and pages both call `answer`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from heedful.collection import users
from heedful.feedback.store import StoreBusy
from heedful.serve.limits import Gate
from heedful.serve.metrics import Metrics
from heedful.serve.types import (
    ApiError,
    Backend,
    Call,
    Caller,
    CallOutcome,
    Collector,
    Pieces,
    Reply,
    Route,
    ServedExchange,
)

PREFIX: dict[Route, str] = {"chat": "chatcmpl-", "completions": "cmpl-"}
DONE = b"data: [DONE]\n\n"
NOT_SETTINGS = {"model", "messages", "prompt", "user", "metadata", "store", "stream", "stream_options"}
log = logging.getLogger("heedful.serve")


@dataclass(frozen=True)
class KeptCall:
    """What an exchange takes from its request. It is made only if the collector wants the request."""

    caller: Caller
    user: str
    call: Call
    upstream: bool
    started: datetime
    begun: float


class Service:
    """The models of a server, and what stands between them and the callers."""

    def __init__(
        self, models: Mapping[str, Backend], gate: Gate, metrics: Metrics, collector: Collector, seconds: float
    ) -> None:
        """`seconds`: longest time of a request."""
        self.models, self.gate, self.metrics, self.collector = dict(models), gate, metrics, collector
        self.seconds = seconds
        self.storing = "ok"
        """Why the collector cannot store, for /healthz."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def answer(self, caller: Caller, route: Route, body: bytes, *, refused: bool = False) -> Reply:
        """Answer a request: its body is that of OpenAI's API. Raises ApiError.

        `refused`: the request must not be kept. Close the pieces of a reply in the end.
        """
        begun = time.perf_counter()
        self.gate.enter(caller)
        values = read(body)
        name, backend = self.model_of(values)
        user = _text(values, "user")
        if len(user) > users.LONGEST:
            raise ApiError(400, f"'user' may have {users.LONGEST} characters.", param="user", code="invalid_value")
        wanted = self.collector.wants(
            f"{caller.name}/{user}" if user else caller.name, caller.consent, refused or not _may_store(values)
        )
        outcome = CallOutcome(PREFIX[route] + uuid4().hex, answers=[] if wanted else None)
        call = Call(route, values, name, outcome, begun + self.seconds)
        kept = None
        if wanted:
            user = f"{caller.name}/{user}" if user else caller.name
            kept = KeptCall(caller, user, call, backend.upstream, datetime.now(UTC), begun)
        self.metrics.begin(name)
        try:
            reply = await backend.respond(call)
        except ApiError as error:
            self.end(caller, call, begun, str(error.status))
            raise
        except BaseException:
            self.end(caller, call, begun, "cancelled")
            raise
        if isinstance(reply.content, bytes):
            self.end(caller, call, begun, str(reply.status))
            if kept is not None and reply.status == 200:
                await self.keep(kept)
            return reply
        reply.content = _Watched(self, reply.content, caller, call, begun, kept)
        return reply

    def model_of(self, values: Mapping[str, Any]) -> tuple[str, Backend]:
        """The model that a request names. Raises ApiError 404."""
        name = values.get("model")
        if not isinstance(name, str):
            raise ApiError(400, "'model' is missing. Name one of /v1/models.", param="model")
        if name not in self.models:
            raise ApiError(
                404, "The model does not exist here. /v1/models lists all.", param="model", code="model_not_found"
            )
        return name, self.models[name]

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run to the end what must not end with a request."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what runs in the background."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def end(self, caller: Caller, call: Call, begun: float, status: str) -> None:
        """Count a request at its end."""
        outcome = call.outcome
        first = outcome.first - begun if outcome.first is not None else None
        self.metrics.end(
            call.model, status, time.perf_counter() - begun, first, outcome.prompt_tokens, outcome.completion_tokens
        )
        self.gate.spend(caller, outcome.prompt_tokens + outcome.completion_tokens)

    async def keep(self, kept: KeptCall) -> None:
        """Give an exchange to the collector. The answer goes on if it cannot be stored."""
        try:
            for exchange in exchanges(kept):
                await run_in_threadpool(self.collector.keep, exchange)
            self.storing = "ok"
        except (OSError, StoreBusy, SQLAlchemyError) as error:
            self.storing = f"nothing is stored: {type(error).__name__}"
            log.warning("An exchange was answered and not stored: %s", type(error).__name__)


class _Watched:
    """The pieces of an answer as they come. The exchange is stored before the last one."""

    def __init__(
        self, service: Service, pieces: Pieces, caller: Caller, call: Call, begun: float, kept: KeptCall | None
    ) -> None:
        self.service, self.pieces, self.caller, self.call, self.begun = service, pieces, caller, call, begun
        self.kept, self.status, self.closed = kept, "cancelled", False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self.pieces.__anext__()
        except StopAsyncIteration:
            self.status = str(self.call.outcome.failed or 200)
            raise
        if self.kept is not None and piece.endswith(DONE) and self.call.outcome.failed is None:
            kept, self.kept = self.kept, None
            await self.service.keep(kept)
        return piece

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.pieces.aclose()
        self.service.end(self.caller, self.call, self.begun, self.status)
        if self.kept is not None and any(self.call.outcome.answers or ()) and self.call.outcome.failed is None:
            self.service.background(self.service.keep(self.kept))


def exchanges(kept: KeptCall) -> list[ServedExchange]:
    """What the collector gets: one exchange for each prompt."""
    call, outcome = kept.call, kept.call.outcome
    prompts: list[Any] = [None]
    if call.route == "completions":
        given = call.body.get("prompt")
        prompts = given if isinstance(given, list) and given and isinstance(given[0], str) else [given]
        if not all(isinstance(prompt, str) for prompt in prompts):
            return []  # token ids: nobody wrote them
    answers, finish = outcome.answers or [], outcome.finish
    n = max(1, len(answers) // len(prompts))
    return [
        ServedExchange(
            id=outcome.id if place == 0 else f"{outcome.id}-{place}",
            user=kept.user,
            key_id=kept.caller.key_id,
            consent=kept.caller.consent,
            model=call.model,
            upstream=kept.upstream,
            messages=call.body.get("messages") if call.route == "chat" else None,
            prompt=prompt,
            answers=answers[place * n : (place + 1) * n],
            finish=finish[place * n : (place + 1) * n],
            settings={name: value for name, value in call.body.items() if name not in NOT_SETTINGS},
            started=kept.started,
            seconds=time.perf_counter() - kept.begun,
        )
        for place, prompt in enumerate(prompts)
    ]


def read(body: bytes) -> dict[str, Any]:
    """A request's body as JSON. Raises ApiError 400."""
    try:
        values = json.loads(body, parse_constant=_no_constant)
        if b"\\u" in body:
            json.dumps(values, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ApiError(400, f"The body is not JSON: {error.msg} ({where}).") from None
    except (ValueError, RecursionError):  # UnicodeError is a ValueError
        raise ApiError(400, "The body is not JSON in UTF-8.") from None
    if not isinstance(values, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _text(values: Mapping[str, Any], name: str) -> str:
    given = values.get(name)
    if given is not None and not isinstance(given, str):
        raise ApiError(400, f"'{name}' must be a string.", param=name)
    return given or ""


def _may_store(values: Mapping[str, Any]) -> bool:
    given = values.get("store")
    if given is not None and not isinstance(given, bool):
        raise ApiError(400, "'store' must be true or false.", param="store")
    return given is not False
