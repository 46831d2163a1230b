"""Requests at random to `heedful serve`, over real connections: never an error of the server, never a hang."""

from __future__ import annotations

import json
import random
import re
import socket
from pathlib import Path
from typing import Any

from serve import broken, live
from serve.place import Place
from siege.attacks.fuzz import ODD, _body, _drawing, _torn
from siege.work import Work

CONTINUE = re.compile(rb"\AHTTP/1\.1 100[^\r]*\r\n\r\n")
HANGS = 60.0  # seconds without an answer
ODD_PATHS = (
    "", "/", "//v1//models", "/v1/../metrics", "/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/" + "a" * 9000, "*",
    "/v1/chat/completions?model=m", "/%", "/v1/exchanges?limit=1e9", "/v1/exchanges?before=%f0%9f",
)  # fmt: skip
METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW", "post")


def attack(folder: Path, work: Work) -> None:
    """Bodies from our own description with odd values, the corpus of broken ones, odd headers, paths and methods."""
    outcome = work.outcome
    limits = {"requests_a_minute": 0, "context": 48, "choices": 4}
    place = Place(folder, {"m": live.local("llama", **limits)}, limits=limits)
    corpus = list(broken.broken())
    with live.running(place.app) as address:
        port = int(address.rpartition(":")[2])
        described = place.client().get("/v1/openapi.json").json()
        routes = [
            (method.upper(), path) for path, each in sorted(described["paths"].items()) for method in sorted(each)
        ]
        for number in work.parts(work.of(10_000, 100)):
            content = _request(_drawing(number), described, routes, corpus, place.secrets)
            answer = CONTINUE.sub(b"", _sent(port, content))
            status = int(answer[9:12]) if answer[9:12].isdigit() else 0
            fine = answer.startswith(b"HTTP/1.1 ") and 200 <= status < 500
            outcome.add([] if fine else [f"{content[:300]!r}: {answer[:100]!r}"])
        alive = _sent(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        outcome.add([] if b'"status":"ok"' in alive else [f"after all of them: {alive[-200:]!r}"])
    place.store.close()


def _request(
    draw: random.Random, described: dict[str, Any], routes: list[tuple[str, str]],
    corpus: list[tuple[bytes, dict[str, str | bytes]]], secrets: dict[str, str],
) -> bytes:  # fmt: skip
    """The bytes of a request."""
    method, path = draw.choice(routes)
    headers: dict[str, str | bytes] = {"Host": "127.0.0.1", "Content-Type": "application/json"}
    headers["Authorization"] = f"Bearer {secrets[draw.choice(sorted(secrets))]}"
    if draw.random() < 0.4:
        method, path = "POST", draw.choice(("/v1/chat/completions", "/v1/completions"))
        content, more = draw.choice(corpus)
        if draw.random() < 0.5:
            odd = {draw.choice(broken.FIELDS): draw.choice((*ODD, *broken.ODD_TEXTS)) for _ in range(2)}
            content = json.dumps(broken.CHAT | odd).encode()
        headers |= more
    else:
        content = b"" if method == "GET" else _body(draw, described, method, path)
    if content and draw.random() < 0.2:
        content = _torn(draw, content)
    if draw.random() < 0.2:
        name, value = draw.choice(broken.ODD_HEADERS)
        headers[name] = value
    while "{" in path:
        before, _, rest = path.partition("{")
        value = str(draw.choice((*ODD, *secrets))).encode("utf-8", "replace")[:60]
        path = before + "".join(f"%{byte:02x}" for byte in value or b"x") + rest.partition("}")[2]
    if draw.random() < 0.1:
        path = draw.choice(ODD_PATHS)
    if draw.random() < 0.1:
        method = draw.choice(METHODS)
    lines = [f"{method} {path} HTTP/1.1".encode()]
    for name, value in headers.items():
        lines.append(name.encode() + b": " + (value.encode() if isinstance(value, str) else value))
    lines += [b"Content-Length: %d" % len(content), b"Connection: close", b"", b""]
    return b"\r\n".join(lines) + content


def _sent(port: int, content: bytes) -> bytes:
    """The beginning and the end of what comes back, when the server has closed the connection."""
    with socket.create_connection(("127.0.0.1", port), HANGS) as link:
        got = b""
        try:
            link.sendall(content)
            while part := link.recv(65536):
                got = got[:1000] + part[-1000:] if len(got) > 2000 else got + part
        except ConnectionError:
            pass  # refused before all of the request was read
        except TimeoutError:
            return b"hangs after " + got
        return got
