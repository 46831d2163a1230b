"""One person tries to stop the server for the others: bombs, bursts, silence, texts that take long."""

from __future__ import annotations

import gzip
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from data.test_reading import bombs as small_bombs
from siege.places import API, Place, running
from siege.table import Outcome, Scale

MOST_MEMORY = 2_000_000_000  # bytes that the server may take
LARGE = 1_100_000_000  # bytes to which a bomb unpacks: more than any file may
SILENT_FOR = 30.0  # seconds after which a silent connection must be closed
STARTS = (
    "",
    "POST /api/login HTTP/1.1\r\nHost: x\r\nA: b",
    "POST /api/login HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 9\r\n\r\na",
)
SLOW_TEXTS = (
    "**a ",
    "_a ",
    "[",
    "`a ",
    "<a ",
    "* ",
    "> ",
    "|a",
    "![",
    "<!--",
    "$a ",
    "\\(",
    "&#",
    "- [ ] ",
    "1. ",
    "***",
)


def bombs(folder: Path, scale: Scale) -> Outcome:
    """Small files that unpack to more than memory holds, as imports."""
    outcome, home = Outcome(), folder / "bombs"
    home.mkdir()
    small_bombs(home)
    word = pa.array(["x" * 1_000_000])
    huge = pa.DictionaryArray.from_arrays(pa.array([0] * (LARGE // 1_000_000), pa.int32()), word)
    parquet.write_table(pa.table({"prompt": huge}), home / "huge.parquet")
    with gzip.open(home / "huge.jsonl.gz", "wb", compresslevel=1) as file:
        for _ in range(LARGE // 10_000_000 if scale.share >= 0.1 else 1):
            file.write(b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n')
    with running(folder) as place, place.watched(outcome):
        before = place.memory()
        for path in sorted(home.iterdir()):
            status, told = place.ask("POST", f"{API}/items/preview?file={path.name}", path.read_bytes(), place.lead)
            outcome.add([f"{path.name}: {status} {told[:100]}"] if status >= 500 else [])
            if path.name == "huge.parquet" and status != 400:
                outcome.failed.append(f"{path.name}: {status}, not refused")
        if place.memory() > MOST_MEMORY:
            outcome.failed.append(f"the server took {place.memory() / 1e9:.1f} GB ({before / 1e9:.1f} before)")
    return outcome


def sign_ins(folder: Path, scale: Scale) -> Outcome:
    """Bursts of wrong passwords for one name, all at once, and then its right one."""
    outcome, many = Outcome(), scale.of(500, 30)
    with running(folder) as place:
        with place.watched(outcome), ThreadPoolExecutor(30) as pool:
            found = list(pool.map(lambda number: place.sign_in("Lead", f"wrong {number}"), range(many)))
        outcome.add([], tried=many)
        checked = sum(status == 401 for status in found)
        outcome.failed += [f"{checked} of {many} passwords were checked, where 8 are allowed"] if checked > 8 else []
        outcome.failed += [f"status {status}" for status in set(found) - {401, 429, 503}]
        outcome.failed += [] if place.ask("GET", "/api/me", None, place.lead)[0] == 200 else ["a token does not count"]
        known = place.ask("GET", "/projects", None, None, Cookie=place.cookie)[0]
        outcome.failed += [] if known == 200 else [f"a session is shut out: {known}"]
    return outcome


def silence(folder: Path, scale: Scale) -> Outcome:
    """Connections from many addresses that say nothing, or half a request."""
    outcome, many = Outcome(), scale.of(4000, 60)
    with running(folder) as place:
        links: list[socket.socket] = []
        with place.watched(outcome):
            begin = time.monotonic()
            for number in range(many):
                links.append(_connect(place, f"127.0.1.{1 + number % 200}", STARTS[number % len(STARTS)]))
            outcome.add([], tried=many)
            while any(map(_is_open, links)) and time.monotonic() - begin < SILENT_FOR + 10:
                time.sleep(1)
        held = sum(map(_is_open, links))
        outcome.failed += [f"{held} silent connections are open after {SILENT_FOR:g} s"] if held else []
        size = len(place.log)
        outcome.failed += [f"the log has {size:,} characters"] if size > 20_000 else []
        for link in links:
            link.close()
    return outcome


def _connect(place: Place, address: str, start: str) -> socket.socket:
    link = socket.socket()
    link.bind((address, 0))
    link.connect(("127.0.0.1", place.server.port))
    link.sendall(start.format(host=f"127.0.0.1:{place.server.port}").encode())
    link.setblocking(False)
    return link


def _is_open(link: socket.socket) -> bool:
    try:
        while link.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def texts(folder: Path, scale: Scale) -> Outcome:
    """Guides, previews and comparisons that take long."""
    outcome = Outcome()
    with running(folder) as place, place.watched(outcome):
        for number, unit in enumerate(SLOW_TEXTS[: scale.of(len(SLOW_TEXTS), 8)]):
            text = (unit * 200_000)[:188_000]
            for method, path, body in (
                ("POST", "/api/markdown", {"text": text}),
                ("POST", f"{API}/instructions/guide", {"text": f"{number}\n{text}"}),
            ):
                begin = time.monotonic()
                status, told = place.ask(method, path, body, place.lead)
                took = time.monotonic() - begin
                outcome.add([f"{path}: {status} {told[:100]}"] if status >= 500 else [])
                outcome.add([f"{path}, {unit!r}: {took:.1f} s"] if took > 10 else [], tried=0)
        for version in (1, 2):
            status, _ = place.ask(
                "GET", f"/lead/{API.rpartition('/')[2]}/instructions?version={version}", None, None, Cookie=place.cookie
            )
            outcome.add([f"versions: {status}"] if status >= 500 else [])
    return outcome
