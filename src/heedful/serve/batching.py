"""The engine in a thread of its own: rows of many requests in one batch, and their text back to the event loop.

The event loop puts commands into `Lane`'s inbox, and the thread takes them before its next step. What one step gives
goes back in one call. Only the thread touches the rows of the engine. `replicas` has
lanes in other processes.

An event costs the loop about as much Python as a step costs the thread for a row, and they share the interpreter. So a
row among many others sends the text of several tokens at once (`EVENT_SECONDS`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from heedful.config import NonFinite, UserError
from heedful.configs.shared import Generation
from heedful.rollout.local import LocalEngine
from heedful.rollout.text import TextStream
from heedful.rollout.tops import of_prompt
from heedful.rollout.types import SampledToken, Stream, Top
from heedful.serve.stops import Stops
from heedful.serve.types import ApiError

log = logging.getLogger("heedful.serve")
FAILURES = (RuntimeError, NonFinite, UserError, MemoryError, ValueError)
FAILED = "The model failed. The server's log has the details."
EVENT_SECONDS = 0.0006
"""Least time between two events of a row, for each row in flight: 0.6 ms for one row, 38 ms for 64."""


class TokenEntry(NamedTuple):
    """A token with its log-probabilities. `start`: where its text begins in the answer."""

    start: int
    id: int
    top: Top


class AnswerPiece(NamedTuple):
    """What became certain of one answer. `tokens`: how many were sampled so far."""

    answer: int
    text: str
    entries: list[TokenEntry]
    finish: str | None
    tokens: int


@dataclass(frozen=True)
class WantedAnswer:
    """One answer to sample."""

    index: int
    prompt_ids: list[int]
    stream: Stream
    settings: Generation
    stops: tuple[str, ...]
    top: int | None


class Ticket:
    """A request on the side of the event loop: the pieces that have come and nobody has read."""

    def __init__(self, answers: int, ended: Callable[[int], None]) -> None:
        """`ended(answers)` is called as answers end or are dropped."""
        self.loop, self.ended = asyncio.get_running_loop(), ended
        self.left = answers
        """Answers that are not finished."""
        self.rows: list[int] = []
        """Numbers of its rows. Only the thread reads and writes them."""
        self._pieces: list[AnswerPiece] = []
        self._error: ApiError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self, deadline: float) -> list[AnswerPiece]:
        """The pieces since the last call, at least one. `deadline`: by the loop's clock. Raises ApiError."""
        if not self._pieces and self._error is None:
            self._waiter = self.loop.create_future()
            timer = self.loop.call_at(deadline, self.fail, ApiError(504, "The answer took too long.", code="timeout"))
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._error is not None:
            raise self._error
        pieces, self._pieces = self._pieces, []
        return pieces

    def put(self, piece: AnswerPiece) -> None:
        if piece.finish is not None:
            self.leave(1)
        self._pieces.append(piece)
        self._wake()

    def fail(self, error: ApiError) -> None:
        self._error = error
        self._wake()

    def leave(self, answers: int) -> None:
        """Note that so many answers take no room any more."""
        self.left -= answers
        self.ended(answers)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(eq=False)
class _Row:
    """An answer on the side of the thread."""

    ticket: Ticket
    index: int
    text: TextStream
    stops: Stops | None
    top: int | None
    tokens: int = 0
    made: int = 0
    """Characters so far."""
    certain: int = 0
    """Those that are certain."""
    unsent: str = ""
    """Text that is certain and waits for the next event."""
    waiting: list[TokenEntry] = field(default_factory=list)
    due: float = 0.0
    """When the next event may go. The first one goes at once, and so does the last one."""


class Users:
    """Counts the requests that have something, which closes when it is not wanted and the last of them has left."""

    def __init__(self) -> None:
        self.users = 0
        """Requests that have it."""
        self._retired = False

    def leave(self) -> None:
        """A request does not need it any more."""
        self.users -= 1
        if self._retired and not self.users:
            self.close()

    def retire(self) -> None:
        """Close when the last request has left."""
        self._retired = True
        if not self.users:
            self.close()

    def close(self) -> None:
        """End when all rows have ended."""
        raise NotImplementedError


