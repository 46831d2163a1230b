"""A lane in another process, with its own copy of the model and its own interpreter.

A step of a small model is too short for several threads of torch, and threads of Python wait for each other. So other
cores get processes. Each one runs a `batching.Lane`, and two pipes carry its commands and what its steps give. A
process whose server is gone ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Top
from heedful.serve.batching import FAILED, AnswerPiece, Lane, Ticket, Users, WantedAnswer
from heedful.serve.types import ApiError

log = logging.getLogger("heedful.serve")
Load = Callable[[str], tuple[LocalEngine, PreTrainedTokenizerBase]]
"""Loads a run, a directory or a hub name. It runs in a thread, and in the process of a replica."""


class Replica(Users):
    """A lane in another process, as the event loop sees it. `lane` is the one in this process."""

    def __init__(self, lane: Lane, load: Load, path: str, max_rows: int, *, threads: int, lanes: int) -> None:
        super().__init__()
        self.engine, self.tokenizer = lane.engine, lane.tokenizer
        self.loop = asyncio.get_running_loop()
        self.failure: str | None = "not loaded"
        """Nobody asks it before it is ready."""
        self.ended = asyncio.Event()
        self._tickets: dict[int, Ticket] = {}
        self._scores: dict[int, asyncio.Future[list[Top]]] = {}
        self._numbers: dict[Ticket, int] = {}
        self._count = 0
        self._closing = False
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, load, path, max_rows, threads, lanes), name="heedful-replica", daemon=True
        )
        self._process.start()
        theirs.close()
        threading.Thread(target=self._read, name="heedful-replica", daemon=True).start()

    def submit(self, ticket: Ticket, wanted: Sequence[WantedAnswer]) -> None:
        """See `batching.Lane`."""
        if self.failure is not None:
            return ticket.fail(ApiError(500, FAILED))
        number = self._number()
        self._tickets[number], self._numbers[ticket] = ticket, number
        self._send("submit", number, list(wanted))

    def cancel(self, ticket: Ticket) -> None:
        """See `batching.Lane`."""
        if ticket.left:
            ticket.leave(ticket.left)
            self._send("cancel", self._numbers.get(ticket))
        self._forget(ticket)

    async def score(self, ids: Sequence[int], most: int) -> list[Top]:
        """See `batching.Lane`."""
        future: asyncio.Future[list[Top]] = self.loop.create_future()
        number = self._number()
        self._scores[number] = future
        self._send("score", number, list(ids), most)
        return await future

    def close(self) -> None:
        """See `batching.Lane`."""
        self._closing = True
        self._send("close")

    def stop(self) -> None:
        """See `batching.Lane`."""
        self._send("stop")

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _forget(self, ticket: Ticket) -> None:
        if (number := self._numbers.pop(ticket, None)) is not None:
            del self._tickets[number]

    def _send(self, *command: Any) -> None:
        try:
            self._pipe.send(command)
        except OSError:  # it has ended, and the reader says so
            log.debug("a command came after the end of a replica")

    def _read(self) -> None:
        """In a thread: hand over what comes, until the process ends."""
        try:
            while True:
                self._post(self._take, *self._pipe.recv())
        except (EOFError, OSError):
            self._process.join()
            self._post(self._over, self._process.exitcode)

    def _post(self, function: Callable[..., Any], *given: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *given)

    def _take(self, kind: str, *given: Any) -> None:
        if kind == "ready":
            self.failure = None
        elif kind == "pieces":
            for number, piece in given[0]:
                ticket = self._tickets.get(number)
                if ticket is not None and ticket.left:
                    ticket.put(piece)
        elif kind == "fail":
            numbers, (status, message, code, retry_after) = given
            for number in numbers:
                if (ticket := self._tickets.get(number)) is not None:
                    ticket.fail(ApiError(status, message, code=code, retry_after=retry_after))
        elif (future := self._scores.pop(given[0], None)) is not None and not future.done():
            if kind == "scored":
                future.set_result(given[1])
            else:
                future.set_exception(ApiError(500, FAILED))

    def _over(self, code: int | None) -> None:
        """The process has ended."""
        if not self._closing:
            log.error("A process with a copy of the model has ended with code %s. The others answer.", code)
        self.failure = "its process has ended"
        for ticket in self._tickets.values():
            ticket.fail(ApiError(500, FAILED))
        for future in self._scores.values():
            if not future.done():
                future.set_exception(ApiError(500, FAILED))
        self.ended.set()


AnyLane = Lane | Replica


class _Asked(Ticket):
    """A request in the process of a replica."""

    def __init__(self, number: int, answers: int) -> None:
        super().__init__(answers, lambda _: None)
        self.number = number


class _Lane(Lane):
    """A lane whose results go into a pipe."""

    def __init__(self, pipe: Connection, *given: Any, **more: Any) -> None:
        self.pipe = pipe
        super().__init__(*given, **more)

    def _deliver(self, found: list[tuple[Ticket, AnswerPiece]]) -> None:
        pieces = []
        for ticket, piece in found:
            if ticket.left and isinstance(ticket, _Asked):
                pieces.append((ticket.number, piece))
                if piece.finish is not None:
                    ticket.leave(1)
        self.pipe.send(("pieces", pieces))

    def _fail(self, tickets: list[Ticket], error: ApiError) -> None:
        numbers = [ticket.number for ticket in tickets if isinstance(ticket, _Asked)]
        self.pipe.send(("fail", numbers, (error.status, error.message, error.code, error.retry_after)))


def _work(pipe: Connection, load: Load, path: str, max_rows: int, threads: int, lanes: int) -> None:
    """The process of a replica."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the server decides
    asyncio.run(_answer(pipe, load, path, max_rows, threads, lanes))


async def _answer(pipe: Connection, load: Load, path: str, max_rows: int, threads: int, lanes: int) -> None:
    lane = _Lane(pipe, *load(path), max_rows, threads=threads, lanes=lanes)
    asked: dict[int, _Asked] = {}
    scoring: set[asyncio.Task[None]] = set()

    def submit(number: int, wanted: list[WantedAnswer]) -> None:
        asked[number] = _Asked(number, len(wanted))
        lane.submit(asked[number], wanted)

    def cancel(number: int) -> None:
        if (ticket := asked.pop(number, None)) is not None:
            lane.cancel(ticket)

    def score(number: int, ids: list[int], most: int) -> None:
        task = asyncio.ensure_future(_score(pipe, lane, number, ids, most))
        scoring.add(task)
        task.add_done_callback(scoring.discard)

    done = {"submit": submit, "cancel": cancel, "score": score, "close": lane.close, "stop": lane.stop}
    threading.Thread(target=_commands, args=(pipe, done, asyncio.get_running_loop()), daemon=True).start()
    pipe.send(("ready",))
    await lane.ended.wait()


async def _score(pipe: Connection, lane: Lane, number: int, ids: list[int], most: int) -> None:
    try:
        pipe.send(("scored", number, await lane.score(ids, most)))
    except ApiError:
        pipe.send(("unscored", number))


def _commands(pipe: Connection, done: dict[str, Callable[..., None]], loop: asyncio.AbstractEventLoop) -> None:
    """In a thread: hand over commands. Without a server the process ends."""
    try:
        while True:
            name, *given = pipe.recv()
            loop.call_soon_threadsafe(partial(done[name], *given))
    except (EOFError, OSError):
        os._exit(1)
