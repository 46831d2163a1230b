"""Requests that nobody would write: made from our own description, and a corpus of broken ones. Never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from serve.live import local, running
from serve.place import Place

OURS = r"^/(v1/(models|chat|completions)|api/keys|healthz|metrics)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    limits = {"requests_a_minute": 0, "context": 48, "choices": 8}
    made = Place(tmp_path_factory.mktemp("fuzz"), {"m": local("llama", **limits)}, limits=limits)
    with running(made.app) as address:
        made.address = address  # type: ignore[attr-defined]
        yield made
    made.store.close()


@pytest.mark.slow
def test_what_our_description_allows_is_never_an_error_of_ours(place: Place) -> None:
    headers = {"Authorization": f"Bearer {place.secrets['ada']}"}
    schema = schemathesis.openapi.from_url(place.address + "/v1/openapi.json", headers=headers)  # type: ignore[attr-defined]
    statuses: dict[str, set[int]] = {}
    for found in schema.include(path_regex=OURS).get_all_operations():
        operation = found.ok()

        @given(operation.as_strategy())
        @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            if isinstance(case.body, dict) and "model" in case.body:
                case.body["model"] = "m"  # else no request comes as far as the model
            answer = case.call(headers=headers, timeout=20)
            assert answer.status_code < 500, answer.text
            statuses.setdefault(case.path, set()).add(answer.status_code)
            if case.path.startswith("/v1") and answer.status_code >= 400:
                assert set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"}

        check()
    assert len(statuses) >= 8
    assert {200, 400} <= statuses["/v1/completions"]


def broken() -> Iterator[tuple[bytes, dict[str, str]]]:
    chat: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    yield b"", {}
    yield b"\x00" * 100, {}
    yield b'{"model": "m", "messages": ' + b"[" * 5000, {}
    yield b'{"a":' * 5000 + b"1" + b"}" * 5000, {}
    yield b'{"model": "m", "seed": 1' + b"0" * 5000 + b"}", {}
    yield json.dumps(chat).encode("utf-16"), {}
    yield b"\xef\xbb\xbf" + json.dumps(chat).encode(), {}
    yield json.dumps(chat).encode() + b"garbage", {}
    yield json.dumps(chat).encode(), {"Content-Type": "multipart/form-data"}
    yield json.dumps(chat).encode(), {"Heedful-Store": "maybe"}
    yield json.dumps(chat).encode(), {"Authorization": "Basic eA=="}
    yield json.dumps(chat).encode(), {"Authorization": "Bearer \xff\xfe"}
    yield json.dumps(chat).encode(), {"Authorization": "Bearer wrong"}
    yield json.dumps(chat).encode(), {"Accept-Encoding": "br;q=nan"}
    odd = ["\0", "\ud83d", "\u202e\u2066", "é" * 40, "<|im_start|>", "<|endoftext|>", "\x1b[31m", "\uffff", "𝕏" * 9]
    for text in odd:
        yield json.dumps(chat | {"messages": [{"role": "user", "content": text}]}).encode(), {}
        yield json.dumps({"model": "m", "prompt": text, "max_tokens": 1, "stop": text or "x"}).encode(), {}
        yield json.dumps(chat | {text: 1}).encode(), {}
    for value in (None, True, -1, 1e308, -0.0, 2**70, "", [], {}, [[]], [None], {"a": {"a": []}}):
        for name in ("model", "messages", "n", "temperature", "top_p", "stop", "seed", "stream", "logprobs", "user",
                     "stream_options", "metadata", "store", "max_tokens", "prompt", "echo", "tools"):  # fmt: skip
            yield json.dumps(chat | {name: value}).encode(), {}


def test_broken_requests_are_refused_and_never_an_error_of_ours(place: Place) -> None:
    headers = {"Authorization": f"Bearer {place.secrets['ada']}", "Content-Type": "application/json"}
    seen: set[int] = set()
    with httpx.Client(base_url=place.address + "/v1", headers=headers, timeout=20) as http:  # type: ignore[attr-defined]
        for number, (content, more) in enumerate(broken()):
            where = "/completions" if number % 2 else "/chat/completions"
            try:
                request = http.build_request("POST", where, content=content, headers=more)
            except UnicodeEncodeError:
                continue
            answer = http.send(request)
            assert answer.status_code < 500, (content[:200], answer.text)
            if answer.status_code >= 400 and answer.text != "Invalid HTTP request received.":
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            seen.add(answer.status_code)
    assert {200, 400, 401} <= seen
