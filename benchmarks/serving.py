"""Streaming clients against a served model: tokens a second, and the time to the first token.

    python benchmarks/serving.py                          # heedful serve on shape T, 1, 8 and 64 clients
    python benchmarks/serving.py --peer --clients 8       # transformers serve on the same model and prompts
    python benchmarks/serving.py --peer --batching        # ... with --continuous-batching

Each client sends one request after the other: 16 to 64 tokens of prompt, 64 tokens of answer, temperature 1. One line
of JSON for each number of clients. Run both sides in turns on an idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent / "speed"))
import work

from heedful.feedback import keys, people
from heedful.feedback.store import Store

NEW = 64
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ours(model: Path, folder: Path, port: int) -> tuple[list[str], str]:
    """(command, key) of heedful serve."""
    store = Store.open(folder / "heedful.db")
    now = datetime.now(UTC)
    with store.writing() as db:
        secret = keys.new(db, people.add_person(db, "bench", None, now, admin=True).id, "bench", now)[1]
    store.close()
    command = [sys.executable, "-m", "heedful", "serve", "--model", f"m={model}", "--folder", str(folder)]
    return [*command, "--port", str(port), "--limits.requests-a-minute", "0"], secret


def peers(model: Path, port: int, batching: bool) -> list[str]:
    program = str(Path(sys.executable).parent / "transformers")
    command = [program, "serve", str(model), "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    return [*command, *(["--continuous-batching"] if batching else [])]


async def client(
    http: httpx.AsyncClient, name: str, prompts: list[str], seed: int, found: list[tuple[float, int]]
) -> None:
    """Send prompts one after the other: (seconds to the first token, tokens) of each."""
    for number, prompt in enumerate(prompts):
        body = {
            "model": name, "messages": [{"role": "user", "content": prompt}], "max_tokens": NEW, "stream": True,
            "temperature": 1.0, "seed": seed * 1000 + number,
        }  # fmt: skip
        began, first, text = time.perf_counter(), None, ""
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                choices = json.loads(line[6:]).get("choices") or [{}]
                piece = (choices[0].get("delta") or {}).get("content")
                if piece:
                    first = first or time.perf_counter() - began
                    text += piece
        if first is not None:
            found.append((first, text.count("w")))  # each token is one word, such as w17


async def measure(address: str, key: str, name: str, prompts: list[str], clients: int, each: int) -> dict[str, Any]:
    found: list[tuple[float, int]] = []
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=address, headers=headers, timeout=600, limits=limits, trust_env=False
    ) as http:
        await client(http, name, prompts[:1], 999_999, [])
        began = time.perf_counter()
        await asyncio.gather(
            *(
                client(http, name, [prompts[(c + i) % len(prompts)] for i in range(each)], c, found)
                for c in range(clients)
            )
        )
        seconds = time.perf_counter() - began
    firsts = sorted(first for first, _ in found)
    tokens = sum(count for _, count in found)
    return {
        "clients": clients, "requests": len(found), "tokens": tokens, "tokens_a_second": round(tokens / seconds, 1),
        "first_p50_ms": round(1000 * statistics.median(firsts), 1),
        "first_p99_ms": round(1000 * firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))], 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--batching", action="store_true")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--each", type=int, default=4, help="requests of each client")
    parser.add_argument("--shape", default="T")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        work.prepare(options.shape, folder)
        model, key = folder / "policy", "none"
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = TEMPLATE  # the peer answers no chat without one
        tokenizer.save_pretrained(model)
        if options.peer:
            command, named = peers(model, port, options.batching), str(model)
        else:
            (command, key), named = ours(model, folder, port), "m"
        prompts = [" ".join(f"w{token}" for token in ids) for ids in work.prompts(options.shape)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    httpx.get(f"{address}/health", trust_env=False)
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            for clients in options.clients:
                row = asyncio.run(measure(address, key, named, prompts, clients, options.each))
                print(json.dumps({"server": "transformers" if options.peer else "heedful", **row}), flush=True)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


if __name__ == "__main__":
    main()
