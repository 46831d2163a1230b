"""The served models as the playground asks them: messages in, pieces of text out.

The service answers in OpenAI's shape, whether a model runs here or elsewhere, so there is one reader for all.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from heedful.serve.answering import Service
from heedful.serve.types import ApiError, Caller, Reply

NO_TEXT = "The model sent an answer that cannot be read."
FULL = "The conversation is longer than this model can read. Start a new chat, or shorten an earlier message."
TOO_LONG = "context_length_exceeded"
OTHERWISE = "Start a new chat, or choose another model."
AWAY = "The model does not answer right now. Try again in a moment."


class Failed(Exception):
    """A model did not finish its answer. The message is for its reader."""


class Speech:
    """One answer of a model, read piece by piece."""

    def __init__(self, service: Service, caller: Caller, body: dict[str, Any], *, refused: bool = False) -> None:
        """`refused`: nothing of it may be kept."""
        self.service, self.caller, self.body, self.refused = service, caller, body, refused
        self.id: str | None = None
        """The name of the exchange in the collection."""
        self.cut = False
        """Whether the answer ends because it is as long as it may be."""

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The text, as it comes. Raises Failed. Whoever stops reading closes the iterator, which ends the request."""
        try:
            reply = await self._asked()
            if isinstance(reply.content, bytes):
                yield self._read(reply.content, "message")
                return
            async with aclosing(_events(reply.content)) as events:
                async for event in events:
                    yield self._read(event, "delta")
        except ApiError as error:
            raise Failed(FULL if error.code == TOO_LONG else _told(error)) from None
        except (httpx.HTTPError, OSError):
            raise Failed(AWAY) from None

    async def _asked(self) -> Reply:
        """Ask the model. If the conversation leaves fewer tokens than the settings allow, the answer may take these."""
        try:
            return await self._ask(self.body)
        except ApiError as error:
            if (error.code, error.param) != (TOO_LONG, "max_tokens"):
                raise
            return await self._ask({name: value for name, value in self.body.items() if name != "max_tokens"})

    async def _ask(self, body: Mapping[str, Any]) -> Reply:
        sent = json.dumps({**body, "stream": True}).encode()
        return await self.service.answer(self.caller, "chat", sent, refused=self.refused)

    def _read(self, data: bytes, part: str) -> str:
        """The text in a chunk of a chat completion. `part`: "delta" in a stream, else "message"."""
        try:
            found = json.loads(data)
        except ValueError:
            raise Failed(NO_TEXT) from None
        if not isinstance(found, Mapping):
            raise Failed(NO_TEXT)
        error = found.get("error")
        if error:
            raise Failed(str(error.get("message") if isinstance(error, Mapping) else error)[:500])
        if isinstance(found.get("id"), str):
            self.id = found["id"]
        choice: dict[str, Any] = next(iter(found.get("choices") or []), {})
        self.cut = self.cut or choice.get("finish_reason") == "length"
        content = (choice.get(part) or {}).get("content")
        return content if isinstance(content, str) else ""


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of server-sent events. A chunk may end anywhere, also within a character."""
    waiting = b""
    try:
        async for chunk in chunks:
            *lines, waiting = (waiting + chunk).split(b"\n")
            for line in lines:
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data != b"[DONE]":
                    yield data
    finally:
        close = getattr(chunks, "aclose", None)  # a generator frees its row at once
        if close is not None:
            await close()


def _told(error: ApiError) -> str:
    """An error in whole sentences. If the model cannot read the chat, what its reader can do."""
    words = f"{error.message[:1].upper()}{error.message[1:].rstrip('.')}."
    return f"{words} {OTHERWISE}" if (error.status, error.param) == (400, "messages") else words
