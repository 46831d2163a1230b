"""The client of endpoints, against a server that is slow, busy, broken, cut off, or talks nonsense."""

from __future__ import annotations

import asyncio
import email.utils
import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from endpoints.scripted import Endpoint, Reply, error, said, serving
from heedful.config import UserError
from heedful.configs.endpoint import EndpointConfig
from heedful.endpoints import client
from heedful.endpoints.client import Client, Failure, address
from heedful.endpoints.replies import EndpointAnswer

ASK = {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 8, "temperature": 1.0, "seed": 3}


def ask(ref: str, request: dict[str, Any] = ASK, **settings: Any) -> EndpointAnswer | Failure:
    return Client(ref, EndpointConfig(**settings)).ask([request])[0]


def then(first: Reply, *later: Reply) -> Callable[[int, dict[str, Any]], Reply]:
    """A script of replies in order. The last one stays."""
    replies = [first, *later]
    return lambda number, body: replies[min(number, len(replies) - 1)]


def test_an_answer_and_what_was_asked() -> None:
    with serving(then(said("Good day.", reasoning_content="hm"))) as endpoint:
        assert ask(endpoint.ref) == EndpointAnswer("Good day.", "stop", "tiny", thoughts=True)
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.requests == [{"model": "tiny", **ASK}]
    assert endpoint.keys == [None]


