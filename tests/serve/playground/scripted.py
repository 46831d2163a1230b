"""A server whose models say what a test tells them, as slowly as it wants."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from heedful.collection.settings import CollectionConfig
from heedful.collection.store import Collection, picks_of_user
from heedful.feedback import keys, people
from heedful.feedback.store import Store
from heedful.serve.app import create_app
from heedful.serve.settings import ServeSettings
from heedful.serve.types import ApiError, Call, Reply

HOST = "http://testserver"


class Scripted:
    """A model that says `says(messages)`, a word at a time. It stops after `holds` words until `go` is set."""

    upstream, created = False, 0

    def __init__(self, says: str | Callable[[list[dict[str, Any]]], str] = "Four.") -> None:
        self.says = says
        self.one_message = False
        self.holds: int | None = None
        self.go = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.running = 0
        self.pause = 0.0
        self.fails: str | None = None
        self.finish = "stop"
        self.context: int | None = None
        """Tokens that it reads, with a prompt of as many as it has characters."""

    async def respond(self, call: Call) -> Reply:
        self.asked.append(dict(call.body))
        if self.fails and self.holds is None:
            raise ApiError(503, self.fails)
        messages = call.body["messages"]
        left = None if self.context is None else self.context - sum(len(one["content"]) for one in messages)
        if left is not None and left < call.body.get("max_tokens", 1):
            raise ApiError(
                400, "this model reads less", param="max_tokens" if left > 0 else "messages",
                code="context_length_exceeded",
            )  # fmt: skip
        return Reply(self._pieces(call, self.says if isinstance(self.says, str) else self.says(messages)))

    async def _pieces(self, call: Call, text: str) -> AsyncIterator[bytes]:
        self.running += 1
        said = ""
        try:
            for place, word in enumerate(_words(text)):
                if self.holds is not None and place >= self.holds:
                    while not self.go.is_set():
                        await asyncio.sleep(0.005)
                    if self.fails:
                        yield f"data: {json.dumps({'error': {'message': self.fails}})}\n\n".encode()
                        return
                await asyncio.sleep(self.pause)
                said += word
                yield _event(call, {"content": word}, None)
            if call.outcome.answers is not None:
                call.outcome.answers.append(said)
            call.outcome.finish.append(self.finish)
            yield _event(call, {}, self.finish)
            yield b"data: [DONE]\n\n"
        finally:
            self.running -= 1

    async def start(self) -> None: ...

    async def close(self, grace: float) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"status": "ok"}


def _words(text: str) -> list[str]:
    return [word if place == 0 else f" {word}" for place, word in enumerate(text.split(" "))]


def _event(call: Call, delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'id': call.outcome.id, 'choices': [choice]})}\n\n".encode()


class Play:
    """A store with people `ada` (who agreed to storing) and `bo` (who did not), and a server with models."""

    def __init__(self, folder: Path, *names: str, address: str = HOST) -> None:
        self.folder = folder
        self.store = Store.open(folder / "heedful.db")
        self.collection = Collection(self.store, CollectionConfig())
        self.models = {name: Scripted() for name in names or ("tiny",)}
        settings = ServeSettings(base_url=address, folder=folder, limits={"requests_a_minute": 0})  # type: ignore[arg-type]
        self.app = create_app(self.store, self.models, settings, self.collection)
        self.ids: dict[str, int] = {}
        for name in ("ada", "bo"):
            with self.store.writing() as db:
                self.ids[name] = people.add_person(db, name, None, datetime.now(UTC)).id
        self.agree("ada")

    @property
    def model(self) -> Scripted:
        return next(iter(self.models.values()))

    def agree(self, name: str, version: str | None = "") -> None:
        """Somebody agrees to storing, or (None) withdraws."""
        now = datetime.now(UTC)
        with self.store.writing() as db:
            version = self.collection.terms()[0] if version == "" else version
            keys.agree(keys.of_pages(db, self.ids[name], now), version, now)

    def session(self, name: str) -> str:
        with self.store.writing() as db:
            return people.new_token(db, self.ids[name], "session", datetime.now(UTC), days=1)[1]

    def browser(self, name: str) -> TestClient:
        """Signed in as somebody, as a page of this server sends its requests. Use it in `with`."""
        client = TestClient(self.app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False)
        client.cookies.set(self.app.state.cookie, self.session(name))
        return client


def picks_of(play: Play, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(payload, judgement) of each pick of somebody."""
    with play.store.reading() as db:
        return [(payload, content) for _, payload, content in picks_of_user(db, name)]
