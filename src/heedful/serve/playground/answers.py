"""Answers in progress. The server writes them to the store as they come, whether or not a page watches.

A page that is loaded again attaches to an answer with `follow`. All of this runs on the event loop. The store is used
in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.exc import DBAPIError

from heedful.feedback import chats
from heedful.feedback.chats import TurnState
from heedful.feedback.store import Store, StoreBusy
from heedful.serve.playground.models import Failed, Speech
from heedful.web.incidents import Incidents

FLUSH = 1.0  # seconds between two writes of an answer in progress
BROKEN = "An error in heedful ended this answer. The server's log has the details."
UNSTORED = "The server could not store this answer. Copy it if you need it."
STARTS = timedelta(seconds=5)  # between an answer's turn and its first sign
CUT = "The answer is cut: it reached the limit of tokens. You can raise the limit in the settings."


@dataclass
class Live:
    """An answer in progress."""

    turn: int
    person: int
    speech: Speech
    text: str = ""
    state: TurnState = "writing"
    note: str | None = None
    stopping: bool = False
    stored: bool = True
    """Whether the store has taken what there is so far."""
    task: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Tell everybody who follows that something changed."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        await self._news.wait()


class AnswersInProgress:
    """The answers in progress of a server."""

    def __init__(self, store: Store, incidents: Incidents) -> None:
        self.store, self.incidents = store, incidents
        self.live: dict[int, Live] = {}

    def count(self, person: int) -> int:
        """How many answers a person waits for."""
        return sum(one.person == person for one in self.live.values())

    def start(self, turn: int, speech: Speech) -> None:
        """Let a model write an answer to the end, unless somebody stops it."""
        answer = self.live[turn] = Live(turn, speech.caller.person_id, speech)
        answer.task = asyncio.create_task(self._write(answer))

    async def stop(self, turn: int) -> None:
        """Stop an answer. What was written of it is in the store when this returns."""
        answer = self.live.get(turn)
        if answer is not None and answer.task is not None:
            answer.stopping = True
            answer.task.cancel()
            await asyncio.wait([answer.task])

    async def follow(self, turn: int, start: int) -> AsyncIterator[tuple[str, int]]:
        """The text of an answer in progress from a place on, and the place after each piece. Ends with the answer."""
        answer = self.live.get(turn)
        while answer is not None:
            if len(answer.text) > start:
                piece, start = answer.text[start:], len(answer.text)
                yield piece, start
            elif answer.state != "writing":
                return
            else:
                await answer.news()

    async def close(self) -> None:
        """End all answers. The store says that they were interrupted."""
        tasks = [one.task for one in self.live.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _write(self, answer: Live) -> None:
        state: TurnState = "failed"
        note: str | None = BROKEN  # unless something better is known
        try:
            await self._collect(answer)
            state, note = "done", CUT if answer.speech.cut else None
        except Failed as error:
            note = str(error)
        except asyncio.CancelledError:
            state, note = ("stopped" if answer.stopping else "interrupted"), None
        finally:
            # The store first, so that whoever sees the end reads it there, too.
            await asyncio.to_thread(self._keep, answer, state, note)
            answer.state, answer.note = state, note if answer.stored else UNSTORED
            del self.live[answer.turn]
            answer.wake()

    async def _collect(self, answer: Live) -> None:
        written = time.monotonic()
        async with aclosing(answer.speech.pieces()) as pieces:
            async for piece in pieces:
                answer.text += piece
                answer.wake()
                if time.monotonic() - written > FLUSH:
                    await asyncio.to_thread(self._keep, answer)
                    written = time.monotonic()

    def _keep(self, answer: Live, state: TurnState = "writing", note: str | None = None) -> None:
        """Write what there is. Where the store cannot take it, the answer goes on without."""
        try:
            with self.store.writing() as db:
                chats.write(db, answer.turn, text=answer.text, state=state, note=note, exchange=answer.speech.id)
            answer.stored = True
        except (OSError, DBAPIError, StoreBusy) as error:
            answer.stored = False
            answer.speech.service.storing = f"nothing is stored: {type(error).__name__}"
            self.incidents.note("chats", f"Answers of the playground are not stored: {type(error).__name__}")


def settle(live: Mapping[int, Live], found: Sequence[chats.Turn], now: datetime) -> Sequence[chats.Turn]:
    """The turns with what is known of those in progress. One that nobody writes any more was interrupted.

    `live`: the answers that were in progress before the turns were read.
    """
    for turn in found:
        answer = live.get(turn.id)
        if answer is not None:
            turn.text, turn.state, turn.note = answer.text, answer.state, answer.note
        elif turn.state == "writing" and now - turn.created > STARTS:
            turn.state = "interrupted"
    return found
