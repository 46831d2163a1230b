"""A model in two processes: the same answers from both, and what happens when one of them ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from heedful.configs.shared import Generation
from heedful.models import render
from heedful.rollout.types import Stream
from heedful.serve import local as serve_local
from heedful.serve.replicas import Replica
from serve.live import load, local, running, wait_for
from serve.place import Place

pytestmark = pytest.mark.medium
OTHER = "llama 5"


@contextmanager
def two_processes(folder: Path) -> Iterator[Place]:
    """Requests take turns between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve_local, "FEW", 0)
        made = Place(folder, {"m": local("llama", threads=2, rows=16)}, limits={"requests_a_minute": 0})
        with running(made.app) as address:
            made.address = address  # type: ignore[attr-defined]
            wait_for(lambda: replica_of(made).failure is None, 60)
            yield made
        wait_for(lambda: not replica_of(made)._process.is_alive())
        made.store.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with two_processes(tmp_path_factory.mktemp("replicas")) as made:
        yield made


def backend_of(place: Place) -> Any:
    return place.app.state.service.models["m"]


def replica_of(place: Place) -> Replica:
    lane, replica = backend_of(place).lanes
    assert not isinstance(lane, Replica)
    assert isinstance(replica, Replica)
    return replica


def texts_of(path: str, seeds: range, tokens: int) -> list[str]:
    """By the engine alone."""
    engine, tokenizer = load(path)
    ids, asked = [*tokenizer.encode("Go on")], Generation(max_new_tokens=tokens)
    streams = [Stream(seed, 0, 0) for seed in seeds]
    samples = engine.generate([ids] * len(seeds), streams, asked)
    return [render.response_text(tokenizer, sample.response_ids) for sample in samples]


async def ask(place: Place, seeds: range, **more: Any) -> list[Any]:
    """Streams at the same time."""
    async with openai.AsyncOpenAI(
        api_key=place.secrets["ada"],
        base_url=place.address + "/v1",
        max_retries=0,  # type: ignore[attr-defined]
    ) as client:

        async def one(seed: int) -> str:
            given: Any = {"model": "m", "prompt": "Go on", "max_tokens": 30, "seed": seed, **more}
            stream = await client.completions.create(**given, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

        return await asyncio.gather(*(one(seed) for seed in seeds), return_exceptions=True)


def test_both_processes_give_what_the_engine_samples_and_take_half_each(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, sent = replica_of(place), []
    submit = Replica.submit
    monkeypatch.setattr(Replica, "submit", lambda self, *given: (sent.append(given), submit(self, *given)))
    assert asyncio.run(ask(place, range(40))) == texts_of("llama", range(40), 30)
    assert 10 <= len(sent) <= 30
    assert (backend_of(place).waiting, replica.users, replica._tickets) == (0, 0, {})


def test_log_probabilities_of_a_prompt_and_a_stop_come_from_the_replica_too(place: Place) -> None:
    with openai.OpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1") as client:  # type: ignore[attr-defined]
        given: Any = {"model": "m", "prompt": "Go on", "max_tokens": 9, "seed": 4, "logprobs": 2, "echo": True}
        backend_of(place).lanes[0].users += 1  # so the next one goes to the replica
        there = client.completions.create(**given, stop=["q"])
        backend_of(place).lanes[0].users -= 1
        replica_of(place).users += 1
        here = client.completions.create(**given, stop=["q"])
        replica_of(place).users -= 1
    assert there.choices[0].text == here.choices[0].text
    assert there.choices[0].logprobs is not None
    assert here.choices[0].logprobs is not None
    assert there.choices[0].logprobs.tokens == here.choices[0].logprobs.tokens
    assert (
        there.choices[0].logprobs.token_logprobs[1:]
        == pytest.approx(  # type: ignore[index]
            here.choices[0].logprobs.token_logprobs[1:],
            abs=1e-5,  # type: ignore[index]
        )
    )


def test_a_client_that_leaves_the_replica_frees_its_rows(place: Place) -> None:
    backend_of(place).lanes[0].users += 1
    body = {"model": "m", "prompt": "Go on", "max_tokens": 240, "n": 8, "temperature": 2.0, "stream": True}
    headers = {"Authorization": f"Bearer {place.secrets['ada']}"}
    with (
        httpx.Client(base_url=place.address, headers=headers, timeout=20) as http,  # type: ignore[attr-defined]
        http.stream("POST", "/v1/completions", json=body) as response,
    ):
        next(response.iter_raw())
    wait_for(lambda: backend_of(place).waiting == 0 and not replica_of(place)._tickets, 2)
    backend_of(place).lanes[0].users -= 1
    assert asyncio.run(ask(place, range(4))) == texts_of("llama", range(4), 30)


@pytest.mark.slow
def test_another_checkpoint_is_in_both_processes_and_one_that_ends_fails_its_own_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with two_processes(tmp_path) as place:
        old, browser = replica_of(place), place.browser("admin")
        with httpx.Client(cookies=dict(browser.cookies), timeout=60) as http:
            address = place.address + "/api/models/m"  # type: ignore[attr-defined]
            done = http.put(address, json={"path": OTHER}, headers={"Origin": "http://testserver"})
        assert done.status_code == 200
        wait_for(lambda: replica_of(place).failure is None and not old._process.is_alive(), 60)
        assert replica_of(place) is not old
        assert asyncio.run(ask(place, range(16))) == texts_of(OTHER, range(16), 30)

        async def cut() -> list[Any]:
            asking = asyncio.ensure_future(ask(place, range(8), max_tokens=200, temperature=2.0))
            while not replica_of(place)._tickets:
                await asyncio.sleep(0.005)
            with socket.socket(fileno=os.dup(replica_of(place)._pipe.fileno())) as pipe:
                pipe.shutdown(socket.SHUT_RDWR)  # what a replica sees after a kill -9 of its server
            return await asking

        answers = asyncio.run(cut())
        failed = [one for one in answers if isinstance(one, openai.APIError)]
        assert 1 <= len(failed) <= 7
        assert all("The model failed" in str(one) for one in failed)
        assert all(isinstance(one, str) for one in answers if one not in failed)
        wait_for(lambda: not replica_of(place)._process.is_alive())
        assert replica_of(place)._process.exitcode == 1
        assert asyncio.run(ask(place, range(8))) == texts_of(OTHER, range(8), 30)
        assert backend_of(place).state()["status"] == "ok"
        assert "A process with a copy of the model has ended with code 1. The others answer." in caplog.text
