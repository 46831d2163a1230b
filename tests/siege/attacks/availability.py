"""One person tries to stop the server for the others: bombs, bursts of sign-ins, silent and slow connections."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from data.test_reading import bombs as small_bombs
from heedful.web.connections import most_files
from heedful.web.security.tries import FIRST_WAIT, LONGEST_WAIT
from siege.places import API, PASSWORD, Place, running
from siege.work import Work

MOST_MEMORY = 2_000_000_000  # bytes that the server may take
LARGE = 1_100_000_000  # bytes to which a bomb unpacks: more than any file may
SILENT_FOR = 30.0  # seconds after which a silent connection must be closed
MARGIN = 10.0  # seconds more
FILLED_WITHIN = 60.0  # seconds that the server may take for the answers that fill a connection
MOST_CHARACTERS = 20_000  # of the log
AT_ONCE = 30
STARTS = (
    b"",
    b"POST /api/login HTTP/1.1\r\nHost: x\r\nA: b",
    b"POST /api/login HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 9\r\n\r\na",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the hello of TLS
    b"PRI * HTTP/2.0\r\n",
    b"\0" * 100,
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ",
)
"""What a client says before it falls silent."""


def bombs(folder: Path, work: Work) -> None:
    """Small files that unpack to more than memory holds, as imports."""
    outcome, home = work.outcome, folder / "bombs"
    home.mkdir()
    small_bombs(home)
    word = pa.array(["x" * 1_000_000])
    huge = pa.DictionaryArray.from_arrays(pa.array([0] * (LARGE // 1_000_000), pa.int32()), word)
    parquet.write_table(pa.table({"prompt": huge}), home / "huge.parquet")
    with gzip.open(home / "huge.jsonl.gz", "wb", compresslevel=1) as file:
        for _ in range(LARGE // 10_000_000 if work.share >= 0.1 else 1):
            file.write(b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n')
    paths = sorted(home.iterdir())
    with running(folder) as place, place.watched(outcome):
        before = place.memory()
        for number in work.parts(len(paths)):
            path = paths[number]
            status, told = place.ask("POST", f"{API}/items/preview?file={path.name}", path.read_bytes(), place.lead)
            outcome.add([f"{path.name}: {status} {told[:100]}"] if status >= 500 else [])
            if path.name == "huge.parquet" and status != 400:
                outcome.failed.append(f"{path.name}: {status}, not refused")
        if place.memory() > MOST_MEMORY:
            outcome.failed.append(f"the server took {place.memory() / 1e9:.1f} GB ({before / 1e9:.1f} before)")


def sign_ins(folder: Path, work: Work) -> None:
    """Bursts of wrong passwords, and then the right ones of the people whose names were tried."""
    bursts = (_one_name, _many_names, _own_password, _wrong_secrets)
    for number in work.parts(len(bursts) if work.share >= 0.1 else 1):
        home = folder / str(number)
        home.mkdir()
        with running(home) as place:
            device = place.cookies("Lead", "127.0.0.5")
            with place.watched(work.outcome):
                bursts[number](place, work)
            told = {
                "a session": place.ask("GET", "/projects", None, None, Cookie=place.cookie)[0] == 200,
                "a token": place.ask("GET", "/api/me", None, place.lead)[0] == 200,
                "a known device": place.sign_in("Lead", PASSWORD, Cookie=device) == 204,
                "another address": place.sign_in("Lead", PASSWORD, "127.0.0.6") == 204,
            }
            work.outcome.failed += [f"{bursts[number].__name__}: {one} is shut out" for one in told if not told[one]]


def _burst(work: Work, least: int, ask: Callable[[int], int]) -> list[int]:
    """The statuses of many requests, AT_ONCE at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(ask, range(work.of(500, least))))
    work.outcome.add([f"status {status}" for status in found if status >= 500 and status != 503], tried=len(found))
    return found


def _guesses(work: Work, least: int, ask: Callable[[int], int], status: int, allowed: int) -> None:
    """A burst of wrong passwords. No more are checked (`status`) than the limit allows, and one after each wait."""
    begin = time.monotonic()
    found = _burst(work, least, ask)
    most, waited, wait = allowed, FIRST_WAIT, FIRST_WAIT
    while waited < time.monotonic() - begin:
        most, wait = most + 1, min(LONGEST_WAIT, 2 * wait)
        waited += wait
    checked = found.count(status)
    told = f"{checked} of {len(found)} passwords were checked, where {most} are allowed"
    work.outcome.failed += [told] if not 0 < checked <= most else []


def _one_name(place: Place, work: Work) -> None:
    _guesses(work, 30, lambda number: place.sign_in("Lead", f"wrong {number}"), 401, 8)
    others = place.sign_in("Onlooker")
    work.outcome.failed += [] if others == 204 else [f"somebody else at the address is shut out: {others}"]


