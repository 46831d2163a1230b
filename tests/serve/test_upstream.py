"""The proxy: bytes as they come, our fields held back, and what becomes of an upstream's faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from heedful.serve.upstream import UpstreamBackend
from serve.live import running, wait_for
from serve.place import Keeps, Place
from serve.scripted import Upstream, event

SCRIPTS = ("good", "slow", "cut", "nonsense", "status400", "status404", "status429", "status401", "status500")
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a canary"}]}


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Place]:
    patched = pytest.MonkeyPatch()
    patched.setenv("HEEDFUL_API_KEY", "sk-secret")
    with running(upstream) as theirs:
        models: dict[str, Any] = {name: UpstreamBackend(f"{theirs}/v1#{name}") for name in SCRIPTS}
        models["away"] = UpstreamBackend("http://127.0.0.1:9/v1#x")
        made = Place(tmp_path_factory.mktemp("proxy"), models, limits={"seconds": 1.5, "requests_a_minute": 0})
        with running(made.app) as address:
            made.address = address  # type: ignore[attr-defined]
            yield made
        made.store.close()
    patched.undo()


@pytest.fixture
def http(place: Place) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {place.secrets['ada']}"}
    with httpx.Client(base_url=place.address + "/v1", headers=headers, timeout=10) as client:  # type: ignore[attr-defined]
        yield client


def test_a_request_passes_but_for_what_is_ours(place: Place, http: httpx.Client, upstream: Upstream) -> None:
    sent = CHAT | {"model": "good", "user": "u1", "metadata": {"a": "b"}, "store": True, "min_p": 0.1, "tools": []}
    answer = http.post("/chat/completions", json=sent, headers={"Heedful-Store": "yes"})
    assert upstream.bodies[-1] == CHAT | {"model": "good", "min_p": 0.1, "tools": []}
    headers = upstream.headers[-1]
    assert headers["authorization"] == "Bearer sk-secret"
    assert not {"heedful-store", "cookie"} & headers.keys()
    assert place.secrets["ada"] not in str(headers)
    assert answer.json()["extra"] == ["as it is"]
    kept = place.collector.kept[-1]  # type: ignore[attr-defined]
    assert (kept.id, kept.user, kept.answers, kept.upstream) == ("chatcmpl-theirs", "ada/u1", ["hello there"], True)


def test_a_stream_is_relayed_byte_for_byte(place: Place, http: httpx.Client) -> None:
    with http.stream("POST", "/chat/completions", json=CHAT | {"model": "good", "stream": True}) as response:
        got = b"".join(response.iter_raw())
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    assert got == event("hel") + event("lo ") + event("there", "stop") + event("", usage=usage) + b"data: [DONE]\n\n"
    kept = place.collector.kept[-1]  # type: ignore[attr-defined]
    assert (kept.answers, kept.finish) == (["hello there"], ["stop"])
    with openai.OpenAI(api_key=place.secrets["bo"], base_url=place.address + "/v1") as client:  # type: ignore[attr-defined]
        before = len(place.collector.kept)  # type: ignore[attr-defined]
        chunks = list(client.chat.completions.create(model="good", stream=True, **CHAT))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello there"
        assert len(place.collector.kept) == before  # type: ignore[attr-defined]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("status400", 400, "upstream says 400, key ***"),
        ("status404", 404, "upstream says 404"),
        ("status429", 429, "wait"),
        ("status401", 503, "status 401"),
        ("status500", 503, "status 500"),
        ("nonsense", 503, "not JSON"),
        ("cut", 503, "middle"),
        ("slow", 504, "too long"),
        ("away", 503, "does not answer"),
    ],
)
def test_faults_of_an_upstream(place: Place, http: httpx.Client, script: str, status: int, words: str) -> None:
    before = len(place.collector.kept)  # type: ignore[attr-defined]
    answer = http.post("/chat/completions", json=CHAT | {"model": script})
    error = answer.json()["error"]
    assert answer.status_code == status
    assert words in error["message"]
    assert "sk-secret" not in answer.text
    if script == "status429":
        assert answer.headers["retry-after"] == "17"
    if script == "away":
        health = httpx.get(place.address + "/healthz").json()  # type: ignore[attr-defined]
        assert health["status"] == "degraded"
    if script == "status400":
        assert error["param"] == "top_k"
    assert len(place.collector.kept) == before  # type: ignore[attr-defined]


@pytest.mark.medium
@pytest.mark.parametrize(("script", "words"), [("cut", "middle"), ("slow", "too long")])
def test_a_stream_that_fails_ends_with_an_event(place: Place, script: str, words: str) -> None:
    with openai.OpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1") as client:  # type: ignore[attr-defined]
        stream = client.chat.completions.create(model=script, stream=True, **CHAT)
        assert next(stream).choices[0].delta.content == "hel"
        with pytest.raises(openai.APIError, match=words):
            list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_closes_the_upstreams_connection_within_a_second(
    place: Place, http: httpx.Client, upstream: Upstream, stream: bool
) -> None:
    before = upstream.left
    if stream:
        with http.stream("POST", "/chat/completions", json=CHAT | {"model": "slow", "stream": True}) as response:
            next(response.iter_raw())
    else:
        with pytest.raises(httpx.TimeoutException):
            http.post("/chat/completions", json=CHAT | {"model": "slow"}, timeout=0.3)
    began = time.monotonic()
    wait_for(lambda: upstream.left > before, 1.0 + 0.5)
    assert time.monotonic() - began < 1.5


def test_nobody_is_kept_who_refuses(http: httpx.Client, place: Place) -> None:
    assert isinstance(place.collector, Keeps)
    before = len(place.collector.kept)
    for more, headers in (({"store": False}, {}), ({}, {"Heedful-Store": "no"})):
        http.post("/chat/completions", json=CHAT | {"model": "good"} | more, headers=headers)
    assert len(place.collector.kept) == before
