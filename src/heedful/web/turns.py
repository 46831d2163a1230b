"""Turns: a request begins when its address has its turn, so that no address fills the server with its requests.

One process works on all requests. Without turns, somebody's page waits behind all that others sent before it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

from heedful.web.security.tries import network

AT_ONCE = 16  # requests that began just now
JUST = 0.25  # seconds. A longer request waits for a client, a disk or a model, and the next one may begin


class FairTurns:
    """ASGI middleware: at most AT_ONCE requests began just now. The others wait, and addresses take turns."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._free = AT_ONCE
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by address. The first one has the next turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self._turn(network(scope["client"][0]) if scope.get("client") else "")
        holds = True

        def leave() -> None:
            nonlocal holds
            if holds:
                holds = False
                self._next()

        timer = asyncio.get_running_loop().call_later(JUST, leave)
        try:
            await self.app(scope, receive, send)
        finally:
            timer.cancel()
            leave()

    async def _turn(self, address: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had its turn a moment ago
                self._next()
            raise

    def _next(self) -> None:
        """Give a place to the next request of the next address, or keep it."""
        while self._waiting:
            address = next(iter(self._waiting))
            theirs = self._waiting.pop(address)
            turn = theirs.popleft()
            if theirs:
                self._waiting[address] = theirs  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
