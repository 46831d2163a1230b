"""`transformers serve` as a real upstream: what comes through the proxy is what it says itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import tiny
from heedful.serve.upstream import UpstreamBackend
from serve.live import running
from serve.place import Place

GIVEN: dict[str, Any] = {
    "messages": [{"role": "user", "content": "The old miller"}],
    "max_tokens": 12,
    "temperature": 0,
}


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """(address, model) of a server with a tiny model. Skipped where it cannot start."""
    program = Path(sys.executable).with_name("transformers")
    if not program.exists():
        pytest.skip("transformers serve is not installed")
    model = tmp_path / "model"
    tiny.policy("llama").save_pretrained(model)
    tiny.tokenizer(template=True).save_pretrained(model)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [program, "serve", model, "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        end = time.monotonic() + 240
        while True:
            if process.poll() is not None or time.monotonic() > end:
                pytest.skip(f"transformers serve does not start: {log.read_text(errors='replace')[-300:]}")
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(30)


def streamed(client: openai.OpenAI, model: str) -> str:
    chunks = client.chat.completions.create(model=model, stream=True, **GIVEN)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.slow
def test_transformers_serve_as_upstream(peer: tuple[str, str], tmp_path: Path) -> None:
    url, model = peer
    place = Place(tmp_path, {"theirs": UpstreamBackend(f"{url}#{model}")})
    with running(place.app) as address, openai.OpenAI(api_key="none", base_url=url) as theirs:
        said = theirs.chat.completions.create(model=model, **GIVEN).choices[0].message.content
        in_parts = streamed(theirs, model)  # without the last character where that is not complete
        assert said
        assert in_parts
        with openai.OpenAI(api_key=place.secrets["ada"], base_url=f"{address}/v1", max_retries=0) as ours:
            whole = ours.chat.completions.create(model="theirs", user="u1", store=True, **GIVEN)
            assert whole.choices[0].message.content == said
            assert streamed(ours, "theirs") == in_parts
    kept = place.collector.kept  # type: ignore[attr-defined]
    assert [one.answers for one in kept] == [[said], [in_parts]]
    assert [one.user for one in kept] == ["ada/u1", "ada"]
    place.store.close()
