"""Another checkpoint behind a name while clients stream: by the route, and by serving.json."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.serve import ServeConfig
from heedful.rollout.local import LocalEngine
from heedful.runs import placed
from heedful.serve import local as serve_local
from heedful.serve.loading import Loading
from serve.live import load, local, running, wait_for
from serve.place import HOST, Place

OTHER = "llama 5"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, {"m": local("llama", rows=16)}, limits={"requests_a_minute": 0})
    with running(made.app) as address:
        made.address = address  # type: ignore[attr-defined]
        yield made
    made.store.close()


def browsing(place: Place, name: str | None) -> httpx.Client:
    """Signed in as somebody, at the port of the server."""
    cookies = dict(place.browser(name).cookies) if name else {}
    return httpx.Client(base_url=place.address, headers={"Origin": HOST}, cookies=cookies, timeout=20)  # type: ignore[attr-defined]


def text_of(path: str, prompt: str, seed: int, tokens: int) -> str:
    from heedful.configs.shared import Generation
    from heedful.models import render
    from heedful.rollout.types import Stream

    engine, tokenizer = load(path)
    asked = Generation(max_new_tokens=tokens)
    (sample,) = engine.generate([tokenizer.encode(prompt)], [Stream(seed, 0, 0)], asked)
    return render.response_text(tokenizer, sample.response_ids)


@pytest.mark.medium
@pytest.mark.parametrize("fits", [True, False], ids=["side by side", "drained first"])
def test_new_requests_get_the_new_model_and_running_ones_end_on_the_old(
    place: Place, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    """64 clients that stream all the time: none of them fails."""
    monkeypatch.setattr(serve_local, "_fits_twice", lambda *_: fits)
    expected = {path: [text_of(path, "Go on", seed, 30) for seed in range(8)] for path in ("llama", OTHER)}
    admin = place.browser("admin")

    async def run() -> tuple[list[str], list[str], Any]:
        async with openai.AsyncOpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1") as client:  # type: ignore[attr-defined]

            async def one(number: int) -> str:
                given: Any = {"model": "m", "prompt": "Go on", "max_tokens": 30, "seed": number % 8}
                stream = await client.completions.create(**given, stream=True)
                return "".join([chunk.choices[0].text async for chunk in stream])

            first = [asyncio.ensure_future(one(number)) for number in range(64)]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            async with httpx.AsyncClient(timeout=30, cookies=dict(admin.cookies)) as http:
                swapping = asyncio.ensure_future(
                    http.put(
                        place.address + "/api/models/m",  # type: ignore[attr-defined]
                        json={"path": OTHER},
                        headers={"Origin": "http://testserver"},
                    )
                )
                during = [asyncio.ensure_future(one(number)) for number in range(64)]
                answer = await swapping
            texts = await asyncio.gather(*first), await asyncio.gather(*during)
            after = await asyncio.gather(*(one(number) for number in range(8)))
            assert after == expected[OTHER]
            return [*texts[0], *texts[1]], after, answer

    texts, _, answer = asyncio.run(run())
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"model": "m", "path": OTHER, "drained": not fits}
    for number, text in enumerate(texts):
        assert text in (
            expected["llama"][number % 8],
            expected[OTHER][number % 8],
        )
    backend: Any = place.app.state.service.models["m"]
    assert backend.waiting == 0
    assert backend.lanes[0].users == 0


@pytest.mark.medium
def test_the_old_model_goes_without_the_garbage_collector(place: Place) -> None:
    """After loading, the collector leaves alone what is there: nothing of a model may need it."""
    backend: Any = place.app.state.service.models["m"]
    with openai.OpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1") as client:  # type: ignore[attr-defined]
        given: Any = {"model": "m", "prompt": "Go on", "max_tokens": 5}
        client.completions.create(**given)
        old = weakref.ref(backend.lanes[0].engine.model)
        gc.collect()
        gc.disable()
        try:
            with browsing(place, "admin") as http:
                assert http.put("/api/models/m", json={"path": OTHER}).status_code == 200
            client.completions.create(**given)
            wait_for(lambda: old() is None)
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("given", "omp", "small", "large"),
    [
        (0, None, (4, 1), (1, 5)),  # six cores: a large model leaves one to the event loop
        (0, "3", (3, 1), (1, 3)),
        (2, "3", (2, 1), (1, 2)),
        (1, None, (1, 1), (1, 1)),
        (9, None, (4, 2), (1, 9)),
    ],
)
def test_threads_of_a_small_model_have_a_lane_each(
    monkeypatch: pytest.MonkeyPatch, given: int, omp: str | None, small: tuple[int, int], large: tuple[int, int]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    monkeypatch.setattr(torch, "get_num_threads", lambda: int(omp or 6))
    engine = LocalEngine(tiny.policy("llama"), tiny.tokenizer())
    assert serve_local.lanes_of(engine, given) == small
    monkeypatch.setattr(serve_local, "SMALL", serve_local.weights_of(engine) - 1)
    assert serve_local.lanes_of(engine, given) == large


def test_a_model_with_a_decoder_of_its_own_has_one_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own forward runs, which two threads must not share."""
    engine = LocalEngine(tiny.policy("gpt2"), tiny.tokenizer())
    assert engine.decoder == "cached"
    assert serve_local.lanes_of(engine, 2) == (1, 2)


@pytest.mark.medium
def test_the_collector_leaves_alone_what_was_loaded(tmp_path: Path) -> None:
    tiny.policy("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    try:
        engine, _ = Loading(ServeConfig(model={"m": str(tmp_path / "model")}))(str(tmp_path / "model"))
        assert gc.get_freeze_count() > 10_000
        assert all(one is not engine.model for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_file_puts_a_checkpoint_in_place(place: Place) -> None:
    backend: Any = place.app.state.service.models["m"]
    placed.place(place.folder, "m", OTHER, by="ada")
    wait_for(lambda: backend.path == OTHER)
    placed.place(place.folder, "other", "x")
    assert json.loads((place.folder / "serving.json").read_text())["models"]["m"] == {"path": OTHER, "by": "ada"}
    assert placed.read(place.folder) == {"m": OTHER, "other": "x"}
    (place.folder / "serving.json").write_text("{")
    with pytest.raises(UserError, match=r"serving\.json"):
        placed.read(place.folder)


@pytest.mark.medium
def test_what_cannot_be_loaded_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = place.app.state.service.models["m"]

    def missing(path: str) -> Any:
        raise UserError(f"{path}: no such run")

    monkeypatch.setattr(backend, "load", missing)
    for fits in (True, False):
        monkeypatch.setattr(serve_local, "_fits_twice", lambda *_, fits=fits: fits)
        with browsing(place, "admin") as http:
            refused = http.put("/api/models/m", json={"path": "runs/none"})
        assert (refused.status_code, refused.json()["error"]) == (400, "runs/none: no such run")
        with openai.OpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1") as client:  # type: ignore[attr-defined]
            given: Any = {"model": "m", "prompt": "Go on", "max_tokens": 30, "seed": 3}
            assert client.completions.create(**given).choices[0].text == text_of("llama", "Go on", 3, 30)


@pytest.mark.medium
def test_only_administrators_swap(place: Place) -> None:
    for name, status in (("ada", 403), (None, 401)):
        with browsing(place, name) as http:
            assert http.put("/api/models/m", json={"path": OTHER}).status_code == status
