"""Time limits and the limit of connections, on a real server with limits of fractions of a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from heedful.config import UserError
from heedful.web import connections, serve
from heedful.web.connections import Connections
from heedful.web.incidents import Incidents, Once

LARGE = 200_000  # bytes of the answer for /large
asked: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, then takes as long as the address says, or answers with a large body."""
    if scope["type"] != "http":
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    asked.append(scope["path"])
    if scope["path"] == "/large":
        body = b"x" * LARGE
    else:
        await asyncio.sleep(float(scope["path"][1:] or 0))
        body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    """Runs `app` with limits of 0.3 seconds and four connections. `limited.port`: where."""
    for name, value in {"HEADERS_WITHIN": 0.3, "SILENT": 0.3, "BODY_WITHIN": 1.0, "SWEEP": 0.05}.items():
        monkeypatch.setattr(connections, name, value)
    found = Connections((), Incidents(), most=6, of_an_address=4)
    listening = serve._listen("127.0.0.1", 0)
    config = uvicorn.Config(app, http=found.protocol(), lifespan="off", log_level="warning", timeout_keep_alive=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    found.port = listening.getsockname()[1]  # type: ignore[attr-defined]
    yield found
    server.should_exit = True
    thread.join()
    listening.close()


def connect(limited: Any, address: str = "127.0.0.1", taking: int | None = None) -> socket.socket:
    made = socket.socket()
    if taking is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taking)
    made.settimeout(3)
    made.bind((address, 0))
    made.connect(("127.0.0.1", limited.port))
    return made


def ask(connection: socket.socket, path: str = "/0", body: bytes = b"") -> bytes:
    connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(4096)
    return found


def is_dropped(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST / HTTP/1.1\r\nHost: x\r\nA: b", b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"],
    ids=["nothing", "half of the headers", "half of the body"],
)
def test_a_silent_connection_is_dropped(limited: Connections, sent: bytes) -> None:
    with contextlib.closing(connect(limited)) as silent:
        silent.sendall(sent)
        began = time.monotonic()
        assert is_dropped(silent)
        assert 0.2 < time.monotonic() - began < 2


@pytest.mark.parametrize(
    "start", [b"POST /0 HTTP/1.1\r\nA: b", b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"]
)
def test_a_drip_is_dropped(limited: Connections, start: bytes) -> None:
    with contextlib.closing(connect(limited)) as drip:
        drip.sendall(start)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 5:
                drip.sendall(b"c")
                time.sleep(0.05)
        assert time.monotonic() - began < 3


def pipelined(limited: Connections, count: int, taking: int | None = None) -> socket.socket:
    """A connection that asks for large answers, all at once. `taking`: bytes that its system takes by itself."""
    asked.clear()
    link = connect(limited, taking=taking)
    link.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * count)
    return link


def test_a_client_that_takes_nothing_gets_one_answer_and_is_dropped(limited: Connections) -> None:
    with contextlib.closing(pipelined(limited, 30, taking=4096)):
        end = time.monotonic() + 20
        while (not asked or limited.open) and time.monotonic() < end:
            time.sleep(0.02)
        assert not limited.open
    assert asked == ["/large"]


