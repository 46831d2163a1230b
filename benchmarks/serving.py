"""Streaming clients against a served model: tokens a second, and the time to the first token.

    python benchmarks/serving.py                             # heedful and both modes of transformers serve, in turns
    python benchmarks/serving.py --servers heedful --clients 64
    python benchmarks/serving.py --proxy                     # what heedful adds in front of another server
    python benchmarks/serving.py --soak 5 --clients 8        # how memory grows in five minutes of mixed traffic
    python benchmarks/serving.py --table RESULTS.jsonl ...   # results as a table

Each client sends one request after the other: 16 to 64 tokens of prompt, 64 tokens of answer, temperature 1. All
servers get the same model, prompts and seeds. They run in turns, and the others are stopped meanwhile. Server and
clients share the machine. One line of JSON for each measurement, which `--out` adds to a file. An answer without a
token counts as one whose first token comes at the end of the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import streaming
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent / "speed"))
import work

from heedful.collection.settings import CollectionConfig
from heedful.feedback import keys, people
from heedful.feedback.store import Store

NEW = 64
WARM = 300  # seconds of a soak that do not count
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
SERVERS = {"heedful": "heedful serve", "peer": "transformers serve", "batching": "... --continuous-batching"}
MANY = ["--limits.requests-a-minute", "0", "--limits.queue", "4096"]
CACHE = ["--cb-num-blocks", "256", "--cb-block-size", "64", "--cb-max-batch-tokens", "1024"]
"""Its own choice of a cache fills the machine's memory."""


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[psutil.Process]:
    """A server, from its first answer on."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | environment)  # fmt: skip
    try:
        end = time.monotonic() + 180
        while True:
            assert process.poll() is None, f"it ended with {process.returncode}: {command}"
            assert time.monotonic() < end, f"it does not answer: {command}"
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ours(folder: Path, port: int, *models: str) -> tuple[list[str], str]:
    """(command, key) of heedful serve on a new database. The key's user agreed to storing."""
    store, now = Store.open(folder / "heedful.db"), datetime.now(UTC)
    with store.writing() as db:
        name = f"bench-{port}"
        person = people.add_person(db, name, None, now, admin=True).id
        secret = keys.new(db, person, name, now, consent=CollectionConfig().version)[1]
    store.close()
    command = [sys.executable, "-m", "heedful", "serve", *models, "--folder", str(folder)]
    return [*command, "--port", str(port), *MANY], secret


