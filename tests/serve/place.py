"""A server with people, keys and models that need no torch, for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from heedful.collection.settings import Terms
from heedful.feedback import keys, people
from heedful.feedback.store import Store
from heedful.serve.answering import DONE
from heedful.serve.app import create_app
from heedful.serve.settings import ServeSettings
from heedful.serve.types import Backend, Call, Collector, KeepsNothing, Reply, ServedExchange

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOST = "http://testserver"


class Echo:
    """A backend that repeats the last message word by word."""

    upstream, created, one_message = False, 0, False

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.left = pause, 0

    async def respond(self, call: Call) -> Reply:
        asked = call.body["messages"][-1]["content"] if call.route == "chat" else call.body["prompt"]
        call.outcome.prompt_tokens = len(asked.split())
        if call.body.get("stream"):
            return Reply(self._pieces(call, asked.split()), media_type="text/event-stream")
        self._finish(call, asked)
        choice = {"index": 0, "message": {"role": "assistant", "content": asked}, "finish_reason": "stop"}
        whole = {"id": call.outcome.id, "object": "chat.completion", "created": 0, "model": call.model}
        return Reply(json.dumps({**whole, "choices": [choice]}).encode())

    async def _pieces(self, call: Call, words: list[str]) -> AsyncIterator[bytes]:
        try:
            for word in words:
                await asyncio.sleep(self.pause)
                choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
                event = {"id": call.outcome.id, "object": "chat.completion.chunk", "created": 0, "model": call.model}
                yield f"data: {json.dumps({**event, 'choices': [choice]})}\n\n".encode()
            self._finish(call, " ".join(words))
            yield DONE
        finally:
            self.left += 1

    def _finish(self, call: Call, text: str) -> None:
        call.outcome.completion_tokens = len(text.split())
        call.outcome.finish.append("stop")
        if call.outcome.answers is not None:
            call.outcome.answers.append(text)

    async def start(self) -> None: ...

    async def close(self, grace: float) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"status": "ok"}


class Keeps(KeepsNothing):
    """A collector that keeps what has consent, in memory."""

    def __init__(self) -> None:
        self.kept: list[ServedExchange] = []

    def wants(self, user: str, consent: str | None, refused: bool) -> bool:
        return consent is not None and not refused

    def keep(self, exchange: ServedExchange) -> None:
        self.kept.append(exchange)

    def terms(self) -> Terms:
        return Terms("1", "What you ask may be kept to train the next model.", 365)


class Place:
    """A store with people `ada` (who agreed), `bo` (who did not) and `admin`, a key for each, and a server."""

    def __init__(
        self, folder: Path, models: Mapping[str, Backend] | None = None, collector: Collector | None = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.store = Store.open(folder / "heedful.db")
        self.settings = ServeSettings(**{"base_url": HOST, "folder": folder} | settings)
        self.ids: dict[str, int] = {}
        self.secrets: dict[str, str] = {}
        with self.store.writing() as db:
            for name in ("ada", "bo", "admin"):
                self.ids[name] = people.add_person(db, name, None, START, admin=name == "admin").id
                agreed = "1" if name == "ada" else None
                self.secrets[name] = keys.new(db, self.ids[name], "test", START, consent=agreed)[1]
        self.collector = collector or Keeps()
        self.app = create_app(self.store, models or {"echo": Echo()}, self.settings, self.collector)

    def client(self, name: str | None = "ada") -> TestClient:
        """A program with the key of somebody."""
        headers = {"Authorization": f"Bearer {self.secrets[name]}"} if name else {}
        return TestClient(self.app, base_url=HOST, headers=headers, follow_redirects=False)

    def browser(self, name: str = "ada") -> TestClient:
        """Signed in as somebody, as a page of this server would send its requests."""
        client = TestClient(self.app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False)
        with self.store.writing() as db:
            secret = people.new_token(db, self.ids[name], "session", datetime.now(UTC), days=1)[1]
        client.cookies.set(self.app.state.cookie, secret)
        return client