def test_requests_sent_at_once_are_answered_as_the_client_takes_the_answers(
    limited: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT", 60.0)
    with contextlib.closing(pipelined(limited, 30)) as link, link.makefile("rb") as file:
        for _ in range(30):
            while file.readline().strip():
                pass
            assert file.read(LARGE) == b"x" * LARGE
        assert b"200 OK" in ask(link)
    assert len(asked) == 31


def test_a_client_that_takes_an_answer_slowly_is_not_dropped() -> None:
    """By hand: a look every 20 seconds, and a client that takes 1,000 bytes in each of them."""

    class Full:
        left = 3000

        def get_write_buffer_size(self) -> int:
            return self.left

    made = connections.Watched.__new__(connections.Watched)
    made.transport = Full()  # type: ignore[assignment]
    made.stuck, made.left = 0.0, 3000
    for now, left, dropped in ((20, 2000, False), (40, 1000, False), (60, 1000, False), (70.5, 1000, True)):
        made.transport.left = left  # type: ignore[attr-defined]
        assert made.is_overdue(now) is dropped, now


@pytest.mark.medium
def test_who_waits_for_the_server_is_not_dropped(limited: Connections) -> None:
    with contextlib.closing(connect(limited)) as patient:
        assert b"200 OK" in ask(patient, "/0.8", b"x" * 100_000)
        time.sleep(0.6)  # between two requests there is more time
        assert b"200 OK" in ask(patient)


def test_an_address_holds_so_many_and_the_oldest_silent_one_makes_room(
    limited: Connections, caplog: pytest.LogCaptureFixture
) -> None:
    silent = [connect(limited) for _ in range(3)]
    with contextlib.closing(connect(limited)) as busy:
        busy.sendall(b"POST /0.5 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.1)
        for _ in range(3):
            with contextlib.closing(connect(limited)) as one_more:
                assert b"200 OK" in ask(one_more)
        assert is_dropped(silent[0])
        assert b"200 OK" in busy.recv(4096)
    lines = [record.getMessage() for record in caplog.records if record.name == "heedful.web"]
    assert lines == ["127.0.0.1 holds 4 connections. The oldest that are silent are dropped."]
    for each in silent:
        each.close()


def test_an_address_that_only_has_requests_in_progress_gets_no_more(limited: Connections) -> None:
    busy = [connect(limited) for _ in range(4)]
    for each in busy:
        each.sendall(b"POST /0.6 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    time.sleep(0.1)
    with contextlib.closing(connect(limited)) as one_more:
        assert is_dropped(one_more)
    with contextlib.closing(connect(limited, "127.0.0.2")) as other:
        assert b"200 OK" in ask(other)
    assert all(b"200 OK" in each.recv(4096) for each in busy)
    for each in busy:
        each.close()


def test_a_flood_leaves_room_for_others(limited: Connections) -> None:
    flood = [connect(limited, f"127.0.0.{2 + number // 4}") for number in range(24)]
    with contextlib.closing(connect(limited)) as honest:
        assert b"200 OK" in ask(honest)
    for each in flood:
        each.close()


def test_a_trusted_proxy_holds_as_many_as_it_likes() -> None:
    found = Connections(ProxyHeadersMiddleware(app, "10.0.0.0/8").trusted_hosts, Incidents(), most=99, of_an_address=2)
    held = [type("C", (), {"loop": asyncio.new_event_loop()})() for _ in range(3)]
    assert all(found.admits(each, "10.1.2.3") for each in held)
    assert len(found.open) == 3
    for each in held:
        found.leave(each, "10.1.2.3")
        each.loop.close()
    assert (found.open, found.held) == ({}, {})


def test_an_event_has_one_line(caplog: pytest.LogCaptureFixture) -> None:
    found = Incidents()
    assert [found.note("a", "Away.", now) for now in (0.0, 30.0, 80.0, 141.0)] == [True, False, False, True]
    assert found.note("b", "Full.", 141.0)
    assert [record.getMessage() for record in caplog.records] == [
        "Away.", "Away. (The last time this came 3 times.)", "Full.",
    ]  # fmt: skip


def test_a_library_repeats_no_warning() -> None:
    once = Once()
    records = [logging.LogRecord("uvicorn", level, "", 0, words, (), None) for level, words in (
        (logging.WARNING, "Invalid HTTP request received."), (logging.WARNING, "Invalid HTTP request received."),
        (logging.WARNING, "Another."), (logging.ERROR, "Broken."), (logging.ERROR, "Broken."),
    )]  # fmt: skip
    assert [once.filter(record) for record in records] == [True, False, True, True, True]


@pytest.mark.parametrize("library", ["uvicorn.error", "asyncio"])
def test_a_server_repeats_no_warning_of_a_library(
    library: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn.error", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    serve.warn_once()
    for _ in range(3):
        logging.getLogger(library).warning("socket.send() raised exception.")
    assert [record.getMessage() for record in caplog.records] == ["socket.send() raised exception."]


def test_all_addresses_are_of_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with serve._listen("::", 0) as listening:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, listening.getsockname()[1]), timeout=3).close()
    with pytest.raises(UserError, match=r"port must be 0-65535\. Choose another --host or --port$"):
        serve._listen("::", 70_000)


@pytest.mark.parametrize(("client", "seen"), [("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::1")])
def test_addresses_of_clients_are_as_people_write_them(
    client: str, seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["client"])

    for trusting in (False, True):
        scope = {"type": "http", "client": (client, 1), "headers": [(b"x-forwarded-for", b"1.2.3.4")]}
        asyncio.run(serve.Clients(inner, Incidents(), trusting=trusting)(scope, None, None))  # type: ignore[arg-type]
    assert found == [(seen, 1)] * 2
    assert [record.getMessage() for record in caplog.records] == [serve.UNTRUSTED]
