"""Requests take turns by address, counted by hand in an application that ends when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heedful.web import turns
from heedful.web.turns import FairTurns


class Counting:
    """An application that notes which requests began, and ends a request when its event is set."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.end: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.append(scope["path"])
        await self.end.setdefault(scope["path"], asyncio.Event()).wait()


async def send(app: FairTurns, *paths: str) -> list[asyncio.Task[None]]:
    """Requests whose address is the first letter of their path."""
    tasks = []
    for path in paths:
        scope = {"type": "http", "path": path, "client": (path[0], 1)}
        tasks.append(asyncio.ensure_future(app(scope, None, None)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
    return tasks


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "AT_ONCE", 2)
    monkeypatch.setattr(turns, "JUST", 3600.0)


def test_addresses_take_turns() -> None:
    async def main() -> None:
        app = Counting()
        tasks = await send(FairTurns(app), "a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1")
        assert app.began == ["a1", "a2"]
        for path in ("a1", "a2", "a3", "b1", "c1", "a4", "b2", "a5"):
            app.end.setdefault(path, asyncio.Event()).set()
            await settled()
        assert app.began == ["a1", "a2", "a3", "b1", "c1", "a4", "b2", "a5"]
        await asyncio.gather(*tasks)

    asyncio.run(main())


@pytest.mark.medium
def test_a_long_request_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        app = Counting()
        monkeypatch.setattr(turns, "JUST", 0.01)
        held = FairTurns(app)
        tasks = await send(held, *(f"a{number}" for number in range(7)))
        while len(app.began) < 7:
            await asyncio.sleep(0.01)
        for event in app.end.values():
            event.set()
        await asyncio.gather(*tasks)
        assert held._free == 2  # no place is freed twice

    asyncio.run(main())


def test_errors_and_requests_that_end_before_their_turn_keep_no_place() -> None:
    async def main() -> None:
        app = Counting()
        held = FairTurns(app)
        one, two, gone, last, next_ = await send(held, "a1", "a2", "a3", "a4", "b1")
        gone.cancel()
        one.cancel()
        await settled()
        assert app.began == ["a1", "a2", "b1"]
        turn = held._waiting["a"][0]
        two.cancel()
        while not turn.done():
            await asyncio.sleep(0)
        last.cancel()  # in the moment in which it gets its turn
        next_.cancel()
        found = await asyncio.gather(one, two, gone, last, next_, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)
        assert (held._free, held._waiting) == (2, {})

    asyncio.run(main())


def test_what_is_no_request_takes_no_turn() -> None:
    async def main() -> None:
        seen = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])

        held = FairTurns(inner)
        held._free = 0
        await held({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
        assert seen == ["lifespan"]

    asyncio.run(main())