class Lane(Users):
    """A model that answers, with its thread."""

    def __init__(
        self, engine: LocalEngine, tokenizer: PreTrainedTokenizerBase, max_rows: int, *, threads: int = 0,
        lanes: int = 1,
    ) -> None:  # fmt: skip
        """`threads`: of torch, for each operator (0: as many as the process has). `lanes`: of this model."""
        super().__init__()
        self.engine, self.tokenizer, self.threads = engine, tokenizer, threads
        self._lanes = lanes
        self.loop = asyncio.get_running_loop()
        self.steps = 0
        self.failure: str | None = None
        self.ended = asyncio.Event()
        self._loop_rows = engine.open(max_rows)
        self._rows: dict[int, _Row] = {}
        self._inbox: deque[Callable[[], None]] = deque()
        self._queued: set[Ticket] = set()  # submitted, and not yet with the rows
        self._wakeup = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="heedful-lane", daemon=True)
        self._thread.start()

    # On the event loop

    def submit(self, ticket: Ticket, wanted: Sequence[WantedAnswer]) -> None:
        """Queue the answers of a request. If the thread has ended, the request fails at once."""
        if self.failure is not None:
            return ticket.fail(ApiError(500, FAILED))
        self._queued.add(ticket)
        self._send(lambda: self._add(ticket, wanted))

    def cancel(self, ticket: Ticket) -> None:
        """Drop the rows of a request before the next step."""
        if ticket.left:
            ticket.leave(ticket.left)
            self._send(lambda: self._drop(ticket))

    async def score(self, ids: Sequence[int], most: int) -> list[Top]:
        """The log-probabilities of a prompt's tokens but the first."""
        future: asyncio.Future[list[Top]] = self.loop.create_future()

        def settle(found: list[Top] | None) -> None:
            if future.done():
                return
            if found is None:
                future.set_exception(ApiError(500, FAILED))
            else:
                future.set_result(found)

        def compute() -> None:
            found = None
            try:
                if not future.cancelled():
                    found = of_prompt(self.engine, ids, most)
            finally:
                self._post(settle, found)

        self._send(compute)
        return await future

    def close(self) -> None:
        """End the thread when all rows have ended. `ended` is set then."""
        self._closing = True
        self._send(lambda: None)

    def stop(self) -> None:
        """End all answers now, with an error."""

        def end() -> None:
            self._fail_all(ApiError(503, "The server stops.", code="stopping", retry_after=5))

        self._send(end)

    def _send(self, command: Callable[[], None]) -> None:
        self._inbox.append(command)
        with self._wakeup:
            self._wakeup.notify()

    def _deliver(self, found: list[tuple[Ticket, AnswerPiece]]) -> None:
        for ticket, piece in found:
            if ticket.left:
                ticket.put(piece)

    def _fail(self, tickets: list[Ticket], error: ApiError) -> None:
        for ticket in tickets:
            ticket.fail(error)

    def _fail_queued(self) -> None:
        self._fail([*self._queued], ApiError(500, FAILED))
        self._queued.clear()

    # In the thread

    def _run(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)  # of this thread alone
        try:
            while True:
                with self._wakeup:
                    while not (self._inbox or self._loop_rows.busy or self._closing):
                        self._wakeup.wait()
                try:
                    while self._inbox:
                        self._inbox.popleft()()
                    if self._loop_rows.busy:
                        self._step()
                    elif self._closing:
                        return
                except FAILURES as error:
                    self._recover(error)
        finally:
            self._give_up()

    def _step(self) -> None:
        found = []
        self.steps += 1
        tokens = self._loop_rows.step()
        now, pause = time.perf_counter(), EVENT_SECONDS * self._lanes * len(tokens)
        for token in tokens:
            row = self._rows.get(token.row)
            if row is not None and (piece := self._piece(row, token, now)) is not None:
                row.due = now + pause
                found.append((row.ticket, piece))
                if piece.finish is not None:
                    del self._rows[token.row]
                    if token.sample is None:  # a stop text ended it
                        self._loop_rows.cancel(token.row)
        if found:
            self._post(self._deliver, found)

    def _piece(self, row: _Row, token: SampledToken, now: float) -> AnswerPiece | None:
        """What this token and those since the last piece make certain. None if that is nothing, or not due yet."""
        finish: str | None = token.sample.finish if token.sample is not None else None
        row.tokens += 1
        start, text = row.made, ""
        if finish != "stop":
            text = row.text.push(token.id)
            if token.top is not None:
                row.waiting.append(TokenEntry(start, token.id, token.top))
        if finish is not None:
            text += row.text.end()
        row.made += len(text)
        hit = False
        if row.stops is not None:
            text, hit = row.stops.push(text, finish is not None)
        row.certain += len(text)
        row.unsent += text
        if not (finish or hit) and now < row.due:
            return None
        entries: list[TokenEntry] = []
        if row.waiting:
            ready = len(row.waiting) if finish and not hit else sum(one.start < row.certain for one in row.waiting)
            entries, row.waiting = row.waiting[:ready], row.waiting[ready:]
        if hit:
            finish = "stop"
        text, row.unsent = row.unsent, ""
        if not (text or entries or finish):
            return None
        return AnswerPiece(row.index, text, entries, finish, row.tokens)

    def _add(self, ticket: Ticket, wanted: Sequence[WantedAnswer]) -> None:
        added = 0
        try:
            for one in wanted:
                stops = Stops(one.stops) if one.stops else None
                number = self._loop_rows.add(one.prompt_ids, one.stream, one.settings, one.top)
                self._rows[number] = _Row(ticket, one.index, TextStream(self.tokenizer), stops, one.top)
                ticket.rows.append(number)
                added += 1
        finally:
            if added < len(wanted):  # no row of it will ever end it
                self._post(self._fail, [ticket], ApiError(500, FAILED))
            self._queued.discard(ticket)

    def _drop(self, ticket: Ticket) -> None:
        for number in ticket.rows:
            self._loop_rows.cancel(number)
            self._rows.pop(number, None)

    def _recover(self, error: BaseException) -> None:
        """Fail the requests in flight, and go on."""
        log.error("The model failed: %s: %s", type(error).__name__, error)
        self._fail_all(ApiError(500, FAILED))

    def _fail_all(self, error: ApiError) -> None:
        rows, self._rows = self._rows, {}
        for number in rows:
            self._loop_rows.cancel(number)
        self._post(self._fail, list({row.ticket for row in rows.values()}), error)

    def _give_up(self) -> None:
        if not self._closing:
            self.failure = "the thread of the model has ended"
        self._fail_all(ApiError(500, FAILED))
        self._post(self._fail_queued)
        self._post(self.ended.set)

    def _post(self, function: Callable[..., Any], *given: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *given)
