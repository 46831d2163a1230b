"""OpenAI's answers as JSON: whole ones, and the events of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heedful.serve.types import ApiError, Route

OBJECTS: dict[Route, tuple[str, str]] = {
    "chat": ("chat.completion", "chat.completion.chunk"),
    "completions": ("text_completion", "text_completion"),
}


@dataclass
class AnswerChoice:
    """One answer, as far as it is there. `logprobs` in the shape of its route."""

    index: int
    text: str = ""
    logprobs: Any = None
    finish: str | None = None


def event(body: dict[str, Any]) -> bytes:
    """An event of a stream."""
    return b"data: " + _json(body) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    return event(error.body)


@dataclass
class ResponseShape:
    """The frame of one answer's JSON."""

    route: Route
    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))
    usage: bool = False
    """Whether a stream ends with the usage."""

    def __post_init__(self) -> None:
        frame = _json(self._frame(self.route, True))[:-1]
        self._head = b"data: " + frame + b',"choices":[{"index":'
        self._tail = b',"usage":null}\n\n' if self.usage else b"}\n\n"
        self._text = b',"delta":{"content":' if self.route == "chat" else b',"text":'
        self._end = b'},"logprobs":' if self.route == "chat" else b',"logprobs":'

    def chunk(self, choice: AnswerChoice) -> bytes:
        """The next part of an answer as an event."""
        logprobs = b"null" if choice.logprobs is None else _json(choice.logprobs)
        finish = b"null" if choice.finish is None else b'"' + choice.finish.encode() + b'"'
        return b"".join(
            (
                self._head, b"%d" % choice.index, self._text, _json(choice.text), self._end, logprobs,
                b',"finish_reason":', finish, b"}]", self._tail,
            )
        )  # fmt: skip

    def begin(self, index: int) -> bytes:
        """The event that begins an answer of a chat. Nothing for a completion."""
        if self.route != "chat":
            return b""
        choice = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        body = self._frame(self.route, True) | {"choices": [{**choice, "finish_reason": None}]}
        return event(body | {"usage": None} if self.usage else body)

    def used(self, prompt: int, completion: int) -> bytes:
        """The event with the usage at the end of a stream."""
        return event(self._frame(self.route, True) | {"choices": [], "usage": usage(prompt, completion)})

    def whole(self, choices: Sequence[AnswerChoice], prompt: int, completion: int) -> bytes:
        """The answer that is not streamed."""
        made = [
            {
                "index": one.index,
                **(
                    {"message": {"role": "assistant", "content": one.text, "refusal": None}}
                    if self.route == "chat"
                    else {"text": one.text}
                ),
                "logprobs": one.logprobs,
                "finish_reason": one.finish,
            }
            for one in choices
        ]
        return _json(self._frame(self.route, False) | {"choices": made, "usage": usage(prompt, completion)})

    def _frame(self, route: Route, chunk: bool) -> dict[str, Any]:
        return {"id": self.id, "object": OBJECTS[route][chunk], "created": self.created, "model": self.model}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