@pytest.mark.parametrize(
    ("ref", "url", "model"),
    [
        ("http://h:1/v1#m", "http://h:1/v1", "m"),
        ("https://h/v1/#org/m#x", "https://h/v1", "org/m#x"),
        ("https://h/v1/chat/completions#m", "https://h/v1", "m"),
        (" http://[::1]:8000/v1#m ", "http://[::1]:8000/v1", "m"),
    ],
)
def test_addresses(ref: str, url: str, model: str) -> None:
    assert (address(ref).url, address(ref).model) == (url, model)
    assert address(str(address(ref))) == address(ref)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("http://h/v1", "names no model"),
        ("http://h/v1# ", "names no model"),
        ("ftp://h/v1#m", "not the address"),
        ("http://#m", "not the address"),
        ("http://h:99999/v1#m", "not the address"),
        ("https://h/v1?key=hidden#m", "not the address"),
        ("https://me:hidden@h/v1#m", "must not hold a password"),
    ],
)
def test_what_is_no_address(ref: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        address(ref)


PASSING = {
    "busy": error(429, "slow down"),
    "error": error(500, "oh"),
    "gateway": Reply(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}),
    "dropped": Reply(drop=True),
    "cut off": Reply(body=b'{"choices": [', cut=100),
    "nonsense": Reply(body=b"<<<<"),
    "half JSON": Reply(body=b'{"choices": [{"mess'),
    "no choices": Reply(body={"choices": []}),
    "a list": Reply(body=[1, 2]),
    "a number": Reply(body={"choices": 7}),
    "no message": Reply(body={"choices": [{"text": "old style"}]}),
    "error in 200": Reply(body={"error": {"code": 503, "message": "overloaded"}}),
    "half a character": Reply(body=b'{"choices": [{"message": {"content": "\\ud83d"}}]}'),
    "not gzip": Reply(body=b"plain", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("first", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(first: Reply) -> None:
    with serving(then(first, said("at last"))) as endpoint:
        assert ask(endpoint.ref, retries=1) == EndpointAnswer("at last", "stop", "tiny")
        assert len(endpoint.requests) == 2
    with serving(then(first)) as endpoint:
        found = ask(endpoint.ref, retries=2)
        assert isinstance(found, Failure)
        assert "\n" not in found.reason
        assert len(found.reason) < 400
        assert len(endpoint.requests) == 3


def test_a_slow_endpoint_is_given_up() -> None:
    with serving(lambda number, body: said("late") if number else Reply(wait=1.0, body={})) as endpoint:
        started = time.monotonic()
        assert ask(endpoint.ref, timeout=0.2, retries=1) == EndpointAnswer("late", "stop", "tiny")
        assert time.monotonic() - started < 0.9
    with serving(then(Reply(wait=0.6, body={}))) as endpoint:
        assert ask(endpoint.ref, timeout=0.2, retries=0) == Failure(
            "no answer within 0.2 seconds. Raise --endpoint.timeout"
        )


@pytest.mark.medium
@pytest.mark.parametrize("as_date", [False, True])
def test_the_endpoint_says_how_long_to_wait(as_date: bool) -> None:
    ordered = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "0.4"
    with serving(then(error(429, "wait", {"Retry-After": ordered}), said("now"))) as endpoint:
        assert ask(endpoint.ref) == EndpointAnswer("now", "stop", "tiny")
        waited = endpoint.times[1] - endpoint.times[0]
    assert 0.35 < waited < 3


def test_all_requests_wait_together() -> None:
    with serving(then(error(429, "wait", {"Retry-After": "0.5"}), said("now"))) as endpoint:
        Client(endpoint.ref, EndpointConfig(parallel=1)).ask([ASK | {"seed": n} for n in range(3)])
        assert min(each - endpoint.times[0] for each in endpoint.times[1:]) > 0.45


def test_a_wait_of_an_hour_is_a_failure() -> None:
    with serving(then(error(429, "quota", {"Retry-After": "3600"}))) as endpoint:
        found = ask(endpoint.ref)
    assert found == Failure("status 429, quota. The endpoint asks to wait 3,600 seconds")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(401, "who are you"), "status 401, who are you. Put a key into HEEDFUL_API_KEY"),
        (error(404, "no model tiny"), "no model tiny. Check URL and model"),
        (Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"}), "replies with text/html, not with JSON"),
        (Reply(307, b"", {"Location": "http://elsewhere/v1"}), "leads on to http://elsewhere/v1"),
    ],
)
def test_what_concerns_every_request_stops_all(reply: Reply, says: str) -> None:
    with serving(then(reply)) as endpoint:
        with pytest.raises(UserError, match=says) as raised:
            Client(endpoint.ref, EndpointConfig(parallel=1)).ask([ASK | {"seed": n} for n in range(50)])
        assert len(endpoint.requests) == 1
    assert endpoint.ref in str(raised.value)


def test_nobody_there() -> None:
    with serving(then(said("x"))) as endpoint:
        pass
    started = time.monotonic()
    with pytest.raises(UserError, match="nobody answers there"):
        ask(endpoint.ref)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(400, "prompt too long"), "status 400, prompt too long"),
        (Reply(422, {"detail": [{"loc": ["body", "messages", 0], "msg": "bad role"}]}), "status 422, 0: bad role"),
        (said("", "content_filter"), "the answer ended with 'content_filter', which is no answer in text"),
        (said(None, "tool_calls", tool_calls=[{}]), "the answer ended with 'tool_calls', which is no answer in text"),
        (said(None), "the answer holds no text"),
        (said(None, refusal="I will not."), "the model refused: I will not."),
        (said([{"type": "image"}]), "the answer holds no text"),
    ],
)
def test_what_concerns_one_request(reply: Reply, says: str) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        return reply if body["seed"] == 1 else said(f"{body['seed']}")

    with serving(script) as endpoint:
        found = Client(endpoint.ref).ask([ASK | {"seed": n} for n in range(3)])
        assert found == [EndpointAnswer("0", "stop", "tiny"), Failure(says), EndpointAnswer("2", "stop", "tiny")]
        assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (said("cut", "length"), EndpointAnswer("cut", "length", "tiny")),
        (said("cut", "max_tokens"), EndpointAnswer("cut", "length", "tiny")),
        (said("no reason", None), EndpointAnswer("no reason", "stop", "tiny")),
        (said(""), EndpointAnswer("", "stop", "tiny")),
        (
            said([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]),
            EndpointAnswer("in parts", "stop", "tiny"),
        ),
        (
            Reply(body=b'{"choices": [{"message": {"content": "x"}}]}', headers={"Content-Type": "text/plain"}),
            EndpointAnswer("x", "stop", ""),
        ),
    ],
)
def test_answers(reply: Reply, answer: EndpointAnswer) -> None:
    with serving(then(reply)) as endpoint:
        assert ask(endpoint.ref) == answer


def test_many_failures_in_a_row_stop_all() -> None:
    with serving(lambda number, body: said("x") if number < 4 else error(500, "down")) as endpoint:
        with pytest.raises(UserError, match=r"10 requests in a row failed.*answers so far are kept"):
            Client(endpoint.ref, EndpointConfig(retries=0, parallel=1)).ask([ASK | {"seed": n} for n in range(50)])
        assert len(endpoint.requests) == 14


