"""Requests that nobody would write: broken JSON, headers and Unicode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

ODD_TEXTS = (
    "\0", "\ud83d", "\u202e\u2066", "é" * 40, "<|im_start|>", "<|endoftext|>", "\x1b[31m", "\uffff", "𝕏" * 9,
    "e\u0301" * 30, "\u200d\ufe0f", "\U000e0001", "ﷺ" * 20, "\r\n\r\ndata: [DONE]\n\n",
)  # fmt: skip
ODD_HEADERS: tuple[tuple[str, bytes], ...] = (
    ("Content-Type", b"multipart/form-data"), ("Content-Type", b"application/json; charset=utf-7"),
    ("Content-Type", b""), ("Heedful-Store", b"maybe"), ("Heedful-Store", b"\xff"), ("Authorization", b"Basic eA=="),
    ("Authorization", b"Bearer"), ("Authorization", b"Bearer \xff\xfe"), ("Authorization", b"Bearer wrong"),
    ("Accept-Encoding", b"br;q=nan"), ("Origin", b"null"), ("Origin", b"http://[::1"), ("Cookie", b"\x01=;;=\xff"),
    ("Sec-Fetch-Site", b"cross-site"), ("X-Forwarded-For", b"1" * 4000), ("Heedful-Person", b"-1"),
    ("X-" + "y" * 3000, b"z"), ("Host", b"elsewhere:99999"), ("Expect", b"100-continue"), ("Range", b"bytes=5-1"),
    ("Upgrade", b"websocket"), ("Content-Encoding", b"gzip"),
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 1e308, -0.0, 2**70, "", [], {}, [[]], [None], {"a": {"a": []}},
)  # fmt: skip
FIELDS = (
    "model", "messages", "n", "temperature", "top_p", "stop", "seed", "stream", "logprobs", "user", "stream_options",
    "metadata", "store", "max_tokens", "prompt", "echo", "tools",
)  # fmt: skip
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}


def broken() -> Iterator[tuple[bytes, dict[str, str | bytes]]]:
    """(body, headers) of requests to chats and completions."""
    whole = json.dumps(CHAT).encode()
    yield b"", {}
    yield b"\x00" * 100, {}
    yield b'{"model": "m", "messages": ' + b"[" * 5000, {}
    yield b'{"a":' * 5000 + b"1" + b"}" * 5000, {}
    yield b'{"model": "m", "seed": 1' + b"0" * 5000 + b"}", {}
    yield json.dumps(CHAT).encode("utf-16"), {}
    yield b"\xef\xbb\xbf" + whole, {}
    yield whole + b"garbage", {}
    for name, value in ODD_HEADERS:
        yield whole, {name: value}
    for text in ODD_TEXTS:
        yield json.dumps(CHAT | {"messages": [{"role": "user", "content": text}]}).encode(), {}
        yield json.dumps({"model": "m", "prompt": text, "max_tokens": 1, "stop": text or "x"}).encode(), {}
        yield json.dumps(CHAT | {text: 1}).encode(), {}
    for value in ODD_VALUES:
        for name in FIELDS:
            yield json.dumps(CHAT | {name: value}).encode(), {}