def peers(model: Path, port: int, batching: bool) -> list[str]:
    program = str(Path(sys.executable).parent / "transformers")
    command = [program, "serve", str(model), "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    return [*command, *(["--continuous-batching", *CACHE] if batching else [])]


def body(model: str, prompt: str, seed: int) -> dict[str, Any]:
    message = {"role": "user", "content": prompt}
    return {"model": model, "messages": [message], "max_tokens": NEW, "stream": True, "temperature": 1.0, "seed": seed}


def bodies(model: str, prompts: list[str], client: int, **more: Any) -> Iterator[dict[str, Any]]:
    """The requests of a client, without end."""
    for number in itertools.count():
        yield body(model, prompts[(client + number) % len(prompts)], client * 1000 + number) | more


@dataclass
class Started:
    """A server that runs."""

    process: psutil.Process
    port: int
    key: str
    model: str
    more: dict[str, Any]

    def spent(self) -> float:
        """Processor seconds of its processes so far."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    def settle(self) -> None:
        """Wait until it has noticed that its clients left."""
        for _ in range(20):
            before = self.spent()
            time.sleep(0.5)
            if self.spent() - before < 0.1:
                return

    def stopped(self, stopped: bool) -> None:
        """Stop its processes, so that it costs the others nothing, or let them go on."""
        for process in [self.process, *self.process.children(recursive=True)]:
            if stopped:
                process.suspend()
            else:
                process.resume()


def load(options: argparse.Namespace, folder: Path, model: Path, prompts: list[str]) -> None:
    """Every server in turn, with every number of clients, `--repeats` times. Only one of them runs at a time."""
    with ExitStack() as stack:
        servers = {name: start(stack, name, folder, model) for name in options.servers}
        for one in servers.values():
            asyncio.run(streaming.ask(one.port, one.key, body(one.model, prompts[0], 0) | one.more))  # warm
            one.stopped(True)
        try:
            for _ in range(options.repeats):
                for clients in options.clients:
                    for name, one in servers.items():
                        one.stopped(False)
                        measure(options, name, one, prompts, clients)
                        one.settle()
                        one.stopped(True)
        finally:
            for one in servers.values():
                one.stopped(False)


def start(stack: ExitStack, name: str, folder: Path, model: Path) -> Started:
    port, key, asked, more = free_port(), "none", str(model), {}
    if name == "heedful":
        command, key = ours(folder, port, "--model", f"m={model}")
        asked, more = "m", {"store": False}
    else:
        command = peers(model, port, name == "batching")
    return Started(stack.enter_context(running(command, port)), port, key, asked, more)


def measure(options: argparse.Namespace, name: str, one: Started, prompts: list[str], clients: int) -> None:
    asking = [bodies(one.model, prompts, client, **one.more) for client in range(clients)]
    spent, mine, began = one.spent(), time.process_time(), time.perf_counter()
    answers = asyncio.run(streaming.crowd(one.port, one.key, asking, options.seconds))
    seconds = time.perf_counter() - began
    spent, mine = one.spent() - spent, time.process_time() - mine
    row = {"server": name, "clients": clients, "shape": options.shape, **figures(answers, seconds, spent)}
    row |= {"threads": options.threads, "seconds": options.seconds}
    say(options, row | {"cores_server": round(spent / seconds, 2), "cores_clients": round(mine / seconds, 2)})


def figures(answers: list[streaming.Answer], seconds: float, spent: float) -> dict[str, Any]:
    """`spent`: processor time of the server. An answer without a token counts with the time that it has waited."""
    firsts = sorted(1000 * ((answer.first or answer.ended) - answer.began) for answer in answers)
    tokens = sum(answer.text().count("w") for answer in answers)  # each token is one word, such as w17
    return {
        "requests": len(answers), "unanswered": sum(answer.first is None for answer in answers), "tokens": tokens,
        "tokens_a_second": round(tokens / seconds, 1), "tokens_a_core_second": round(tokens / spent, 1),
        "first_p50_ms": round(statistics.median(firsts), 1),
        "first_p99_ms": round(firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))], 1),
    }  # fmt: skip


def proxy(options: argparse.Namespace, folder: Path, prompts: list[str]) -> None:
    """Requests to an upstream that answers at once, directly and through heedful, in turns."""
    upstream, port = free_port(), free_port()
    command, key = ours(folder, port, "--upstream", f"m=http://127.0.0.1:{upstream}/v1#m")
    scripted = [sys.executable, str(Path(__file__).resolve()), "--upstream", str(upstream)]
    rows: dict[int, list[streaming.Answer]] = {upstream: [], port: []}
    with running(scripted, upstream), running(command, port):
        for number in range(options.requests + 20):
            asked = body("m", prompts[number % len(prompts)], number) | {"store": False}
            for where, found in rows.items():
                answer = asyncio.run(streaming.ask(where, key, asked))
                if number >= 20:  # both are warm
                    found.append(answer)
    direct, through = (
        {
            "first": [1000 * ((answer.first or answer.ended) - answer.began) for answer in found],
            "whole": [1000 * (answer.ended - answer.began) for answer in found],
        }
        for found in rows.values()
    )
    assert all(len(answer.events()) >= NEW for found in rows.values() for answer in found)
    medians = {
        f"{name}_{what}_p50_ms": round(statistics.median(times[what]), 2)
        for name, times in (("direct", direct), ("through", through))
        for what in ("first", "whole")
    }
    added = {
        f"added_{what}_p50_ms": round(statistics.median(through[what]) - statistics.median(direct[what]), 2)
        for what in ("first", "whole")
    }
    say(options, {"server": "proxy", "requests": options.requests, **medians, **added})


def scripted(port: int) -> None:
    """An upstream that answers with `NEW` events at once."""
    import uvicorn

    def event(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        return b"data: " + json.dumps({"id": "chatcmpl-x", "choices": [choice]}).encode() + b"\n\n"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(NEW):
            await send({"type": "http.response.body", "body": event(f"w{number} "), "more_body": True})
        await send({"type": "http.response.body", "body": event("", "stop") + b"data: [DONE]\n\n"})

    uvicorn.run(app, port=port, log_level="error", access_log=False)


def soak(options: argparse.Namespace, folder: Path, model: Path, prompts: list[str]) -> None:
    """Mixed traffic for some minutes: streams, clients that leave, broken requests, answers that are stored, thumbs.

    One line for each minute, and one at the end. Growth counts from the sixth minute on, in a short run from a third.
    """
    port = free_port()
    command, key = ours(folder, port, "--model", f"m={model}")
    with running(command, port) as process:
        memory = asyncio.run(_traffic(options, port, key, prompts, process))
    warm = [(at, mib) for at, mib in memory if at >= min(WARM, memory[-1][0] / 3)]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope
    say(
        options,
        {
            "server": "heedful", "soak_minutes": options.soak, "first_mib": round(memory[0][1], 1),
            "warm_mib": round(warm[0][1], 1), "last_mib": round(warm[-1][1], 1),
            "grown_mib": round(warm[-1][1] - warm[0][1], 1), "mib_an_hour": round(slope * 3600, 1),
        },
    )  # fmt: skip


async def _traffic(
    options: argparse.Namespace, port: int, key: str, prompts: list[str], process: psutil.Process
) -> list[tuple[float, float]]:
    """(seconds, MiB) of the server, every few seconds. `--clients` draw pauses so that `--rate` is not exceeded."""
    seconds, clients = options.soak * 60, options.clients[0]
    begun, counts = time.monotonic(), {"requests": 0, "left": 0, "broken": 0, "stored": 0, "thumbs": 0}
    other = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60
    )

    async def one(draw: random.Random) -> None:
        asked = body("m", draw.choice(prompts), draw.randrange(10**6)) | {"max_tokens": draw.randint(1, NEW)}
        asked |= {"user": f"u{draw.randrange(500)}", "store": draw.random() < 0.3}
        kind = draw.random()
        counts["requests"] += 1
        if kind < 0.2:
            counts["left"] += 1
            await streaming.ask(port, key, asked, leave_after=draw.randint(1, 8))
        elif kind < 0.3:
            counts["broken"] += 1
            await streaming.ask(port, key, asked | {draw.choice(("temperature", "made_up")): "x"})
        elif kind < 0.35:
            await other.get(draw.choice(("/v1/models", "/healthz", "/v1/exchanges")))
        else:
            answer = await streaming.ask(port, key, asked)
            counts["stored"] += asked["store"]
            if asked["store"] and draw.random() < 0.2:
                named = answer.events()[0]["id"]
                thumb = {"up": draw.random() < 0.5, "reasons": ["wrong"]}
                counts["thumbs"] += (await other.post(f"/v1/exchanges/{named}/thumb", json=thumb)).is_success

    async def client(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() - begun < seconds:
            if options.rate:
                await asyncio.sleep(draw.expovariate(options.rate / clients))
            await one(draw)

    async def watch() -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        minute = 0.0
        while (at := time.monotonic() - begun) < seconds:
            found.append((at, process.memory_info().rss / 2**20))
            if at >= minute:
                minute += 60
                held = {"mib": round(found[-1][1], 1), "threads": process.num_threads(), "files": process.num_fds()}
                say(options, {"server": "heedful", "soak_second": round(at), **held, **counts})
            await asyncio.sleep(min(5.0, seconds / 20))
        return found

    async with other:
        *_, memory = await asyncio.gather(*(client(number) for number in range(clients)), watch())
    return memory


def table(files: list[Path]) -> Iterator[str]:
    """The medians of results as a Markdown table, and how much faster heedful is than the better other server."""
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    measured = [row for row in rows if "tokens_a_second" in row]
    yield "| clients | server | tokens/s | times the better peer | tokens/s of a core | first token p50 | p99 | runs |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for clients in sorted({row["clients"] for row in measured}):
        found = {
            name: mine
            for name in SERVERS
            if (mine := [row for row in measured if (row["server"], row["clients"]) == (name, clients)])
        }
        middle = {
            name: {of: statistics.median(row[of] for row in mine) for of in SHOWN} for name, mine in found.items()
        }
        best = max((one["tokens_a_second"] for name, one in middle.items() if name != "heedful"), default=None)
        for name, one in middle.items():
            times = f"**{one['tokens_a_second'] / best:.1f}**" if name == "heedful" and best else ""
            speed, of_a_core, *firsts = (f"{one[of]:,.0f}" for of in SHOWN)
            told = " | ".join(f"{first} ms" for first in firsts)
            yield f"| {clients} | `{SERVERS[name]}` | {speed} | {times} | {of_a_core} | {told} | {len(found[name])} |"


SHOWN = ("tokens_a_second", "tokens_a_core_second", "first_p50_ms", "first_p99_ms")


def say(options: argparse.Namespace, row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=[*SERVERS])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64, 200])
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of all servers (default: what each takes)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--shape", default="T")
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--requests", type=int, default=300, help="of --proxy")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="with the first of --clients")
    parser.add_argument("--rate", type=float, help="of --soak: most requests a second (default: no limit)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, nargs="+", metavar="RESULTS")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.upstream:
        return scripted(options.upstream)
    if options.table:
        return print("\n".join(table(options.table)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work.prepare(options.shape, folder)
        model = folder / "policy"
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = TEMPLATE  # the peer answers no chat without one
        tokenizer.save_pretrained(model)
        prompts = [" ".join(f"w{token}" for token in ids) for ids in work.prompts(options.shape)]
        if options.proxy:
            proxy(options, folder, prompts)
        elif options.soak:
            soak(options, folder, model, prompts)
        else:
            load(options, folder, model, prompts)


if __name__ == "__main__":
    main()