def _many_names(place: Place, work: Work) -> None:
    _guesses(work, 100, lambda number: place.sign_in(f"Name {number // 4}", f"wrong {number}"), 401, 80)


def _own_password(place: Place, work: Work) -> None:
    """A stolen session tries to find the old password."""

    def ask(number: int) -> int:
        body = {"old": f"wrong {number}", "password": f"another {number} good one"}
        return place.ask("POST", "/api/me/password", body, place.lead)[0]

    _guesses(work, 30, ask, 400, 8)


def _wrong_secrets(place: Place, work: Work) -> None:
    """Tokens, sessions and links at random."""
    join = {"name": "Somebody", "password": PASSWORD}

    def ask(number: int) -> int:
        secret = f"{number:043d}"
        tries = (
            lambda: place.ask("GET", "/api/me", None, secret),
            lambda: place.ask("GET", "/projects", None, None, Cookie=place.cookie.replace("=", f"={secret}")),
            lambda: place.ask("POST", "/api/join", {**join, "token": secret}),
            lambda: place.ask("POST", "/api/password", {"token": secret, "password": PASSWORD}),
        )
        return tries[number % len(tries)]()[0]

    found = _burst(work, 40, ask)
    work.outcome.failed += [f"a wrong secret gets {status}" for status in set(found) - {303, 400, 401, 404, 503}]


def silence(folder: Path, work: Work) -> None:
    """Connections that say nothing, half a request or a byte at a time, and that take no answer."""
    kinds = (_silent, _silent_from_one_address, _dripping, _taking_nothing)
    most_files()  # as many as the system gives to this process, too
    for number in work.parts(len(kinds)):
        home = folder / str(number)
        home.mkdir()
        with running(home) as place:
            links: list[socket.socket] = []
            with place.watched(work.outcome):
                kinds[number](place, work, links)
            work.outcome.add([], tried=len(links))
            held, size = place.held(), len(place.log)
            for link in links:
                link.close()
        name = kinds[number].__name__
        work.outcome.failed += [f"{name}: {held} connections are open after {SILENT_FOR:g} s"] if held else []
        work.outcome.failed += [f"{name}: the log has {size:,} characters"] if size > MOST_CHARACTERS else []


def _silent(place: Place, work: Work, links: list[socket.socket]) -> None:
    for number in range(work.of(4000, 60)):
        links.append(_connect(place, f"127.0.1.{1 + number % 200}", STARTS[number % len(STARTS)]))
    _wait(links)


def _silent_from_one_address(place: Place, work: Work, links: list[socket.socket]) -> None:
    for number in range(work.of(2000, 300)):
        links.append(_connect(place, "127.0.0.9", STARTS[number % len(STARTS)]))
    _wait(links)


def _dripping(place: Place, work: Work, links: list[socket.socket]) -> None:
    """A byte of a header each second."""
    for number in range(work.of(400, 40)):
        links.append(_connect(place, f"127.0.1.{1 + number % 40}", b"GET / HTTP/1.1\r\nA: b"))
    end = time.monotonic() + SILENT_FOR + MARGIN
    while time.monotonic() < end and any(map(_is_open, links)):
        for link in links:
            with suppress(OSError):
                link.send(b"b")
        time.sleep(1)


def _taking_nothing(place: Place, work: Work, links: list[socket.socket]) -> None:
    """Asks for the largest answer again and again, and reads none of it."""
    host = f"127.0.0.1:{place.server.port}".encode()
    asking = b"GET /api/openapi.json HTTP/1.1\r\nHost: %s\r\n\r\n" % host
    for number in range(work.of(400, 40)):
        links.append(_connect(place, f"127.0.1.{1 + number % 40}", asking * 50, taking=4096))
    time.sleep(SILENT_FOR)
    end = time.monotonic() + FILLED_WITHIN + MARGIN
    while time.monotonic() < end and place.held() > 1:  # the one is that of somebody else
        time.sleep(1)


def _wait(links: list[socket.socket]) -> None:
    """Until the server has closed them, or should have."""
    begin = time.monotonic()
    while any(map(_is_open, links)) and time.monotonic() - begin < SILENT_FOR + MARGIN:
        time.sleep(1)


def _connect(place: Place, address: str, start: bytes, taking: int | None = None) -> socket.socket:
    """A connection on which something is said. `taking`: bytes that it receives before it is full."""
    link = socket.socket()
    if taking is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taking)
    link.bind((address, 0))
    link.connect(("127.0.0.1", place.server.port))
    with suppress(OSError):  # closed already
        link.sendall(start.replace(b"{host}", f"127.0.0.1:{place.server.port}".encode()))
    link.setblocking(False)
    return link


def _is_open(link: socket.socket) -> bool:
    """Whether the server holds the connection. Reads what it has said."""
    try:
        while link.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
