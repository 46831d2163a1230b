"""A local OpenAI-compatible endpoint that does what a test's script says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the endpoint does with one request."""

    status: int = 200
    body: Any = None
    """An object is sent as JSON, bytes as they are."""
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: int = 0
    """Bytes that the reply promises and does not send."""
    drop: bool = False
    """Close the connection without a word."""


def said(text: Any, finish: str | None = "stop", **more: Any) -> Reply:
    """A reply with an answer."""
    message = {"role": "assistant", "content": text} | more
    return Reply(body={"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def error(status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return Reply(status, {"error": {"message": message, **more}}, headers or {})


Script = Callable[[int, dict[str, Any]], Reply]


@dataclass
class Endpoint:
    """`script(number, body)` answers each request; numbers go from 0."""

    url: str
    script: Script
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"{self.url}/v1#tiny"


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Endpoint]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(endpoint.requests)
                endpoint.requests.append(body)
                endpoint.keys.append(self.headers["Authorization"])
                endpoint.paths.append(self.path)
                endpoint.times.append(time.monotonic())
            reply = endpoint.script(number, body)
            time.sleep(reply.wait)
            sent = {"model": body["model"]} | reply.body if isinstance(reply.body, dict) else reply.body
            content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
            with contextlib.suppress(OSError):
                if not reply.drop:
                    self.send_response(reply.status)
                    for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content) + reply.cut))
                    self.end_headers()
                    self.wfile.write(content)
            self.close_connection = reply.drop or bool(reply.cut)

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that went away is no news."""

    server = Quiet(("127.0.0.1", 0), Handler)
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}", script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