def test_a_rerun_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [ASK | {"seed": n} for n in range(5)]
    with serving(lambda number, body: said(f"answer {body['seed']}")) as endpoint:
        first = Client(endpoint.ref).ask(requests)
        again = Client(endpoint.ref)
        assert again.ask(requests) == first
        assert (len(endpoint.requests), again.asked) == (5, 0)
        assert ask(endpoint.ref, ASK | {"seed": 0, "temperature": 0.5}) == first[0]
        assert len(endpoint.requests) == 6
        for damaged in (tmp_path / "cache").rglob("*.json"):
            damaged.write_text('{"te')
        assert Client(endpoint.ref).ask(requests) == first
        assert len(endpoint.requests) == 11
        assert ask(endpoint.ref, requests[0], cache=False) == first[0]
        assert len(endpoint.requests) == 12
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    monkeypatch.setenv("HEEDFUL_CACHE", str(blocked))
    with pytest.raises(UserError, match="another folder in HEEDFUL_CACHE"):
        Client(endpoint.ref)


def test_a_full_disk_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("heedful.endpoints.cache.write_json", full)
    told = r"cache/answers: No space left on device\. .* or name another folder in HEEDFUL_CACHE"
    with serving(then(said("fine"))) as endpoint, pytest.raises(UserError, match=told):
        ask(endpoint.ref)


def test_failures_are_not_kept() -> None:
    with serving(then(error(400, "not today"), said("today"))) as endpoint:
        assert ask(endpoint.ref) == Failure("status 400, not today")
        assert ask(endpoint.ref) == EndpointAnswer("today", "stop", "tiny")


def test_the_key_is_sent_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "sk-very-hidden-7391"
    monkeypatch.setenv(client.KEY, f" {key}\n")

    def script(number: int, body: dict[str, Any]) -> Reply:
        return error(401 if number else 400, f"Incorrect API key provided: {key}.")

    with serving(script) as endpoint:
        found = ask(endpoint.ref)
        assert found == Failure("status 400, Incorrect API key provided: ***")
        with pytest.raises(UserError, match="Check the key in HEEDFUL_API_KEY") as raised:
            ask(endpoint.ref)
        endpoint.script = then(said("fine"))
        assert isinstance(ask(endpoint.ref), EndpointAnswer)
    assert endpoint.keys == [f"Bearer {key}"] * 3
    assert key not in str(raised.value) + caplog.text
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_the_endpoint_has_other_names_for_settings() -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        if "max_tokens" in body:
            told = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return error(400, told, param="max_tokens")
        if "seed" in body:
            return Reply(422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
        return said("fine")

    with serving(script) as endpoint:
        asking = Client(endpoint.ref)
        requests = [ASK | {"temperature": n / 10} for n in range(6)]
        assert asking.ask(requests) == [EndpointAnswer("fine", "stop", "tiny")] * 6
        assert asking.remarks == ["the endpoint takes no seed, so its answers cannot be drawn again"]
        assert endpoint.requests[-1].keys() == {"model", "messages", "max_completion_tokens", "temperature"}


def test_a_prompt_that_speaks_of_a_seed_changes_nothing() -> None:
    with serving(then(error(400, "the text 'plant a seed in May' is too long"))) as endpoint:
        asking = Client(endpoint.ref)
        assert asking.ask([ASK]) == [Failure("status 400, the text 'plant a seed in May' is too long")]
        assert (asking.remarks, len(endpoint.requests)) == ([], 1)


def test_requests_at_the_same_time() -> None:
    with serving(then(Reply(wait=0.3, body=said("x").body))) as endpoint:
        started, seen = time.monotonic(), []
        Client(endpoint.ref, EndpointConfig(parallel=6)).ask(
            [ASK | {"seed": n} for n in range(6)], lambda place, answer: seen.append(place)
        )
        assert time.monotonic() - started < 1.5
        assert sorted(seen) == list(range(6))


def test_in_a_notebook_where_a_loop_runs() -> None:
    async def cell(ref: str) -> EndpointAnswer | Failure:
        return ask(ref)

    with serving(then(said("x"))) as endpoint:
        assert asyncio.run(cell(endpoint.ref)) == EndpointAnswer("x", "stop", "tiny")


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving(then(said("x"))) as endpoint:
        assert isinstance(ask(endpoint.ref), EndpointAnswer)


def test_no_requests() -> None:
    endpoint = Endpoint("http://127.0.0.1:9", then(said("x")))
    assert Client(endpoint.ref).ask([]) == []
