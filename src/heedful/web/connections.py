"""Connections of clients: how long one may be silent, how many an address may hold, and what waits unread.

uvicorn waits for the headers and the body of a request for ever. A client that opens connections and says nothing
would take all of the process's files, and then nobody else gets an answer. It also answers requests that a client sent
at once, until the system's buffers are full: megabytes for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from heedful.web.incidents import Incidents
from heedful.web.security.tries import network

HEADERS_WITHIN = 20.0  # seconds, for all of them
SILENT = 30.0  # seconds in which nothing comes of a body, or nothing is taken of an answer
UNSENT = 32_768  # bytes of an answer that the system may hold before the client has room for them
BODY_WITHIN = 600.0  # seconds, for all of it
OF_AN_ADDRESS = 256  # connections: an office behind one address, with six for each browser
SPARE = 256  # files that are no connections: the database, static files, uploads
FILES = 65_536  # the most that we ask the system for
SWEEP = 2.0  # seconds between two looks at all connections


def most_files() -> int:
    """How many files this process may open, after asking the system for more."""
    try:
        import resource
    except ImportError:  # Windows
        return 2048
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return FILES if soft == resource.RLIM_INFINITY else soft


class Connections:
    """All connections of a server. `trusted`: proxies, whose connections are those of many people."""

    def __init__(self, trusted: Any, incidents: Incidents, most: int, of_an_address: int = OF_AN_ADDRESS) -> None:
        self.trusted, self.incidents = trusted, incidents
        self.most, self.of_an_address = most, of_an_address
        self.open: dict[Watched, None] = {}  # the oldest first
        self.held: dict[str, dict[Watched, None]] = {}  # by address
        self._sweeping = False

    def protocol(self) -> type[Watched]:
        """The class that uvicorn makes one object of for each connection."""
        return type("Protocol", (Watched,), {"all": self})

    def admits(self, connection: Watched, address: str) -> bool:
        """Whether there is room for a connection of this address. The oldest that asks for nothing makes room."""
        theirs = self.held.get(address, {})
        if len(theirs) >= self.of_an_address and address not in self.trusted:
            words = f"{address} holds {self.of_an_address} connections. The oldest that are silent are dropped."
            self.incidents.note(f"held {address}", words)
            if not _drop_one(theirs):
                return False
        if len(self.open) >= self.most:
            words = f"{self.most:,} connections are open. The oldest that are silent are dropped."
            self.incidents.note("full", words)
            if not _drop_one(self._largest()) and not _drop_one(self.open):
                return False
        self.open[connection] = None
        self.held.setdefault(address, {})[connection] = None
        if not self._sweeping:
            self._sweeping = True
            connection.loop.set_exception_handler(self._failed)
            connection.loop.call_later(SWEEP, self.sweep, connection.loop)
        return True

    def _largest(self) -> Iterable[Watched]:
        """The connections of the address that holds the most."""
        address = max(self.held, key=lambda address: len(self.held[address]), default="")
        return self.held.get(address, {})

    def leave(self, connection: Watched, address: str) -> None:
        if self.open.pop(connection, connection) is None:
            del self.held[address][connection]
            if not self.held[address]:
                del self.held[address]

    def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop the connections that are silent for too long."""
        now = loop.time()
        for connection in [each for each in self.open if each.is_overdue(now)]:
            connection.transport.abort()
        self._sweeping = bool(self.open)
        if self._sweeping:
            loop.call_later(SWEEP, self.sweep, loop)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error outside of any request. Without a free file the loop fails again at once, many times a second."""
        if isinstance(context.get("exception"), OSError) and "accept" in str(context.get("message")):
            self.incidents.note("accept", f"No connection can be accepted: {context['exception']}")
        else:
            loop.default_exception_handler(context)


def _drop_one(connections: Iterable[Watched]) -> bool:
    """Close the first connection on which no request is in progress."""
    found = next((each for each in connections if each.is_waiting and not each.transport.is_closing()), None)
    if found is not None:
        found.transport.abort()
    return found is not None


class Watched(H11Protocol):
    """uvicorn's protocol, with time limits, and one unread answer at a time."""

    all: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = network(self.client[0]) if self.client else ""
        self.began: float | None = self.loop.time()  # when the request in progress began, or the wait for the first
        self.heard = self.loop.time()
        self.stuck: float | None = None  # since when nothing is taken of the answer
        self.left = 0  # bytes of the answer that waited then
        self.held = False  # whether the next request waits for that
        if not self.all.admits(self, self.address):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.leave(self, self.address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if self.began is None:
            self.began = self.heard
        super().data_received(data)

    def on_response_complete(self) -> None:
        self.began = self.loop.time() if self.conn.trailing_data[0] else None
        super().on_response_complete()

    def handle_events(self) -> None:
        """Begin what has come. A client that does not take an answer gets no work done on its next request."""
        if self.stuck is not None and self.is_waiting:
            self.held = True
            self.flow.pause_reading()
        else:
            super().handle_events()

    def pause_writing(self) -> None:
        self.stuck, self.left = self.loop.time(), self.transport.get_write_buffer_size()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stuck = None
        super().resume_writing()
        if self.held:
            self.held = False
            self.began = self.loop.time()
            self.flow.resume_reading()
            self.handle_events()

    @property
    def is_waiting(self) -> bool:
        """Whether no request is in progress: its headers are not complete, or the last one is answered."""
        return self.cycle is None or self.cycle.response_complete

    def is_overdue(self, now: float) -> bool:
        """Whether the client keeps the server waiting. A request that the server works on has all the time it needs."""
        if self.stuck is not None:
            left = self.transport.get_write_buffer_size()
            if left < self.left:
                self.stuck, self.left = now, left
            return now - self.stuck > SILENT
        if self.began is None:  # between two requests: uvicorn closes it
            return False
        if self.is_waiting:
            return now - self.began > HEADERS_WITHIN
        if not self.cycle.more_body or self.flow.read_paused:
            return False
        return now - self.heard > SILENT or now - self.began > BODY_WITHIN
