"""A client of streamed answers that costs little processor time, since it shares the machine with the server.

It notes when bytes come and reads their JSON when the measurement is over.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TEXT = re.compile(rb'"(?:content|text)": ?"[^"]')
"""The first part of an answer that holds text. The event that begins a chat has an empty one."""


@dataclass
class Answer:
    """Times by `time.perf_counter`."""

    began: float
    first: float | None = None
    """When the first token came."""
    ended: float = 0.0
    parts: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.parts[0][9:12]) if self.parts else 0

    left: bool = False
    """Whether the client left before the end."""

    def events(self) -> list[dict[str, Any]]:
        """The JSON of a stream. Raises ValueError if it was refused, or did not come to its end by itself."""
        body = _unchunked(b"".join(self.parts).partition(b"\r\n\r\n")[2])
        whole = body[: body.rfind(b"\n\n") + 2]
        lines = [line[5:].strip() for line in whole.split(b"\n") if line.startswith(b"data:")]
        found = [json.loads(line) for line in lines if line != b"[DONE]"]
        ends = [choice for event in found for choice in event.get("choices") or () if choice.get("finish_reason")]
        if (self.parts and self.status != 200) or not (ends or self.left):
            raise ValueError(f"status {self.status}, {body[-300:]!r}")
        return found

    def text(self) -> str:
        """The text of a chat with one answer."""
        choices = [choice for event in self.events() for choice in event.get("choices") or ()]
        return "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)


class _Asking(asyncio.Protocol):
    def __init__(self, answer: Answer, request: bytes, leave_after: int | None) -> None:
        self.answer, self.request, self.leave_after = answer, request, leave_after
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        answer.parts.append(data)
        if answer.first is None and TEXT.search(data):
            answer.first = time.perf_counter()
        if self.leave_after is not None and answer.first is not None and len(answer.parts) > self.leave_after:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.answer.ended = time.perf_counter()
        if not self.ended.done():
            self.ended.set_result(None)


async def ask(
    port: int, key: str, body: dict[str, Any], *, leave_after: int | None = None, answer: Answer | None = None
) -> Answer:
    """Send a request on a connection of its own. `leave_after`: close it after so many parts of the answer.

    `answer`: where the answer is noted, for a caller who cancels this.
    """
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    answer = answer or Answer(time.perf_counter())
    _, asking = await asyncio.get_running_loop().create_connection(
        lambda: _Asking(answer, head.encode() + content, leave_after), "127.0.0.1", port
    )
    try:
        await asking.ended
    finally:
        asking.transport.abort()
    return answer


async def crowd(port: int, key: str, clients: Iterable[Iterable[dict[str, Any]]], seconds: float) -> list[Answer]:
    """Clients that send their bodies one after the other, until the time is over. Then all of them leave."""
    found: list[Answer] = []

    async def client(bodies: Iterable[dict[str, Any]]) -> None:
        for body in bodies:
            found.append(answer := Answer(time.perf_counter()))
            try:
                await ask(port, key, body, answer=answer)
            except asyncio.CancelledError:
                answer.left, answer.ended = True, time.perf_counter()
                raise

    everybody = [asyncio.ensure_future(client(bodies)) for bodies in clients]
    _, running = await asyncio.wait(everybody, timeout=seconds)
    for one in running:
        one.cancel()
    await asyncio.wait(everybody)
    for one in everybody:
        if not one.cancelled():
            one.result()
    return found


def _unchunked(body: bytes) -> bytes:
    """The content of a body that came in chunks."""
    parts = []
    while body:
        size, line, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length or not line:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
